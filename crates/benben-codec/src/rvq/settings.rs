//! What the caller can choose.

use crate::Target;
use benben_format::{Error, Result};

/// Settings of [`encode`](super::encode()). [`Settings::new`] leaves all but the target to the encoder.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// What to reach.
    pub target: Target,
    /// Elements of a vector, 1 to 64; `None`: the best of 1, 2, 4 and 8 by trial.
    pub dim: Option<u8>,
    /// Groups of vectors with codebooks of their own, by position in the row (grouped RVQ); the last axis must
    /// divide by `dim` where there are several.
    pub groups: u16,
    /// Codewords of each stage, 2 to 256, the first stage first (1 to 16 stages); `None`: by cost.
    pub codebooks: Option<&'a [u16]>,
    /// Whether codebooks are linear maps of noise, stored as a seed and a map (SimVQ); not for `dim` 1. `None`: where
    /// that takes fewer bytes at equal distortion, which is in small tensors.
    pub mapped: Option<bool>,
    /// Paths that the search keeps, 1 (greedy) to 8. Time grows in proportion.
    pub beam: u8,
    /// Rounds of joint training, at least 1, each on a sample of its own; a pass over everything follows.
    pub iterations: u16,
    /// Most elements of such a sample.
    pub sample: usize,
    /// Seed of the sample and of the first codewords.
    pub seed: u64,
    /// Importance of each element, as many as there are values, finite and not negative. The search and the
    /// codebooks then minimize the weighted squared error; target and fit stay unweighted.
    pub weights: Option<&'a [f32]>,
    /// Symbols of a chunk: what a read of one row decodes at least.
    pub chunk_items: u32,
}

impl Settings<'_> {
    /// What is best for most tensors.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            dim: None,
            groups: 1,
            codebooks: None,
            mapped: None,
            beam: 4,
            iterations: 14,
            sample: 1 << 20,
            seed: 0,
            weights: None,
            chunk_items: crate::entropy::CHUNK_ITEMS,
        }
    }
}

impl Default for Settings<'_> {
    /// 3 bits for each weight.
    fn default() -> Self {
        Self::new(Target::BitsPerWeight(3.0))
    }
}

/// Most stages of an encoder; the format allows 255.
pub(super) const MAX_STAGES: usize = 16;
/// Widest vectors of an encoder; the format allows 255.
pub(super) const MAX_DIM: u8 = 64;

impl Settings<'_> {
    /// Refuses what is out of range, and values or weights that are no numbers.
    pub(super) fn check(&self, values: &[f32], shape: &[u64]) -> Result<()> {
        let elements = benben_format::element_count(shape)?;
        if elements != values.len() as u64 {
            return Err(Error::invalid(format!(
                "rvq: shape {shape:?} has {elements} elements, found {} values",
                values.len()
            )));
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!("rvq: value {i} is {}, finite ones expected", values[i])));
        }
        let within = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("rvq: {name} is {value}, {least} to {most} expected")))
        };
        within("dim", self.dim.unwrap_or(1).into(), 1, MAX_DIM.into())?;
        within("groups", self.groups.into(), 1, u16::MAX.into())?;
        let sizes = self.codebooks.unwrap_or(&[2]);
        within("number of stages", sizes.len() as u64, 1, MAX_STAGES as u64)?;
        sizes.iter().try_for_each(|&size| within("codebook size", size.into(), 2, 256))?;
        within("beam", self.beam.into(), 1, super::search::MAX_BEAM as u64)?;
        within("iterations", self.iterations.into(), 1, u16::MAX.into())?;
        within("sample", self.sample as u64, 1, u64::MAX)?;
        within("chunk_items", self.chunk_items.into(), 1, benben_format::StreamSpec::MAX_CHUNK_ITEMS.into())?;
        let (name, dial) = match self.target {
            Target::BitsPerWeight(x) => ("bits per weight", x),
            Target::RelativeMse(x) => ("relative error", x),
        };
        if !(dial > 0.0 && dial.is_finite()) {
            return Err(Error::invalid(format!("rvq: target {name} is {dial}, a number above 0 expected")));
        }
        if self.mapped == Some(true) && self.dim == Some(1) {
            return Err(Error::invalid("rvq: codebooks of dim 1 have nothing to map"));
        }
        let Some(weights) = self.weights else { return Ok(()) };
        if weights.len() != values.len() {
            return Err(Error::invalid(format!(
                "rvq: {} weights for {} values",
                weights.len(),
                values.len()
            )));
        }
        match weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
            Some(i) => Err(Error::invalid(format!("rvq: weight {i} is {}, 0 or more expected", weights[i]))),
            None => Ok(()),
        }
    }
}
