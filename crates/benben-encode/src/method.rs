//! How one tensor is stored: a codec, its parameters, and what it is to reach.

use crate::lowrank::Norm;
use benben_codec::{Fit, Target, pvq, raw, rvq, scalar, ternary, trellis};
use benben_decode::hadamard_rows;
use benben_format::{Dtype, EncodedLeaf, Error, Expr, Result, in_memory, matrix};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The codecs that a method can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Lossless.
    Raw,
    /// One step for the tensor, entropy-coded.
    Scalar,
    /// One step for the tensor, the best path through a trellis, entropy-coded.
    Trellis,
    /// Pyramid vector quantization.
    Pvq,
    /// Residual vector quantization.
    Rvq,
    /// Planes of {negative, 0, positive}.
    Ternary,
    /// A product of two factors, each entropy-coded.
    Lowrank,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 7] =
        [Self::Raw, Self::Scalar, Self::Trellis, Self::Pvq, Self::Rvq, Self::Ternary, Self::Lowrank];

    /// Name in recipes, flags and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => raw::CODEC,
            Self::Scalar => scalar::CODEC,
            Self::Trellis => trellis::CODEC,
            Self::Pvq => pvq::CODEC,
            Self::Rvq => rvq::CODEC,
            Self::Ternary => ternary::CODEC,
            Self::Lowrank => "lowrank",
        }
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|c| c.name() == s).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|c| c.name()).collect();
            Error::invalid(format!("unknown codec {s:?}")).with_hint(format!("known: {}", known.join(", ")))
        })
    }
}

/// A codec with its parameters. Where neither `bpw` nor `mse` is set, the recipe's target for the whole file,
/// or the preset's error, applies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Which codec.
    pub codec: Codec,
    /// Stored bits for each weight of the tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bpw: Option<f64>,
    /// Squared error relative to the squared norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mse: Option<f64>,
    /// Elements of one vector: pvq (1 to 32), rvq (1 to 32).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dim: Option<u8>,
    /// Paths that the search keeps: rvq (1 to 8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beam: Option<u8>,
    /// Groups with codebooks of their own: rvq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<u16>,
    /// Most classes of rows: scalar, trellis (1 to 16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u8>,
    /// Whether rows go through a randomized Hadamard transform first, seeded by the recipe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotate: bool,
    /// Whether the values alone decide, where there are statistics of the layer too: every codec but raw and lowrank.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Whether all columns have one step where feedback could give each its own: what those steps buy is measured by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub even: bool,
    /// Rank of a product that is stored on top, made of what the codec leaves of the matrix; of the matrix itself with
    /// lowrank. Every codec but raw, for tensors of two dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u16>,
    /// By what the product is the best; none: by all that is known of the layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Norm>,
}

