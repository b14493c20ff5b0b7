//! Stacks of planes: each codes what those before it left, a third as coarse.

use super::encode::{assemble, check, estimate, fit};
use super::plane::Plane;
use super::{Settings, energy};
use crate::dial::Goal;
use crate::{Fit, Target};
use benben_format::{EncodedLeaf, Result};
use rayon::prelude::*;

/// Most planes of a stack: 8 bits for weights, and as many planes again for outliers.
const MAX_PLANES: usize = 16;
/// Values that a plan is chosen on: so many at random, and the largest.
const SAMPLE: usize = 1 << 13;
const LARGEST: usize = 256;
/// Planes more that are looked at before fewer are taken: outliers want several at once.
const AHEAD: usize = 4;
/// Root mean square of Gaussian values in thresholds of one plane at which its error is least.
const LLOYD_MAX: f64 = 1.63;
/// The same of several planes, in thresholds of the first. Matrices of SmolLM2-135M at 1.5 to 3 bits with feedback lose up
/// to 6 % less than at 1.
const FULL: f64 = 0.5;
/// Bytes of a plane besides its trits: levels, tables, lane states.
const PLANE_BYTES: f64 = 230.0;

/// Encodes `values`, a tensor of `shape`, as planes whose sum (f32 additions, in order) meets the target, and tells
/// what was reached; where 16 planes do not meet it, the nearest that there is. The planes are one if that meets it, else as few as meet it about as well as more would.
///
/// # Errors
/// As [`encode`](super::encode).
pub fn encode_planes(values: &[f32], shape: &[u64], settings: &Settings) -> Result<(Vec<EncodedLeaf>, Fit)> {
    reach(values, shape, settings, MAX_PLANES)
}

/// Planes, at most `most`, that meet the target.
pub(super) fn reach(
    values: &[f32],
    shape: &[u64],
    settings: &Settings,
    most: usize,
) -> Result<(Vec<EncodedLeaf>, Fit)> {
    let row = check(values, shape)?;
    let goal = Goal::of(settings.target)?;
    let rms = (energy(values) / values.len().max(1) as f64).sqrt();
    if rms == 0.0 {
        let leaf = assemble(&Plane::at(values, row, 0.0, 0.0), shape, row)?;
        let fit = fit(values, values, leaf.stored_bytes() as f64);
        return Ok((vec![leaf], fit));
    }
    let sample = Sample::of(values);
    let mut plan = Plan::choose(&sample, rms, settings.target, most, true);
    loop {
        let (met, leaves, fit) = turn(values, shape, row, rms, goal, plan)?;
        // A plan is made on simulated levels; where those stored fall short of an error, one plane more mends it.
        if met || plan.planes == most || matches!(settings.target, Target::BitsPerWeight(_)) {
            return Ok((leaves, fit));
        }
        plan = Plan::of(&sample, rms, settings.target, plan.planes + 1, plan.wide).0;
    }
}

/// How planes are stacked for values of some law.
#[derive(Debug, Clone, Copy)]
pub struct Stack(Plan);

impl Stack {
    /// The planes that suit values like `x` at so many bits for each.
    ///
    /// # Errors
    /// InvalidArgument for bits that are not positive, and values that cannot be encoded.
    pub fn of(x: &[f32], bits: f64) -> Result<Self> {
        check(x, &[x.len() as u64])?;
        let target = Target::BitsPerWeight(bits);
        Goal::of(target)?;
        let rms = (energy(x) / x.len().max(1) as f64).sqrt();
        if rms == 0.0 {
            return Ok(Self(Plan { planes: 1, wide: false, finest: 0.0, start: 0.0 }));
        }
        Ok(Self(Plan::choose(&Sample::of(x), rms, target, MAX_PLANES, false)))
    }

    /// Planes.
    #[must_use]
    pub fn planes(&self) -> usize {
        self.0.planes
    }

    /// One plane more.
    #[must_use]
    pub fn deeper(self) -> Self {
        Self(Plan { planes: self.0.planes + 1, ..self.0 })
    }

    /// Root mean square of values for which a finer threshold than `threshold`, that of the last plane, gains nothing.
    #[must_use]
    pub fn reach(&self, threshold: f64) -> f64 {
        self.first(threshold) * if self.0.planes == 1 { LLOYD_MAX } else { FULL }
    }

    pub(super) fn wide(&self) -> bool {
        self.0.wide
    }

    /// Threshold of the first plane where the last has `threshold`.
    pub(super) fn first(&self, threshold: f64) -> f64 {
        threshold * 3f64.powi(self.0.planes as i32 - 1)
    }
}

