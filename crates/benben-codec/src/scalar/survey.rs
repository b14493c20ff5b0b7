//! One pass over the weights at one step: histograms by energy class, error, centroids.

use super::{ESCAPE, MAX_CENTROIDS, MAX_CLASSES, zigzag};
use crate::entropy::{SideWriter, Table};
use rayon::prelude::*;

/// Weights of one parallel unit; fixed, so that sums do not depend on threads.
const BLOCK: usize = 1 << 15;

/// Runs of rows and the energy class of each.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    /// Rows in one run.
    pub(super) rows: u64,
    /// Weights in one run; the last may be shorter.
    pub(super) len: usize,
    /// Class of each run, 0 the quietest, below `MAX_CLASSES`.
    pub(super) class: Vec<u8>,
}

impl Runs {
    /// Runs of whole rows with at least 64 weights, sorted into classes of equal width in log energy.
    pub(super) fn new(values: &[f32], rows: u64, columns: u64, max_classes: usize) -> Self {
        let per_run = 64u64.div_ceil(columns.max(1)).min(rows.max(1));
        let len = usize::try_from(per_run.saturating_mul(columns)).unwrap_or(usize::MAX).max(1);
        let energy: Vec<f64> = values
            .par_chunks(len)
            .map(|r| r.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / r.len() as f64)
            .collect();
        let classes = max_classes.clamp(1, MAX_CLASSES);
        let log: Vec<f64> = energy.iter().map(|&e| e.max(1e-60).log2()).collect();
        let mut sorted = log.clone();
        sorted.sort_by(f64::total_cmp);
        // Outer classes are open-ended: a single dead or wild row must not stretch the others.
        let quantile =
            |p: f64| sorted.get(((sorted.len() as f64 * p) as usize).min(sorted.len().saturating_sub(1)));
        let (low, high) = (quantile(0.01).copied().unwrap_or(0.0), quantile(0.99).copied().unwrap_or(0.0));
        let width = ((high - low) / classes as f64).max(1e-9);
        let class = log.iter().map(|&e| (((e - low) / width).floor().clamp(0.0, (classes - 1) as f64)) as u8);
        Self { rows: per_run, len, class: class.collect() }
    }
}

/// What one pass found.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// Symbols by fine class.
    pub(super) counts: Vec<[u64; 256]>,
    /// Squared error without centroids.
    error: f64,
    /// Sum of |x| / step - |q| and number, for |q| = 1 .. MAX_CENTROIDS.
    shifts: [(f64, u64); MAX_CENTROIDS],
    step: f64,
}

/// Integer nearest to x / step.
#[inline]
pub(super) fn quantize(x: f32, inverse_step: f32) -> i32 {
    // `as` saturates; the step is chosen so that nothing reaches 2^22.
    (x * inverse_step).round_ties_even() as i32
}

/// Symbol of q.
#[inline]
pub(super) fn symbol(q: i32, low_bits: u8) -> u8 {
    zigzag(q >> low_bits).min(u32::from(ESCAPE)) as u8
}

impl Survey {
    pub(super) fn new(values: &[f32], runs: &Runs, step: f32, low_bits: u8) -> Self {
        let inverse = 1.0 / step;
        let runs_per_block = (BLOCK / runs.len).max(1);
        let blocks: Vec<Self> = values
            .par_chunks(runs.len.saturating_mul(runs_per_block))
            .enumerate()
            .map(|(b, block)| {
                let mut s = Self::empty(step);
                for (run, class) in block.chunks(runs.len).zip(&runs.class[b * runs_per_block..]) {
                    let counts = &mut s.counts[usize::from(*class)];
                    for &x in run {
                        let q = quantize(x, inverse);
                        counts[usize::from(symbol(q, low_bits))] += 1;
                        let magnitude = q.unsigned_abs() as usize;
                        let d = f64::from(x.abs() * inverse) - magnitude as f64;
                        s.error = d.mul_add(d, s.error);
                        if let Some(shift) = s.shifts.get_mut(magnitude.wrapping_sub(1)) {
                            shift.0 += d;
                            shift.1 += 1;
                        }
                    }
                }
                s
            })
            .collect();
        blocks.iter().fold(Self::empty(step), |mut all, b| {
            for (a, b) in all.counts.iter_mut().flatten().zip(b.counts.iter().flatten()) {
                *a += b;
            }
            all.error += b.error;
            for (a, b) in all.shifts.iter_mut().zip(&b.shifts) {
                *a = (a.0 + b.0, a.1 + b.1);
            }
            all
        })
    }

