//! Scalar and trellis: passes whose rule follows from the pass before, until the dial is met.

use super::dial::{self, Aim, Goal};
use super::pass::{Group, Matrix, Order, Passed};
use super::problem::Problem;
use benben_codec::trellis::Form;
use benben_codec::{scalar as scalar_codec, trellis as trellis_codec};
use benben_format::{EncodedLeaf, Error, Result};

/// What a bit counts for scalar, in steps^2: the slope at high rates, 2 ln 2 / 12, and less, since errors make later
/// targets larger.
const LAMBDA: f32 = 0.1;
/// The slope that a dial stands for, in steps^2 of scalar.
const SLOPE: f64 = 0.1155;
/// What a bit counts for a trellis, as a part of what it counts without feedback.
const TRELLIS_LAMBDA: f32 = 1.0;
/// Passes where the dial is given: the rule of the last follows from feedback.
const PASSES: usize = 3;
/// Up to such a turn of the dial the rule of the pass before is better than a rough one.
const NEAR: f64 = 0.8;
/// Below so many bits, all forms of a trellis are tried.
const FORMS_BELOW: f64 = 2.3;
/// Bits that weights of a step of their own deviation take.
const BITS_AT_ONE: f64 = 2.05;

/// A quantizer by integers of one step.
trait Integers {
    /// The rule of one pass.
    type Rule;
    /// Steps^2 that a slope of 1 stands for.
    fn steps(&self) -> f64;
    fn order(&self) -> Order;
    fn rough(&mut self, x: &[f32]) -> Result<Self::Rule>;
    fn learned(&mut self, passed: &Passed) -> Result<Self::Rule>;
    fn groups<'a>(&self, rule: &'a Self::Rule) -> Vec<Group<'a>>;
    fn leaf(&self, rule: &Self::Rule, step: f32, passed: &Passed) -> Result<EncodedLeaf>;
    /// Looks at a first pass for a form that suits these bits better; what steps are then multiplied with.
    fn settle(&mut self, bits: f64, passed: &Passed) -> Result<f64>;
}

struct Scalar {
    shape: Vec<u64>,
    rows: usize,
}

impl Integers for Scalar {
    type Rule = scalar_codec::Chooser;

    fn steps(&self) -> f64 {
        1.0 / SLOPE
    }

    fn order(&self) -> Order {
        Order::Rows
    }

    fn rough(&mut self, x: &[f32]) -> Result<Self::Rule> {
        scalar_codec::Chooser::rough(&self.shape, x, LAMBDA)
    }

    fn learned(&mut self, passed: &Passed) -> Result<Self::Rule> {
        scalar_codec::Chooser::learned(&self.shape, &passed.x, &passed.symbols, LAMBDA)
    }

    fn groups<'a>(&self, rule: &'a Self::Rule) -> Vec<Group<'a>> {
        Group::of_scalar(rule, self.rows)
    }

    fn leaf(&self, rule: &Self::Rule, step: f32, passed: &Passed) -> Result<EncodedLeaf> {
        rule.leaf(&self.shape, step, &passed.symbols)
    }

    fn settle(&mut self, _: f64, _: &Passed) -> Result<f64> {
        Ok(1.0)
    }
}

struct Trellis {
    /// Of the leaf: columns of the matrix by its rows.
    shape: [u64; 2],
    form: Form,
}

impl Integers for Trellis {
    type Rule = trellis_codec::Chooser;

    fn steps(&self) -> f64 {
        1.0 / f64::from(self.form.lambda())
    }

    fn order(&self) -> Order {
        Order::Columns
    }

    fn rough(&mut self, x: &[f32]) -> Result<Self::Rule> {
        trellis_codec::Chooser::rough(&self.shape, x, self.form, TRELLIS_LAMBDA)
    }

    fn learned(&mut self, passed: &Passed) -> Result<Self::Rule> {
        let Passed { x, symbols } = passed;
        trellis_codec::Chooser::learned(&self.shape, x, symbols, self.form, TRELLIS_LAMBDA)
    }

    fn groups<'a>(&self, rule: &'a Self::Rule) -> Vec<Group<'a>> {
        Group::of_trellis(rule)
    }

    fn leaf(&self, rule: &Self::Rule, step: f32, passed: &Passed) -> Result<EncodedLeaf> {
        rule.leaf(&self.shape, step, &passed.x, &passed.symbols)
    }

    fn settle(&mut self, bits: f64, passed: &Passed) -> Result<f64> {
        if bits > FORMS_BELOW {
            return Ok(1.0);
        }
        let before = self.steps();
        self.form = trellis_codec::Chooser::best_form(&self.shape, &passed.x)?;
        Ok((self.steps() / before).sqrt())
    }
}

