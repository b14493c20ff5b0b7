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

/// Weights of one block of parallel work, about; counts are added block by block.
const BLOCK: usize = 1 << 14;

impl Runs {
    /// Lengths that are tried, in groups of `dim` weights of a tensor of `shape`: a class for each group pays where they
    /// differ within a row, one for each row where rows differ.
    pub(super) fn lengths(shape: &[u64], dim: u8) -> Vec<u32> {
        let row = shape.last().map_or(1, |&c| usize::try_from(c).unwrap_or(usize::MAX));
        let mut lengths = vec![1, 4, (row / usize::from(dim)).clamp(1, 1 << 20) as u32];
        lengths.dedup();
        lengths
    }

    /// Counts all weights: their sizes in steps, and their symbols.
    pub(super) fn survey(&self, sizes: &[f32], symbols: &[u8]) -> Survey {
        let per_block = (BLOCK / self.len).max(1);
        let blocks: Vec<Survey> = symbols
            .par_chunks(self.len * per_block)
            .zip(sizes.par_chunks(self.len * per_block))
            .zip(self.fine.par_chunks(per_block))
            .map(|((symbols, sizes), fine)| {
                let mut survey = Survey::NONE;
                let runs = symbols.chunks(self.len).zip(sizes.chunks(self.len));
                runs.zip(fine).for_each(|((symbols, sizes), &fine)| survey.add(fine, sizes, symbols));
                survey
            })
            .collect();
        Survey::joined(&blocks)
    }

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

/// Sums of sizes that are kept apart, so that one need not wait for the one before.
const LANES: usize = 4;

/// What one pass over weights found at one step.
#[derive(Clone)]
pub(super) struct Survey {
    /// Symbols by fine class.
    pub(super) counts: [[u64; 256]; FINE],
    /// Runs by fine class.
    pub(super) runs: [u64; FINE],
    /// Sums of sizes, `|x| / step`, by magnitude.
    sizes: [[f64; MAX_PULSE + 1]; LANES],
    /// Sums of their squares.
    squares: [f64; LANES],
}

impl Survey {
    pub(super) const NONE: Self = Self {
        counts: [[0; 256]; FINE],
        runs: [0; FINE],
        sizes: [[0.0; MAX_PULSE + 1]; LANES],
        squares: [0.0; LANES],
    };

    /// Counts a run of class `fine`: its weights in steps, and their symbols.
    pub(super) fn add(&mut self, fine: u8, sizes: &[f32], symbols: &[u8]) {
        let fine = usize::from(fine);
        self.runs[fine] += 1;
        let counts = &mut self.counts[fine];
        for (sizes, symbols) in sizes.chunks(LANES).zip(symbols.chunks(LANES)) {
            let lanes = self.sizes.iter_mut().zip(&mut self.squares);
            for ((&size, &symbol), (sums, squares)) in sizes.iter().zip(symbols).zip(lanes) {
                counts[usize::from(symbol)] += 1;
                let (size, magnitude) = (f64::from(size), usize::from(symbol.div_ceil(2)));
                sums[magnitude] += size;
                *squares += size * size;
            }
        }
    }

    /// What blocks found together.
    pub(super) fn joined(blocks: &[Self]) -> Self {
        blocks.iter().fold(Self::NONE, |mut all, block| {
            all.join(block);
            all
        })
    }

    /// Adds what another pass found.
    pub(super) fn join(&mut self, other: &Self) {
        for (a, b) in self.counts.as_flattened_mut().iter_mut().zip(other.counts.as_flattened()) {
            *a += b;
        }
        self.runs.iter_mut().zip(other.runs).for_each(|(a, b)| *a += b);
        for (a, b) in self.sizes.as_flattened_mut().iter_mut().zip(other.sizes.as_flattened()) {
            *a += b;
        }
        self.squares.iter_mut().zip(other.squares).for_each(|(a, b)| *a += b);
    }

    /// How many weights there are of each magnitude.
    fn magnitudes(&self) -> [u64; MAX_PULSE + 1] {
        let mut of = [0; MAX_PULSE + 1];
        for counts in &self.counts {
            for (symbol, count) in counts.iter().enumerate().take(2 * MAX_PULSE + 1) {
                of[symbol.div_ceil(2)] += count;
            }
        }
        of
    }

    fn size(&self, magnitude: usize) -> f64 {
        self.sizes.iter().map(|lane| lane[magnitude]).sum()
    }

