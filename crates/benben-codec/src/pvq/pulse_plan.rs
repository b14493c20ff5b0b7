//! Which groups share a table of pulses, and what that costs.

use super::pulse_side::MAX_SHIFTS;
use crate::bands::trim;
use crate::entropy::Table;
use rayon::prelude::*;

/// Classes by energy that groups are sorted into before neighbours are merged.
pub(super) const FINE: usize = 16;
/// Largest magnitude of a symbol that has both signs.
pub(super) const MAX_PULSE: usize = 127;

/// Runs of groups by the energy of the run, which says nearly what their number of pulses does, at every step.
pub(super) struct Runs {
    /// Groups of one run.
    pub(super) groups: u32,
    /// Weights of one run; the last may be shorter.
    pub(super) len: usize,
    /// Fine class of each run, 0 the quietest.
    pub(super) fine: Vec<u8>,
}

impl Runs {
    /// Runs of `groups` groups of `dim` weights, sorted into classes of equal width in log energy.
    pub(super) fn new(values: &[f32], dim: usize, groups: u32) -> Self {
        let len = dim.saturating_mul(groups as usize);
        let log: Vec<f32> = values
            .par_chunks(len)
            .map(|run| {
                let energy = run.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / run.len() as f64;
                energy.max(1e-90).log2() as f32
            })
            .collect();
        let mut sorted = log.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        // Outer classes are open-ended: one silent or wild run must not stretch the others.
        let at = |p: f64| sorted.get((sorted.len() as f64 * p) as usize).copied().unwrap_or_default();
        let (low, high) = (at(0.01), at(0.99));
        let width = ((high - low) / FINE as f32).max(1e-6);
        let fine = log.iter().map(|l| ((l - low) / width).clamp(0.0, FINE as f32 - 1.0) as u8).collect();
        Self { groups, len, fine }
    }
}

/// What one pass over weights found at one step.
#[derive(Clone)]
pub(super) struct Survey {
    /// Symbols by fine class.
    pub(super) counts: [[u64; 256]; FINE],
    /// Runs by fine class.
    pub(super) runs: [u64; FINE],
    /// Sum of `|x| / step - magnitude`, and number, for magnitudes 1, 2, ...
    shifts: [(f64, u64); MAX_SHIFTS],
    /// Squared error without shifts, in steps.
    error: f64,
}

impl Survey {
    pub(super) const NONE: Self =
        Self { counts: [[0; 256]; FINE], runs: [0; FINE], shifts: [(0.0, 0); MAX_SHIFTS], error: 0.0 };

    /// Counts a run of class `fine`: its weights in steps, and their symbols.
    pub(super) fn add(&mut self, fine: u8, sizes: &[f32], symbols: &[u8]) {
        let fine = usize::from(fine);
        self.runs[fine] += 1;
        let mut error = 0f64;
        for (&size, &symbol) in sizes.iter().zip(symbols) {
            self.counts[fine][usize::from(symbol)] += 1;
            let magnitude = symbol.div_ceil(2);
            let d = f64::from(size) - f64::from(magnitude);
            error += d * d;
            if let Some(shift) = self.shifts.get_mut(usize::from(magnitude).wrapping_sub(1)) {
                *shift = (shift.0 + d, shift.1 + 1);
            }
        }
        self.error += error;
    }

    /// Adds what another pass found.
    pub(super) fn join(&mut self, other: &Self) {
        for (a, b) in self.counts.as_flattened_mut().iter_mut().zip(other.counts.as_flattened()) {
            *a += b;
        }
        self.runs.iter_mut().zip(other.runs).for_each(|(a, b)| *a += b);
        self.shifts.iter_mut().zip(other.shifts).for_each(|(a, b)| *a = (a.0 + b.0, a.1 + b.1));
        self.error += other.error;
    }

    /// Shifts of magnitudes 1, 2, ... to their means, in 256ths of the step, without the zeros at the end.
    pub(super) fn shifts(&self) -> Vec<i8> {
        let mean = |&(sum, count): &(f64, u64)| (sum * 256.0 / count.max(1) as f64).round() as i8;
        let mut shifts: Vec<i8> = self.shifts.iter().map(mean).collect();
        let end = shifts.iter().rposition(|&s| s != 0).map_or(0, |i| i + 1);
        shifts.truncate(end);
        shifts
    }

