//! Residual and pyramid vector quantization: passes with a rule fitted to the targets of the pass before.
//!
//! Vectors run along the *outputs*: the leaf holds the transpose, as that of a trellis does. The errors of different
//! rows never meet in the loss, so all elements of a vector count alike, and feedback goes from column to column as for
//! single numbers; vectors along the inputs would need blocks of the factor and lose what is inside a block.
//!
//! Factors of columns make their energies unequal. A pvq leaf has tables for loud runs and for quiet ones; an rvq leaf has
//! one table for each stage, and pays for the mixture. On Gaussian weights of inputs whose neighbours are alike (example
//! `feedback`) columns differ by rotation alone: it costs rvq 0.9 dB at 2 bits, and pvq, with the same vectors, nothing;
//! one step for all columns costs rvq 1.3 dB. Real columns differ without rotation: of four matrices of SmolLM2-135M at 3
//! bits, it takes 4 to 9 % off the loss of three with rvq, and changes pvq by 2 %.

use super::dial::Aim;
use super::integers::{Made, start, step_at, turned};
use super::pass::{Group, Matrix, Order, Step};
use super::problem::{Problem, Within};
use crate::method::{Codec, Method};
use benben_codec::{Target, pvq, rvq};
use benben_format::{EncodedLeaf, Error, Result};
use std::f64::consts::LN_2;

/// Passes: the rule of the first is fitted to the weights, those of the next to the targets of the one before.
const PASSES: usize = 2;
/// Rows that are quantized together, about: a search for codewords makes its tables anew for each column.
const ROWS: usize = 256;
/// Weights of a matrix at least: with fewer, codebooks and tables take more than the codes, and what is fed back in vain
/// grows from pass to pass.
const LEAST: u64 = 4096;
/// Largest relative error that codebooks are asked for.
const WORST: f64 = 0.9;
/// What weights reach, in steps of a uniform quantizer at the same slope: less than a pulse counts, with room for errors
/// of earlier columns. Codebooks would reach further; with the loudest columns of SmolLM2-135M kept to this, rvq at 3 bits
/// loses 5 to 6 % less in their matrices, of which one takes 4 seconds in place of 31.
const REACH: f64 = 100.0;

/// What vectors are coded by.
#[derive(Clone, Copy)]
enum Vectors {
    Codewords(rvq::Settings<'static>),
    Points(pvq::Settings),
}

/// The same, fixed for a pass.
enum Rule {
    Codewords(rvq::Chooser),
    Points(pvq::Chooser),
}

impl Vectors {
    fn of(method: &Method, seed: u64) -> Self {
        let target = Target::BitsPerWeight(1.0);
        if method.codec == Codec::Pvq {
            let usual = pvq::Settings::new(target);
            return Self::Points(pvq::Settings { dim: method.dim.unwrap_or(usual.dim), ..usual });
        }
        let usual = rvq::Settings::new(target);
        Self::Codewords(rvq::Settings {
            dim: method.dim.or(usual.dim),
            beam: method.beam.unwrap_or(usual.beam),
            // A seed and a map pay for small tensors only, and choosing between both forms takes a second training.
            mapped: Some(false),
            seed,
            ..usual
        })
    }

    /// The rule for targets `x`.
    fn learned(&self, shape: &[u64], x: &[f32], price: f64) -> Result<Rule> {
        match self {
            Self::Codewords(settings) => {
                let power = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len() as f64;
                let relative = if power > 0.0 { price / (2.0 * LN_2) / power } else { WORST };
                let target = Target::RelativeMse(relative.clamp(1e-12, WORST));
                let settings = rvq::Settings { target, ..*settings };
                rvq::Chooser::learned(shape, x, &settings).map(Rule::Codewords)
            }
            Self::Points(settings) => pvq::Chooser::learned(shape, x, price, settings).map(Rule::Points),
        }
    }
}

impl Rule {
    fn dim(&self) -> usize {
        match self {
            Self::Codewords(rule) => rule.dim(),
            Self::Points(rule) => rule.dim(),
        }
    }

