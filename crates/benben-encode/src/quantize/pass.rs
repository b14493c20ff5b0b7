//! One pass of error feedback over a matrix: column after column is quantized, and what it errs by is carried into the
//! columns that follow.

use super::kernel::{self, LANES};
use benben_codec::{scalar, trellis};
use rayon::prelude::*;

/// Columns whose errors are carried into all later ones at once: with 64 rows they fill half of the first cache.
const BLOCK: usize = 64;
/// Rows that are quantized together where the quantizer leaves the choice.
pub(super) const ROWS: usize = 64;

/// A quantizer on its way through the columns for some of the rows.
pub(super) trait Step: Send {
    /// Chooses symbols for the next column's targets `x`, in steps, and says what they stand for, in steps.
    fn next(&mut self, x: &[f32], symbols: &mut [u8], values: &mut [f32]);
}

impl Step for scalar::Part<'_> {
    fn next(&mut self, x: &[f32], symbols: &mut [u8], values: &mut [f32]) {
        scalar::Part::next(self, x, symbols, values);
    }
}

impl Step for trellis::Part<'_> {
    fn next(&mut self, x: &[f32], symbols: &mut [u8], values: &mut [f32]) {
        trellis::Part::next(self, x, symbols, values);
    }
}

/// Rows that know nothing of the others, and their quantizer.
pub(super) struct Group<'a> {
    pub(super) rows: Vec<usize>,
    pub(super) quantizer: Box<dyn Step + 'a>,
}

impl<'a> Group<'a> {
    pub(super) fn of_scalar(chooser: &'a scalar::Chooser, rows: usize) -> Vec<Self> {
        let starts = (0..rows).step_by(ROWS);
        let group = |at: usize| {
            let rows: Vec<usize> = (at..rows.min(at + ROWS)).collect();
            let quantizer = Box::new(chooser.part(&rows));
            Self { rows, quantizer }
        };
        starts.map(group).collect()
    }

    pub(super) fn of_trellis(chooser: &'a trellis::Chooser) -> Vec<Self> {
        let parts = chooser.parts(rayon::current_num_threads()).into_iter();
        parts.map(|part| Self { rows: part.columns().collect(), quantizer: Box::new(part) }).collect()
    }
}

/// What is quantized: a matrix, its columns side by side, and how errors are carried.
pub(super) struct Matrix<'a> {
    /// Column j at `j * rows`.
    pub(super) columns: &'a [f32],
    pub(super) rows: usize,
    /// Step of each column.
    pub(super) steps: &'a [f32],
    /// Part of the error of column k that column l takes over, at `l * count of columns + k`, for k below l.
    pub(super) feedback: &'a [f32],
}

/// What a pass gave.
pub(super) struct Passed {
    /// What was to be quantized, in steps, errors of earlier columns included.
    pub(super) x: Vec<f32>,
    pub(super) symbols: Vec<u8>,
}

/// How the elements of [`Passed`] lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As in the matrix, rows one after the other.
    Rows,
    /// Columns one after the other.
    Columns,
}

impl Matrix<'_> {
    fn width(&self) -> usize {
        self.columns.len() / self.rows.max(1)
    }

    /// Elements in steps, without feedback.
    pub(super) fn in_steps(&self, order: Order) -> Vec<f32> {
        let mut out = vec![0.0; self.columns.len()];
        match order {
            Order::Columns => {
                let columns = out.par_chunks_mut(self.rows).zip(self.columns.par_chunks(self.rows));
                columns.zip(self.steps.par_iter()).for_each(|((out, column), step)| {
                    out.iter_mut().zip(column).for_each(|(o, x)| *o = x / step);
                });
            }
            Order::Rows => {
                out.par_chunks_mut(self.width().max(1)).enumerate().for_each(|(row, out)| {
                    let own = self.columns.iter().skip(row).step_by(self.rows);
                    out.iter_mut().zip(own).zip(self.steps).for_each(|((o, x), step)| *o = x / step);
                });
            }
        }
        out
    }

    /// All columns, by `groups` that together have every row once.
    pub(super) fn pass(&self, groups: Vec<Group<'_>>, order: Order) -> Passed {
        let width = self.width();
        let parts: Vec<(Vec<usize>, Part)> = groups
            .into_par_iter()
            .map(|mut group| {
                let part = self.part(&group.rows, &mut *group.quantizer);
                (group.rows, part)
            })
            .collect();
        let mut passed = Passed { x: vec![0.0; self.columns.len()], symbols: vec![0; self.columns.len()] };
        for (rows, part) in parts {
            for j in 0..width {
                for (i, &row) in rows.iter().enumerate() {
                    let at = match order {
                        Order::Rows => row * width + j,
                        Order::Columns => j * self.rows + row,
                    };
                    passed.x[at] = part.x[j * part.stride + i];
                    passed.symbols[at] = part.symbols[j * part.stride + i];
                }
            }
        }
        passed
    }

    fn part(&self, rows: &[usize], quantizer: &mut dyn Step) -> Part {
        let (width, count, stride) = (self.width(), rows.len(), rows.len().next_multiple_of(LANES));
        let mut x = vec![0f32; width * stride];
        for (own, column) in x.chunks_mut(stride).zip(self.columns.chunks(self.rows)) {
            own.iter_mut().zip(rows).for_each(|(x, &row)| *x = column[row]);
        }
        let mut symbols = vec![0u8; width * stride];
        let mut values = vec![0f32; count];
        let mut errors = Vec::with_capacity(BLOCK * stride);
        for first in (0..width).step_by(BLOCK) {
            let end = width.min(first + BLOCK);
            errors.clear();
            for j in first..end {
                let own = &mut x[j * stride..(j + 1) * stride];
                kernel::add(own, &errors, &self.feedback[j * width + first..j * width + j]);
                let step = self.steps[j];
                own.iter_mut().for_each(|x| *x /= step);
                quantizer.next(&own[..count], &mut symbols[j * stride..][..count], &mut values);
                // What a column errs by is counted against the weight itself, not against its target.
                let column = &self.columns[j * self.rows..(j + 1) * self.rows];
                errors.extend(rows.iter().zip(&values).map(|(&row, v)| column[row] - v * step));
                errors.resize((j + 1 - first) * stride, 0.0);
            }
            kernel::add_all(&mut x, stride, end..width, &errors, self.feedback, width, first);
        }
        Part { x, symbols, stride }
    }
}

struct Part {
    x: Vec<f32>,
    symbols: Vec<u8>,
    stride: usize,
}
