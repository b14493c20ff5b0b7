//! Scalar and trellis: passes whose rule follows from the pass before, until the dial is met.

use super::dial::{self, Aim, Goal};
use super::pass::{Group, Matrix, Order, Passed};
use super::problem::{Problem, Within};
use benben_codec::trellis::Form;
use benben_codec::{scalar as scalar_codec, trellis as trellis_codec};
use benben_format::{EncodedLeaf, Error, Result};

/// What a bit counts for scalar, in steps^2: as without feedback, a little below the slope at high rates, 2 ln 2 / 12.
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
    /// What symbols reach, in steps, with room for errors of earlier columns.
    fn reach(&self) -> f32;
    fn rough(&mut self, x: &[f32]) -> Result<Self::Rule>;
    fn learned(&mut self, passed: &Passed) -> Result<Self::Rule>;
    fn groups<'a>(&self, rule: &'a Self::Rule) -> Vec<Group<'a>>;
    fn leaf(&self, rule: &Self::Rule, step: f32, passed: &Passed) -> Result<EncodedLeaf>;
    /// Looks at a first pass for a form that suits these bits better: whether there is one.
    fn settle(&mut self, bits: f64, passed: &Passed) -> Result<bool>;
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

    fn reach(&self) -> f32 {
        100.0
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

    fn settle(&mut self, _: f64, _: &Passed) -> Result<bool> {
        Ok(false)
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

    fn reach(&self) -> f32 {
        200.0
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

    fn settle(&mut self, bits: f64, passed: &Passed) -> Result<bool> {
        if bits > FORMS_BELOW {
            return Ok(false);
        }
        let before = self.form;
        self.form = trellis_codec::Chooser::best_form(&self.shape, &passed.x)?;
        Ok(self.form != before)
    }
}

/// What passes came to.
pub(super) struct Made {
    /// The matrix is their sum.
    pub(super) leaves: Vec<EncodedLeaf>,
    /// Factor of each row, and of each column.
    pub(super) rows: Vec<f32>,
    pub(super) columns: Vec<f32>,
    pub(super) dial: f64,
}

/// The matrix as a `scalar` leaf.
pub(super) fn scalar(problem: &Problem<'_>, aim: Aim) -> Result<Made> {
    let integers = Scalar { shape: problem.shape.clone(), rows: problem.rows };
    Passes { problem, integers, last: None, settled: false }.run(aim)
}

/// The matrix as a `trellis` leaf of its transpose.
pub(super) fn trellis(problem: &Problem<'_>, aim: Aim) -> Result<Made> {
    let &[rows, columns] = &problem.shape[..] else {
        let shape = &problem.shape;
        return Err(Error::unsupported(format!(
            "codec trellis with feedback for a tensor of shape {shape:?}"
        ))
        .with_hint("its path follows the columns of a matrix: scalar takes any shape"));
    };
    let integers = Trellis { shape: [columns, rows], form: Form::USUAL };
    Passes { problem, integers, last: None, settled: false }.run(aim)
}

/// Passes over one matrix, each with the rule that the one before has taught.
struct Passes<'a, I> {
    problem: &'a Problem<'a>,
    integers: I,
    /// The last pass, its dial and its step.
    last: Option<(f64, f32, Passed)>,
    settled: bool,
}

impl<I: Integers> Passes<'_, I> {
    fn run(mut self, aim: Aim) -> Result<Made> {
        let problem = self.problem;
        let mut count = PASSES;
        turned(problem, aim, start, |dial| self.passes(dial, std::mem::replace(&mut count, 1)))
    }

    /// Step of the leaf at a dial.
    fn step(&self, dial: f64) -> f32 {
        #[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
        let step = ((dial.exp2() * self.integers.steps()).sqrt() / self.problem.unit) as f32;
        step.clamp(1e-30, 1e30)
    }

    /// `count` passes at `dial`, and the leaf of the last.
    fn passes(&mut self, dial: f64, count: usize) -> Result<Made> {
        for left in (0..count).rev() {
            let made = self.pass(dial, left == 0)?;
            if let Some(made) = made {
                return Ok(made);
            }
        }
        Err(Error::invalid("no pass was made"))
    }

    /// One pass, and its leaf where it is the last.
    fn pass(&mut self, dial: f64, last: bool) -> Result<Option<Made>> {
        let problem = self.problem;
        let step = self.step(dial);
        let Within { scaled, rows, columns } = problem.within(self.integers.reach() * step);
        let steps: Vec<f32> = columns.iter().map(|c| c * step).collect();
        let matrix =
            Matrix { columns: &scaled, rows: problem.rows, steps: &steps, feedback: &problem.feedback };
        let rule = match self.last.take() {
            Some((at, _, passed)) if (at - dial).abs() <= NEAR => self.integers.learned(&passed)?,
            Some((_, before, mut passed)) => {
                passed.x.iter_mut().for_each(|x| *x *= before / step);
                self.integers.rough(&passed.x)?
            }
            None => self.integers.rough(&matrix.in_steps(self.integers.order()))?,
        };
        let passed = matrix.pass(self.integers.groups(&rule), self.integers.order());
        if !self.settled {
            self.settled = true;
            let leaf = self.integers.leaf(&rule, step, &passed)?;
            if self.integers.settle(problem.bits(std::slice::from_ref(&leaf), &rows, &columns)?, &passed)? {
                // Begin anew, in another form.
                self.last = Some((f64::INFINITY, step, passed));
                return self.pass(dial, last);
            }
        }
        let leaf = if last { Some(self.integers.leaf(&rule, step, &passed)?) } else { None };
        self.last = Some((dial, step, passed));
        Ok(leaf.map(|leaf| Made { leaves: vec![leaf], rows, columns, dial }))
    }
}

