//! Ternary: passes with thresholds and levels fitted to the targets of the pass before, in one plane or several.
//!
//! The leaves have the rows of the matrix, which share levels in runs: a product adds whole rows of trits, as they lie.
//! Integers give a loud column more bits by a finer step; trits reach no further than their levels. So planes are added
//! until the loudest columns are reached, which are most of the error (at 1.6 bits two planes, as suit the weights alone,
//! leave SmolLM2-135M a KL divergence of 9.3), and no column gets a factor at which a finer one would gain nothing.

use super::dial::Aim;
use super::integers::{Made, bits_at, start, step_at, turned};
use super::pass::{Group, Matrix, Order, ROWS, Step};
use super::problem::Problem;
use super::steps;
use benben_codec::ternary;
use benben_format::{Error, Result};

/// Passes: the levels of the first are fitted to the weights, those of the next to the targets of the one before.
const PASSES: usize = 2;
/// Threshold of the last plane, in steps of a uniform quantizer at the same slope of error and bits.
const THRESHOLD: f64 = 0.6;
/// Part of the bits that is made use of at least, by one plane more.
const FILLED: f64 = 0.97;
/// Bits that planes are chosen for at least: a dial may leave none.
const LEAST_BITS: f64 = 0.05;
/// Planes, at most.
const MOST: usize = 16;

impl Step for ternary::Part {
    fn next(&mut self, x: &[f32], _: &mut [u8], values: &mut [f32]) {
        Self::next(self, x, values);
    }
}

/// The matrix as planes of a `ternary` leaf each.
pub(super) fn ternary(problem: &Problem<'_>, aim: Aim) -> Result<Made> {
    let rms: Vec<f32> = problem.scaled.chunks(problem.rows).map(rms).collect();
    let bits = match aim {
        Aim::BitsPerWeight(bits) => bits,
        Aim::Loss(loss) => bits_at(problem, problem.dial_at(loss)),
        Aim::Dial(dial) => bits_at(problem, dial),
    };
    let x = matrix(problem, &problem.column_factors).in_steps(Order::Columns);
    let mut stack = ternary::Stack::of(&x, bits.max(LEAST_BITS))?;
    loop {
        let made = by(problem, aim, &stack, &rms)?;
        let missed = match aim {
            Aim::Loss(loss) => problem.outcome(&made)?.loss > loss * 1.01,
            Aim::BitsPerWeight(bits) => {
                problem.bits(&made.leaves, &made.rows, &made.columns)? < bits * FILLED
            }
            Aim::Dial(_) => false,
        };
        if !missed || stack.planes() == MOST {
            return Ok(made);
        }
        stack = stack.deeper();
    }
}

/// By one stack.
fn by(problem: &Problem<'_>, aim: Aim, stack: &ternary::Stack, rms: &[f32]) -> Result<Made> {
    let mut last: Option<(Vec<f32>, Vec<f32>)> = None;
    let mut count = PASSES;
    let trial = |dial: f64| {
        let threshold = THRESHOLD * step_at(problem, dial);
        #[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
        let columns = steps::within(&problem.column_factors, rms, stack.reach(threshold) as f32);
        let matrix = matrix(problem, &columns);
        let mut x = match last.take() {
            Some((mut x, before)) => {
                for row in x.chunks_mut(problem.columns) {
                    let factors = before.iter().zip(&columns);
                    row.iter_mut().zip(factors).for_each(|(x, (before, now))| *x *= before / now);
                }
                x
            }
            None => matrix.in_steps(Order::Rows),
        };
        let mut rule = None;
        for _ in 0..std::mem::replace(&mut count, 1) {
            let rule = rule.insert(ternary::Chooser::learned(problem.columns, &x, stack, threshold)?);
            let groups = (0..problem.rows).step_by(ROWS).map(|at| {
                let rows: Vec<usize> = (at..problem.rows.min(at + ROWS)).collect();
                Group { quantizer: Box::new(rule.part(&rows)), rows }
            });
            x = matrix.pass(groups.collect(), Order::Rows).x;
        }
        let rule = rule.ok_or_else(|| Error::invalid("no pass was made"))?;
        let leaves = rule.leaves(&problem.shape, &x)?;
        last = Some((x, columns.clone()));
        Ok(Made { leaves, rows: problem.row_factors.clone(), columns, dial })
    };
    turned(problem, aim, start, trial)
}

fn matrix<'a>(problem: &'a Problem<'_>, steps: &'a [f32]) -> Matrix<'a> {
    Matrix { columns: &problem.scaled, rows: problem.rows, steps, feedback: &problem.feedback }
}

#[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
fn rms(column: &[f32]) -> f32 {
    let sum: f64 = column.iter().map(|&x| f64::from(x).powi(2)).sum();
    ((sum / column.len() as f64).sqrt() as f32).max(1e-30)
}