/// A `scalar` leaf of the matrix, and the dial that it is at.
pub(super) fn scalar(problem: &Problem<'_>, aim: Aim) -> Result<(EncodedLeaf, f64)> {
    run(problem, aim, Scalar { shape: problem.shape.clone(), rows: problem.rows })
}

/// A `trellis` leaf of the matrix transposed, and the dial that it is at.
pub(super) fn trellis(problem: &Problem<'_>, aim: Aim) -> Result<(EncodedLeaf, f64)> {
    let &[rows, columns] = &problem.shape[..] else {
        let shape = &problem.shape;
        return Err(Error::unsupported(format!(
            "codec trellis with feedback for a tensor of shape {shape:?}"
        ))
        .with_hint("its path follows the columns of a matrix: scalar takes any shape"));
    };
    run(problem, aim, Trellis { shape: [columns, rows], form: Form::USUAL })
}

fn run<I: Integers>(problem: &Problem<'_>, aim: Aim, mut integers: I) -> Result<(EncodedLeaf, f64)> {
    let matrix = Matrix { columns: &problem.scaled, rows: problem.rows, feedback: &problem.feedback };
    let order = integers.order();
    // Step of the leaf at a dial.
    let step = |integers: &I, dial: f64| {
        #[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
        let step = ((dial.exp2() * integers.steps()).sqrt() / problem.unit) as f32;
        step.clamp(1e-30, 1e30)
    };
    let start = match aim {
        Aim::Dial(dial) => dial,
        Aim::BitsPerWeight(bits) => start(problem, bits),
        Aim::Loss(loss) => problem.dial_at(loss),
    };
    let mut last: Option<(f64, f32, Passed)> = None;
    let mut settled = false;
    let mut passes = |dial: f64, count: usize, last: &mut Option<(f64, f32, Passed)>| {
        let mut made = None;
        for _ in 0..count {
            let own = step(&integers, dial);
            let rule = match last.as_mut() {
                Some((at, _, passed)) if (*at - dial).abs() <= NEAR => integers.learned(passed)?,
                Some((_, before, passed)) => {
                    let ratio = *before / own;
                    passed.x.iter_mut().for_each(|x| *x *= ratio);
                    integers.rough(&passed.x)?
                }
                None => integers.rough(&matrix.in_steps(own, order))?,
            };
            let mut passed = matrix.pass(own, integers.groups(&rule), order);
            if !settled {
                settled = true;
                let leaf = integers.leaf(&rule, own, &passed)?;
                let ratio = integers.settle(problem.bits(&leaf)?, &passed)?;
                if ratio != 1.0 {
                    // Begin again, in the other form.
                    passed.x.iter_mut().for_each(|x| *x /= ratio as f32);
                    *last = Some((f64::INFINITY, step(&integers, dial), passed));
                    continue;
                }
            }
            *last = Some((dial, own, passed));
            made = Some((rule, own));
        }
        let (Some((rule, own)), Some((_, _, passed))) = (made, last.as_ref()) else {
            return Err(Error::invalid("no pass was made"));
        };
        integers.leaf(&rule, own, passed)
    };
    match aim {
        Aim::Dial(dial) => Ok((passes(dial, PASSES, &mut last)?, dial)),
        Aim::BitsPerWeight(bits) => {
            let mut first = true;
            Goal::bits(bits).turn(start, |dial| {
                let count = if std::mem::take(&mut first) { 2 } else { 1 };
                let leaf = passes(dial, count, &mut last)?;
                Ok((problem.bits(&leaf)?, (leaf, dial)))
            })
        }
        Aim::Loss(loss) => {
            let mut first = true;
            Goal::loss(loss).turn(start, |dial| {
                let count = if std::mem::take(&mut first) { 2 } else { 1 };
                let leaf = passes(dial, count, &mut last)?;
                let found = problem.outcome(&leaf, dial)?.loss;
                Ok((dial::score(found), (leaf, dial)))
            })
        }
    }
}

/// A guess of the dial for so many bits: Gaussian columns, reverse water-filling.
fn start(problem: &Problem<'_>, bits: f64) -> f64 {
    let deviations: Vec<f64> = problem
        .scaled
        .chunks(problem.rows)
        .map(|c| {
            (c.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / c.len() as f64).sqrt() * problem.unit
        })
        .collect();
    let of = |step: f64| {
        // About what a column takes: never below 0.
        let own = |d: &f64| 0.5 * (1.0 + (d / step * BITS_AT_ONE.exp2()).powi(2)).log2();
        deviations.iter().map(own).sum::<f64>() / deviations.len().max(1) as f64
    };
    let (mut low, mut high) = (-100.0f64, 100.0f64);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if of(middle.exp2()) > bits { low = middle } else { high = middle }
    }
    2.0 * low + SLOPE.log2()
}
