//! Encoder: values to codebooks and symbols.

use super::codebook::Codebook;
use super::layout::Layout;
use super::plan::{self, Plan};
use super::random::Random;
use super::settings::Settings;
use super::stored::{self, Stage};
use super::train::{self, Coded, Data, Goal, Quantizer, Reached};
use super::{CODEC, Params, VERSION, decode};
use crate::entropy::{self, Model, Table};
use crate::{Fit, Target, squared_error};
use benben_format::layout::{CHUNK_ENTRY, SEGMENT_ENTRY};
use benben_format::{Dtype, EncodedLeaf, Error, ErrorKind, LeafSpec, Result};

/// Searches over the whole tensor; the target is met within a fraction of a per cent after three or four.
const PASSES: usize = 6;

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
    let (mut target, mut best) = (settings.target, None::<(EncodedLeaf, Fit)>);
    // Codebooks that turn out too small for the error asked for are planned once more, for less error.
    for _ in 0..3 {
        let goal = match target {
            Target::BitsPerWeight(bits) => Goal::Bits(bits),
            Target::RelativeMse(y) => Goal::Distortion(y * power),
        };
        let plan = plan::choose(settings, |dim| layout(dim).ok(), gather, goal);
        let Some(plan) = plan else {
            return Err(layout(settings.dim.unwrap_or(1)).err().unwrap_or_else(|| Error::invalid("rvq: no plan")));
        };
        let layout = layout(plan.dim)?;
        let data = gather(&layout);
        let leaf = Encoder { shape, settings, layout, data: &data, scale, power }.run(&plan)?;
        let mut decoded = vec![0.0; values.len()];
        decode(&leaf, 0..values.len() as u64, &mut decoded)?;
        let fit = fit(&leaf, values, &decoded);
        let Target::RelativeMse(most) = settings.target else { return Ok((leaf, fit)) };
        let reached = fit.relative_mse <= most;
        if best.as_ref().is_none_or(|b| fit.relative_mse < b.1.relative_mse) {
            best = Some((leaf, fit));
        }
        if reached {
            break;
        }
        target = Target::RelativeMse(most * 0.5 * most / fit.relative_mse);
    }
    best.ok_or_else(|| Error::invalid("rvq: nothing to encode"))
}

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

/// One tensor on its way to a leaf.
struct Encoder<'a> {
    shape: &'a [u64],
    settings: &'a Settings<'a>,
    layout: Layout,
    data: &'a [Data],
    scale: Scale,
    /// Mean square of the scaled values.
    power: f64,
}

/// Codebooks as stored, and symbols of each group.
struct Draft {
    stages: Vec<Stage>,
    coded: Vec<Coded>,
    reached: Reached,
    bytes: f64,
}

impl Encoder<'_> {
    fn run(&self, plan: &Plan) -> Result<EncodedLeaf> {
        let settings = self.settings;
        let mut random = Random::new(settings.seed);
        let most = (settings.sample / self.data.len() / self.layout.dim).max(1);
        let sample: Vec<Data> = self.data.iter().map(|d| d.sample(most, &mut random)).collect();
        let rounds = usize::from(settings.iterations);
        let mut trained = plan.train(&sample, self.goal(0.0), settings, rounds);
        let mut best: Option<(f64, Draft)> = None;
        for pass in 0..PASSES {
            let mut draft = self.draft(&mut trained.groups, trained.lambda, pass == 0)?;
            let miss = self.miss(&draft);
            // The prices of the next pass are those of the tables of this one.
            for (quantizer, stages) in trained.groups.iter_mut().zip(draft.stages.chunks(self.stages(plan, &draft))) {
                quantizer.bits = stages.iter().map(prices).collect();
            }
            let goal = self.goal(draft.bytes * 8.0 - draft.reached.bits);
            trained.lambda *= goal.correction(&draft.reached).exp2();
            draft.reached.elements = draft.reached.elements.max(1.0);
            let better = best.as_ref().is_none_or(|b| miss < b.0);
            if pass > 0 && better {
                best = Some((miss, draft));
            }
            if pass > 0 && miss < 0.003 {
                break;
            }
        }
        let (_, draft) = best.ok_or_else(|| Error::invalid("rvq: no pass over the tensor"))?;
        self.leaf(&draft)
    }
}
