//! Tensors of layers that were calibrated, with feedback; all others from their values.

use super::dial::Aim;
use super::problem::{Metric, Options, Problem};
use super::vectors;
use crate::calibrate::{Calibration, Layer};
use crate::coder::{Coded, Coder, DataFree, Task};
use crate::lowrank::{self, Known};
use crate::method::{Codec, Method};
use benben_codec::Target;
use benben_format::{EncodedLeaf, Expr, Result};

/// Codes with the statistics of a calibration: layers that it knows by [`feedback`](super::feedback), their losses those of
/// outputs; other tensors, and codecs and shapes that have no form with feedback, as [`DataFree`] does.
#[derive(Debug, Clone, Copy)]
pub struct Calibrated<'a>(pub &'a Calibration);

/// Whether `method` has a form with feedback for tensors of `shape`, and does not decline it.
#[must_use]
pub fn has_feedback(method: &Method, shape: &[u64]) -> bool {
    match method.codec {
        Codec::Scalar | Codec::Ternary => !method.plain,
        Codec::Trellis => !method.plain && shape.len() == 2,
        Codec::Rvq | Codec::Pvq => !method.plain && vectors::fits(method, shape),
        // Its factors are those of the layer.
        Codec::Lowrank => true,
        Codec::Raw => false,
    }
}

/// Part of the mean importance that each row of a matrix has at least: no calibration text uses every output.
const LEAST_IMPORTANCE: f32 = 0.1;
/// The same where rows are a vocabulary, whose words differ by more. With the embedding of SmolLM2-135M at 2.95 bits, the
/// divergence on another text is 0.0285 with 0.3, 0.0246 with 0.1, 0.0216 with 0.03.
const LEAST_OF_VOCABULARY: f32 = 0.03;
/// Part of the mean importance that each row has at most. Steps of the words that count most would otherwise be so fine
/// that symbols do not reach their weights. Of SmolLM2's 49,152 words 373 count more, and have 63 % of all importance; by
/// these counts the limit makes the loss of the embedding 3 % larger.
const MOST_IMPORTANCE: f32 = 16.0;

impl Calibrated<'_> {
    /// How often errors of tensor `name` count: a head that is looked up in as well errs twice. With the embedding of
    /// SmolLM2-135M at 2.95 bits, looking up costs a divergence of 0.0127 and predicting 0.0121.
    fn uses(&self, name: &str) -> f64 {
        if self.0.table() == Some(name) { 2.0 } else { 1.0 }
    }

    /// Importance of the rows of tensor `name`, none of them less than a part of the mean.
    fn importance(&self, name: &str, rows: &[f32]) -> Vec<f32> {
        let vocabulary = self.0.table() == Some(name);
        let least = if vocabulary { LEAST_OF_VOCABULARY } else { LEAST_IMPORTANCE };
        rows.iter().map(|r| r.min(MOST_IMPORTANCE) + least).collect()
    }
}

/// Whether a layer's statistics change how `task` is coded.
fn by_layer(task: &Task<'_>) -> bool {
    (ranked(task) || has_feedback(task.method, task.shape)) && !task.values.is_empty()
}

fn ranked(task: &Task<'_>) -> bool {
    task.method.rank.is_some() && !task.method.plain
}

impl Coder for Calibrated<'_> {
    /// [`Target::RelativeMse`] speaks of the loss here: of outputs in place of weights.
    fn code(&self, task: &Task<'_>) -> Result<Coded> {
        let layer = if by_layer(task) { self.0.layer(task.name)? } else { None };
        match layer {
            Some(layer) => self.code_under(task, &layer, &layer.second_moment.values),
            None => DataFree.code(task),
        }
    }

    fn promising(&self, task: &Task<'_>, coded: &Expr<EncodedLeaf>, ranks: &[u16]) -> Result<Vec<u16>> {
        let layer = if task.method.plain { None } else { self.0.layer(task.name)? };
        let Some(layer) = layer else { return DataFree.promising(task, coded, ranks) };
        let rows = layer.rows.as_deref().map(|rows| self.importance(task.name, rows));
        let known = Known { moment: Some(&layer.second_moment.values), rows: rows.as_deref() };
        lowrank::promising(task, known, coded, ranks)
    }

    fn metric(&self, name: &str) -> Option<[u8; 32]> {
        self.0.identity_of(name)
    }

    fn calibration(&self) -> Option<String> {
        Some(benben_format::hex(&self.0.identity()))
    }
}

impl Calibrated<'_> {
    /// Codes with the importances of `layer` under `moment`, which need not be its own.
    pub(super) fn code_under(&self, task: &Task<'_>, layer: &Layer, moment: &[f32]) -> Result<Coded> {
        if !by_layer(task) {
            return DataFree.code(task);
        }
        let rows = layer.rows.as_deref().map(|rows| self.importance(task.name, rows));
        // Half of the Fisher information of the outputs times their squared error is what the divergence grows by.
        let known = rows.is_some();
        let cost = |error: f64| known.then(|| 0.5 * layer.rows_mean * error * self.uses(task.name));
        if ranked(task) {
            let known = Known { moment: Some(moment), rows: rows.as_deref() };
            let base = |task: &Task<'_>| self.code_under(task, layer, moment);
            let (coded, error) = lowrank::compensate(task, known, &base)?;
            return Ok(Coded { cost: cost(error), ..coded });
        }
        let metric = Metric { second_moment: moment, rows: rows.as_deref() };
        let options = Options::of(task.method, task.seed);
        let aim = match task.target {
            Target::BitsPerWeight(bits) => Aim::BitsPerWeight(bits),
            Target::RelativeMse(loss) => Aim::Loss(loss),
        };
        let problem = Problem::new(task.values, task.shape, &metric, options)?;
        let (expr, outcome) = problem.code(task.method, aim)?;
        Ok(Coded {
            expr,
            bits_per_weight: outcome.bits_per_weight,
            relative_mse: outcome.relative_mse,
            loss: outcome.loss,
            cost: cost(outcome.error),
        })
    }
}