    /// Squared error with [`Survey::shifts`], in steps.
    pub(super) fn error(&self) -> f64 {
        let gain = |(&(sum, count), shift): (&(f64, u64), i8)| {
            let shift = f64::from(shift) / 256.0;
            shift * (2.0 * sum - count as f64 * shift)
        };
        (self.error - self.shifts.iter().zip(self.shifts()).map(gain).sum::<f64>()).max(0.0)
    }
}

/// Tables, the class of each fine class, and what everything costs.
pub(super) struct Plan {
    pub(super) tables: Vec<Table>,
    /// The table of classes, where there are several.
    pub(super) class_table: Vec<Table>,
    pub(super) class_of: [u8; FINE],
    /// Counts of symbols by class.
    counts: Vec<[u64; 256]>,
    /// Bits of pulses and classes.
    pub(super) coded: f64,
    /// Bits of tables.
    pub(super) stored: f64,
}

impl Plan {
    /// The cheapest way to merge the fine classes into 1, 2, 4, ... groups of neighbours; what is coded counts `share`
    /// times, where the survey is of a sample.
    pub(super) fn best(survey: &Survey, share: f64) -> Self {
        let mut best = Self::merged(survey, FINE);
        let mut span = 2;
        while span <= FINE {
            let plan = Self::merged(survey, FINE / span);
            if plan.coded * share + plan.stored <= best.coded * share + best.stored {
                best = plan;
            }
            span *= 2;
        }
        best
    }

    fn merged(survey: &Survey, classes: usize) -> Self {
        let mut class_of = [0; FINE];
        let (mut counts, mut runs) = (Vec::new(), Vec::new());
        let mut last = None;
        for (fine, own) in survey.counts.iter().enumerate().filter(|f| survey.runs[f.0] > 0) {
            let class = fine * classes / FINE;
            if last != Some(class) {
                counts.push([0u64; 256]);
                runs.push(0u64);
                last = Some(class);
            }
            let at = counts.len() - 1;
            class_of[fine] = at as u8;
            counts[at].iter_mut().zip(own).for_each(|(c, o)| *c += o);
            runs[at] += survey.runs[fine];
        }
        if counts.is_empty() {
            counts.push([0; 256]);
        }
        // A fine class that a sample has missed goes with the next below.
        for fine in 1..FINE {
            if survey.runs[fine] == 0 {
                class_of[fine] = class_of[fine - 1];
            }
        }
        let tables: Vec<Table> = counts.iter().map(|c| Table::from_counts(trim(c))).collect();
        let mut coded: f64 = tables.iter().zip(&counts).map(|(t, c)| t.cost_bits(trim(c))).sum();
        let mut stored = tables.iter().map(Table::stored_bytes).sum::<usize>() as f64 * 8.0;
        let mut class_table = Vec::new();
        if tables.len() > 1 {
            let table = Table::from_counts(&runs);
            coded += table.cost_bits(&runs);
            // With the lane states of a chunk, and its entry.
            stored += (table.stored_bytes() + 160) as f64 * 8.0;
            class_table.push(table);
        }
        Self { tables, class_table, class_of, counts, coded, stored }
    }

    /// By fine class: where between magnitudes `m` and `m + 1` the larger begins to pay, at `lambda` squared steps for
    /// a bit.
    pub(super) fn thresholds(&self, lambda: f64) -> Vec<[f32; MAX_PULSE]> {
        let own: Vec<[f32; MAX_PULSE]> = self
            .counts
            .iter()
            .map(|counts| {
                let total = counts.iter().sum::<u64>() as f64;
                // Either sign of a magnitude is as likely; a little room for what has not been seen.
                let bits = |m: usize| match m {
                    0 => (total / (counts[0] as f64 + 0.1)).log2(),
                    m => (2.0 * total / ((counts[2 * m - 1] + counts[2 * m]) as f64 + 0.1)).log2(),
                };
                std::array::from_fn(|m| (0.5 + lambda / 2.0 * (bits(m + 1) - bits(m))).clamp(0.5, 1.0) as f32)
            })
            .collect();
        self.class_of.iter().map(|&c| own[usize::from(c)]).collect()
    }
}
