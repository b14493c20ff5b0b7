//! Runs of rows, sorted by energy, for the codecs that choose tables by them.

use rayon::prelude::*;
use std::ops::Range;

/// Weights that a run has at least, where there are as many.
const LEAST: u64 = 64;

/// Rows and columns as codecs with classes of rows see them: a one-dimensional tensor is a single row.
pub(crate) fn rows_and_columns(shape: &[u64]) -> benben_format::Result<(u64, u64)> {
    match shape {
        [n] => Ok((1, *n)),
        other => benben_format::matrix(other),
    }
}

/// Runs of rows and the energy class of each.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    /// Rows in one run.
    pub(crate) rows: u64,
    /// Weights in one run; the last may be shorter.
    pub(crate) len: usize,
    /// Class of each run, 0 the quietest.
    pub(crate) class: Vec<u8>,
}

impl Runs {
    /// Runs of whole rows with at least 64 weights, sorted into `classes` (1 to 255) of equal width in log energy.
    pub(crate) fn new(values: &[f32], rows: u64, columns: u64, classes: usize) -> Self {
        let per_run = LEAST.div_ceil(columns.max(1)).min(rows.max(1));
        let len = usize::try_from(per_run.saturating_mul(columns)).unwrap_or(usize::MAX).max(1);
        let energies: Vec<f64> =
            values.par_chunks(len).with_min_len(64).map(|run| energy(run) / run.len() as f64).collect();
        Self { rows: per_run, len, class: sort(&energies, classes) }
    }

    /// Class of a run.
    pub(crate) fn class_of(&self, run: usize) -> u8 {
        self.class.get(run).copied().unwrap_or(0)
    }

    /// The runs that elements `range` touch, with the elements of each that are in it.
    pub(crate) fn parts(&self, range: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (len, end) = (self.len, range.end);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let (from, run) = (at, at / len);
            at = (run + 1).saturating_mul(len).min(end);
            (from < end).then_some((run, from..at))
        })
    }
}

/// Classes of equal width in log energy, 0 the quietest.
pub(crate) fn sort(energies: &[f64], classes: usize) -> Vec<u8> {
    let classes = classes.clamp(1, 255);
    let log: Vec<f64> = energies.iter().map(|energy| energy.max(1e-60).log2()).collect();
    let mut sorted = log.clone();
    sorted.sort_by(f64::total_cmp);
    // Outer classes are open-ended: a single dead or wild row must not stretch the others.
    let quantile = |p: f64| {
        let at = (sorted.len() as f64 * p) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    let (low, high) = (quantile(0.01), quantile(0.99));
    let width = ((high - low) / classes as f64).max(1e-9);
    let class = |&e: &f64| ((e - low) / width).floor().clamp(0.0, (classes - 1) as f64) as u8;
    log.iter().map(class).collect()
}

/// Sum of squares, in eight sums side by side: one would wait for its own last addition.
pub(crate) fn energy(values: &[f32]) -> f64 {
    let mut sums = [0f64; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (sum, &x) in sums.iter_mut().zip(eight) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_energy_and_found_by_element() {
        let values: Vec<f32> = (0..6 * 40).map(|i| [1.0, 8.0, 2.0][i / 80]).collect();
        let runs = Runs::new(&values, 6, 40, 4);
        assert_eq!((runs.rows, runs.len, &runs.class[..]), (2, 80, &[0, 3, 1][..]));
        let parts: Vec<_> = runs.parts(&(70..170)).collect();
        assert_eq!(parts, [(0, 70..80), (1, 80..160), (2, 160..170)]);
    }

    #[test]
    fn energy_is_that_of_all() {
        let values: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(energy(&values), 2109.0);
    }
}
