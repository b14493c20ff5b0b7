//! Products and eigenvectors in f64, over `faer` without its threads: parts of a fixed size go to threads here, so that
//! results do not depend on how many there are. They do depend on the processor's vectors, in the last of 53 bits: factors
//! are rounded to some bits for each entry afterwards, so that a pack differs only where an entry lies on an edge.

use benben_format::{Error, Result};
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

/// Columns of a product that one thread computes.
const TOGETHER: usize = 48;

/// `a b`.
pub(super) fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let (rows, columns) = (a.nrows(), b.ncols());
    let starts: Vec<usize> = (0..columns).step_by(TOGETHER).collect();
    let parts: Vec<Mat<f64>> = starts
        .par_iter()
        .map(|&start| {
            let right = b.subcols(start, TOGETHER.min(columns - start));
            let mut part = Mat::zeros(rows, right.ncols());
            matmul(part.as_mut(), Accum::Replace, a, right, 1.0, Par::Seq);
            part
        })
        .collect();
    let mut out = Mat::zeros(rows, columns);
    for (start, part) in starts.into_iter().zip(parts) {
        out.subcols_mut(start, part.ncols()).copy_from(part);
    }
    out
}

/// Row-major values as a matrix.
pub(super) fn matrix(values: &[f32], rows: usize, columns: usize) -> Mat<f64> {
    Mat::from_fn(rows, columns, |i, j| f64::from(values[i * columns + j]))
}

/// Eigenvalues of a symmetric matrix, largest first, and its eigenvectors as columns.
pub(super) fn eigen(of: MatRef<'_, f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = of.nrows();
    let (mut values, mut vectors) = (Diag::zeros(n), Mat::zeros(n, n));
    let scratch =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, faer::prelude::default());
    let mut memory = MemBuffer::new(scratch);
    self_adjoint_evd(
        of,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        faer::prelude::default(),
    )
    .map_err(|_| {
        Error::invalid(format!("eigenvalues of {n} x {n} did not converge: is a value no number?"))
    })?;
    let descending = Mat::from_fn(n, n, |i, j| vectors[(i, n - 1 - j)]);
    Ok((values.column_vector().iter().rev().copied().collect(), descending))
}
