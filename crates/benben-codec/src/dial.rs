//! Turning one dial until a leaf meets its target.

use crate::Target;
use benben_format::{Error, Result};

/// A target on one scale, bits: an error `e` counts as `-log2(e) / 2`, so that one more bit for each weight is
/// about one more on either scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// What to reach.
    value: f64,
    /// Whether the goal is a ceiling (a rate) or a floor (a quality).
    ceiling: bool,
}

impl Goal {
    /// The goal that `target` sets.
    ///
    /// # Errors
    /// InvalidArgument for a target that is not a positive number.
    pub(crate) fn of(target: Target) -> Result<Self> {
        let (value, ceiling, number) = match target {
            Target::BitsPerWeight(x) => (x, true, x),
            Target::RelativeMse(y) => (-y.log2() / 2.0, false, y),
        };
        if number > 0.0 && number.is_finite() {
            Ok(Self { value, ceiling })
        } else {
            Err(Error::invalid(format!("target {target:?}, expected a positive number")))
        }
    }

    /// About how many bits for each weight the goal takes.
    pub(crate) fn bits(self) -> f64 {
        if self.ceiling { self.value } else { self.value + 0.25 }
    }

    /// Where a leaf of `bits` for each weight and relative error `mse` is on the scale of the goal.
    pub(crate) fn score(self, bits: f64, mse: f64) -> f64 {
        if self.ceiling { bits } else { -mse.max(f64::MIN_POSITIVE).log2() / 2.0 }
    }

    /// Whether `score` meets the goal.
    pub(crate) fn met(self, score: f64) -> bool {
        if self.ceiling { score <= self.value } else { score >= self.value }
    }

    /// How far `score` is above the goal.
    pub(crate) fn miss(self, score: f64) -> f64 {
        score - self.value
    }

    /// Turns the dial from `start`, at most `tries` times, and gives the trial that meets the goal most narrowly,
    /// or else the one that comes nearest. A score falls by about one for every 2 that the dial rises; the search
    /// brackets, so the slope is only a first guess. It stops within `slack` (a share of the goal).
    pub(crate) fn turn<T>(
        self,
        start: f64,
        tries: usize,
        slack: f64,
        trial: impl FnMut(f64) -> Result<(f64, T)>,
    ) -> Result<Turned<T>> {
        self.turn_above(f64::NEG_INFINITY, start, tries, slack, trial)
    }

    /// [`Goal::turn`] of a dial that stops at `stop`.
    pub(crate) fn turn_above<T>(
        self,
        stop: f64,
        start: f64,
        tries: usize,
        slack: f64,
        mut trial: impl FnMut(f64) -> Result<(f64, T)>,
    ) -> Result<Turned<T>> {
        let (mut dial, mut step) = (start.max(stop), 0.0);
        let (mut low, mut high) = (None, None);
        let mut best: Option<Turned<T>> = None;
        for round in 0..tries.max(1) {
            let (score, made) = trial(dial)?;
            let met = self.met(score);
            let nearer = best.as_ref().is_none_or(|b| match (met, b.met) {
                (true, false) => true,
                (false, true) => false,
                _ => (score - self.value).abs() < (b.score - self.value).abs(),
            });
            if nearer {
                best = Some(Turned { dial, score, met, made });
            }
            let miss = score - self.value;
            if met && miss.abs() <= slack * self.value.abs() {
                break;
            }
            if miss <= 0.0 && dial <= stop {
                break;
            }
            *(if miss > 0.0 { &mut low } else { &mut high }) = Some((dial, miss));
            // Aim at the middle of the slack, on the side that meets the goal.
            let aim = self.value.abs() * slack * if self.ceiling { -0.5 } else { 0.5 };
            dial = match (low, high) {
                (Some((a, above)), Some((b, below))) => {
                    if b - a < 1e-9 {
                        break;
                    }
                    // False position; a plain halving every third time, against one end that never moves.
                    let share = if round % 3 == 2 { 0.5 } else { (above - aim) / (above - below) };
                    a + (b - a) * share.clamp(0.05, 0.95)
                }
                _ => {
                    // Doubling strides where the score hardly answers, so that a flat stretch is crossed.
                    step = (2.0 * (miss - aim)).clamp(-16.0, 16.0) + if round > 1 { step } else { 0.0 };
                    (dial + step).max(stop)
                }
            };
        }
        best.ok_or_else(|| Error::invalid("no trial was made"))
    }
}

/// The outcome of [`Goal::turn`].
pub(crate) struct Turned<T> {
    /// Where the dial was.
    pub(crate) dial: f64,
    /// What the trial reached.
    pub(crate) score: f64,
    /// Whether that meets the goal.
    pub(crate) met: bool,
    /// What the trial made.
    pub(crate) made: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steep_flat_and_kinked_dials_are_turned_home() {
        type Curve = fn(f64) -> f64;
        let curves: [Curve; 4] = [
            |t| -t / 2.0,
            |t| -3.0 * t - 7.0,
            |t| if t > -40.0 { -0.01 * t } else { -t - 39.6 },
            |t| (10.0 - t).max(0.0).sqrt(),
        ];
        for (i, f) in curves.iter().enumerate() {
            for (target, tries) in [(Target::BitsPerWeight(3.0), 30), (Target::RelativeMse(0.01), 30)] {
                let goal = Goal::of(target).unwrap();
                let t = goal.turn(0.0, tries, 0.003, |t| Ok((f(t), t))).unwrap();
                assert!(t.met && (t.score - goal.value).abs() <= 0.003 * goal.value, "{i}: {}", t.score);
                assert_eq!(t.dial, t.made);
            }
        }
        for bad in [Target::BitsPerWeight(0.0), Target::RelativeMse(f64::NAN), Target::BitsPerWeight(-1.0)] {
            assert!(Goal::of(bad).is_err());
        }
    }
}
