//! What to do with a model, as a person writes it: flags and TOML recipes are the same object.

use crate::method::{Codec, Method};
use benben_format::{Error, Result};
use serde::{Deserialize, Serialize};

/// A named starting point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Codec of every matrix.
    pub codec: Codec,
    /// Relative squared error of every matrix; none is lossless.
    pub mse: Option<f64>,
}

impl Preset {
    const fn new(name: &'static str, about: &'static str, codec: Codec, mse: f64) -> Self {
        Self { name, about, codec, mse: Some(mse) }
    }
}

/// Presets from the most faithful to the smallest.
pub const PRESETS: [Preset; 6] = [
    Preset { name: "lossless", about: "bit-exact", codec: Codec::Raw, mse: None },
    Preset::new("near-lossless", "relative error 3e-5, about 8 bits per weight", Codec::Scalar, 3e-5),
    Preset::new("balanced", "relative error 9e-4, about 5 bits per weight", Codec::Scalar, 9e-4),
    Preset::new("small-scalar", "small without trellis, about 3.7 bits per weight", Codec::Scalar, 1e-2),
    Preset::new("small", "relative error 0.01, about 3.5 bits per weight", Codec::Trellis, 1e-2),
    Preset::new("tiny", "relative error 0.05, about 2.3 bits per weight", Codec::Trellis, 5e-2),
];

/// A method for the tensors that a pattern matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Rule {
    /// Glob over tensor names: `*` any text, `?` one character, `{a,b}` either.
    pub tensors: String,
    /// What they get.
    #[serde(flatten)]
    pub method: Method,
}

/// What to do with a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Bits for each weight that the whole file is to come to, everything counted; in place of the default
    /// method's own target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_weight: Option<f64>,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Name of the calibration whose statistics the tensors are coded with, in hexadecimal; none: from their values
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// Name of the samples that the network runs on while its tensors are coded one after the other, each by what is stored
    /// of those before it; none: each is coded for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequential: Option<String>,
    /// Tensors of floats with at least this many elements and two dimensions are quantized; others are stored
    /// losslessly unless a rule names them.
    #[serde(default = "usual_least")]
    pub least_elements: u64,
    /// Method of quantized tensors that no rule names.
    pub default: Method,
    /// Exceptions; the last rule that matches a name wins.
    #[serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Recoveries that follow the packing, in order (feature `recover`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<Recovery>,
}

/// What a recovery was made with: the same again, on the same pack, gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// Steps end to end.
    pub steps: usize,
    /// Chunks of the text that it had at most, those that judge it among them.
    pub chunks: usize,
    /// Tokens of a chunk.
    pub context: usize,
    /// Seed of the order of chunks.
    pub seed: u64,
    /// BLAKE3 of the text, hexadecimal.
    pub data: String,
    /// Share of the vectors of codec `rvq` whose codes a step could move at first; 0: codes stayed.
    pub codes: f32,
    /// Seconds after which no step was started: then how far it came depends on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

fn usual_least() -> u64 {
    4096
}

impl Recipe {
    /// The recipe of the preset called `name`.
    ///
    /// # Errors
    /// InvalidArgument for a name that is not in [`PRESETS`].
    pub fn preset(name: &str) -> Result<Self> {
        let preset = PRESETS.iter().find(|p| p.name == name).ok_or_else(|| {
            let known: Vec<_> = PRESETS.iter().map(|p| p.name).collect();
            Error::invalid(format!("unknown preset {name:?}"))
                .with_hint(format!("known: {}", known.join(", ")))
        })?;
        let default = Method { mse: preset.mse, ..Method::new(preset.codec) };
        Ok(Self {
            bits_per_weight: None,
            seed: 0,
            calibration: None,
            sequential: None,
            least_elements: usual_least(),
            default,
            rules: Vec::new(),
            recovery: Vec::new(),
        })
    }

