//! Factors as they are stored: `product(transpose(A), scale(rows, B))`.
//!
//! An error of A costs as much in every column if A's columns have the norms of the singular values, and B's rows too;
//! so one step serves all components, and `scale` divides by the singular values once. Large components then take more
//! bits, as water-filling has it. A is turned, since its components differ, and rows are what classes tell apart. B is
//! coded with feedback where the second moment of inputs is known: single inputs are a thousand times as loud as others.

use super::algebra::{eigen, matrix, product};
use super::factors::Factors;
use super::norm::Known;
use crate::method::{Codec, Method};
use crate::quantize::{Aim, Metric, Options, Problem};
use benben_codec::{Target, raw, scalar};
use benben_decode::Pack;
use benben_format::{Dtype, EncodedLeaf, Expr, Limits, Origin, Result, Writer};
use faer::Mat;
use std::sync::Arc;

/// Bytes that a leaf takes besides the bits of its entries: 80 for its segment and two chunks, 40 to 60 for tables and the
/// ends of 32 coders.
pub(super) const LEAF: f64 = 120.0;
/// Relative error of Gaussian values on one step with entropy coding, at high rates: pi e / 6 over `2^(2 bits)`.
const ENTROPY_CODED: f64 = 1.423;
/// Leaves of a product: both factors, and what divides by the singular values.
pub(super) const LEAVES: f64 = 3.0;

/// Factors that are coded at one number of bits or another.
pub(super) struct Stored<'a> {
    /// What the product is to be near: rows x columns.
    of: &'a [f32],
    known: Known<'a>,
    rows: usize,
    columns: usize,
    rank: usize,
    /// rank x columns, rows as large as their singular values.
    right: Vec<f32>,
    /// What divides by the singular values, as bf16 holds it.
    factors: Vec<f32>,
}

impl<'a> Stored<'a> {
    #[allow(clippy::cast_possible_truncation, reason = "factors are kept in single precision")]
    pub(super) fn new(of: &'a [f32], shape: [usize; 2], known: Known<'a>, found: &Factors) -> Result<Self> {
        let [rows, columns] = shape;
        let largest = found.sizes.first().copied().unwrap_or(1.0);
        let exact: Vec<f32> = found.sizes.iter().map(|s| (largest / s) as f32).collect();
        let mut factors = vec![0.0; exact.len()];
        Dtype::BF16.to_f32(&Dtype::BF16.from_f32(&exact)?, &mut factors)?;
        let mut right = found.right.clone();
        for ((row, size), factor) in right.chunks_mut(columns.max(1)).zip(&found.sizes).zip(&factors) {
            // Balanced rows have the norm size^(1/2).
            let shrink = (1.0 / (size.sqrt() * f64::from(*factor))) as f32;
            row.iter_mut().for_each(|x| *x *= shrink);
        }
        Ok(Self { of, known, rows, columns, rank: found.rank, right, factors })
    }

    /// Entries of both factors.
    pub(super) fn entries(&self) -> usize {
        self.rank * (self.rows + self.columns)
    }

    /// Codes both at about `bits` for each entry, besides what leaves take of their own: at the error that belongs to them,
    /// since bits of leaves of a few hundred entries come in large steps.
    pub(super) fn code(&self, bits: f64) -> Result<Expr<EncodedLeaf>> {
        let (rank, columns) = (self.rank as u64, self.columns as u64);
        let loss = (ENTROPY_CODED * (-2.0 * bits).exp2()).clamp(1e-9, 0.99);
        let settings = scalar::Settings::new(Target::RelativeMse(loss));
        let mut right = match self.known.moment {
            Some(moment) => {
                let metric = Metric { second_moment: moment, rows: None };
                let problem = Problem::new(&self.right, &[rank, columns], &metric, Options::default())?;
                problem.code(&Method::new(Codec::Scalar), Aim::Loss(loss))?.0
            }
            None => Expr::Leaf(scalar::encode(&self.right, &[rank, columns], &settings)?.0),
        };
        if self.factors.iter().any(|f| *f != 1.0) {
            let bytes = Dtype::BF16.from_f32(&self.factors)?;
            let factors = raw::encode(&bytes, Dtype::BF16, &[rank])?;
            right =
                Expr::Scale { rows: Some(Box::new(Expr::Leaf(factors))), columns: None, of: Box::new(right) };
        }
        let turned = self.fitted(&decoded(&right, &[rank, columns])?)?;
        let leaf = scalar::encode(&turned, &[rank, self.rows as u64], &settings)?.0;
        Ok(Expr::Product(vec![Expr::Transpose(Box::new(Expr::Leaf(leaf))), right]))
    }

    /// The best left factor beside `right` as it is stored, rank x rows: `B C Wᵀ` under the inverse of `B C Bᵀ`. So it
    /// makes good what B errs by in its own span.
    #[allow(clippy::cast_possible_truncation, reason = "factors are kept in single precision")]
    fn fitted(&self, right: &[f32]) -> Result<Vec<f32>> {
        let (rows, columns, rank) = (self.rows, self.columns, self.rank);
        let b = matrix(right, rank, columns);
        let weighed = match self.known.moment {
            Some(moment) => product(b.as_ref(), matrix(moment, columns, columns).as_ref()),
            None => b.clone(),
        };
        let (values, vectors) = eigen(product(weighed.as_ref(), b.transpose()).as_ref())?;
        let least = rank as f64 * f64::EPSILON * values.first().copied().unwrap_or(0.0);
        let inverse = |k: usize| if values[k] > least { 1.0 / values[k] } else { 0.0 };
        let given = product(weighed.as_ref(), matrix(self.of, rows, columns).transpose());
        let mut parts = product(vectors.transpose(), given.as_ref());
        for i in 0..rows {
            for k in 0..rank {
                parts[(k, i)] *= inverse(k);
            }
        }
        let left: Mat<f64> = product(vectors.as_ref(), parts.as_ref());
        Ok((0..rank * rows).map(|p| left[(p / rows, p % rows)] as f32).collect())
    }
}

/// The values that an expression stands for, by the decoder itself.
pub(super) fn decoded(expr: &Expr<EncodedLeaf>, shape: &[u64]) -> Result<Vec<f32>> {
    let mut writer = Writer::new(Vec::new(), crate::pack::GENERATOR, 0)?;
    writer.tensor("t", Dtype::F32, shape, Origin::default(), expr.clone())?;
    let (bytes, _) = writer.finish()?;
    Pack::from_source(Arc::new(bytes), Limits::default())?.tensor("t")?.to_f32()
}

/// Bytes in a pack.
pub(super) fn bytes(expr: &Expr<EncodedLeaf>) -> u64 {
    expr.leaves().iter().map(|l| l.stored_bytes()).sum()
}
