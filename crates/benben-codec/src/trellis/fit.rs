//! Passes through the trellis until the target is met.

use super::cells::Cells;
use super::codebook::{REACH, Shifts};
use super::plan::Plan;
use super::survey::Survey;
use super::viterbi::{self, Costs, LANES};
use super::{MAX_CLASSES, MAX_STEP, Settings};
use crate::dial::Goal;
use crate::entropy::{CHUNK_ITEMS, Trellis};
use crate::{Importance, exceptions};
use benben_format::layout::{CHUNK_ENTRY, SEGMENT_ENTRY};
use benben_format::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Most weights of the sample that the step is searched on, in segments of [`SEGMENT`]; a quarter of a small tensor.
const SAMPLE: usize = 1 << 17;
/// Least weights of a sample: rates come out within 1 %, which the passes over the whole then correct.
const LEAST_SAMPLE: usize = 1 << 15;
/// Segments of a sample that are surveyed together.
const TOGETHER: usize = 4;
/// Weights of a segment: 128 steps of each lane, so that starting in state 0 shifts nothing.
const SEGMENT: usize = 1 << 12;
/// Above so many bits, two tables to a class and a codebook without 0 are as good as any and nothing else is tried.
const FORMS_BELOW: f64 = 2.3;

/// Which codebooks, and which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Whether both codebooks have 0.
    pub zero: bool,
    /// Whether each state has tables, or each codebook.
    pub states: bool,
}

impl Form {
    /// What is as good as any above 2.3 bits.
    pub const USUAL: Self = Self { zero: false, states: false };

    const ALL: [Self; 4] = [
        Self::USUAL,
        Self { zero: false, states: true },
        Self { zero: true, states: false },
        Self { zero: true, states: true },
    ];

    pub(super) fn trellis(self) -> Trellis {
        if self.states { Trellis::States } else { Trellis::Unions }
    }

    /// Lambda in steps^2 for each bit. The slope of the operational curve at the end of the iteration, 2 ln 2 D with
    /// D of 0.28 or 0.21 steps^2; the optimum is flat, 10 % more or less cost 0.003 dB.
    #[must_use]
    pub fn lambda(self) -> f32 {
        if self.zero { 0.29 } else { 0.38 }
    }
}

/// Everything that a pass goes by.
#[derive(Debug, Clone)]
pub(super) struct Coding {
    pub(super) form: Form,
    pub(super) step: f32,
    pub(super) shifts: Shifts,
    pub(super) plan: Plan,
}