    fn empty(step: f32) -> Self {
        Self {
            counts: vec![[0; 256]; MAX_CLASSES],
            error: 0.0,
            shifts: [(0.0, 0); MAX_CENTROIDS],
            step: f64::from(step),
        }
    }

    /// Centroids of q = 1, 2, .. in 1/256 of a step, without trailing zeros.
    pub(super) fn centroids(&self) -> Vec<i8> {
        let mut c: Vec<i8> = self
            .shifts
            .iter()
            .map(
                |&(sum, n)| {
                    if n == 0 { 0 } else { (sum / n as f64 * 256.0).round().clamp(-128.0, 127.0) as i8 }
                },
            )
            .collect();
        while c.last() == Some(&0) {
            c.pop();
        }
        c
    }

    /// Squared error with the centroids that [`Survey::centroids`] gives.
    pub(super) fn squared_error(&self) -> f64 {
        let gain: f64 = self
            .shifts
            .iter()
            .zip(self.centroids())
            .map(|(&(sum, n), c)| {
                let c = f64::from(c) / 256.0;
                c * (n as f64).mul_add(-c, 2.0 * sum)
            })
            .sum();
        (self.error - gain).max(0.0) * self.step * self.step
    }

    /// The cheapest way to merge the fine classes into 1, 2, 4, .. groups of neighbours.
    pub(super) fn plan(&self, runs: &Runs, low_bits: u8) -> Plan {
        let mut groups: Vec<u8> = (0..MAX_CLASSES as u8).collect();
        let mut best: Option<Plan> = None;
        loop {
            let plan = Plan::new(self, runs, &groups, low_bits);
            if best.as_ref().is_none_or(|b| plan.bits <= b.bits) {
                best = Some(plan.clone());
            }
            if plan.tables.len() <= 1 {
                return best.unwrap_or(plan);
            }
            groups.iter_mut().for_each(|g| *g /= 2);
        }
    }
}

/// Tables, the class of each fine class, and what everything costs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) tables: Vec<Table>,
    /// Table of each fine class.
    pub(super) table_of: [u8; MAX_CLASSES],
    /// Expected bits of the leaf, table and class streams included.
    pub(super) bits: f64,
}

impl Plan {
    fn new(survey: &Survey, runs: &Runs, groups: &[u8], low_bits: u8) -> Self {
        let mut table_of = [0; MAX_CLASSES];
        let mut merged: Vec<[u64; 256]> = Vec::new();
        let mut last = None;
        for (class, counts) in survey.counts.iter().enumerate() {
            if counts.iter().all(|&c| c == 0) {
                continue; // no run has this class
            }
            if last != Some(groups[class]) {
                merged.push([0; 256]);
                last = Some(groups[class]);
            }
            table_of[class] = (merged.len() - 1) as u8;
            if let Some(m) = merged.last_mut() {
                m.iter_mut().zip(counts).for_each(|(m, c)| *m += c);
            }
        }
        if merged.is_empty() {
            merged.push([0; 256]);
        }
        let tables: Vec<Table> = merged.iter().map(|c| Table::from_counts(trimmed(c))).collect();
        let mut side = SideWriter::new();
        // Tables of one alphabet and of at most 16: this cannot be refused.
        let _ = side.tables(&tables);
        let mut bits = side.into_bytes().len() as f64 * 8.0;
        bits += tables.iter().zip(&merged).map(|(t, c)| t.cost_bits(trimmed(c))).sum::<f64>();
        if tables.len() > 1 {
            bits += class_bits(runs, &table_of);
        }
        let weights: u64 = merged.iter().flatten().sum();
        let escapes: u64 = merged.iter().map(|c| c[usize::from(ESCAPE)]).sum();
        bits += weights as f64 * f64::from(low_bits) + escapes as f64 * 24.0;
        // Lane states of each chunk.
        bits += weights.div_ceil(u64::from(crate::entropy::CHUNK_ITEMS)) as f64 * 512.0;
        Self { tables, table_of, bits }
    }
}

/// Bit-packed classes: what the stream coder reaches at least.
fn class_bits(runs: &Runs, table_of: &[u8; MAX_CLASSES]) -> f64 {
    let widest = table_of.iter().max().copied().unwrap_or(0);
    runs.class.len() as f64 * f64::from(8 - widest.leading_zeros())
}

/// Counts up to the last symbol that occurs.
fn trimmed(counts: &[u64; 256]) -> &[u64] {
    let used = counts.iter().rposition(|&c| c != 0).map_or(1, |i| i + 1);
    &counts[..used]
}
