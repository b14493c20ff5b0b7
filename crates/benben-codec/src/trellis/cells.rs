//! Classes of rows crossed with classes of columns.
//!
//! Weights of quiet and of loud rows have tables of their own, and so have those of quiet and loud columns where that
//! pays: the columns of feed-forward and attention matrices differ by 0.03 bit for each weight (MiniLM-L6), those of
//! an embedding by 0.007.

use super::MAX_CLASSES;
use crate::runs::{self, Runs};
use rayon::prelude::*;
use std::ops::Range;

/// Most classes of columns.
const MAX_COLUMNS: u8 = 4;
/// Least rows and columns with which columns are looked at.
const LEAST: u64 = 16;
/// Bits for each weight that two classes in place of one, and four in place of two, must save.
const WORTH: f64 = 0.003;

/// Class of every row and column.
pub(super) struct Cells {
    pub(super) runs: Runs,
    /// Class of each column; empty where they have none.
    columns: Vec<u8>,
    /// Number of classes of columns: 1, 2 or 4.
    count: u8,
}

impl Cells {
    /// Classes of rows, and of columns where they make the Gaussian bits of the cells fewer.
    pub(super) fn new(values: &[f32], rows: u64, columns: u64, max_classes: usize) -> Self {
        let runs = Runs::new(values, rows, columns, max_classes.clamp(1, MAX_CLASSES));
        let plain = Self { runs, columns: Vec::new(), count: 1 };
        if rows < LEAST || columns < LEAST || max_classes < usize::from(MAX_COLUMNS) {
            return plain;
        }
        let of = column_classes(values, columns as usize);
        let energies = plain.energies(values, &of);
        let cost = |count: u8| {
            let mut sums = vec![[0.0; 2]; MAX_CLASSES];
            for (row, energies) in energies.iter().enumerate() {
                for (column, [sum, n]) in energies.iter().enumerate() {
                    let row = row / usize::from(count) * usize::from(count);
                    let cell = &mut sums[row + column / usize::from(MAX_COLUMNS / count)];
                    (cell[0], cell[1]) = (cell[0] + sum, cell[1] + n);
                }
            }
            let gaussian = |[sum, n]: [f64; 2]| if sum > 0.0 { 0.5 * n * (sum / n).log2() } else { 0.0 };
            let stored = columns as f64 * f64::from(count.ilog2());
            sums.into_iter().map(gaussian).sum::<f64>() + stored
        };
        // More tables side by side are dearer to decode, to half the speed with four classes: they must pay.
        let worth = WORTH * values.len() as f64;
        let costs = [(1, cost(1)), (2, cost(2) + worth), (MAX_COLUMNS, cost(MAX_COLUMNS) + 2.0 * worth)];
        let best = costs.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1, |b| b.0);
        if best == 1 {
            return plain;
        }
        Self { columns: of.iter().map(|c| c / (MAX_COLUMNS / best)).collect(), count: best, ..plain }
    }

    /// Number of classes of columns.
    pub(super) fn count(&self) -> u8 {
        self.count
    }

    /// Class of each column; none where there is one class.
    pub(super) fn columns(&self) -> &[u8] {
        &self.columns
    }

    /// Number of classes of rows.
    pub(super) fn rows(&self) -> usize {
        MAX_CLASSES / usize::from(self.count)
    }

    /// Sum of squares and number of the weights by class of row (of 16) and of column (of 4).
    fn energies(&self, values: &[f32], columns: &[u8]) -> Vec<[[f64; 2]; MAX_COLUMNS as usize]> {
        let sums = |(run, values): (usize, &[f32])| {
            let mut sums = [[0.0; 2]; MAX_COLUMNS as usize];
            for row in values.chunks(columns.len()) {
                for (&x, &column) in row.iter().zip(columns) {
                    let sum = &mut sums[usize::from(column)];
                    *sum = [sum[0] + f64::from(x) * f64::from(x), sum[1] + 1.0];
                }
            }
            (self.row(run), sums)
        };
        let runs: Vec<_> = values.par_chunks(self.runs.len).enumerate().map(sums).collect();
        let mut all = vec![[[0.0; 2]; MAX_COLUMNS as usize]; MAX_CLASSES];
        for (row, sums) in runs {
            for (all, sum) in all[row].iter_mut().zip(sums) {
                *all = [all[0] + sum[0], all[1] + sum[1]];
            }
        }
        all
    }

    /// Class of run `run`.
    fn row(&self, run: usize) -> usize {
        usize::from(self.runs.class_of(run) / self.count)
    }

    /// What classes of columns add to the class of row `row` in [`Cells::fill`].
    pub(super) fn of_row(&self, row: u64, of: &[u8; MAX_CLASSES]) -> u8 {
        of[self.row((row / self.runs.rows) as usize)] * self.count
    }

    /// Group of each run, by the group of each class of rows.
    pub(super) fn row_groups(&self, of: &[u8; MAX_CLASSES]) -> Vec<u8> {
        (0..self.runs.class.len()).map(|run| of[self.row(run)]).collect()
    }

    /// Writes `of[class of the row] * count + class of the column` of each of the elements `range` to `out`.
    pub(super) fn fill(&self, range: &Range<usize>, of: &[u8; MAX_CLASSES], out: &mut [u8]) {
        for (run, part) in self.runs.parts(range) {
            let Some(own) = out.get_mut(part.start - range.start..part.end - range.start) else { return };
            own.fill(of[self.row(run)] * self.count);
            if self.columns.is_empty() {
                continue;
            }
            let (mut rest, mut column) = (own, part.start % self.columns.len());
            while !rest.is_empty() {
                let (row, next) = rest.split_at_mut((self.columns.len() - column).min(rest.len()));
                row.iter_mut().zip(&self.columns[column..]).for_each(|(class, column)| *class += column);
                (rest, column) = (next, 0);
            }
        }
    }
}

