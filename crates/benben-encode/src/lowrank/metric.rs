//! What an error of a matrix costs: `||S_L E S_R||^2`, S by its square.

use super::algebra::{eigen, matrix, product};
use benben_format::{Error, Result};
use faer::{Mat, MatRef};
use std::borrow::Cow;

/// The square S² of one side's weighing.
#[derive(Debug, Clone, PartialEq)]
pub enum Side<'a> {
    /// S = 1.
    Plain,
    /// S² is diagonal: one number from 0 on for each row or column.
    Diagonal(&'a [f32]),
    /// S² is symmetric and has no negative eigenvalues: n x n values, row-major.
    Moment(Cow<'a, [f32]>),
}

/// What errors cost.
///
/// | constructor | S_L | S_R | paper |
/// |---|---|---|---|
/// | [`plain`](Self::plain) | 1 | 1 | truncated SVD (Eckart & Young 1936) |
/// | [`fisher`](Self::fisher) | diag(F_rows)^(1/2) | diag(F_columns)^(1/2) | FWSVD (Hsu et al. 2022, section 3.2) |
/// | [`inputs`](Self::inputs) | 1, or diag(importance)^(1/2) | C^(1/2), C = E[x xᵀ] | LoRD (Kaushal et al. 2023); EoRA on a residual (Liu et al. 2024) |
/// | [`outputs`](Self::outputs) | 1 | (C - μ μᵀ)^(1/2) | Atomic Feature Mimicking (Yu & Bouganis 2023) |
///
/// Projecting outputs on their principal directions, those of W C Wᵀ, *is* the best rank under C^(1/2): with
/// `W C^(1/2) = U S Vᵀ` the principal directions are U, and `U Uᵀ W C^(1/2)` is the truncated SVD. So LoRD's and AFM's ways
/// differ by the mean alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric<'a> {
    /// Of rows: outputs.
    pub rows: Side<'a>,
    /// Of columns: inputs.
    pub columns: Side<'a>,
    /// Mean input where `columns` is centred: what errors do to it is made good by a bias.
    pub mean: Option<&'a [f32]>,
}

impl<'a> Metric<'a> {
    /// All errors alike.
    #[must_use]
    pub const fn plain() -> Self {
        Self { rows: Side::Plain, columns: Side::Plain, mean: None }
    }

    /// By mean squared gradients, summed over the other axis: of rows, of columns, or of both.
    #[must_use]
    pub fn fisher(rows: Option<&'a [f32]>, columns: Option<&'a [f32]>) -> Self {
        let side = |of: Option<&'a [f32]>| of.map_or(Side::Plain, Side::Diagonal);
        Self { rows: side(rows), columns: side(columns), mean: None }
    }

    /// By the output, whose inputs have the second moment `moment`; rows count by `rows`.
    #[must_use]
    pub fn inputs(moment: &'a [f32], rows: Option<&'a [f32]>) -> Self {
        let rows = rows.map_or(Side::Plain, Side::Diagonal);
        Self { rows, columns: Side::Moment(Cow::Borrowed(moment)), mean: None }
    }

    /// By the output less its mean: the covariance of inputs is `moment - mean meanᵀ`, and factors come with the bias
    /// that makes good the mean of what they leave out.
    #[must_use]
    pub fn outputs(moment: &[f32], mean: &'a [f32]) -> Self {
        let n = mean.len().max(1);
        let covariance = moment.iter().enumerate().map(|(i, c)| c - mean[(i / n).min(n - 1)] * mean[i % n]);
        Self { rows: Side::Plain, columns: Side::Moment(Cow::Owned(covariance.collect())), mean: Some(mean) }
    }
}

impl Side<'_> {
    /// Refuses what does not belong to `n` rows or columns, or is not finite.
    pub(super) fn check(&self, n: usize, axis: &str) -> Result<()> {
        let (found, expected) = match self {
            Side::Plain => return Ok(()),
            Side::Diagonal(of) => {
                if let Some(bad) = of.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
                    return Err(Error::invalid(format!(
                        "{bad} weighs one of {axis}, expected a number from 0 on"
                    )));
                }
                (of.len(), Some(n))
            }
            Side::Moment(of) => {
                if of.iter().any(|x| !x.is_finite()) {
                    return Err(Error::invalid(format!(
                        "the moment of {axis} holds values that are not finite"
                    )));
                }
                (of.len(), n.checked_mul(n))
            }
        };
        if Some(found) == expected {
            return Ok(());
        }
        Err(Error::invalid(format!("a metric of {found} values for {n} {axis}")))
    }

    /// `of S²`.
    pub(super) fn right(&self, of: MatRef<'_, f64>) -> Mat<f64> {
        let n = of.ncols();
        match self {
            Side::Plain => of.to_owned(),
            Side::Diagonal(d) => Mat::from_fn(of.nrows(), n, |i, j| of[(i, j)] * f64::from(d[j])),
            Side::Moment(m) => product(of, matrix(m, n, n).as_ref()),
        }
    }

    /// `Rᵀ of` with `R Rᵀ = S²`.
    pub(super) fn root(&self, of: MatRef<'_, f64>) -> Result<Mat<f64>> {
        let n = of.nrows();
        match self {
            Side::Plain => Ok(of.to_owned()),
            Side::Diagonal(d) => {
                let roots: Vec<f64> = d.iter().map(|x| f64::from(*x).sqrt()).collect();
                Ok(Mat::from_fn(n, of.ncols(), |i, j| of[(i, j)] * roots[i]))
            }
            Side::Moment(m) => Ok(product(root(m, n)?.transpose(), of)),
        }
    }
}

/// R with `R Rᵀ` the moment, n x k. Directions of which f32 sums tell nothing, eigenvalues below n ε of the largest, are
/// left out. That is judged where all inputs have the size 1, since single inputs of language models are thousands of
/// times as loud as others, and next to those all others would be below.
fn root(moment: &[f32], n: usize) -> Result<Mat<f64>> {
    let size = |i: usize| f64::from(moment[i * n + i]).max(0.0).sqrt();
    let sizes: Vec<f64> = (0..n).map(size).collect();
    let inverse: Vec<f64> = sizes.iter().map(|s| if *s > 0.0 { 1.0 / s } else { 0.0 }).collect();
    let normed = Mat::from_fn(n, n, |i, j| f64::from(moment[i * n + j]) * inverse[i] * inverse[j]);
    let (values, vectors) = eigen(normed.as_ref())?;
    let least = n as f64 * f64::from(f32::EPSILON) * values.first().copied().unwrap_or(0.0);
    let kept = values.iter().take_while(|v| **v > least && **v > 0.0).count();
    Ok(Mat::from_fn(n, kept, |i, k| sizes[i] * vectors[(i, k)] * values[k].sqrt()))
}
