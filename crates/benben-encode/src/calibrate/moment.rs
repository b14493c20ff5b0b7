//! The second moment of an input.

use benben_format::{Error, Result};

/// E[x yᵀ], row-major: symmetric where y is x.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// Width n of x.
    pub columns: usize,
    /// Vectors that were averaged.
    pub count: u64,
    /// n x n values.
    pub values: Vec<f32>,
}

impl Moment {
    /// The diagonal: the mean of each xᵢ².
    pub fn diagonal(&self) -> impl Iterator<Item = f32> + '_ {
        self.values.iter().step_by(self.columns + 1).copied()
    }

    /// Row `row`.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    /// The upper triangle row by row, the diagonal among it: n (n + 1) / 2 values.
    #[must_use]
    pub fn triangle(&self) -> Vec<f32> {
        let mut triangle = Vec::with_capacity(self.columns * (self.columns + 1) / 2);
        for row in 0..self.columns {
            triangle.extend_from_slice(&self.row(row)[row..]);
        }
        triangle
    }

    /// The symmetric moment of a triangle, as [`triangle`](Self::triangle) gives it.
    ///
    /// # Errors
    /// Corruption where a value is no number, or one of the diagonal is negative; InvalidArgument for another length.
    pub fn from_triangle(columns: usize, count: u64, triangle: &[f32]) -> Result<Self> {
        if Some(triangle.len()) != columns.checked_add(1).and_then(|n| n.checked_mul(columns)).map(|n| n / 2)
        {
            let message = format!("{} values for a triangle of {columns} columns", triangle.len());
            return Err(Error::invalid(message));
        }
        let mut values = vec![0.0; columns * columns];
        let mut rest = triangle;
        for row in 0..columns {
            let (own, others) = rest.split_at(columns - row);
            rest = others;
            if own.iter().any(|x| !x.is_finite()) || own.first().is_some_and(|x| *x < 0.0) {
                return Err(Error::corruption(format!("row {row} of a second moment: {own:.3?} cannot be"))
                    .with_hint("calibrate again"));
            }
            values[row * columns + row..][..own.len()].copy_from_slice(own);
        }
        // In squares, so that both sides stay in the cache.
        const SIDE: usize = 32;
        for top in (0..columns).step_by(SIDE) {
            for left in (0..=top).step_by(SIDE) {
                for row in top..columns.min(top + SIDE) {
                    for column in left..row.min(left + SIDE) {
                        values[row * columns + column] = values[column * columns + row];
                    }
                }
            }
        }
        Ok(Self { columns, count, values })
    }
}