/// What `trial` makes where its dial meets `aim`; `start` guesses the dial of so many bits.
pub(super) fn turned(
    problem: &Problem<'_>,
    aim: Aim,
    start: impl Fn(&Problem<'_>, f64) -> f64,
    mut trial: impl FnMut(f64) -> Result<Made>,
) -> Result<Made> {
    match aim {
        Aim::Dial(dial) => trial(dial),
        Aim::BitsPerWeight(bits) => Goal::bits(bits).turn(start(problem, bits), |dial| {
            let made = trial(dial)?;
            Ok((problem.bits(&made.leaves, &made.rows, &made.columns)?, made))
        }),
        Aim::Loss(loss) => Goal::loss(loss).turn(problem.dial_at(loss), |dial| {
            let made = trial(dial)?;
            Ok((dial::score(problem.outcome(&made)?.loss), made))
        }),
    }
}

/// The step of a uniform quantizer at a dial.
pub(super) fn step_at(problem: &Problem<'_>, dial: f64) -> f64 {
    ((dial.exp2() / SLOPE).sqrt() / problem.unit).clamp(1e-30, 1e30)
}

/// Root mean square of each column, in units of what its errors cost.
fn deviations(problem: &Problem<'_>) -> Vec<f64> {
    let columns = problem.scaled.chunks(problem.rows);
    let energy = |c: &[f32]| c.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / c.len() as f64;
    columns.map(|c| energy(c).sqrt() * problem.unit).collect()
}

/// Bits for each weight of Gaussian columns, by reverse water-filling.
fn gaussian_bits(deviations: &[f64], step: f64) -> f64 {
    // About what a column takes: never below 0.
    let own = |d: &f64| 0.5 * (1.0 + (d / step * BITS_AT_ONE.exp2()).powi(2)).log2();
    deviations.iter().map(own).sum::<f64>() / deviations.len().max(1) as f64
}

/// A guess of the bits at a dial.
pub(super) fn bits_at(problem: &Problem<'_>, dial: f64) -> f64 {
    gaussian_bits(&deviations(problem), (dial.exp2() / SLOPE).sqrt())
}

/// A guess of the dial for so many bits.
pub(super) fn start(problem: &Problem<'_>, bits: f64) -> f64 {
    let deviations = deviations(problem);
    let (mut low, mut high) = (-100.0f64, 100.0f64);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if gaussian_bits(&deviations, middle.exp2()) > bits { low = middle } else { high = middle }
    }
    2.0 * low + SLOPE.log2()
}
