//! What the sample shows at one step: symbols by fine class, error, the means of the levels.

use super::plan::{FINE_COLUMNS, FINE_ROWS, Items};
use super::{CENTROID_UNIT, MAX_CENTROIDS, unzigzag};
use std::ops::Range;

/// Histograms of a sample by fine class of row and of column.
pub(super) struct Cells {
    /// Fine classes of columns: 1, or all.
    pub(super) columns: usize,
    alphabet: usize,
    /// By row class, column class, symbol.
    counts: Vec<f32>,
    /// Weights of the tensor for each that was counted.
    scale: f32,
}

impl Cells {
    /// Items are the classes of rows; their tables, the groups that `of` gives each class of columns.
    pub(super) fn rows_by(&self, of: &[u8; FINE_COLUMNS], groups: usize) -> Items {
        self.items(FINE_ROWS, groups, |row, column| (row, usize::from(of[column])))
    }

    /// Items are the classes of columns; their tables, the groups that `of` gives each class of rows.
    pub(super) fn columns_by(&self, of: &[u8; FINE_ROWS], groups: usize) -> Items {
        self.items(self.columns, groups, |row, column| (column, usize::from(of[row])))
    }

    /// Histograms of the tables `rows[r] * groups + columns[c]`, scaled to the tensor.
    pub(super) fn tables(
        &self,
        rows: &[u8; FINE_ROWS],
        row_groups: usize,
        columns: &[u8; FINE_COLUMNS],
        groups: usize,
    ) -> Vec<[u64; 256]> {
        let all = self
            .items(row_groups, groups, |row, column| (usize::from(rows[row]), usize::from(columns[column])));
        let round = |counts: &[f32]| {
            std::array::from_fn(|s| counts.get(s).map_or(0, |&c| (c * self.scale).ceil() as u64))
        };
        all.counts.chunks(all.alphabet).map(round).collect()
    }

    fn items(&self, items: usize, tables: usize, place: impl Fn(usize, usize) -> (usize, usize)) -> Items {
        let mut counts = vec![0f32; items * tables * self.alphabet];
        for (cell, own) in self.counts.chunks(self.alphabet).enumerate() {
            let (item, table) = place(cell / self.columns, cell % self.columns);
            let at = (item * tables + table) * self.alphabet;
            counts[at..at + self.alphabet].iter_mut().zip(own).for_each(|(a, b)| *a += b);
        }
        Items { counts, tables, alphabet: self.alphabet, scale: self.scale }
    }
}

/// Sums of one level: how far its weights lie outwards of its integer, weighted by importance.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    weight: f64,
    distance: f64,
}

/// Sums of the levels of some weights.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Levels([Level; MAX_CENTROIDS]);

impl Levels {
    /// Adds weights of which `x` are the places in steps.
    pub(super) fn add(&mut self, x: impl Iterator<Item = f32>, weights: &[f32], symbols: &[u8]) {
        for (i, (x, &symbol)) in x.zip(symbols).enumerate() {
            let k = unzigzag(symbol.into());
            if let Some(level) = self.0.get_mut((k.unsigned_abs() as usize).wrapping_sub(1)) {
                let weight = f64::from(weights.get(i).copied().unwrap_or(1.0));
                let d = f64::from(x) - f64::from(k);
                level.weight += weight;
                level.distance += weight * if k < 0 { -d } else { d };
            }
        }
    }

    pub(super) fn merge(mut self, other: &Self) -> Self {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            a.weight += b.weight;
            a.distance += b.distance;
        }
        self
    }

    /// Centroids of 1, 2, .. without trailing zeros: what leaves the least weighted error.
    pub(super) fn centroids(&self) -> Vec<i8> {
        let mean = |l: &Level| if l.weight > 0.0 { l.distance / l.weight } else { 0.0 };
        let rounded = |m: f64| (m * f64::from(CENTROID_UNIT)).round().clamp(-128.0, 127.0) as i8;
        let mut centroids: Vec<i8> = self.0.iter().map(|l| rounded(mean(l))).collect();
        while centroids.last() == Some(&0) {
            centroids.pop();
        }
        centroids
    }
}

/// The weights that steps are tried on.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) ranges: Vec<Range<usize>>,
    /// Weights of the tensor for each of the sample.
    pub(super) scale: f64,
}

/// Counts fine classes of a sample.
pub(super) struct Counter {
    columns: usize,
    /// By row class, column class, symbol.
    counts: Vec<u32>,
    largest: u8,
}

impl Counter {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, counts: vec![0; FINE_ROWS * columns * 256], largest: 0 }
    }

    /// Counts symbols of one class of rows; `columns` are the fine classes of their columns, if there are several.
    pub(super) fn add(&mut self, row: u8, columns: &[u8], symbols: &[u8]) {
        let size = self.columns * 256;
        let Some(own) = self.counts.get_mut(usize::from(row) * size..(usize::from(row) + 1) * size) else {
            return;
        };
        for (i, &symbol) in symbols.iter().enumerate() {
            let column = columns.get(i).map_or(0, |&c| usize::from(c));
            if let Some(count) = own.get_mut(column * 256 + usize::from(symbol)) {
                *count += 1;
            }
        }
        self.largest = self.largest.max(symbols.iter().copied().max().unwrap_or(0));
    }

    /// What was counted, each weight standing for `scale`.
    pub(super) fn cells(&self, scale: f64) -> Cells {
        let alphabet = usize::from(self.largest) + 1;
        let mut counts = Vec::with_capacity(FINE_ROWS * self.columns * alphabet);
        for own in self.counts.chunks(256) {
            counts.extend(own.iter().take(alphabet).map(|&c| c as f32));
        }
        Cells { columns: self.columns, alphabet, counts, scale: scale as f32 }
    }
}
