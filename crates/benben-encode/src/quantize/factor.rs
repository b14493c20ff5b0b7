//! What error feedback needs of a second moment: how much of each column's error later columns cannot make good, and
//! what they have to take over of it.
//!
//! With `H = M M^T`, M upper triangular, the loss `e H e^T` of a row of errors is `sum over j of (sum over i <= j of
//! e_i M_ij)^2`. Columns are coded from the first to the last: column j sees the errors before it, so that its own
//! target is `w_j + sum over i < j of e_i M_ij / M_jj` and its error counts `M_jj^2`. That is the feedback of GPTQ
//! (Frantar et al., arXiv:2210.17323) in the form of QuIP's LDLQ (Chee et al., arXiv:2307.13304).

use super::kernel;
use benben_format::{Error, Result};
use rayon::prelude::*;

/// Times that damping is raised tenfold where the moment is not positive definite.
const ATTEMPTS: usize = 6;
/// Columns that are eliminated together.
const BLOCK: usize = 64;
/// Rows that one thread takes.
const ROWS: usize = 32;

/// The factor M of a damped second moment.
pub(super) struct Factor {
    columns: usize,
    /// `M_kl` at `l * columns + k`, for k up to l: column l of M lies side by side.
    by_column: Vec<f64>,
}

impl Factor {
    /// The factor of `moment`, `columns * columns` values of a symmetric matrix, with `damping` times its mean diagonal added
    /// to the diagonal.
    pub(super) fn new(moment: &[f32], columns: usize, damping: f64) -> Result<Self> {
        let wrong = |what: String| Err(Error::invalid(format!("second moment of {columns} inputs: {what}")));
        if columns == 0 || Some(moment.len()) != columns.checked_mul(columns) {
            return wrong(format!("{} values", moment.len()));
        }
        let mut mean = 0.0;
        for (j, row) in moment.chunks(columns).enumerate() {
            let own = f64::from(row[j]);
            if !row.iter().all(|x| x.is_finite()) || own < 0.0 {
                return wrong(format!("row {j} has a value that is not finite, or below 0 on the diagonal"));
            }
            mean += own / columns as f64;
        }
        // A layer that never saw an input: every direction counts the same.
        let mean = if mean > 0.0 { mean } else { 1.0 };
        for attempt in 0..ATTEMPTS {
            let damping = mean * damping * 10f64.powi(attempt as i32);
            // Columns in reverse: the lower factor of the reversed matrix is the upper one of the matrix.
            let mut a: Vec<f64> = moment.iter().rev().map(|&x| f64::from(x)).collect();
            a.iter_mut().step_by(columns + 1).for_each(|x| *x += damping);
            if cholesky(&mut a, columns) {
                return Ok(Self { columns, by_column: upper(&a, columns) });
            }
        }
        wrong("is far from positive definite".into())
    }

    /// `M_jj` of each column.
    pub(super) fn diagonal(&self) -> impl Iterator<Item = f64> {
        self.by_column.iter().step_by(self.columns + 1).copied()
    }

    /// `M_kl / M_ll` at `l * columns + k`, for k below l: what column l takes over of the error of column k.
    pub(super) fn feedback(&self) -> Vec<f32> {
        let mut factors = vec![0f32; self.by_column.len()];
        let rows = factors.par_chunks_mut(self.columns).zip(self.by_column.par_chunks(self.columns));
        rows.enumerate().for_each(|(l, (out, own))| {
            for (out, m) in out.iter_mut().zip(own).take(l) {
                #[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
                let factor = (m / own[l]) as f32;
                *out = factor;
            }
        });
        factors
    }

    /// Each row t of `rows` becomes `t H^-1`, H damped.
    pub(super) fn solve(&self, rows: &mut [f32]) {
        let n = self.columns;
        rows.par_chunks_mut(n).for_each(|row| {
            let mut t: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            for l in (0..n).rev() {
                let own = &self.by_column[l * n..l * n + l + 1];
                let x = t[l] / own[l];
                t[l] = x;
                t.iter_mut().zip(&own[..l]).for_each(|(t, m)| *t -= m * x);
            }
            for l in 0..n {
                let own = &self.by_column[l * n..l * n + l + 1];
                let sum: f64 = t.iter().zip(&own[..l]).map(|(t, m)| t * m).sum();
                t[l] = (t[l] - sum) / own[l];
            }
            #[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
            row.iter_mut().zip(t).for_each(|(out, t)| *out = t as f32);
        });
    }
}

/// `M_kl` at `l * n + k` from the lower factor of the reversed matrix, `M_kl = L_(n-1-k)(n-1-l)`.
fn upper(lower: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    out.par_chunks_mut(n * ROWS).enumerate().for_each(|(part, out)| {
        // Row by row of L, which lies so: each of its lines serves all columns of this part.
        for k in 0..n {
            let row = &lower[(n - 1 - k) * n..(n - k) * n];
            for (i, out) in out.chunks_mut(n).enumerate() {
                let l = part * ROWS + i;
                if k <= l {
                    out[k] = row[n - 1 - l];
                }
            }
        }
    });
    out
}