/// Threshold of plane `k` where that of plane 0 is `first`.
pub(super) fn threshold(first: f64, k: usize) -> f32 {
    ((first / 3f64.powi(k as i32)) as f32).max(f32::from_bits(1))
}

/// The stack of a plan, its first threshold turned until the goal is met, and whether it is.
fn turn(
    values: &[f32],
    shape: &[u64],
    row: usize,
    rms: f64,
    goal: Goal,
    Plan { planes, wide, finest, start }: Plan,
) -> Result<(bool, Vec<EncodedLeaf>, Fit)> {
    let stack = |dial: f64| stack(values, row, rms * dial.exp2(), planes, wide);
    // By estimated sizes first: they are within a percent, and cost a fraction.
    let guess = goal.turn_above(finest, start, 16, 0.003, |dial| {
        let (planes, decoded) = stack(dial);
        let fit = fit(values, &decoded, planes.iter().map(|p| estimate(p, row)).sum());
        Ok((goal.score(fit.bits_per_weight, fit.relative_mse), ()))
    })?;
    let turned = goal.turn_above(finest, guess.dial, 6, 0.01, |dial| {
        let (planes, decoded) = stack(dial);
        let leaves = planes.iter().map(|p| assemble(p, shape, row)).collect::<Result<Vec<_>>>()?;
        let fit = fit(values, &decoded, leaves.iter().map(|l| l.stored_bytes() as f64).sum());
        Ok((goal.score(fit.bits_per_weight, fit.relative_mse), (leaves, fit)))
    })?;
    let (leaves, fit) = turned.made;
    Ok((turned.met, leaves, fit))
}

/// `count` planes, the first at `threshold`, and their sum as a decoder adds it.
pub(super) fn stack(
    values: &[f32],
    row: usize,
    threshold: f64,
    count: usize,
    wide: bool,
) -> (Vec<Plane>, Vec<f32>) {
    let mut decoded = vec![0.0; values.len()];
    let mut residual = values.to_vec();
    let mut own = vec![0.0; values.len()];
    let planes = (0..count)
        .map(|k| {
            let threshold = self::threshold(threshold, k);
            let least = if wide && k + 1 < count { 2.0 * threshold } else { 0.0 };
            let plane = Plane::at(&residual, row, threshold, least);
            plane.values(&mut own);
            decoded.par_iter_mut().zip(&own).for_each(|(d, v)| *d += v);
            residual.par_iter_mut().zip(values).zip(&decoded).for_each(|((r, x), d)| *r = x - d);
            plane
        })
        .collect();
    (planes, decoded)
}

/// How a stack is made, chosen on a sample.
#[derive(Debug, Clone, Copy)]
struct Plan {
    planes: usize,
    /// Whether levels are at least twice the threshold in all planes but the last. That leaves of the tails what the
    /// next plane can reach, where means leave less of the rest: the better choice from 3 planes on.
    wide: bool,
    /// log2 of the finest first threshold (in root mean squares) worth taking: there the error of so many planes is
    /// smallest, and a finer one would only let the tails grow.
    finest: f64,
    /// log2 of the threshold that about meets the target.
    start: f64,
}

impl Plan {
    /// One plane if that meets the target; else the fewest, at most `most`, that meet it about as well as a few more
    /// would. Where `one` is preferred, more are not looked at if it meets the target.
    fn choose(sample: &Sample, rms: f64, target: Target, most: usize, one: bool) -> Self {
        // What one plane more must save: half a dB, or a twentieth of the bits.
        let worth = |cost: f64| match target {
            Target::BitsPerWeight(_) => cost - 0.166,
            Target::RelativeMse(_) => cost * 0.95,
        };
        let mut best: Option<(Self, f64)> = None;
        for planes in 1..=most {
            let plans = [false, true].map(|wide| Self::of(sample, rms, target, planes, wide));
            for (plan, cost) in plans {
                let better = |b: &(Self, f64), c: f64| c < if b.0.planes < planes { worth(b.1) } else { b.1 };
                if let Some(cost) = cost.filter(|&c| best.as_ref().is_none_or(|b| better(b, c))) {
                    best = Some((plan, cost));
                }
            }
            // One plane that suffices is one leaf, without a sum over it.
            if best.as_ref().is_some_and(|b| planes == 1 && one || planes >= b.0.planes + AHEAD) {
                break;
            }
        }
        // Out of reach: the least that there is, or the most.
        let planes = if matches!(target, Target::BitsPerWeight(_)) { 1 } else { most };
        best.map_or_else(|| Self::of(sample, rms, target, planes, false).0, |b| b.0)
    }

