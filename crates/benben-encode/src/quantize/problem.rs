//! One matrix with what its layer's inputs say, made ready once for all aims.

use super::dial::Aim;
use super::factor::Factor;
use super::integers::{self, Made};
use super::{loss, planes, steps, vectors};
use crate::method::{Codec, Method, rotation_block};
use benben_codec::check_finite;
use benben_decode::hadamard_rows;
use benben_format::{EncodedLeaf, Error, Expr, Result, in_memory, matrix};
use std::borrow::Cow;

/// How much errors of a matrix count: `sum over rows r of rows_r * e_r H e_r^T`.
#[derive(Debug, Clone, Copy)]
pub struct Metric<'a> {
    /// H: the mean of `x x^T` over inputs x of the layer, columns x columns, row-major.
    pub second_moment: &'a [f32],
    /// Importance of each output; none: all alike.
    pub rows: Option<&'a [f32]>,
}

/// How a matrix is made ready.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Seed of a randomized Hadamard transform of rows, where one is wanted and the columns have a power of two.
    pub rotation: Option<u64>,
    /// Whether columns have steps of their own, by water-filling; else only feedback tells them apart.
    pub steps: bool,
    /// Part of the mean diagonal of the second moment that is added to its diagonal: directions that calibration did not
    /// show keep a cost.
    pub damping: f64,
    /// Of what is random in training codebooks.
    pub seed: u64,
}

impl Options {
    /// What `method` asks for, `seed` being that of everything random.
    #[must_use]
    pub fn of(method: &Method, seed: u64) -> Self {
        Self { rotation: method.rotate.then_some(seed), steps: !method.even, seed, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { rotation: None, steps: true, damping: 0.01, seed: 0 }
    }
}

/// What coding a matrix came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Stored bits for each weight, factors and side information included.
    pub bits_per_weight: f64,
    /// Squared error relative to the squared norm of the weights.
    pub relative_mse: f64,
    /// Loss of the decoded matrix, relative to that of a matrix of zeros.
    pub loss: f64,
    /// The same, absolute: `sum over rows r of rows_r * e_r H e_r^T`.
    pub error: f64,
    /// Where the dial was, see [`Aim::Dial`].
    pub dial: f64,
}

/// Columns of a smaller factor are few, and so loud that they are made coarser before rows are.
const LOUD: f32 = 0.25;

/// A matrix and its metric, factored.
pub struct Problem<'a> {
    pub(super) weights: Cow<'a, [f32]>,
    pub(super) shape: Vec<u64>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    moment: Cow<'a, [f32]>,
    importance: Option<&'a [f32]>,
    /// Seed and block of the rotation that weights and moment are in.
    rotation: Option<(u64, u32)>,
    /// Loss of a matrix of zeros, and its squared norm.
    energy: (f64, f64),
    /// Weights in units of their rows' factors, column by column, and the largest of each column.
    pub(super) scaled: Vec<f32>,
    largest: Vec<f32>,
    /// The largest weight of each row, in units of the factors of its column, columns of far finer steps left aside.
    farthest: Vec<f32>,
    /// As [`Factor::feedback`] gives it.
    pub(super) feedback: Vec<f32>,
    pub(super) row_factors: Vec<f32>,
    pub(super) column_factors: Vec<f32>,
    /// Square root of what an error of 1, in units of the factors of its row and its column, costs.
    pub(super) unit: f64,
    /// Of everything random in codebooks.
    pub(super) seed: u64,
}