/// The lower Cholesky factor of `a`, n x n, in its lower triangle; false where a pivot is not positive.
fn cholesky(a: &mut [f64], n: usize) -> bool {
    for at in (0..n).step_by(BLOCK) {
        let (size, end) = (BLOCK.min(n - at), n.min(at + BLOCK));
        for j in 0..size {
            for i in j..size {
                let product = |k: usize| a[(at + i) * n + at + k] * a[(at + j) * n + at + k];
                let sum = (0..j).fold(a[(at + i) * n + at + j], |s, k| s - product(k));
                if i > j {
                    a[(at + i) * n + at + j] = sum / a[(at + j) * n + at + j];
                } else if sum > 0.0 && sum.is_finite() {
                    a[(at + j) * n + at + j] = sum.sqrt();
                } else {
                    return false;
                }
            }
        }
        let (top, rest) = a.split_at_mut(end * n);
        let block = &top[at * n..];
        rest.par_chunks_mut(n).for_each(|row| {
            for j in 0..size {
                let own = &block[j * n + at..j * n + end];
                let sum = (0..j).fold(row[at + j], |s, k| s - row[at + k] * own[k]);
                row[at + j] = sum / own[j];
            }
        });
        // The panel twice: as rows, and turned round, so that columns of a row lie side by side.
        let width = n - end;
        if width == 0 {
            break;
        }
        let panel: Vec<f64> = rest.chunks(n).flat_map(|row| row[at..end].iter().copied()).collect();
        let mut turned = vec![0.0; size * width];
        for (c, row) in panel.chunks(size).enumerate() {
            row.iter().enumerate().for_each(|(k, &x)| turned[k * width + c] = x);
        }
        rest.par_chunks_mut(n * ROWS).zip(panel.par_chunks(size * ROWS)).enumerate().for_each(
            |(part, (rows, left))| {
                let count = left.len() / size;
                let mut own: Vec<f64> = rows.chunks(n).flat_map(|row| row[end..].iter().copied()).collect();
                kernel::trailing(&mut own, width, left, &turned, count, part * ROWS + 1);
                for (row, own) in rows.chunks_mut(n).zip(own.chunks(width)) {
                    row[end..].copy_from_slice(own);
                }
            },
        );
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment of rank `rank`.
    fn moment(n: usize, rank: usize) -> Vec<f32> {
        let x: Vec<f64> = (0..n * rank).map(|i| (((i * i + 7) % 10_007) as f64 * 0.61).sin()).collect();
        let dot = |i: usize, j: usize| (0..rank).map(|k| x[i * rank + k] * x[j * rank + k]).sum::<f64>();
        #[allow(clippy::cast_possible_truncation, reason = "rounded to f32")]
        (0..n * n).map(|i| (dot(i / n, i % n) / rank as f64) as f32).collect()
    }

    #[test]
    fn the_factor_is_that_of_the_damped_moment() {
        for (n, rank) in [(1, 1), (5, 9), (64, 200), (150, 150), (200, 40)] {
            let moment = moment(n, rank);
            let factor = Factor::new(&moment, n, 0.01).unwrap();
            let mean = (0..n).map(|j| f64::from(moment[j * n + j])).sum::<f64>() / n as f64;
            for i in 0..n {
                for j in 0..n {
                    let at = |k: usize, l: usize| if k <= l { factor.by_column[l * n + k] } else { 0.0 };
                    let product: f64 = (0..n).map(|k| at(i, k) * at(j, k)).sum();
                    let damped = f64::from(moment[i * n + j]) + if i == j { 0.01 * mean } else { 0.0 };
                    assert!((product - damped).abs() < 1e-9 * mean * n as f64, "{n}: {i} {j}");
                }
            }
            let diagonal: Vec<f64> = factor.diagonal().collect();
            assert!((0..n).all(|j| diagonal[j] == factor.by_column[j * n + j] && diagonal[j] > 0.0));
            let feedback = factor.feedback();
            for l in 0..n {
                for k in 0..l {
                    let expected = factor.by_column[l * n + k] / diagonal[l];
                    assert!((f64::from(feedback[l * n + k]) - expected).abs() <= 1e-6 * expected.abs());
                }
            }
        }
    }

    #[test]
    fn moments_that_are_none_are_refused_and_dead_layers_are_not() {
        assert!(Factor::new(&[1.0; 5], 2, 0.01).is_err());
        assert!(Factor::new(&[1.0, f32::NAN, f32::NAN, 1.0], 2, 0.01).is_err());
        assert!(Factor::new(&[-1.0, 0.0, 0.0, 1.0], 2, 0.01).is_err());
        assert!(Factor::new(&[1.0, 1e9, 1e9, 1.0], 2, 0.01).is_err());
        let dead = Factor::new(&[0.0; 9], 3, 0.01).unwrap();
        assert!(dead.diagonal().all(|m| m > 0.0));
        // Not quite positive definite, as rounding leaves it: more damping.
        Factor::new(&[1.0, 1.05, 1.05, 1.0], 2, 0.01).unwrap();
    }
}
