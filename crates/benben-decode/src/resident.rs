//! One tensor in memory, in the form in which it is used.

use crate::pack::Tensor;
use benben_format::{Error, Result, in_memory, matrix};
use rayon::prelude::*;

/// How a tensor is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// f32 values, row-major.
    Dense,
}

/// A tensor in memory.
#[derive(Debug)]
pub struct Resident {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Resident {
    /// Decodes `tensor` into `form`.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn load(tensor: &Tensor<'_>, form: Form) -> Result<Self> {
        let Form::Dense = form;
        let (rows, columns) = matrix(tensor.shape())?;
        Ok(Self { rows: in_memory(rows)?, columns: in_memory(columns)?, values: tensor.to_f32()? })
    }

    /// Bytes that [`Resident::load`] of `tensor` will hold, known from the index alone.
    ///
    /// # Errors
    /// Limit where they do not fit this machine.
    pub fn predicted_bytes(tensor: &Tensor<'_>, form: Form) -> Result<usize> {
        let Form::Dense = form;
        in_memory(tensor.elements().saturating_mul(4))
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.len() * 4
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// All values as f32.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.clone()
    }

    /// Rows `ids` into `out`.
    ///
    /// # Errors
    /// InvalidArgument for a row that is not there, or an `out` of another size.
    pub fn rows(&self, ids: &[u32], out: &mut [f32]) -> Result<()> {
        if out.len() != ids.len() * self.columns {
            return Err(Error::invalid(format!(
                "{} values for {} rows of {}",
                out.len(),
                ids.len(),
                self.columns
            )));
        }
        for (&id, out) in ids.iter().zip(out.chunks_mut(self.columns.max(1))) {
            let at = id as usize;
            if at >= self.rows {
                return Err(Error::invalid(format!("row {id} of {}", self.rows)));
            }
            out.copy_from_slice(&self.values[at * self.columns..(at + 1) * self.columns]);
        }
        Ok(())
    }

    /// Products of several matrices with the same `vectors` vectors; see [`Weights::products`](crate::Weights::products).
    ///
    /// # Errors
    /// InvalidArgument where sizes do not fit.
    pub fn products(matrices: &[&Self], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()> {
        for (matrix, out) in matrices.iter().zip(out) {
            if x.len() != vectors * matrix.columns || out.len() != vectors * matrix.rows {
                return Err(Error::invalid(format!(
                    "a matrix of {} x {} with {} inputs and {} outputs for {vectors} vectors",
                    matrix.rows,
                    matrix.columns,
                    x.len(),
                    out.len()
                )));
            }
            for (x, out) in x.chunks(matrix.columns.max(1)).zip(out.chunks_mut(matrix.rows.max(1))) {
                let rows = matrix.values.par_chunks(matrix.columns.max(1));
                out.par_iter_mut()
                    .zip(rows)
                    .for_each(|(y, row)| *y = row.iter().zip(x).map(|(w, x)| w * x).sum());
            }
        }
        Ok(())
    }
}
