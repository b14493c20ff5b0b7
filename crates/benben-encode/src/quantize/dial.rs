//! What quantizing is asked to reach, and turning the dial until it does.

use benben_format::{Error, Result};

/// What [`Problem::code`](super::Problem::code) is asked to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// Stored bits for each weight, factors and side information included.
    BitsPerWeight(f64),
    /// Loss of the decoded matrix, relative to that of zeros.
    Loss(f64),
    /// Base-2 logarithm of the loss that one more bit may save: the slope of loss over bits, in the units of the metric.
    /// Tensors with the same dial are balanced: moving bits from one to another gains nothing.
    /// With ternary it is about that slope: planes and their thresholds are guessed from it.
    Dial(f64),
}

/// Tries, at most.
const TRIES: usize = 9;
/// How a score may answer to the dial, and how it does at most rates.
const SLOPES: std::ops::RangeInclusive<f64> = -0.8..=-0.15;
const USUAL: f64 = -0.45;
/// Share of the goal by which a try may be better than it.
const SLACK: f64 = 0.004;

impl Aim {
    /// Refuses a goal that is no number, or no rate.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::BitsPerWeight(bits) if !(bits > 0.0 && bits.is_finite()) => {
                Err(Error::invalid(format!("{bits} bits for each weight, expected a positive number")))
            }
            Self::Loss(loss) if !(loss > 0.0 && loss < 1.0) => {
                Err(Error::invalid(format!("a loss of {loss}, expected a number between 0 and 1")))
            }
            Self::Dial(dial) if !dial.is_finite() || dial.abs() > 200.0 => {
                Err(Error::invalid(format!("a dial at {dial}, expected -200 to 200")))
            }
            _ => Ok(()),
        }
    }
}

/// A goal on one scale, bits: a loss counts as `-log2(loss) / 2`, so that one more bit is about one more on either.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    value: f64,
    /// Whether the goal is a most (bits) or a least (quality).
    most: bool,
}

impl Goal {
    pub(super) fn bits(bits: f64) -> Self {
        Self { value: bits, most: true }
    }

    pub(super) fn loss(loss: f64) -> Self {
        Self { value: score(loss), most: false }
    }

    /// Turns a dial from `start` until the score of a `trial` meets the goal within [`SLACK`]; gives the trial that
    /// meets it most narrowly, or else the one that comes nearest. Scores fall by about 1 for every 2 that the dial
    /// rises, and more slowly at low rates.
    pub(super) fn turn<T>(self, start: f64, mut trial: impl FnMut(f64) -> Result<(f64, T)>) -> Result<T> {
        let (mut dial, mut slope) = (start, USUAL);
        let slack = SLACK * self.value.abs().max(0.25);
        let mut before: Option<(f64, f64)> = None;
        let mut best: Option<(f64, T)> = None;
        for _ in 0..TRIES {
            let (found, made) = trial(dial)?;
            // Below 0 is on the better side.
            let miss = if self.most { found - self.value } else { self.value - found };
            let nearer = best.as_ref().is_none_or(|(b, _)| match (miss <= 0.0, *b <= 0.0) {
                (true, false) => true,
                (false, true) => false,
                _ => miss.abs() < b.abs(),
            });
            if nearer {
                best = Some((miss, made));
            }
            if miss <= 0.0 && -miss <= slack {
                break;
            }
            // The rule still learns from try to try: a slope that it has bent is not believed.
            if let Some((d, s)) = before.filter(|(d, _)| (d - dial).abs() > 1e-2) {
                let own = (s - found) / (d - dial);
                slope = if SLOPES.contains(&own) { own } else { USUAL };
            }
            before = Some((dial, found));
            let aim = if self.most { self.value - slack / 2.0 } else { self.value + slack / 2.0 };
            dial += ((aim - found) / slope).clamp(-6.0, 6.0);
        }
        best.map(|b| b.1).ok_or_else(|| Error::invalid("no trial was made"))
    }
}

/// A loss on the scale of goals.
pub(super) fn score(loss: f64) -> f64 {
    -loss.max(f64::MIN_POSITIVE).log2() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dials_are_turned_home() {
        let curves: [fn(f64) -> f64; 3] = [
            |d| 2.0 - d / 2.0,
            |d| (2f64.powf(-d) + 1.0).log2() / 2.0 + 0.01,
            |d| 2.0 - 0.45 * d - 0.002 * (17.0 * d).sin(),
        ];
        for (i, curve) in curves.into_iter().enumerate() {
            for bits in [0.7, 2.0, 4.0] {
                let found = Goal::bits(bits).turn(0.0, |d| Ok((curve(d), curve(d)))).unwrap();
                assert!(found <= bits && found >= bits * (1.0 - 2.0 * SLACK), "{i}: {found} for {bits}");
                let loss = (-2.0 * bits).exp2();
                let found = Goal::loss(loss).turn(0.0, |d| Ok((curve(d), curve(d)))).unwrap();
                assert!(found >= bits && found <= bits * (1.0 + 2.0 * SLACK), "{i}: {found} for {bits}");
            }
        }
        assert!(Aim::BitsPerWeight(0.0).check().is_err() && Aim::Dial(f64::NAN).check().is_err());
    }
}