/// Weights of one tensor with what every pass needs to know of them.
pub(super) struct Weights<'a> {
    pub(super) values: &'a [f32],
    pub(super) cells: &'a Cells,
    pub(super) energy: f64,
    goal: Goal,
    /// Importance of each element, of mean 1; empty where uniform.
    importance: Vec<f32>,
    largest: f32,
    /// The least step that leaves no more exceptions than allowed.
    least: OnceLock<f32>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(
        values: &'a [f32],
        columns: u64,
        cells: &'a Cells,
        settings: &Settings<'_>,
    ) -> Result<Self> {
        let columns = usize::try_from(columns).unwrap_or(usize::MAX);
        settings.importance.check(values.len(), columns)?;
        let importance = match settings.importance {
            Importance::Uniform => Vec::new(),
            some => {
                let mut of: Vec<f32> = (0..values.len()).map(|i| some.of(i, columns)).collect();
                let mean = of.iter().map(|&w| f64::from(w)).sum::<f64>() / of.len().max(1) as f64;
                if mean > 0.0 {
                    of.iter_mut().for_each(|w| *w = (f64::from(*w) / mean) as f32);
                } else {
                    of.clear();
                }
                of
            }
        };
        Ok(Self {
            values,
            cells,
            energy: crate::squared_error(values, &vec![0.0; values.len()]).1,
            goal: Goal::of(settings.target)?,
            importance,
            largest: values.iter().fold(0f32, |m, x| m.max(x.abs())),
            least: OnceLock::new(),
        })
    }

    /// The step that `dial`, twice its logarithm, stands for, brought into the bounds of the format.
    fn step(&self, dial: f64) -> f32 {
        // Beyond the largest weight a step says nothing more.
        let step = ((dial / 2.0).exp2() as f32).min(self.largest).min(MAX_STEP).max(f32::from_bits(1));
        if self.largest / step <= REACH {
            return step;
        }
        let least = *self.least.get_or_init(|| {
            let kept = exceptions::limit(self.values.len() as u64) as usize;
            if kept >= self.values.len() {
                return 0.0;
            }
            let mut sizes: Vec<f32> = self.values.iter().map(|v| v.abs()).collect();
            let (_, &mut largest, _) = sizes.select_nth_unstable_by(kept, |a, b| b.total_cmp(a));
            // A little more, so that rounding does not bring an exception back.
            largest / REACH * 1.000_01
        });
        step.max(least).min(MAX_STEP)
    }

    /// The elements that `step` does not reach.
    pub(super) fn exceptions(&self, step: f32) -> Vec<(u64, f32)> {
        if self.largest / step <= REACH {
            return Vec::new();
        }
        let all = self.values.iter().enumerate();
        all.filter(|(_, v)| out_of_reach(**v / step)).map(|(i, &v)| (i as u64, v)).collect()
    }

    /// Whole chunks.
    fn whole(&self) -> Vec<Range<usize>> {
        let n = self.values.len();
        (0..n).step_by(CHUNK_ITEMS as usize).map(|at| at..(at + CHUNK_ITEMS as usize).min(n)).collect()
    }

    /// Segments spread evenly over the tensor; all of a small one.
    fn sample(&self, most: usize) -> Vec<Range<usize>> {
        let n = self.values.len();
        if n <= most {
            return self.whole();
        }
        let count = most / SEGMENT;
        (0..count)
            .map(|i| {
                let at = (n - SEGMENT) / (count - 1).max(1) * i / LANES * LANES;
                at..at + SEGMENT
            })
            .collect()
    }

    /// The first guess of what symbols cost: each weight on the nearest place of each codebook.
    fn rough(&self, form: Form, step: f32, segments: &[Range<usize>]) -> Coding {
        let trellis = form.trellis();
        let surveys: Vec<Survey> = segments
            .par_iter()
            .map(|range| {
                let mut survey = Survey::empty(trellis);
                let mut classes = vec![0; range.len()];
                self.cells.fill(range, &identity(), &mut classes);
                let x = self.values[range.clone()].iter().map(|v| v / step);
                survey.guess(trellis, form.zero, x, &classes);
                survey
            })
            .collect();
        let survey = surveys.iter().fold(Survey::empty(trellis), Survey::merge);
        let plan = Plan::new(&survey, form, self.cells, self.values.len());
        Coding { form, step, shifts: Shifts::default(), plan }
    }

    /// One pass over `segments`, and the symbols.
    fn pass(&self, coding: &Coding, segments: &[Range<usize>], together: usize) -> (Survey, Vec<Vec<u8>>) {
        let Coding { form, step, shifts, plan } = coding;
        let trellis = form.trellis();
        let costs = Costs {
            zero: form.zero,
            states: form.states,
            levels: shifts.levels(form.zero),
            bits: plan.lengths(*form, form.lambda()),
        };
        let part = |survey: &mut Survey, range: &Range<usize>| {
            let values = &self.values[range.clone()];
            let weights = self.importance.get(range.clone()).unwrap_or_default();
            let in_steps = || values.iter().map(|v| v / step);
            let x: Vec<f32> = in_steps().map(|x| if out_of_reach(x) { 0.0 } else { x }).collect();
            let mut classes = vec![0; x.len()];
            self.cells.fill(range, &plan.group_of, &mut classes);
            let mut symbols = vec![0; x.len()];
            viterbi::search(&costs, &x, weights, &classes, &mut symbols);
            self.cells.fill(range, &identity(), &mut classes);
            survey.add(trellis, form.zero, in_steps(), weights, &classes, &symbols);
            symbols
        };
        // Parts of a fixed size, summed in order: no thread count changes a sum.
        let passes: Vec<(Survey, Vec<Vec<u8>>)> = segments
            .par_chunks(together)
            .map(|segments| {
                let mut survey = Survey::empty(trellis);
                let symbols = segments.iter().map(|range| part(&mut survey, range)).collect();
                (survey, symbols)
            })
            .collect();
        let survey = passes.iter().fold(Survey::empty(trellis), |all, (s, _)| all.merge(s));
        (survey, passes.into_iter().flat_map(|p| p.1).collect())
    }

    /// `rounds` of passes and of what follows from them.
    fn settle(&self, mut coding: Coding, segments: &[Range<usize>], rounds: usize) -> (Coding, Survey) {
        let mut survey = Survey::empty(coding.form.trellis());
        for _ in 0..rounds {
            survey = self.pass(&coding, segments, TOGETHER).0;
            coding.shifts = survey.shifts();
            coding.plan = Plan::new(&survey, coding.form, self.cells, self.values.len());
        }
        (coding, survey)
    }

    /// Expected bits for each weight, and relative error.
    fn reached(&self, coding: &Coding, survey: &Survey) -> (f64, f64) {
        let n = self.values.len().max(1) as f64;
        let chunks = self.values.len().div_ceil(CHUNK_ITEMS as usize);
        let fixed = SEGMENT_ENTRY + (chunks + 2) * CHUNK_ENTRY + 34;
        let exceptions = self.exceptions(coding.step).len() as f64;
        let bits = coding.plan.bits + 8.0 * fixed as f64 + exceptions * (34.0 + n.log2());
        let scale = n / survey.items.max(1) as f64 * f64::from(coding.step).powi(2);
        (bits / n, survey.error(&coding.shifts).0 * scale / self.energy)
    }

    /// Where the search of the step begins: a Gaussian source, which has 0.98 bits at a step of its own deviation
    /// and an error of 0.28 steps^2.
    fn start(&self) -> f64 {
        let energy = (self.energy / self.values.len().max(1) as f64).log2();
        energy + (2.0 * (0.98 - self.goal.bits())).min(1.0)
    }

    /// The form, step and tables that meet the goal on a sample.
    pub(super) fn search(&self) -> Result<(f64, Coding)> {
        let size = (self.values.len() / 4).clamp(LEAST_SAMPLE, SAMPLE);
        let segments = self.sample(size);
        let (dial, coding, bits) = self.turn(self.start(), Form::ALL[0], &segments)?;
        if bits > FORMS_BELOW {
            return Ok((dial, coding));
        }
        let slope = f64::from(coding.form.lambda()) * dial.exp2();
        let best = self.best_form(slope, size / 2);
        match best {
            Some((own, form)) if form != coding.form => {
                let (dial, coding, _) = self.turn(own, form, &segments)?;
                Ok((dial, coding))
            }
            _ => Ok((dial, coding)),
        }
    }

    /// The form of the least error + slope * bits on a sample, and the dial at which it has that slope.
    pub(super) fn best_form(&self, slope: f64, sample: usize) -> Option<(f64, Form)> {
        let segments = self.sample(sample);
        let mut best: Option<(f64, f64, Form)> = None;
        for form in Form::ALL {
            let own = (slope / f64::from(form.lambda())).log2();
            let (coding, survey) = self.settle(self.rough(form, self.step(own), &segments), &segments, 2);
            let scale = self.values.len() as f64 / survey.items.max(1) as f64;
            let error = survey.error(&coding.shifts).1 * scale * f64::from(coding.step).powi(2);
            // Eight tables are decoded from a larger cache than two: they must save a thousandth.
            let cost = (error + slope * coding.plan.bits) * if form.states { 1.001 } else { 1.0 };
            if best.is_none_or(|b| cost < b.0) {
                best = Some((cost, own, form));
            }
        }
        best.map(|b| (b.1, b.2))
    }

    /// Turns the step to the goal on `segments`.
    fn turn(&self, start: f64, form: Form, segments: &[Range<usize>]) -> Result<(f64, Coding, f64)> {
        let mut last: Option<(f64, Coding)> = None;
        let turned = self.goal.turn(start, 8, 0.01, |dial| {
            let step = self.step(dial);
            // Tables of a step that is near are a better start than the rough ones.
            let (begin, rounds) = match last.take() {
                Some((at, coding)) if (at - dial).abs() < 0.6 => (Coding { step, ..coding }, 2),
                _ => (self.rough(form, step, segments), 3),
            };
            let (coding, survey) = self.settle(begin, segments, rounds);
            last = Some((dial, coding.clone()));
            let (bits, mse) = self.reached(&coding, &survey);
            Ok((self.goal.score(bits, mse), (coding, bits)))
        })?;
        let (coding, bits) = turned.made;
        Ok((turned.dial, coding, bits))
    }

    /// Codes the whole tensor, correcting the step until the goal is met or `tries` are used up; `write` makes a leaf
    /// of the coding and its symbols and says what it reached.
    ///
    /// [`Goal::turn`] brackets, which asks that a trial give the same a second time; here the tables still move from
    /// pass to pass, so that only the last two say where to go.
    pub(super) fn finish<T>(
        &self,
        mut dial: f64,
        mut coding: Coding,
        tries: usize,
        mut write: impl FnMut(&Coding, &[u8]) -> Result<(f64, f64, T)>,
    ) -> Result<T> {
        let whole = self.whole();
        let goal = self.goal.bits();
        // At low rates a path hangs on its tables, which hang on the path: it takes longer to settle.
        let tries = if goal < 1.5 { 2 * tries } else { tries };
        let slack = 0.0015 * goal.max(1.0);
        let mut best: Option<(bool, f64, T)> = None;
        let (mut slope, mut before): (f64, Option<(f64, f64)>) = (-0.5, None);
        for _ in 0..tries {
            coding.step = self.step(dial);
            let (survey, symbols) = self.pass(&coding, &whole, 1);
            coding.shifts = survey.shifts();
            coding.plan = Plan::new(&survey, coding.form, self.cells, self.values.len());
            let (bits, mse, made) = write(&coding, &symbols.concat())?;
            let score = self.goal.score(bits, mse);
            let (met, miss) = (self.goal.met(score), self.goal.miss(score));
            if best.as_ref().is_none_or(|b| (met, -miss.abs()) > (b.0, -b.1)) {
                best = Some((met, miss.abs(), made));
            }
            if met && miss.abs() <= slack {
                break;
            }
            if let Some((d, s)) = before.filter(|(d, _)| (d - dial).abs() > 1e-3) {
                slope = ((s - score) / (d - dial)).clamp(-1.5, -0.25);
            }
            before = Some((dial, score));
            let aim = if self.goal.met(score + 1e9) { slack } else { -slack } / 2.0;
            dial += (aim - miss) / slope;
        }
        best.map(|b| b.2).ok_or_else(|| Error::invalid("no pass was made"))
    }

    /// A coding for a tensor without energy.
    pub(super) fn silent(&self) -> Result<(f64, Coding)> {
        if self.energy > 0.0 && self.energy.is_finite() {
            return Err(Error::invalid("a tensor with energy has a step to search"));
        }
        Ok((0.0, self.rough(Form::ALL[0], 1.0, &self.whole())))
    }
}

pub(super) fn identity() -> [u8; MAX_CLASSES] {
    std::array::from_fn(|i| i as u8)
}

/// Whether a weight, in steps, is an exception.
fn out_of_reach(x: f32) -> bool {
    x.abs() > REACH
}