impl Method {
    /// `codec` with its usual parameters.
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            bpw: None,
            mse: None,
            dim: None,
            beam: None,
            groups: None,
            classes: None,
            rotate: false,
            plain: false,
            even: false,
            rank: None,
            metric: None,
        }
    }

    /// What the method itself asks for.
    pub fn target(&self) -> Option<Target> {
        self.bpw.map(Target::BitsPerWeight).or(self.mse.map(Target::RelativeMse))
    }

    /// Refuses parameters that are out of range or belong to another codec.
    ///
    /// # Errors
    /// InvalidArgument, naming the parameter.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid(format!("codec {}: {what}", self.codec.name())));
        if self.bpw.is_some() && self.mse.is_some() {
            return refuse("give bpw or mse, not both".into());
        }
        if let Some(b) = self.bpw.filter(|b| !(b.is_finite() && *b > 0.0 && *b <= 32.0)) {
            return refuse(format!("bpw must be above 0 and at most 32, found {b}"));
        }
        if let Some(m) = self.mse.filter(|m| !(m.is_finite() && *m > 0.0 && *m < 1.0)) {
            return refuse(format!("mse must lie between 0 and 1, found {m}"));
        }
        let ranges: [(&str, Option<u64>, u64, &[Codec]); 4] = [
            ("dim", self.dim.map(u64::from), 32, &[Codec::Pvq, Codec::Rvq]),
            ("beam", self.beam.map(u64::from), 8, &[Codec::Rvq]),
            ("groups", self.groups.map(u64::from), 1024, &[Codec::Rvq]),
            (
                "classes",
                self.classes.map(u64::from),
                scalar::MAX_CLASSES as u64,
                &[Codec::Scalar, Codec::Trellis],
            ),
        ];
        for (name, value, most, codecs) in ranges {
            let Some(value) = value else { continue };
            if !codecs.contains(&self.codec) {
                return refuse(format!("has no parameter {name}"));
            }
            if value == 0 || value > most {
                return refuse(format!("{name} must be 1 to {most}, found {value}"));
            }
        }
        if self.rank == Some(0) {
            return refuse("rank must be 1 to 65535, found 0".into());
        }
        if self.codec == Codec::Lowrank && (self.rank.is_none() || self.rotate) {
            return refuse("takes a rank, and no rotate".into());
        }
        if self.metric.is_some() && self.rank.is_none() {
            return refuse("metric is that of a product: give a rank too".into());
        }
        if self.plain && matches!(self.codec, Codec::Raw | Codec::Lowrank) {
            return refuse("has no parameter plain: its values alone decide anyway".into());
        }
        if self.even && (self.plain || matches!(self.codec, Codec::Raw | Codec::Lowrank)) {
            return refuse("has no parameter even: it gives columns no steps of their own".into());
        }
        if self.codec == Codec::Raw && (self.target().is_some() || self.rotate || self.rank.is_some()) {
            return refuse("is lossless: it takes no bpw, mse, rotate or rank".into());
        }
        Ok(())
    }

    /// Codes `values` to reach `target`, without regard to `rank`: that is for [`Coder`](crate::Coder)s.
    ///
    /// # Errors
    /// InvalidArgument where a value is not finite, or the codec's own; Unsupported for lowrank, which has no codec.
    pub fn encode(
        &self,
        values: &[f32],
        shape: &[u64],
        target: Target,
        seed: u64,
    ) -> Result<(Expr<EncodedLeaf>, Fit)> {
        if self.rotate
            && let Some(block) = rotation_block(shape)?
        {
            let mut turned = values.to_vec();
            hadamard_rows(&mut turned, in_memory(matrix(shape)?.1)?, seed, block as usize);
            let (of, fit) = Self { rotate: false, ..*self }.encode(&turned, shape, target, seed)?;
            return Ok((Expr::Rotate { seed, block, of: Box::new(of) }, fit));
        }
        match self.codec {
            Codec::Raw => {
                let leaf = raw::encode(&Dtype::F32.from_f32(values)?, Dtype::F32, shape)?;
                let bits_per_weight = leaf.stored_bytes() as f64 * 8.0 / values.len().max(1) as f64;
                Ok((Expr::Leaf(leaf), Fit { bits_per_weight, relative_mse: 0.0 }))
            }
            Codec::Scalar => {
                let usual = scalar::Settings::new(target);
                let max_classes = self.classes.map_or(usual.max_classes, usize::from);
                leaf(scalar::encode(values, shape, &scalar::Settings { max_classes, ..usual })?)
            }
            Codec::Trellis => {
                let usual = trellis::Settings::new(target);
                let max_classes = self.classes.map_or(usual.max_classes, usize::from);
                leaf(trellis::encode(values, shape, &trellis::Settings { max_classes, ..usual })?)
            }
            Codec::Pvq => {
                let usual = pvq::Settings::new(target);
                leaf(pvq::encode(
                    values,
                    shape,
                    &pvq::Settings { dim: self.dim.unwrap_or(usual.dim), ..usual },
                )?)
            }
            Codec::Rvq => {
                let usual = rvq::Settings::new(target);
                let settings = rvq::Settings {
                    dim: self.dim.or(usual.dim),
                    beam: self.beam.unwrap_or(usual.beam),
                    groups: self.groups.unwrap_or(usual.groups),
                    seed,
                    ..usual
                };
                leaf(rvq::encode(values, shape, &settings)?)
            }
            Codec::Ternary => {
                let (mut planes, fit) =
                    ternary::encode_planes(values, shape, &ternary::Settings::new(target))?;
                let expr = match planes.len() {
                    1 => Expr::Leaf(planes.remove(0)),
                    _ => Expr::Sum(planes.into_iter().map(Expr::Leaf).collect()),
                };
                Ok((expr, fit))
            }
            Codec::Lowrank => Err(Error::unsupported("codec lowrank without its rank")),
        }
    }
}

fn leaf((leaf, fit): (EncodedLeaf, Fit)) -> Result<(Expr<EncodedLeaf>, Fit)> {
    Ok((Expr::Leaf(leaf), fit))
}