    fn values(&self, at: usize, x: &[f32], values: &mut [f32]) {
        match self {
            Self::Codewords(rule) => rule.values(x, values),
            Self::Points(rule) => rule.values(at, x, values),
        }
    }

    fn leaf(&self, shape: &[u64], x: &[f32]) -> Result<EncodedLeaf> {
        match self {
            Self::Codewords(rule) => rule.leaf(shape, x),
            Self::Points(rule) => rule.leaf(shape, x),
        }
    }
}

/// Some rows on their way through the columns.
struct Part<'a> {
    rule: &'a Rule,
    /// Where the next column's begin in the leaf, and how far from one column to the next.
    at: usize,
    rows: usize,
}

impl Step for Part<'_> {
    fn next(&mut self, x: &[f32], _: &mut [u8], values: &mut [f32]) {
        self.rule.values(self.at, x, values);
        self.at += self.rows;
    }
}

/// The matrix as an `rvq` or `pvq` leaf of its transpose.
pub(super) fn vectors(problem: &Problem<'_>, method: &Method, aim: Aim) -> Result<Made> {
    if !fits(method, &problem.shape) {
        let (codec, shape) = (method.codec.name(), &problem.shape);
        return Err(Error::unsupported(format!("codec {codec} with feedback for a tensor of shape {shape:?}"))
            .with_hint("its vectors follow the rows of a matrix of 4096 weights at least: dim must divide them, in one group"));
    }
    let shape = [problem.columns as u64, problem.rows as u64];
    let vectors = Vectors::of(method, problem.seed);
    // The targets of the last pass, and the factors of rows and columns that they are in.
    let mut last: Option<(Vec<f32>, [Vec<f32>; 2])> = None;
    let mut count = PASSES;
    let trial = |dial: f64| {
        let price = (dial.exp2() / (problem.unit * problem.unit)).clamp(1e-60, 1e60);
        #[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
        let reach = (REACH * step_at(problem, dial)) as f32;
        let Within { scaled, rows, columns } = problem.within(reach);
        let matrix =
            Matrix { columns: &scaled, rows: problem.rows, steps: &columns, feedback: &problem.feedback };
        let mut x = match last.take() {
            Some((mut x, before)) => {
                let [by_row, by_column] = [(&before[0], &rows), (&before[1], &columns)]
                    .map(|(before, now)| before.iter().zip(now).map(|(b, n)| b / n).collect::<Vec<f32>>());
                for (x, column) in x.chunks_mut(problem.rows).zip(by_column) {
                    x.iter_mut().zip(&by_row).for_each(|(x, row)| *x *= column * row);
                }
                x
            }
            None => matrix.in_steps(Order::Columns),
        };
        let mut rule = vectors.learned(&shape, &x, price)?;
        for left in (0..std::mem::replace(&mut count, 1)).rev() {
            let stride = (ROWS / rule.dim()).max(1) * rule.dim();
            let groups = (0..problem.rows).step_by(stride).map(|at| Group {
                rows: (at..problem.rows.min(at + stride)).collect(),
                quantizer: Box::new(Part { rule: &rule, at, rows: problem.rows }),
            });
            x = matrix.pass(groups.collect(), Order::Columns).x;
            if left > 0 {
                rule = vectors.learned(&shape, &x, price)?;
            }
        }
        let leaves = vec![rule.leaf(&shape, &x)?];
        last = Some((x, [rows.clone(), columns.clone()]));
        Ok(Made { leaves, rows, columns, dial })
    };
    turned(problem, aim, start, trial)
}

/// Whether vectors of `method` follow the rows of a matrix of `shape` without crossing its columns, and pay.
pub(super) fn fits(method: &Method, shape: &[u64]) -> bool {
    let &[rows, columns] = shape else { return false };
    rows.saturating_mul(columns) >= LEAST
        && method.groups.is_none_or(|g| g == 1)
        && method.dim.is_none_or(|d| d > 0 && rows % u64::from(d) == 0)
}