impl<'a> Problem<'a> {
    /// The matrix `weights` of `shape` under `metric`.
    ///
    /// # Errors
    /// InvalidArgument where they do not fit each other, or a value is not finite.
    pub fn new(weights: &'a [f32], shape: &[u64], metric: &Metric<'a>, options: Options) -> Result<Self> {
        check_finite(weights, shape)?;
        let (rows, columns) = matrix(shape)?;
        let (rows, columns) = (in_memory(rows)?, in_memory(columns)?);
        if weights.is_empty() {
            return Err(Error::invalid(format!("shape {shape:?} has no weights to quantize")));
        }
        let importance = metric.rows;
        if let Some(of) = importance {
            let fits = |w: &f32| w.is_finite() && *w >= 0.0;
            if of.len() != rows || !of.iter().all(fits) {
                let found = of.len();
                return Err(Error::invalid(format!(
                    "importance of {found} outputs for {rows} rows: expected one number from 0 on for each"
                )));
            }
        }
        let (mut weights, mut moment) = (Cow::Borrowed(weights), Cow::Borrowed(metric.second_moment));
        let rotation = match options.rotation {
            Some(seed) => rotation_block(shape)?.map(|block| (seed, block)),
            None => None,
        };
        if moment.len() != columns * columns {
            let found = moment.len();
            return Err(Error::invalid(format!("a second moment of {found} values for {columns} columns")));
        }
        if let Some((seed, block)) = rotation {
            hadamard_rows(weights.to_mut(), columns, seed, block as usize);
            // Rows, then what were columns: the moment of rotated inputs.
            for _ in 0..2 {
                hadamard_rows(moment.to_mut(), columns, seed, block as usize);
                let turned = (0..columns * columns).map(|i| moment[i % columns * columns + i / columns]);
                moment = Cow::Owned(turned.collect());
            }
        }
        if !(options.damping > 0.0 && options.damping.is_finite()) {
            return Err(Error::invalid(format!("damping {}, expected a positive number", options.damping)));
        }
        let factor = Factor::new(&moment, columns, options.damping)?;
        let diagonal: Vec<f64> = factor.diagonal().collect();
        let (mut column_factors, unit) = steps::factors(&diagonal, rows);
        if !options.steps {
            column_factors.fill(1.0);
        }
        let (row_factors, row_unit) = match importance {
            Some(of) => {
                let sizes: Vec<f64> = of.iter().map(|&w| f64::from(w).sqrt()).collect();
                steps::factors(&sizes, columns)
            }
            None => (vec![1.0; rows], 1.0),
        };
        let mut scaled = vec![0f32; weights.len()];
        let mut farthest = vec![0f32; rows];
        for (j, own) in scaled.chunks_mut(rows).enumerate() {
            let column = weights.iter().skip(j).step_by(columns);
            own.iter_mut().zip(column).zip(&row_factors).for_each(|((o, w), r)| *o = w / r);
            let factor = column_factors[j];
            if factor >= LOUD {
                let reached = own.iter().zip(&row_factors).map(|(x, r)| (x * r / factor).abs());
                farthest.iter_mut().zip(reached).for_each(|(most, x)| *most = most.max(x));
            }
        }
        let norm = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        Ok(Self {
            energy: (loss::loss(&weights, columns, &moment, importance), norm),
            weights,
            shape: shape.into(),
            rows,
            columns,
            moment,
            importance,
            rotation,
            largest: largest(&scaled, rows),
            scaled,
            farthest,
            feedback: factor.feedback(),
            row_factors,
            column_factors,
            unit: unit * row_unit,
            seed: options.seed,
        })
    }

