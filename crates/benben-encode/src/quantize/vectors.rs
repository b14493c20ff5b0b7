//! Residual vector quantization: passes with codebooks fitted to the targets of the pass before.
//!
//! Vectors run along the *outputs*: the leaf holds the transpose, as that of a trellis does. The errors of different
//! rows never meet in the loss, so all elements of a vector count alike, and feedback goes from column to column as for
//! single numbers; vectors along the inputs would need blocks of the factor and lose what is inside a block.

use super::dial::{self, Aim, Goal};
use super::integers::{Made, start};
use super::pass::{Group, Matrix, Order, Step};
use super::problem::Problem;
use crate::method::Method;
use benben_codec::{Target, rvq};
use benben_format::{Error, Result};
use std::f64::consts::LN_2;

/// Passes: codebooks of the first are fitted to the weights, those of the next to the targets of the one before.
const PASSES: usize = 2;
/// Rows that are quantized together, about: a search makes its tables anew for each column.
const ROWS: usize = 256;
/// Weights of a matrix at least: with fewer, codebooks take more than the codes, and what is fed back in vain grows from
/// pass to pass.
const LEAST: u64 = 4096;
/// Largest relative error that codebooks are asked for.
const WORST: f64 = 0.9;

struct Part<'a>(&'a rvq::Chooser);

impl Step for Part<'_> {
    fn next(&mut self, x: &[f32], _: &mut [u8], values: &mut [f32]) {
        self.0.values(x, values);
    }
}

/// The matrix as an `rvq` leaf of its transpose.
pub(super) fn rvq(problem: &Problem<'_>, method: &Method, aim: Aim) -> Result<Made> {
    let rows = problem.rows as u64;
    if problem.shape.len() != 2 || !fits(method, &problem.shape) {
        let shape = &problem.shape;
        return Err(Error::unsupported(format!("codec rvq with feedback for a tensor of shape {shape:?}"))
            .with_hint("its vectors follow the rows of a matrix of 4096 weights at least: dim must divide them, in one group"));
    }
    let shape = [problem.columns as u64, rows];
    let usual = rvq::Settings::new(Target::BitsPerWeight(1.0));
    let settings = rvq::Settings {
        dim: method.dim.or(usual.dim),
        beam: method.beam.unwrap_or(usual.beam),
        // A seed and a map pay for small tensors only, and choosing between both forms takes a second training.
        mapped: Some(false),
        seed: problem.seed,
        ..usual
    };
    let matrix = Matrix {
        columns: &problem.scaled,
        rows: problem.rows,
        steps: &problem.column_factors,
        feedback: &problem.feedback,
    };
    let mut x = matrix.in_steps(Order::Columns);
    let mut count = PASSES;
    let mut trial = |dial: f64| {
        let mut last = None;
        for _ in 0..std::mem::replace(&mut count, 1) {
            let power = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len() as f64;
            let error = dial.exp2() / (2.0 * LN_2) / (problem.unit * problem.unit);
            let relative = if power > 0.0 { error / power } else { WORST };
            let target = Target::RelativeMse(relative.clamp(1e-12, WORST));
            let rule = rvq::Chooser::learned(&shape, &x, &rvq::Settings { target, ..settings })?;
            let stride = (ROWS / rule.dim()).max(1) * rule.dim();
            let groups = (0..problem.rows).step_by(stride).map(|at| Group {
                rows: (at..problem.rows.min(at + stride)).collect(),
                quantizer: Box::new(Part(&rule)),
            });
            x = matrix.pass(groups.collect(), Order::Columns).x;
            last = Some(rule);
        }
        let rule = last.ok_or_else(|| Error::invalid("no pass was made"))?;
        Ok(Made { leaf: rule.leaf(&shape, &x)?, columns: problem.column_factors.clone(), dial })
    };
    match aim {
        Aim::Dial(dial) => trial(dial),
        Aim::BitsPerWeight(bits) => Goal::bits(bits).turn(start(problem, bits), |dial| {
            let made = trial(dial)?;
            Ok((problem.bits(&made.leaf, &made.columns)?, made))
        }),
        Aim::Loss(loss) => Goal::loss(loss).turn(problem.dial_at(loss), |dial| {
            let made = trial(dial)?;
            Ok((dial::score(problem.outcome(&made)?.loss), made))
        }),
    }
}

/// Whether vectors of `method` follow the rows of a matrix of `shape` without crossing its columns, and pay.
pub(super) fn fits(method: &Method, shape: &[u64]) -> bool {
    let &[rows, columns] = shape else { return false };
    rows.saturating_mul(columns) >= LEAST
        && method.groups.is_none_or(|g| g == 1)
        && method.dim.is_none_or(|d| d > 0 && rows % u64::from(d) == 0)
}