/// The largest power of two up to 4096 that divides the columns; none where rotation would mix nothing.
pub(crate) fn rotation_block(shape: &[u64]) -> Result<Option<u32>> {
    let columns = matrix(shape)?.1;
    let block = 1u32 << columns.trailing_zeros().min(12);
    Ok((columns > 0 && block > 1).then_some(block))
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.codec.name())?;
        let mut separator = ':';
        let mut put = |name: &str, value: Option<String>| -> fmt::Result {
            if let Some(value) = value {
                write!(f, "{separator}{name}={value}")?;
                separator = ',';
            }
            Ok(())
        };
        put("bpw", self.bpw.map(|v| v.to_string()))?;
        put("mse", self.mse.map(|v| format!("{v:e}")))?;
        put("dim", self.dim.map(|v| v.to_string()))?;
        put("beam", self.beam.map(|v| v.to_string()))?;
        put("groups", self.groups.map(|v| v.to_string()))?;
        put("classes", self.classes.map(|v| v.to_string()))?;
        put("rotate", self.rotate.then(|| "true".into()))?;
        put("even", self.even.then(|| "true".into()))?;
        put("plain", self.plain.then(|| "true".into()))?;
        put("rank", self.rank.map(|v| v.to_string()))?;
        put("metric", self.metric.map(|n| n.name().into()))
    }
}

/// `CODEC`, `CODEC:3.5` (bits per weight) or `CODEC:name=value,name=value`.
impl FromStr for Method {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let (codec, params) = s.split_once(':').unwrap_or((s, ""));
        let mut method = Self::new(codec.trim().parse()?);
        for param in params.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, value) = match param.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None if param.parse::<f64>().is_ok() => ("bpw", param),
                None if param == "rotate" => ("rotate", "true"),
                None if param == "plain" => ("plain", "true"),
                None if param == "even" => ("even", "true"),
                None => return Err(Error::invalid(format!("parameter {param:?} of {s:?} has no value"))),
            };
            fn number<T: FromStr>(name: &str, value: &str) -> Result<Option<T>> {
                value
                    .parse()
                    .map(Some)
                    .map_err(|_| Error::invalid(format!("{name}={value:?} is not a fitting number")))
            }
            match name {
                "bpw" => method.bpw = number(name, value)?,
                "mse" => method.mse = number(name, value)?,
                "dim" => method.dim = number(name, value)?,
                "beam" => method.beam = number(name, value)?,
                "groups" => method.groups = number(name, value)?,
                "classes" => method.classes = number(name, value)?,
                "rotate" => method.rotate = number(name, value)?.unwrap_or(false),
                "even" => method.even = number(name, value)?.unwrap_or(false),
                "plain" => method.plain = number(name, value)?.unwrap_or(false),
                "rank" => method.rank = number(name, value)?,
                "metric" => method.metric = Some(value.parse()?),
                other => {
                    return Err(Error::invalid(format!("unknown parameter {other:?} in {s:?}")).with_hint(
                        "known: bpw, mse, dim, beam, groups, classes, rotate, plain, even, rank, metric",
                    ));
                }
            }
        }
        method.check()?;
        Ok(method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_round_trip_through_text() {
        for text in [
            "raw",
            "scalar:bpw=3.5",
            "trellis:bpw=2,classes=8",
            "pvq:mse=1e-3,dim=16",
            "rvq:bpw=2,beam=4,groups=2,rotate=true",
            "scalar:bpw=2,plain=true",
            "trellis:bpw=2,even=true",
            "trellis:bpw=3,rank=8",
            "lowrank:bpw=2,rank=128,metric=inputs",
            "rvq:bpw=2,plain=true",
        ] {
            assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
        }
        assert_eq!("scalar:4".parse::<Method>().unwrap().bpw, Some(4.0));
    }

    #[test]
    fn wrong_methods_are_refused_by_name() {
        for (text, word) in [
            ("vorbis", "unknown codec"),
            ("scalar:dim=4", "no parameter dim"),
            ("trellis:classes=17", "1 to 16"),
            ("scalar:bpw=0", "above 0"),
            ("pvq:dim=33", "1 to 32"),
            ("raw:3", "lossless"),
            ("scalar:bpw=3,mse=0.1", "not both"),
            ("scalar:colour=red", "unknown parameter"),
            ("lowrank:bpw=2", "takes a rank"),
            ("scalar:rank=0", "rank must be"),
            ("scalar:rank=65536", "not a fitting number"),
            ("scalar:metric=svd", "give a rank"),
            ("scalar:rank=2,metric=colour", "unknown metric"),
            ("raw:rank=2", "lossless"),
            ("scalar:bpw=", "not a fitting number"),
        ] {
            let e = text.parse::<Method>().unwrap_err().to_string();
            assert!(e.contains(word), "{text}: {e}");
        }
    }
}
