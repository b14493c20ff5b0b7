//! Finds the step that meets a target.

use super::survey::{Plan, Runs, Survey};
use crate::Target;
use benben_format::layout::{CHUNK_ENTRY, SEGMENT_ENTRY};

/// A step, and what it costs.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) step: f32,
    pub(super) low_bits: u8,
    pub(super) survey: Survey,
    pub(super) plan: Plan,
}

/// Steps are tried until the target is met this closely.
const TOLERANCE: f64 = 0.002;
const MOST_TRIES: usize = 24;

/// Weights of one tensor with what every step needs to know of them.
pub(super) struct Weights<'a> {
    values: &'a [f32],
    pub(super) runs: &'a Runs,
    energy: f64,
    largest: f32,
}

impl<'a> Weights<'a> {
    pub(super) fn new(values: &'a [f32], runs: &'a Runs) -> Self {
        let energy = crate::squared_error(values, &vec![0.0; values.len()]).1;
        let largest = values.iter().fold(0f32, |m, x| m.max(x.abs()));
        Self { values, runs, energy, largest }
    }

    fn rms(&self) -> f64 {
        (self.energy / self.values.len().max(1) as f64).sqrt()
    }

    /// Everything there is to know of step 2^`log_step`.
    fn at(&self, log_step: f64) -> Choice {
        // Integers stay below 2^22, so that f32 holds them and their centroids exactly; a step beyond the
        // largest weight says nothing more, and no value may come out beyond f32.
        let least = (self.largest / (1 << 22) as f32).max(f32::MIN_POSITIVE);
        let most = (2.0 * self.largest).min(f32::MAX - self.largest).max(least);
        let step = (log_step.exp2() as f32).clamp(least, most);
        let spread = self.rms() / f64::from(step);
        // With a spread of 12 to 24 the high part fits one byte and the low bits are as good as uniform.
        let low_bits = (spread / 12.0).log2().floor().clamp(0.0, 16.0) as u8;
        let survey = Survey::new(self.values, self.runs, step, low_bits);
        let plan = survey.plan(self.runs, low_bits);
        Choice { step, low_bits, survey, plan }
    }

    /// Expected bits for each weight, everything included.
    pub(super) fn bits_per_weight(&self, choice: &Choice) -> f64 {
        let chunks = self.values.len().div_ceil(crate::entropy::CHUNK_ITEMS as usize);
        let streams = 1 + chunks * if choice.low_bits == 0 { 1 } else { 2 };
        let fixed = SEGMENT_ENTRY + streams * CHUNK_ENTRY + 4 + choice.survey.centroids().len();
        (choice.plan.bits + 8.0 * fixed as f64) / self.values.len().max(1) as f64
    }

    fn relative_mse(&self, choice: &Choice) -> f64 {
        choice.survey.squared_error() / self.energy
    }

    /// The step for `target`. Where the target is out of reach, the nearest that there is.
    pub(super) fn fit(&self, target: Target) -> Choice {
        if self.energy <= 0.0 {
            return self.at(0.0);
        }
        match target {
            // Entropy of a uniform quantizer: h(X) - log2 step, with h of a Gaussian 2.05 + log2 sigma.
            Target::BitsPerWeight(bits) => {
                let start = self.rms().log2() + 2.05 - bits;
                self.search(start, |c| self.bits_per_weight(c) / bits, 1.0)
            }
            // step^2 / 12 at high rates; an error above the target counts as a miss, one below as a hit.
            Target::RelativeMse(y) => {
                let start = 0.5 * (12.0 * y).log2() + self.rms().log2();
                self.search(start, |c| (self.relative_mse(c) / y).sqrt().recip(), 1.0 + TOLERANCE)
            }
        }
    }

    /// Bisection with a secant step: `ratio` falls as the step grows and is to be within the tolerance of `aim`.
    fn search(&self, start: f64, ratio: impl Fn(&Choice) -> f64, aim: f64) -> Choice {
        let distance = |c: &Choice| ratio(c).max(1e-9).log2() - aim.log2();
        let mut low: Option<(f64, f64)> = None;
        let mut high: Option<(f64, f64)> = None;
        let mut at = start;
        let mut best: Option<(f64, Choice)> = None;
        for _ in 0..MOST_TRIES {
            let choice = self.at(at);
            let d = distance(&choice);
            if best.as_ref().is_none_or(|(b, _)| d.abs() < *b) {
                best = Some((d.abs(), choice));
            }
            if d.abs() <= TOLERANCE {
                break;
            }
            if d > 0.0 {
                low = Some((at, d));
            } else {
                high = Some((at, d));
            }
            at = match (low, high) {
                (Some((l, dl)), Some((h, dh))) => {
                    // Regula falsi, kept off the ends so that the bracket shrinks.
                    let t = (dl / (dl - dh)).clamp(0.1, 0.9);
                    l + (h - l) * t
                }
                // d is in octaves of rate or of error; a step of two octaves is the most to take at once.
                (Some((l, d)), None) => l + (d * 3.0).clamp(0.01, 4.0),
                (None, Some((h, d))) => h + (d * 3.0).clamp(-4.0, -0.01),
                (None, None) => break,
            };
            if let (Some((l, _)), Some((h, _))) = (low, high)
                && h - l < 1e-7
            {
                break;
            }
        }
        match best {
            Some((_, choice)) => choice,
            None => self.at(start),
        }
    }
}