    /// A recipe written as TOML.
    ///
    /// # Errors
    /// InvalidArgument with line and column.
    pub fn from_toml(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text)
            .map_err(|e| Error::invalid(format!("recipe: {}", e.to_string().trim_end())))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// InvalidArgument where a value has no TOML form.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::invalid(format!("recipe: {e}")))
    }

    /// Refuses targets and parameters out of range, and patterns that do not parse.
    ///
    /// # Errors
    /// InvalidArgument, naming what is wrong.
    pub fn check(&self) -> Result<()> {
        if let Some(b) = self.bits_per_weight.filter(|b| !(b.is_finite() && *b > 0.0 && *b <= 32.0)) {
            return Err(Error::invalid(format!("bits per weight must be above 0 and at most 32, found {b}")));
        }
        self.default.check()?;
        if self.default.codec != Codec::Raw
            && self.default.target().is_none()
            && self.bits_per_weight.is_none()
        {
            return Err(Error::invalid("the recipe names no target").with_hint(
                "give one: --bpw 4, --quantizer scalar:bpw=4, or a preset other than lossless; in a recipe \
                     bits_per_weight, or bpw or mse of [default]",
            ));
        }
        for rule in &self.rules {
            rule.method.check().map_err(|e| e.context(format!("rule {:?}", rule.tensors)))?;
            rule.matcher()?;
        }
        Ok(())
    }

    /// Adds a rule written as `PATTERN=CODEC[:PARAMS]`.
    ///
    /// # Errors
    /// InvalidArgument, naming what is wrong.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let (tensors, method) = text.split_once('=').ok_or_else(|| {
            Error::invalid(format!("{text:?} is not of the form PATTERN=CODEC:PARAMS"))
                .with_hint("for example --set '*.embed_tokens.weight=scalar:bpw=4'")
        })?;
        let rule = Rule { tensors: tensors.into(), method: method.parse()? };
        rule.matcher()?;
        self.rules.push(rule);
        Ok(())
    }
}

/// Done by hand: serde refuses unknown fields only where none are flattened, and a slip must not pass.
impl TryFrom<toml::Table> for Rule {
    type Error = String;

    fn try_from(mut table: toml::Table) -> std::result::Result<Self, String> {
        let tensors = match table.remove("tensors") {
            Some(toml::Value::String(pattern)) => pattern,
            Some(other) => return Err(format!("rule: tensors must be a string, found {}", other.type_str())),
            None => return Err("rule: missing field `tensors`, the pattern over names".into()),
        };
        let method =
            table.try_into().map_err(|e| format!("rule {tensors:?}: {}", e.to_string().trim_end()))?;
        Ok(Self { tensors, method })
    }
}

impl Rule {
    /// The compiled pattern.
    ///
    /// # Errors
    /// InvalidArgument where it does not parse.
    pub(crate) fn matcher(&self) -> Result<globset::GlobMatcher> {
        let glob = globset::Glob::new(&self.tensors);
        glob.map(|g| g.compile_matcher())
            .map_err(|e| Error::invalid(format!("pattern {:?}: {e}", self.tensors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_round_trip_through_toml() {
        let mut recipe = Recipe::preset("balanced").unwrap();
        recipe.set("*.weight=pvq:bpw=3.5,dim=8").unwrap();
        recipe.bits_per_weight = Some(4.25);
        let data = "ab".repeat(32);
        let recovery =
            Recovery { steps: 40, chunks: 42, context: 512, seed: 1, data, codes: 0.01, seconds: None };
        recipe.recovery = vec![recovery.clone(), Recovery { seconds: Some(600), ..recovery }];
        let text = recipe.to_toml().unwrap();
        assert_eq!(Recipe::from_toml(&text).unwrap(), recipe, "{text}");
    }

    #[test]
    fn mistakes_in_recipes_are_located() {
        let e =
            Recipe::from_toml("seed = 0\n[default]\ncodec = \"scalar\"\nmse = 0.1\nfoo = 1\n").unwrap_err();
        assert!(e.to_string().contains("foo"), "{e}");
        let rule = "[default]\ncodec = \"raw\"\n[[rule]]\ntensors = \"*\"\ncodec = \"raw\"\ncolour = 3\n";
        let e = Recipe::from_toml(rule).unwrap_err();
        assert!(e.to_string().contains("colour") && e.to_string().contains("line"), "{e}");
        assert!(Recipe::from_toml("[default]\ncodec = \"scalar\"\n").is_err());
        assert!(Recipe::preset("balanced").unwrap().set("no equals sign").is_err());
    }
}