/// Classes of equal width in log energy, each row brought to the same energy.
fn column_classes(values: &[f32], columns: usize) -> Vec<u8> {
    // Parts of a fixed size, summed in order: no thread count changes a sum.
    let parts: Vec<Vec<f64>> = values
        .par_chunks(columns * 64)
        .map(|part| {
            let mut sums = vec![0.0; columns];
            for row in part.chunks(columns) {
                let energy = runs::energy(row);
                if energy > 0.0 {
                    let scale = columns as f64 / energy;
                    sums.iter_mut().zip(row).for_each(|(s, &x)| *s += scale * f64::from(x) * f64::from(x));
                }
            }
            sums
        })
        .collect();
    let mut energy = vec![0.0; columns];
    for part in parts {
        energy.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    runs::sort(&energy, MAX_COLUMNS.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_rows_by_columns() {
        let scale = |i: usize| if i / 20 < 10 { 1.0 } else { 8.0 } * [1.0, 2.0, 4.0, 8.0][i % 20 / 5];
        let values: Vec<f32> = (0..400).map(scale).collect();
        let cells = Cells::new(&values, 20, 20, MAX_CLASSES);
        assert_eq!((cells.count(), cells.rows()), (4, 4));
        assert_eq!(cells.columns(), [[0; 5], [1; 5], [2; 5], [3; 5]].concat());
        let of = std::array::from_fn(|i| i as u8);
        let mut out = [9; 200];
        cells.fill(&(17..217), &of, &mut out);
        assert_eq!(out[..8], [3, 3, 3, 0, 0, 0, 0, 0]);
        assert_eq!(out[183..193], [12, 12, 12, 12, 12, 13, 13, 13, 13, 13]);
        assert_eq!(cells.row_groups(&of), [0, 0, 3, 3, 3]);
    }

    #[test]
    fn columns_alike_have_no_classes() {
        assert_eq!(Cells::new(&[1.0; 400], 20, 20, MAX_CLASSES).count(), 1);
        assert_eq!(Cells::new(&[1.0; 400], 1, 400, MAX_CLASSES).count(), 1);
    }
}
