//! Encoder: values to codebooks and symbols.

use super::layout::Layout;
use super::settings::Settings;
use super::stored::{self, Stage};
use super::train::{Data, Goal};
use super::trial;
use super::whole::{Draft, Whole};
use super::{CODEC, Params, VERSION, decode};
use crate::entropy;
use crate::{Fit, Target, squared_error};
use benben_format::{Dtype, EncodedLeaf, Error, ErrorKind, LeafSpec, Result};

/// Codes `values` of `shape`; the fit is measured on what [`decode`](super::decode()) gives.
///
/// A relative error that f32 sums of codewords cannot reach (about 1e-13) is approached as far as they go; tensors of
/// few distinct values stay below the bits per weight asked for; tensors below a few thousand elements go above
/// them, since symbols get at least half of those bits and the file's tables alone take 80 bytes. Compare the
/// returned [`Fit`].
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for values that are not finite (naming the first), a shape of
/// another size, groups that do not divide the rows, and settings out of range.
/// [`Unsupported`](ErrorKind::Unsupported) for values so near the limits of f32 that decoded ones would pass them.
pub fn encode(values: &[f32], shape: &[u64], settings: &Settings<'_>) -> Result<(EncodedLeaf, Fit)> {
    settings.check(values, shape)?;
    let layout = |dim: u8| Layout::new(shape, dim, settings.groups, ErrorKind::InvalidArgument);
    let scale = Scale::of(values);
    let gather = |layout: &Layout| gather(layout, values, scale, settings.weights);
    let power = scale.mean_square;
    let goal = match settings.target {
        Target::BitsPerWeight(bits) => Goal::Bits(bits),
        Target::RelativeMse(y) => Goal::Distortion(y * power),
    };
    let tolerance = match settings.target {
        Target::BitsPerWeight(bits) => TOLERANCE * bits,
        Target::RelativeMse(_) => 0.0,
    };
    let mut best: Option<(f64, EncodedLeaf, Fit)> = None;
    let mut spare = 0.0;
    let mut settings = *settings;
    for _ in 0..ATTEMPTS {
        let settings = &mut settings;
        let choices = trial::choose(settings, |dim| layout(dim).ok(), gather, goal.with_spare(spare));
        let mut now: Option<(f64, EncodedLeaf, Fit)> = None;
        for chosen in choices {
            let layout = chosen.layout;
            let whole = Whole { settings, layout, data: &gather(&layout), power, spare };
            let leaf = leaf(whole.code(chosen)?, &layout, shape, scale)?;
            let fit = fit(&leaf, values)?;
            let missing = missing(settings.target, fit);
            let better = |other: &(f64, EncodedLeaf, Fit)| {
                if other.0.max(missing) <= tolerance {
                    // Bits at equal distortion.
                    fit.db_above_gaussian_bound() < other.2.db_above_gaussian_bound()
                } else {
                    missing < other.0
                }
            };
            if now.as_ref().is_none_or(better) {
                now = Some((missing, leaf, fit));
            }
        }
        let Some(now) = now else {
            // No dimension fits the groups: say why.
            layout(settings.dim.unwrap_or(1))?;
            break;
        };
        let missing = now.0;
        let mapped = now.1.spec.params::<Params>()?.mapped;
        if best.as_ref().is_none_or(|b| missing.abs() < b.0.abs()) {
            best = Some(now);
        }
        if missing <= tolerance {
            break;
        }
        if settings.mapped.is_none() && mapped {
            // What maps of noise cannot reach, outliers above all, words may reach without bits to spare.
            settings.mapped = Some(false);
            continue;
        }
        spare += 0.2 + 1.5 * missing;
    }
    best.map(|b| (b.1, b.2)).ok_or_else(|| Error::invalid("rvq: no dimension fits this shape"))
}

/// Bits per weight that are missing because the codebooks are too small.
fn missing(target: Target, fit: Fit) -> f64 {
    match target {
        Target::BitsPerWeight(bits) if fit.relative_mse > 0.0 => bits - fit.bits_per_weight,
        Target::RelativeMse(most) if fit.relative_mse > most => 0.5 * (fit.relative_mse / most).log2(),
        _ => 0.0,
    }
}

/// Plans that are tried, each for more bits, where codebooks turn out too small for the target.
const ATTEMPTS: usize = 8;
/// Share of the bits per weight that may stay unused.
const TOLERANCE: f64 = 0.02;

