//! One tensor in memory, in the form in which it is used.

mod codes;
mod kernel;
mod matrix;
mod node;

use crate::pack::Tensor;
use benben_format::{Dtype, Error, Expr, Result, StoredLeaf, in_memory};
use matrix::Matrix;
use node::Node;

/// How a tensor is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Entropy-decoded, still quantized: 4 to 8 bits for each weight of the codecs `scalar` and `trellis`, halves where
    /// floats of 16 bits are stored; low-rank products, sums, scales and rotations stay what they are. Weights that
    /// have no such form are f32.
    Codes,
    /// f32 values, row-major.
    Dense,
}

/// A tensor in memory.
#[derive(Debug)]
pub struct Resident {
    node: Node,
}

impl Resident {
    /// Decodes `tensor` into `form`.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn load(tensor: &Tensor<'_>, form: Form) -> Result<Self> {
        let (evaluator, expr) = tensor.parts()?;
        let node = match form {
            Form::Codes => Node::load(&evaluator, expr),
            Form::Dense => Node::load_dense(&evaluator, expr),
        };
        Ok(Self { node: node.map_err(|e| e.in_tensor(tensor.name()))? })
    }

    /// A matrix of `[rows, columns]` given as the little-endian bytes of `dtype`; halves are kept as halves.
    ///
    /// # Errors
    /// InvalidArgument where the bytes do not fit the shape, Unsupported for a dtype that is no number.
    pub fn from_bytes([rows, columns]: [usize; 2], dtype: Dtype, bytes: &[u8]) -> Result<Self> {
        Ok(Self { node: Node::Matrix(Matrix::from_bytes(rows, columns, dtype, bytes)?) })
    }

    /// Bytes that [`Resident::load`] of `tensor` will hold at most, known from the index alone.
    ///
    /// # Errors
    /// Limit where they do not fit this machine.
    pub fn predicted_bytes(tensor: &Tensor<'_>, form: Form) -> Result<usize> {
        let bytes = match form {
            Form::Codes => predicted(&tensor.entry().expr, tensor.elements()),
            Form::Dense => tensor.elements().saturating_mul(4),
        };
        in_memory(bytes)
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.node.bytes()
    }

    /// Rows and columns.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.node.shape()
    }

    /// All values as f32.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let [rows, columns] = self.shape();
        let mut out = vec![0.0; rows * columns];
        for (row, out) in out.chunks_mut(columns.max(1)).enumerate().take(rows) {
            self.node.row(row, out);
        }
        out
    }

    /// Rows `ids` into `out`.
    ///
    /// # Errors
    /// InvalidArgument for a row that is not there, or an `out` of another size.
    pub fn rows(&self, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let [rows, columns] = self.shape();
        if out.len() != ids.len() * columns {
            return Err(Error::invalid(format!("{} values for {} rows of {columns}", out.len(), ids.len())));
        }
        for (&id, out) in ids.iter().zip(out.chunks_mut(columns.max(1))) {
            if id as usize >= rows {
                return Err(Error::invalid(format!("row {id} of {rows}")));
            }
            self.node.row(id as usize, out);
        }
        Ok(())
    }

    /// Products of several matrices with the same `vectors` vectors; see
    /// [`Weights::products`](crate::Weights::products).
    ///
    /// # Errors
    /// InvalidArgument where sizes do not fit.
    pub fn products(matrices: &[&Self], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()> {
        for (matrix, out) in matrices.iter().zip(out.iter()) {
            let [rows, columns] = matrix.shape();
            if Some(x.len()) != vectors.checked_mul(columns) || Some(out.len()) != vectors.checked_mul(rows) {
                return Err(Error::invalid(format!(
                    "a matrix of {rows} x {columns} with {} inputs and {} outputs for {vectors} vectors",
                    x.len(),
                    out.len()
                )));
            }
        }
        let plain: Vec<&Matrix> = matrices
            .iter()
            .filter_map(|m| match &m.node {
                Node::Matrix(matrix) => Some(matrix),
                _ => None,
            })
            .collect();
        if plain.len() == matrices.len() {
            Matrix::products(&plain, x, vectors, out);
        } else {
            matrices.iter().zip(out).for_each(|(m, out)| m.node.multiply(x, vectors, out));
        }
        Ok(())
    }
}

/// Bytes of an expression in memory, at most, for a value of `elements`.
fn predicted(expr: &Expr<StoredLeaf>, elements: u64) -> u64 {
    let of = |leaf: &StoredLeaf| leaf.spec.elements().unwrap_or(u64::MAX);
    match expr {
        Expr::Leaf(leaf) => match leaf.spec.codec.as_str() {
            // Rows are whole blocks of 64 codes, with a place in the list of outliers.
            benben_codec::scalar::CODEC | benben_codec::trellis::CODEC => {
                let rows = benben_format::matrix(&leaf.spec.shape).map_or(u64::MAX, |m| m.0);
                of(leaf).saturating_add(of(leaf) / 2).saturating_add(rows.saturating_mul(68)).saturating_add(2048)
            }
            benben_codec::raw::CODEC => of(leaf).saturating_mul(leaf.spec.dtype.size().clamp(2, 4) as u64),
            _ => of(leaf).saturating_mul(4),
        },
        Expr::Sum(_) | Expr::Product(_) | Expr::Scale { .. } | Expr::Rotate { .. } => {
            let operands = expr.operands();
            operands.into_iter().fold(0, |sum, e| sum.saturating_add(predicted(e, elements)))
        }
        _ => elements.saturating_mul(4),
    }
}