    /// Shifts of magnitudes 1, 2, ... to their means, in 256ths of the step, without the zeros at the end.
    pub(super) fn shifts(&self) -> Vec<i8> {
        let counts = self.magnitudes();
        let mean = |m: usize| (self.size(m) / counts[m].max(1) as f64 - m as f64) * 256.0;
        let mut shifts: Vec<i8> =
            (1..=MAX_SHIFTS).map(|m| if counts[m] > 0 { mean(m).round() as i8 } else { 0 }).collect();
        let end = shifts.iter().rposition(|&s| s != 0).map_or(0, |i| i + 1);
        shifts.truncate(end);
        shifts
    }

    /// Squared error with [`Survey::shifts`], in steps.
    pub(super) fn error(&self) -> f64 {
        let (shifts, counts) = (self.shifts(), self.magnitudes());
        let mut error: f64 = self.squares.iter().sum();
        for (m, &count) in counts.iter().enumerate().skip(1) {
            let value = m as f64
                + m.checked_sub(1).and_then(|i| shifts.get(i)).map_or(0.0, |&s| f64::from(s) / 256.0);
            error += value * (count as f64 * value - 2.0 * self.size(m));
        }
        error
    }
}

/// The class of each fine class, and what everything costs.
pub(super) struct Plan {
    pub(super) class_of: [u8; FINE],
    /// Counts of symbols by class.
    counts: Vec<[u64; 256]>,
    /// Runs by class.
    runs: Vec<u64>,
    /// Bits of pulses and classes.
    pub(super) coded: f64,
    /// Bits of tables, about.
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
        let several = counts.len() > 1;
        let coded = counts.iter().map(|c| entropy(c)).sum::<f64>() + entropy(&runs);
        // Of a table two bits for each symbol and a head, as measured; of a stream of classes, chunks and their entries.
        let alphabets = counts.iter().map(|c| trim(c).len()).sum::<usize>() + counts.len() * 12;
        let stored = 2.0 * alphabets as f64 + if several { 1300.0 } else { 0.0 };
        Self { class_of, counts, runs, coded, stored }
    }

    /// Tables of pulses, by class.
    pub(super) fn tables(&self) -> Vec<Table> {
        self.counts.iter().map(|c| Table::from_counts(trim(c))).collect()
    }

    /// The table of classes, where there are several.
    pub(super) fn class_table(&self) -> Vec<Table> {
        if self.counts.len() > 1 { vec![Table::from_counts(&self.runs)] } else { Vec::new() }
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

/// Bits of symbols of these counts.
fn entropy(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    counts.iter().filter(|&&c| c > 0).map(|&c| c as f64 * (total / c as f64).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surveys_tell_error_and_shifts() {
        let (sizes, symbols) = ([0.25, 1.25, 1.5, 2.0, 0.875, 20.5], [0, 1, 2, 4, 1, 40]);
        let mut survey = Survey::NONE;
        survey.add(3, &sizes, &symbols);
        let shifts = survey.shifts();
        // The mean of 1.25, 1.5, 0.875 is 1.2083.
        assert_eq!(shifts, [53]);
        let value = |s: u8| f64::from(s.div_ceil(2)) + if (1..3).contains(&s) { 53.0 / 256.0 } else { 0.0 };
        let error: f64 = sizes.iter().zip(symbols).map(|(&x, s)| (f64::from(x) - value(s)).powi(2)).sum();
        assert!((survey.error() - error).abs() < 1e-12, "{} {error}", survey.error());
        let mut both = survey.clone();
        both.join(&survey);
        assert!((both.error() - 2.0 * error).abs() < 1e-12);
    }

    #[test]
    fn classes_are_kept_where_they_pay() {
        let run = |fine, symbol: u8, survey: &mut Survey| {
            survey.add(fine, &[1.0; 16], &[symbol, 0, 0, symbol].repeat(4));
        };
        let (mut alike, mut apart) = (Survey::NONE, Survey::NONE);
        for i in [0, 1].repeat(500) {
            run(i * 9, 2, &mut alike);
            run(i * 9, i * 7, &mut apart);
        }
        let (alike, apart) = (Plan::best(&alike, 1.0), Plan::best(&apart, 1.0));
        assert_eq!((alike.tables().len(), alike.class_table().len()), (1, 0));
        assert_eq!((apart.tables().len(), apart.class_table().len()), (2, 1));
        assert_eq!((apart.class_of[0], apart.class_of[8], apart.class_of[9]), (0, 0, 1));
        // A larger magnitude that is seldom has to win by more.
        let thresholds = apart.thresholds(0.1155);
        assert!(thresholds[0][0] > 0.6 && thresholds.len() == FINE);
    }
}