    /// The matrix for a quantizer whose symbols reach so far, where the factors of row and column are 1: factors are made as
    /// large as it takes. Rows that count more than most lose their lead first, so that others still gain by finer steps;
    /// then columns are made coarser. A table of 151,936 words, of which a text of code uses few, gets 4.25 bits for each
    /// weight where that was asked for, and 2.96 by columns alone.
    pub(super) fn within(&self, reach: f32) -> Within<'_> {
        let leads = self.row_factors.iter().map(|factor| factor.max(1.0));
        let needed = steps::within(&self.row_factors, &self.farthest, reach);
        let rows: Vec<f32> = needed.into_iter().zip(leads).map(|(needed, most)| needed.min(most)).collect();
        if rows == self.row_factors {
            let columns = steps::within(&self.column_factors, &self.largest, reach);
            return Within { scaled: Cow::Borrowed(&self.scaled), rows, columns };
        }
        let mut scaled = self.scaled.clone();
        let ratios: Vec<f32> = self.row_factors.iter().zip(&rows).map(|(before, now)| before / now).collect();
        for column in scaled.chunks_mut(self.rows) {
            column.iter_mut().zip(&ratios).for_each(|(x, ratio)| *x *= ratio);
        }
        let columns = steps::within(&self.column_factors, &largest(&scaled, self.rows), reach);
        Within { scaled: Cow::Owned(scaled), rows, columns }
    }

    /// Codes the matrix. Of the method, the codec and its parameters count; its own target and `rotate` do not.
    ///
    /// # Errors
    /// Unsupported where the codec has no form with feedback, or not for this shape; InvalidArgument for an aim that is
    /// none.
    pub fn code(&self, method: &Method, aim: Aim) -> Result<(Expr<EncodedLeaf>, Outcome)> {
        aim.check()?;
        let made = match method.codec {
            Codec::Scalar => integers::scalar(self, aim)?,
            Codec::Trellis => integers::trellis(self, aim)?,
            Codec::Rvq | Codec::Pvq => vectors::vectors(self, method, aim)?,
            Codec::Ternary => planes::ternary(self, aim)?,
            other => {
                return Err(Error::unsupported(format!("codec {} with feedback", other.name()))
                    .with_hint("scalar, trellis, pvq, rvq and ternary have it"));
            }
        };
        let outcome = self.outcome(&made)?;
        Ok((self.expression(made)?, outcome))
    }

    /// Bits for each weight of leaves together with the factors.
    pub(super) fn bits(&self, leaves: &[EncodedLeaf], rows: &[f32], columns: &[f32]) -> Result<f64> {
        let (rows, columns) = (steps::stored(rows)?, steps::stored(columns)?);
        let factors = [rows, columns].into_iter().flatten();
        let bytes: u64 = factors
            .flat_map(|e| e.leaves().into_iter().map(EncodedLeaf::stored_bytes).collect::<Vec<_>>())
            .sum();
        let leaves: u64 = leaves.iter().map(EncodedLeaf::stored_bytes).sum();
        Ok((bytes + leaves) as f64 * 8.0 / self.weights.len() as f64)
    }

    /// The dial at which each weight errs by its part of a relative loss, at high rates.
    pub(super) fn dial_at(&self, loss: f64) -> f64 {
        let each = loss * self.energy.0 / self.weights.len() as f64;
        (2.0 * std::f64::consts::LN_2 * each).max(f64::MIN_POSITIVE).log2().clamp(-200.0, 200.0)
    }

    /// What the decoded matrix costs.
    pub(super) fn outcome(&self, made: &Made) -> Result<Outcome> {
        let Made { leaves, rows, columns, dial } = made;
        let mut stored = vec![0f32; self.weights.len()];
        for leaf in leaves {
            let mut own = vec![0f32; stored.len()];
            benben_codec::decode(leaf, 0..own.len() as u64, &mut own)?;
            stored.iter_mut().zip(own).for_each(|(sum, v)| *sum += v);
        }
        let turned = is_turned(leaves);
        let mut errors = self.weights.to_vec();
        for (i, (row, r)) in errors.chunks_mut(self.columns).zip(rows).enumerate() {
            for (j, (w, c)) in row.iter_mut().zip(columns).enumerate() {
                let at = if turned { j * self.rows + i } else { i * self.columns + j };
                *w -= stored[at] * r * c;
            }
        }
        let error = loss::loss(&errors, self.columns, &self.moment, self.importance);
        let squared: f64 = errors.iter().map(|&e| f64::from(e) * f64::from(e)).sum();
        let relative = |x: f64, of: f64| if of > 0.0 { x / of } else { 0.0 };
        Ok(Outcome {
            bits_per_weight: self.bits(leaves, rows, columns)?,
            relative_mse: relative(squared, self.energy.1),
            loss: relative(error, self.energy.0),
            error,
            dial: *dial,
        })
    }

    /// The expression around leaves.
    fn expression(&self, Made { leaves, rows, columns, .. }: Made) -> Result<Expr<EncodedLeaf>> {
        let turned = is_turned(&leaves);
        let mut terms: Vec<_> = leaves.into_iter().map(Expr::Leaf).collect();
        let mut of = if terms.len() == 1 { terms.remove(0) } else { Expr::Sum(terms) };
        if turned {
            of = Expr::Transpose(Box::new(of));
        }
        let (rows, columns) = (steps::stored(&rows)?, steps::stored(&columns)?);
        if rows.is_some() || columns.is_some() {
            of = Expr::Scale { rows, columns, of: Box::new(of) };
        }
        if let Some((seed, block)) = self.rotation {
            of = Expr::Rotate { seed, block, of: Box::new(of) };
        }
        Ok(of)
    }
}

/// A matrix all of whose weights symbols reach.
pub(super) struct Within<'a> {
    /// Weights in units of the factors of their rows, column by column.
    pub(super) scaled: Cow<'a, [f32]>,
    pub(super) rows: Vec<f32>,
    pub(super) columns: Vec<f32>,
}

/// The largest of each column.
fn largest(scaled: &[f32], rows: usize) -> Vec<f32> {
    scaled.chunks(rows).map(|c| c.iter().fold(0f32, |m, x| m.max(x.abs()))).collect()
}

/// Whether rows of the leaves are columns of the matrix.
fn is_turned(leaves: &[EncodedLeaf]) -> bool {
    let turned = [Codec::Trellis.name(), Codec::Rvq.name(), Codec::Pvq.name()];
    leaves.iter().any(|leaf| turned.contains(&&*leaf.spec.codec))
}
