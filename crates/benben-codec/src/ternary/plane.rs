//! One plane: values to trits and levels, at one threshold.

use super::level;
use rayon::prelude::*;

/// Values of one block of parallel work.
const BLOCK: usize = 1 << 14;

/// Sums of the members of one row.
#[derive(Debug, Clone, Copy, Default)]
struct Members {
    /// Of the positive and of the negative trit: how many, and the sum of their magnitudes.
    count: [f64; 2],
    sum: [f64; 2],
}

impl Members {
    fn add(&mut self, other: &Self) {
        for side in 0..2 {
            self.count[side] += other.count[side];
            self.sum[side] += other.sum[side];
        }
    }

    /// Squared error that the mean of each side takes away.
    fn saved(&self) -> f64 {
        (0..2).filter(|&s| self.count[s] > 0.0).map(|s| self.sum[s] * self.sum[s] / self.count[s]).sum()
    }
}

/// A tensor in three values for each run of rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plane {
    /// 0 zero, 1 positive, 2 negative.
    pub(super) trits: Vec<u8>,
    /// Elements that share a pair of levels.
    pub(super) level_run: usize,
    pub(super) unit: f32,
    /// Codes of the positive and the negative level of each run.
    pub(super) levels: Vec<u8>,
}

impl Plane {
    /// Trits of the values whose magnitude is above `threshold`, in rows of `row` values.
    ///
    /// Levels are the means of their members (least squares), but not below `least`. Where that is 0, as many rows
    /// share them as makes rate and error smallest together; else all rows do.
    pub(super) fn at(values: &[f32], row: usize, threshold: f32, least: f32) -> Self {
        let mut trits = vec![0u8; values.len()];
        trits.par_chunks_mut(BLOCK).zip(values.par_chunks(BLOCK)).for_each(|(trits, values)| {
            for (t, &v) in trits.iter_mut().zip(values) {
                *t = if v > threshold { 1 } else { 2 * u8::from(v < -threshold) };
            }
        });
        let rows: Vec<Members> = trits
            .par_chunks(row)
            .zip(values.par_chunks(row))
            .map(|(trits, values)| {
                let mut members = Members::default();
                for (&t, &v) in trits.iter().zip(values).filter(|m| *m.0 > 0) {
                    members.count[usize::from(t) - 1] += 1.0;
                    members.sum[usize::from(t) - 1] += f64::from(v.abs());
                }
                members
            })
            .collect();
        let (shared, runs) = if least > 0.0 {
            (rows.len().max(1), total(&rows))
        } else {
            share(rows, super::energy(values), values.len())
        };
        let mean = |m: &Members, side: usize| {
            if m.count[side] > 0.0 { (m.sum[side] / m.count[side]).max(least.into()) } else { 0.0 }
        };
        let means: Vec<f64> = runs.iter().flat_map(|m| [mean(m, 0), mean(m, 1)]).collect();
        let unit = level::unit(means.iter().copied().fold(0.0, f64::max));
        let levels = means.iter().map(|&m| if m > 0.0 { level::code(m, unit) } else { 0 }).collect();
        Self { trits, level_run: shared * row, unit, levels }
    }

    /// Writes what a decoder gives.
    pub(super) fn values(&self, out: &mut [f32]) {
        let unit = self.unit;
        out.par_chunks_mut(self.level_run)
            .zip(self.trits.par_chunks(self.level_run))
            .zip(self.levels.par_chunks(2))
            .for_each(|((out, trits), levels)| apply(trits, levels, unit, out));
    }
}

/// Values of trits that share the levels of codes `levels`.
pub(super) fn apply(trits: &[u8], levels: &[u8], unit: f32, out: &mut [f32]) {
    let value = [0.0, level::level(levels[0], unit), -level::level(levels[1], unit), 0.0];
    for (v, &t) in out.iter_mut().zip(trits) {
        *v = value[usize::from(t & 3)];
    }
}

/// All members, where there are any rows.
fn total(rows: &[Members]) -> Vec<Members> {
    let mut sum = Members::default();
    rows.iter().for_each(|m| sum.add(m));
    if rows.is_empty() { Vec::new() } else { vec![sum] }
}

/// How many rows share levels, and their members: doubled while that saves more than it costs, where a bit is worth
/// what it takes off the error elsewhere (6 dB for one bit of every value).
fn share(rows: Vec<Members>, energy: f64, elements: usize) -> (usize, Vec<Members>) {
    // What an entropy-coded level takes on average.
    const LEVEL_BITS: f64 = 5.0;
    let cost = |runs: &[Members]| {
        let error = (energy - runs.iter().map(Members::saved).sum::<f64>()).max(energy * 1e-12);
        2.0 * LEVEL_BITS * runs.len() as f64 + elements as f64 / 2.0 * error.max(f64::MIN_POSITIVE).log2()
    };
    let (mut best, mut least) = ((1, rows.clone()), cost(&rows));
    let (mut shared, mut runs) = (1, rows);
    while runs.len() > 1 {
        shared *= 2;
        runs = runs
            .chunks(2)
            .map(|pair| {
                let mut sum = pair[0];
                pair.iter().skip(1).for_each(|m| sum.add(m));
                sum
            })
            .collect();
        let c = cost(&runs);
        if c < least {
            (best, least) = ((shared, runs.clone()), c);
        }
    }
    best
}
