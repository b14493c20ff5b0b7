//! One tensor in memory, in the form in which it is used.

mod codebooks;
mod dictionary;
mod fine;
mod load;
mod node;
mod sparse;
mod strips;
mod turned;

use crate::pack::Tensor;
use crate::product::{Job, Kernel, Panels, run};
use benben_format::{Dtype, Error, Result};
use node::{Input, Node};

/// How a tensor is kept in memory. Both forms give the same values to the bit; products add them up in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Every weight as f32, but for `rvq`, whose codewords stay.
    Dense,
    /// Entropy-decoded, still quantized: integers of as few bits as their rows need (`scalar`, `trellis`, pulses of
    /// `pvq`), of 8 or 16 bits where these have no common step or are many (numbered points of `pvq`, `scalar` above 6
    /// bits), trits, codewords of `rvq`, halves of f16 and bf16, factors of low-rank products, places and narrow values
    /// of `sparse`. What has no such form is f32: matrices of fewer than 16 rows, `rvq` with groups of a leaf of three
    /// dimensions, and of what is transposed trits, sums and the like.
    Codes,
}

/// A tensor in memory.
#[derive(Debug)]
pub struct Resident {
    node: Node,
}

impl Resident {
    /// Decodes `tensor` into `form`, a few million weights at a time.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn load(tensor: &Tensor<'_>, form: Form) -> Result<Self> {
        let node = load::tensor(tensor).map_err(|e| e.in_tensor(tensor.name()))?;
        Ok(match form {
            Form::Codes => Self { node },
            Form::Dense => Self { node: node.expanded(Kernel::fastest()) },
        })
    }

    /// A matrix of `shape` (rows, columns) from little-endian values of `dtype`; f16 and bf16 keep their size.
    ///
    /// # Errors
    /// InvalidArgument where `bytes` are not as many as the shape says; Unsupported for integers that are not converted.
    pub fn from_bytes(shape: [usize; 2], dtype: Dtype, bytes: &[u8]) -> Result<Self> {
        let expected = shape[0].checked_mul(shape[1]).and_then(|n| n.checked_mul(dtype.size()));
        if expected != Some(bytes.len()) {
            return Err(Error::invalid(format!(
                "{} bytes for {} x {} values of {dtype}",
                bytes.len(),
                shape[0],
                shape[1]
            )));
        }
        Ok(Self { node: load::from_bytes(shape, dtype, bytes)? })
    }

    /// Most bytes that [`Resident::load`] of `tensor` will hold, known from the index alone. Codes are taken for 8 bits
    /// each (10 of a trellis), the most that they can need; most tensors hold 0.5 to 0.7 of it.
    ///
    /// # Errors
    /// Limit where they do not fit this machine; Corruption where the expression contradicts itself.
    pub fn predicted_bytes(tensor: &Tensor<'_>, form: Form) -> Result<usize> {
        load::most_bytes(tensor, form).map_err(|e| e.in_tensor(tensor.name()))
    }

    /// Bytes that it holds, but for bookkeeping: some 50 for 16 rows.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.node.bytes()
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.node.shape()
    }

    /// All values as f32: the bits of [`Tensor::to_f32`].
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        self.node.rows_of(0..self.shape()[0])
    }

    /// Rows `ids` into `out`, row-major; no other row is looked at.
    ///
    /// # Errors
    /// InvalidArgument for a row that is not there, or an `out` of another size.
    pub fn rows(&self, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let [rows, columns] = self.shape();
        if out.len() != ids.len() * columns {
            let (found, count) = (out.len(), ids.len());
            return Err(Error::invalid(format!("{found} values for {count} rows of {columns}")));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            return Err(Error::invalid(format!("row {id} of {rows}")));
        }
        out.copy_from_slice(&self.node.rows_of(ids.iter().map(|&id| id as usize)));
        Ok(())
    }

    /// Products of several matrices with the same `vectors` vectors; see [`Weights::products`](crate::Weights::products).
    /// Sums are f32, each by one thread, in an order that only the number of vectors (one, or more) changes.
    ///
    /// # Errors
    /// InvalidArgument where sizes do not fit.
    pub fn products(matrices: &[&Self], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()> {
        Self::products_by(Kernel::fastest(), matrices, x, vectors, out)
    }

    fn products_by(
        kernel: Kernel,
        matrices: &[&Self],
        x: &[f32],
        vectors: usize,
        out: &mut [&mut [f32]],
    ) -> Result<()> {
        if matrices.len() != out.len() {
            return Err(Error::invalid(format!("{} outputs for {} matrices", out.len(), matrices.len())));
        }
        for (matrix, out) in matrices.iter().zip(&*out) {
            let [rows, columns] = matrix.shape();
            if Some(x.len()) != vectors.checked_mul(columns) || Some(out.len()) != vectors.checked_mul(rows) {
                return Err(Error::invalid(format!(
                    "a matrix of {rows} x {columns} with {} inputs and {} outputs for {vectors} vectors",
                    x.len(),
                    out.len()
                )));
            }
        }
        let Some(first) = matrices.first() else { return Ok(()) };
        let input = Input::new(x, first.shape()[1], vectors);
        // Matrices of codes together, so that threads are called once; others are trees of several steps.
        let mut jobs = Vec::with_capacity(matrices.len());
        for (matrix, out) in matrices.iter().zip(out) {
            match &matrix.node {
                Node::Panels(panels) => {
                    jobs.push(Job { panels, x: &input.values, stride: input.stride, out });
                }
                other => other.multiply(kernel, &input, out),
            }
        }
        run(kernel, jobs, vectors);
        Ok(())
    }
}
