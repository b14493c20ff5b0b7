//! Uniform levels: the first codebooks of dimension 1.
//!
//! Entropy-coded uniform levels are within 0.1 dB of the best scalar quantizer at any rate (Gish and Pierce 1968),
//! while Lloyd's iteration from random levels would keep irregular ones.

use super::codebook::Codebook;
use super::train::{Data, Quantizer};

/// Most levels: finer ones than f32 tells apart are of no use.
const MAX_LEVELS: f64 = (1u64 << 32) as f64;
/// Levels of one codebook.
const MAX_SIZE: f64 = 256.0;

/// Levels `first, first + 1, ..` times the step, as digits of several stages.
#[derive(Debug)]
struct Digits {
    step: f64,
    first: f64,
    /// Levels and distance of neighbours in steps, of the finest stage first.
    stages: Vec<(f64, f64)>,
}

impl Digits {
    /// Levels from the least to the greatest value; zero is one of them, since weights are densest there.
    fn new(data: &Data, step: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for &v in &data.values {
            (low, high) = (low.min(f64::from(v)), high.max(f64::from(v)));
        }
        if low > high {
            (low, high) = (0.0, 0.0);
        }
        let step = step.max((high - low) / MAX_LEVELS).max(f64::MIN_POSITIVE);
        let first = (low / step).round();
        let mut levels = (high / step).round() - first + 1.0;
        let (mut stages, mut unit) = (vec![], 1.0);
        while levels > MAX_SIZE {
            let size = (levels / MAX_SIZE).ceil().min(MAX_SIZE);
            stages.push((size, unit));
            levels = (levels / size).ceil();
            unit *= size;
        }
        stages.push((levels, unit));
        Self { step, first, stages }
    }

    /// The codebooks, filled up to `stages` ones; the coarsest comes first.
    fn books(mut self, stages: usize) -> Quantizer {
        while self.stages.len() < stages {
            let &(size, unit) = self.stages.last().unwrap_or(&(1.0, 1.0));
            self.stages.push((1.0, size * unit));
        }
        let mut quantizer = Quantizer::default();
        for (i, &(size, unit)) in self.stages.iter().rev().enumerate() {
            // A coarse level is the middle of what the finer stages span around it.
            let offset = if i == 0 { self.first + (unit - 1.0) / 2.0 } else { -(size - 1.0) / 2.0 * unit };
            let level = |k: usize| ((offset + k as f64 * unit) * self.step) as f32;
            let words: Vec<f32> = (0..size as usize).map(level).collect();
            quantizer.bits.push(vec![size.log2() as f32; words.len()]);
            quantizer.books.push(Codebook { dim: 1, words });
        }
        quantizer
    }
}

/// Codebooks of each group with levels `step` apart, in as many stages as codebooks of 256 need for the widest.
pub(super) fn grid(data: &[Data], step: f64) -> Vec<Quantizer> {
    let digits: Vec<Digits> = data.iter().map(|d| Digits::new(d, step)).collect();
    let stages = digits.iter().map(|d| d.stages.len()).max().unwrap_or(1);
    digits.into_iter().map(|d| d.books(stages)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_levels_are_the_levels() {
        let data = |low: f32, high: f32| Data { dim: 1, values: vec![low, 0.3, high], weights: vec![] };
        let groups = grid(&[data(-3.0, 7.0), data(-100.0, 100.0), data(-2000.0, 90.0)], 0.5);
        for (group, levels) in groups.iter().zip([-6..=14, -200..=200, -4000..=180]) {
            assert_eq!(group.books.len(), 2);
            let (coarse, fine) = (&group.books[0].words, &group.books[1].words);
            let mut sums: Vec<f32> = coarse.iter().flat_map(|c| fine.iter().map(move |f| c + f)).collect();
            sums.sort_by(f32::total_cmp);
            let expected: Vec<f32> = levels.map(|l| l as f32 * 0.5).collect();
            // The last coarse level may reach past the greatest value.
            assert!(sums.starts_with(&expected) && sums.len() < expected.len() + fine.len(), "{sums:?}");
        }
    }
}
