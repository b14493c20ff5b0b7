//! A tensor's expression in memory: matrices, and what is done around them.

use super::codes::Gatherer;
use super::matrix::Matrix;
use crate::evaluate::Evaluator;
use crate::hadamard::{hadamard_rows, inverse_hadamard_rows};
use benben_format::{Dtype, Expr, Result, StoredLeaf, in_memory};

/// Weights that are decoded at a time.
const BLOCK: u64 = 1 << 22;

/// An expression whose leaves are in memory.
#[derive(Debug)]
pub(super) enum Node {
    Matrix(Matrix),
    Sum(Vec<Self>),
    Product(Vec<Self>),
    Scale { rows: Option<Vec<f32>>, columns: Option<Vec<f32>>, of: Box<Self> },
    Rotate { seed: u64, block: usize, of: Box<Self> },
}

impl Node {
    /// Decodes `expr`, still quantized where its codec has few values; nodes that have no better form become matrices
    /// of f32.
    pub(super) fn load(evaluator: &Evaluator<'_>, expr: &Expr<StoredLeaf>) -> Result<Self> {
        let load = |e: &Expr<StoredLeaf>| Self::load(evaluator, e);
        let vector = |e: &Option<Box<Expr<StoredLeaf>>>| {
            e.as_ref().map(|e| evaluator.all(e)).transpose()
        };
        Ok(match expr {
            Expr::Ref { tensor, .. } => load(&evaluator.target(tensor)?.expr)?,
            Expr::Sum(terms) => Self::Sum(terms.iter().map(load).collect::<Result<_>>()?),
            Expr::Product(factors) => Self::Product(factors.iter().map(load).collect::<Result<_>>()?),
            Expr::Scale { rows, columns, of } => {
                Self::Scale { rows: vector(rows)?, columns: vector(columns)?, of: Box::new(load(of)?) }
            }
            Expr::Rotate { seed, block, of } => {
                Self::Rotate { seed: *seed, block: *block as usize, of: Box::new(load(of)?) }
            }
            Expr::Leaf(leaf) => Self::Matrix(leaf_matrix(evaluator, expr, leaf)?),
            other => Self::Matrix(dense(evaluator, other)?),
        })
    }

    /// Decodes `expr` to f32.
    pub(super) fn load_dense(evaluator: &Evaluator<'_>, expr: &Expr<StoredLeaf>) -> Result<Self> {
        dense(evaluator, expr).map(Self::Matrix)
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        match self {
            Self::Matrix(m) => [m.rows, m.columns],
            Self::Sum(terms) => terms.first().map_or([0, 0], Self::shape),
            Self::Product(factors) => match (factors.first(), factors.last()) {
                (Some(first), Some(last)) => [first.shape()[0], last.shape()[1]],
                _ => [0, 0],
            },
            Self::Scale { of, .. } | Self::Rotate { of, .. } => of.shape(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let of = |v: &Option<Vec<f32>>| v.as_ref().map_or(0, |v| v.len() * 4);
        match self {
            Self::Matrix(m) => m.bytes(),
            Self::Sum(nodes) | Self::Product(nodes) => nodes.iter().map(Self::bytes).sum(),
            Self::Scale { rows, columns, of: scaled } => of(rows) + of(columns) + scaled.bytes(),
            Self::Rotate { of, .. } => of.bytes(),
        }
    }

    /// Row `row` as f32, as the evaluator gives it.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Matrix(m) => m.expand(row..row + 1, out),
            Self::Sum(terms) => {
                out.fill(0.0);
                let mut own = vec![0.0; out.len()];
                for (i, term) in terms.iter().enumerate() {
                    term.row(row, &mut own);
                    match i {
                        0 => out.copy_from_slice(&own),
                        _ => out.iter_mut().zip(&own).for_each(|(o, v)| *o += v),
                    }
                }
            }
            Self::Product(factors) => {
                let Some((first, rest)) = factors.split_first() else { return };
                let mut left = vec![0.0; first.shape()[1]];
                first.row(row, &mut left);
                for factor in rest {
                    let [inner, columns] = factor.shape();
                    let (mut sum, mut own) = (vec![0.0; columns], vec![0.0; columns]);
                    for (k, &a) in left.iter().enumerate().take(inner) {
                        factor.row(k, &mut own);
                        sum.iter_mut().zip(&own).for_each(|(s, b)| *s += a * b);
                    }
                    left = sum;
                }
                out.copy_from_slice(&left);
            }
            Self::Scale { rows, columns, of } => {
                of.row(row, out);
                if let Some(factors) = rows {
                    out.iter_mut().for_each(|v| *v *= factors[row]);
                }
                if let Some(factors) = columns {
                    out.iter_mut().zip(factors).for_each(|(v, f)| *v *= f);
                }
            }
            Self::Rotate { seed, block, of } => {
                of.row(row, out);
                let columns = out.len();
                inverse_hadamard_rows(out, columns, *seed, *block);
            }
        }
    }