    /// A plan, and the error (of a rate) or the rate (of an error) where it meets the target, if it does.
    fn of(sample: &Sample, rms: f64, target: Target, planes: usize, wide: bool) -> (Self, Option<f64>) {
        // log2 of thresholds in root mean squares, in quarters, up to the largest value.
        let top = (f64::from(sample.largest) / rms).log2().max(0.0);
        let dials: Vec<f64> = (-4..=(top * 4.0).ceil() as i32).map(|t| f64::from(t) / 4.0).collect();
        let trials: Vec<(f64, f64)> =
            dials.par_iter().map(|dial| sample.simulate(rms * dial.exp2(), planes, wide)).collect();
        let best = (0..trials.len()).min_by(|&a, &b| trials[a].1.total_cmp(&trials[b].1)).unwrap_or(0);
        let plan = Self { planes, wide, finest: dials[best], start: dials[best] };
        // What is to be reached, with the part that a sample leaves open, and what that costs; both fall and rise
        // with the threshold.
        let (goal, swap) = match target {
            Target::BitsPerWeight(x) => (0.985 * x, false),
            Target::RelativeMse(y) => (-(0.98 * y).log2(), true),
        };
        let scores = |i: usize| if swap { (-trials[i].1, trials[i].0) } else { trials[i] };
        let reached = (best..trials.len()).take_while(|&i| scores(i).0 >= goal).count();
        // Short of it even at the best; or above it even where the first plane is empty, so that one less would do.
        if reached == 0 || best + reached == trials.len() {
            return (plan, None);
        }
        let i = best + reached - 1;
        let ((reached, cost), (next, next_cost)) = (scores(i), scores(i + 1));
        // Straight lines between two thresholds.
        let share = ((reached - goal) / (reached - next).max(1e-9)).clamp(0.0, 1.0);
        (Self { start: dials[i] + 0.25 * share, ..plan }, Some(cost + share * (next_cost - cost)))
    }
}

/// Values that stand for all: the largest themselves, and some of the others.
struct Sample {
    values: Vec<f32>,
    /// How many values each of `values` stands for, the first [`LARGEST`] apart.
    weight: f64,
    largest: f32,
    /// Of all values.
    count: usize,
    energy: f64,
}

impl Sample {
    fn of(values: &[f32]) -> Self {
        let mut sorted = values.to_vec();
        let (count, energy) = (values.len(), energy(values));
        let apart = LARGEST.min(count);
        let descending = |a: &f32, b: &f32| b.abs().total_cmp(&a.abs());
        if apart < count {
            sorted.select_nth_unstable_by(apart, descending);
        }
        let largest = sorted[..apart].iter().fold(0f32, |m, v| m.max(v.abs()));
        let (apart, rest) = sorted.split_at(apart);
        let picked = rest.len().min(SAMPLE);
        // A stride that is no multiple of a row's length (the golden ratio's) where some are left out.
        let pick = |i: usize| if rest.len() > SAMPLE { rest[i * 0x9e37_79b1 % rest.len()] } else { rest[i] };
        let weight = rest.len() as f64 / picked.max(1) as f64;
        let values = apart.iter().copied().chain((0..picked).map(pick)).collect();
        Self { values, weight, largest, count, energy }
    }

    /// Bits for each value, and log2 of the relative error, of `planes` planes from `threshold` on.
    fn simulate(&self, threshold: f64, planes: usize, wide: bool) -> (f64, f64) {
        let mut residual = self.values.clone();
        let weight = |i: usize| if i < LARGEST { 1.0 } else { self.weight };
        let n = self.count as f64;
        let mut bits = planes as f64 * PLANE_BYTES * 8.0 / n;
        for k in 0..planes {
            let t = (threshold / 3f64.powi(k as i32)) as f32;
            let trit = |v: f32| if v > t { 1 } else { 2 * usize::from(v < -t) };
            let (mut count, mut sum) = ([0f64; 3], [0f64; 3]);
            for (i, &v) in residual.iter().enumerate() {
                count[trit(v)] += weight(i);
                sum[trit(v)] += weight(i) * f64::from(v);
            }
            let least = if wide && k + 1 < planes { 2.0 * t } else { 0.0 };
            let mean = |s: usize| (sum[s] / count[s].max(1.0)) as f32;
            let level = [0.0, mean(1).max(least), mean(2).min(-least)];
            residual.iter_mut().for_each(|v| *v -= level[trit(*v)]);
            bits += count.iter().filter(|&&c| c > 0.0).map(|&c| c / n * (n / c).log2()).sum::<f64>();
        }
        let error: f64 = residual.iter().enumerate().map(|(i, &v)| weight(i) * f64::from(v).powi(2)).sum();
        (bits, (error / self.energy).max(f64::MIN_POSITIVE).log2())
    }
}
