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
/// A relative error that the codebooks cannot reach (f32 ends at about 1e-14) is approached as far as they go;
/// likewise tensors of few distinct values stay below the bits per weight asked for, and tensors below about a
/// thousand elements above them, since the tables of the file alone take 80 bytes. Compare the returned [`Fit`].
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for values that are not finite (naming the first), a shape of
/// another size, groups that do not divide the rows, and settings out of range.
pub fn encode(values: &[f32], shape: &[u64], settings: &Settings<'_>) -> Result<(EncodedLeaf, Fit)> {
    settings.check(values, shape)?;
    let scale = Scale::of(values);
    let scaled: Vec<f32> = values.iter().map(|v| scale.down(*v)).collect();
    let layout = |dim: u8| Layout::new(shape, dim, settings.groups, ErrorKind::InvalidArgument);
    let gather = |layout: &Layout| gather(layout, &scaled, settings.weights);
    let power = if values.is_empty() { 0.0 } else { squared_error(&scaled, &scaled).1 / values.len() as f64 };
    let mut best: Option<(f64, EncodedLeaf, Fit)> = None;
    let mut spare = 0.0;
    for _ in 0..ATTEMPTS {
        let goal = match settings.target {
            Target::BitsPerWeight(bits) => Goal::Bits(bits),
            Target::RelativeMse(y) => Goal::Distortion(y * power),
        };
        let Some(chosen) = trial::choose(settings, |dim| layout(dim).ok(), gather, goal, spare) else {
            // No dimension fits the groups: say why.
            layout(settings.dim.unwrap_or(1))?;
            break;
        };
        let whole = Whole { settings, layout: chosen.layout, data: &chosen.data, power };
        let draft = whole.code(&chosen.plan, chosen.trained)?;
        let leaf = leaf(draft, &chosen.layout, shape, scale)?;
        let mut decoded = vec![0.0; values.len()];
        decode(&leaf, 0..values.len() as u64, &mut decoded)?;
        let fit = fit(&leaf, values, &decoded);
        // Bits per weight that are missing because the codebooks are too small.
        let missing = match settings.target {
            Target::BitsPerWeight(bits) if fit.relative_mse > 0.0 => bits - fit.bits_per_weight,
            Target::RelativeMse(most) if fit.relative_mse > most => 0.5 * (fit.relative_mse / most).log2(),
            _ => 0.0,
        };
        if best.as_ref().is_none_or(|b| missing.abs() < b.0) {
            best = Some((missing.abs(), leaf, fit));
        }
        let tolerance = match settings.target {
            Target::BitsPerWeight(bits) => TOLERANCE * bits,
            Target::RelativeMse(_) => 0.0,
        };
        if missing <= tolerance {
            break;
        }
        spare += 0.1 + 1.5 * missing;
    }
    best.map(|b| (b.1, b.2)).ok_or_else(|| Error::invalid("rvq: nothing to encode"))
}

/// Plans that are tried, each with more capacity, where codebooks turn out too small for the target.
const ATTEMPTS: usize = 3;
/// Share of the bits per weight that may stay unused.
const TOLERANCE: f64 = 0.02;

fn fit(leaf: &EncodedLeaf, values: &[f32], decoded: &[f32]) -> Fit {
    let (error, square) = squared_error(values, decoded);
    let bits = leaf.stored_bytes() as f64 * 8.0;
    Fit {
        bits_per_weight: bits / values.len().max(1) as f64,
        relative_mse: if error == 0.0 { 0.0 } else { error / square },
    }
}

/// A power of two that brings values near 1, so that neither squares nor sums of f32 leave its range.
#[derive(Debug, Clone, Copy)]
struct Scale(i32);

impl Scale {
    fn of(values: &[f32]) -> Self {
        let square: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let rms = (square / values.len().max(1) as f64).sqrt();
        Self(if rms > 0.0 { rms.log2().round() as i32 } else { 0 })
    }

    fn down(self, v: f32) -> f32 {
        (f64::from(v) * f64::from(-self.0).exp2()) as f32
    }

    fn up(self, step: f32) -> f32 {
        ((f64::from(step) * f64::from(self.0).exp2()) as f32).max(f32::MIN_POSITIVE)
    }
}

/// Vectors of each group, the padding with weight 0 where there are weights.
fn gather(layout: &Layout, values: &[f32], weights: Option<&[f32]>) -> Vec<Data> {
    let dim = layout.dim;
    let all = 0..layout.elements.div_ceil(dim as u64);
    let pick = |from: &[f32], group: usize| {
        let mut to = Vec::with_capacity(layout.vectors(group) as usize * dim);
        for run in layout.runs(group, all.clone()) {
            let end = (run.end as usize * dim).min(from.len());
            to.extend_from_slice(&from[run.start as usize * dim..end]);
        }
        to.resize(layout.vectors(group) as usize * dim, 0.0);
        to
    };
    let mean = weights.map(|w| w.iter().map(|&w| f64::from(w)).sum::<f64>() / w.len().max(1) as f64);
    // Weights of mean 1 leave lambda where it is; weights that are all 0 say nothing.
    let weights: Option<Vec<f32>> = weights
        .zip(mean)
        .filter(|w| w.1 > 0.0)
        .map(|(w, mean)| w.iter().map(|&w| (f64::from(w) / mean) as f32).collect());
    (0..layout.groups)
        .map(|group| Data {
            dim,
            values: pick(values, group),
            weights: weights.as_ref().map(|w| pick(w, group)).unwrap_or_default(),
        })
        .collect()
}

/// Streams of a draft.
fn leaf(
    draft: Draft,
    layout: &Layout,
    shape: &[u64],
    scale: Scale,
) -> Result<EncodedLeaf> {
    let stages = draft.stages.len() / layout.groups;
    let params = Params { dim: layout.dim as u8, groups: layout.groups as u16, stages: stages as u8 };
    let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, shape, &params)?);
    let scaled = |s: &Stage| Stage { step: scale.up(s.step), ..s.clone() };
    let side = stored::write(&draft.stages.iter().map(scaled).collect::<Vec<_>>())?;
    let (spec, chunks) = entropy::encode_bytes(&side, 1, entropy::CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    for (spec, chunks) in draft.streams {
        leaf.push(spec, chunks);
    }
    Ok(leaf)
}