    /// `out[v] = self * x[v]`, `[vectors, columns]` to `[vectors, rows]`.
    pub(super) fn multiply(&self, x: &[f32], vectors: usize, out: &mut [f32]) {
        match self {
            Self::Matrix(m) => Matrix::products(&[m], x, vectors, &mut [out]),
            Self::Sum(terms) => {
                out.fill(0.0);
                let mut own = vec![0.0; out.len()];
                for term in terms {
                    term.multiply(x, vectors, &mut own);
                    out.iter_mut().zip(&own).for_each(|(o, v)| *o += v);
                }
            }
            Self::Product(factors) => {
                let mut right = x.to_vec();
                for factor in factors.iter().rev() {
                    let mut next = vec![0.0; vectors * factor.shape()[0]];
                    factor.multiply(&right, vectors, &mut next);
                    right = next;
                }
                out.copy_from_slice(&right);
            }
            Self::Scale { rows, columns, of } => {
                let scaled = columns.as_ref().map(|factors| by_columns(x, factors));
                of.multiply(scaled.as_deref().unwrap_or(x), vectors, out);
                if let Some(factors) = rows {
                    for out in out.chunks_mut(factors.len().max(1)) {
                        out.iter_mut().zip(factors).for_each(|(y, f)| *y *= f);
                    }
                }
            }
            Self::Rotate { seed, block, of } => {
                // A row times the inverse, times x, is the row times (x transformed): the transform is orthogonal.
                let mut x = x.to_vec();
                hadamard_rows(&mut x, of.shape()[1], *seed, *block);
                of.multiply(&x, vectors, out);
            }
        }
    }
}

fn by_columns(x: &[f32], factors: &[f32]) -> Vec<f32> {
    x.chunks(factors.len().max(1)).flat_map(|x| x.iter().zip(factors).map(|(x, f)| x * f)).collect()
}

fn dense(evaluator: &Evaluator<'_>, expr: &Expr<StoredLeaf>) -> Result<Matrix> {
    let (rows, columns) = evaluator.signature(expr)?.matrix()?;
    Ok(Matrix::dense(in_memory(rows)?, in_memory(columns)?, evaluator.rows(expr, 0..rows)?))
}

fn leaf_matrix(evaluator: &Evaluator<'_>, expr: &Expr<StoredLeaf>, leaf: &StoredLeaf) -> Result<Matrix> {
    let (rows, columns) = evaluator.signature(expr)?.matrix()?;
    if leaf.spec.codec == benben_codec::raw::CODEC && matches!(leaf.spec.dtype, Dtype::F16 | Dtype::BF16) {
        return Matrix::from_bytes(in_memory(rows)?, in_memory(columns)?, leaf.spec.dtype, &evaluator.bytes(expr)?);
    }
    let Some(levels) = benben_codec::levels(&evaluator.reader.leaf(leaf))? else {
        return dense(evaluator, expr);
    };
    let mut gatherer = Gatherer::new(&levels, in_memory(rows)?, in_memory(columns)?);
    let each = (BLOCK / columns.max(1)).max(1);
    for first in (0..rows).step_by(in_memory(each)?) {
        gatherer.push(&evaluator.rows(expr, first..(first + each).min(rows))?);
    }
    match Matrix::gathered(in_memory(rows)?, in_memory(columns)?, gatherer) {
        Some(matrix) => Ok(matrix),
        None => dense(evaluator, expr),
    }
}
