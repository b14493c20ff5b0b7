//! Runs of rows, sorted by energy.

use super::MAX_CLASSES;
use rayon::prelude::*;

/// Runs of rows and the energy class of each.
#[derive(Debug, Clone)]
pub(super) struct Runs {
    /// Rows in one run.
    pub(super) rows: u64,
    /// Weights in one run; the last may be shorter.
    pub(super) len: usize,
    /// Class of each run, 0 the quietest, below [`MAX_CLASSES`].
    pub(super) class: Vec<u8>,
}

impl Runs {
    /// Runs of whole rows with at least 64 weights, sorted into classes of equal width in log energy.
    pub(super) fn new(values: &[f32], rows: u64, columns: u64, max_classes: usize) -> Self {
        let per_run = 64u64.div_ceil(columns.max(1)).min(rows.max(1));
        let len = usize::try_from(per_run.saturating_mul(columns)).unwrap_or(usize::MAX).max(1);
        let log: Vec<f64> = values
            .par_chunks(len)
            .map(|r| r.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / r.len() as f64)
            .map(|energy| energy.max(1e-60).log2())
            .collect();
        let classes = max_classes.clamp(1, MAX_CLASSES);
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
        Self { rows: per_run, len, class: log.iter().map(class).collect() }
    }
}