fn fit(leaf: &EncodedLeaf, values: &[f32]) -> Result<Fit> {
    let mut decoded = vec![0.0; values.len()];
    decode(leaf, 0..values.len() as u64, &mut decoded)?;
    let (error, square) = squared_error(values, &decoded);
    if !error.is_finite() {
        return Err(Error::unsupported(
            "rvq: sums of codewords leave the range of f32; divide the values first",
        ));
    }
    let bits = leaf.stored_bytes() as f64 * 8.0;
    Ok(Fit {
        bits_per_weight: bits / values.len().max(1) as f64,
        relative_mse: if error == 0.0 { 0.0 } else { error / square },
    })
}

/// A power of two that brings values near 1, so that neither squares nor sums of f32 leave its range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    exponent: f64,
    /// Mean square of the scaled values.
    pub(super) mean_square: f64,
}

impl Scale {
    pub(super) fn of(values: &[f32]) -> Self {
        let mean_square = squared_error(values, values).1 / values.len().max(1) as f64;
        let exponent = if mean_square > 0.0 { (0.5 * mean_square.log2()).round() } else { 0.0 };
        Self { exponent, mean_square: mean_square * (-2.0 * exponent).exp2() }
    }

    pub(super) fn down(self, v: f32) -> f32 {
        (f64::from(v) * (-self.exponent).exp2()) as f32
    }

    /// A value in the units of the tensor.
    pub(super) fn up_value(self, v: f32) -> f32 {
        (f64::from(v) * self.exponent.exp2()) as f32
    }

    /// A step that is above 0 whatever the values.
    fn up(self, step: f32) -> f32 {
        ((f64::from(step) * self.exponent.exp2()) as f32).max(f32::from_bits(1))
    }
}

/// Scaled vectors of each group, the padding with weight 0 where there are weights.
pub(super) fn gather(layout: &Layout, values: &[f32], scale: Scale, weights: Option<&[f32]>) -> Vec<Data> {
    let dim = layout.dim;
    let pick = |from: &[f32], group: usize, map: &dyn Fn(f32) -> f32| {
        let mut to = Vec::with_capacity(layout.vectors(group) as usize * dim);
        for run in layout.runs(group, 0..layout.elements.div_ceil(dim as u64)) {
            let end = (run.end as usize * dim).min(from.len());
            to.extend(from[run.start as usize * dim..end].iter().map(|&v| map(v)));
        }
        to.resize(layout.vectors(group) as usize * dim, 0.0);
        to
    };
    let mean = |w: &[f32]| w.iter().map(|&w| f64::from(w)).sum::<f64>() / w.len().max(1) as f64;
    // Weights of mean 1 leave lambda where it is; weights that are all 0 say nothing.
    let weights = weights.map(|w| (w, mean(w))).filter(|w| w.1 > 0.0);
    let data = |group| Data {
        dim,
        values: pick(values, group, &|v| scale.down(v)),
        weights: weights.map_or(vec![], |(w, mean)| pick(w, group, &|w| (f64::from(w) / mean) as f32)),
    };
    (0..layout.groups).map(data).collect()
}

/// Streams of a draft.
pub(super) fn leaf(draft: Draft, layout: &Layout, shape: &[u64], scale: Scale) -> Result<EncodedLeaf> {
    let stages = draft.stages.len() / layout.groups;
    let mapped = draft.stages.first().is_some_and(|s| s.noise.is_some());
    let (dim, groups, stages) = (layout.dim as u8, layout.groups as u16, stages as u8);
    let params = Params { dim, groups, stages, mapped };
    let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, shape, &params)?);
    let scaled = |s: &Stage| Stage { step: scale.up(s.step), ..s.clone() };
    let side = stored::write(&draft.stages.iter().map(scaled).collect::<Vec<_>>())?;
    let most = stored::most_bytes(layout, stages, mapped);
    if side.len() as u64 > most {
        return Err(Error::invalid(format!(
            "rvq: codebooks take {} bytes, at most {most} are allowed for {} elements",
            side.len(),
            layout.elements
        ))
        .with_hint("fewer groups, fewer or smaller codebooks"));
    }
    let (spec, chunks) = entropy::encode_bytes(&side, 1, entropy::CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    for (spec, chunks) in draft.streams {
        leaf.push(spec, chunks);
    }
    Ok(leaf)
}
