//! A matrix in memory, whose rows are multiplied as they lie.

use super::codes::{Codes, Gatherer};
use super::kernel::{Path, View};
use benben_format::{Dtype, Error, Result};
use rayon::prelude::*;
use std::ops::Range;

/// Vectors from which on rows are expanded for a matrix product of their own.
const WIDE: usize = 4;
/// Weights of rows that are expanded at a time: 256 kB as f32, which stays in a core's cache.
const PANEL: usize = 1 << 16;
/// Weights that are worth a hand-over to another thread, at one vector.
const TASK: usize = 1 << 17;

/// Rows and columns of weights.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Dense(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
    Codes(Codes),
}

impl Matrix {
    pub(super) fn dense(rows: usize, columns: usize, values: Vec<f32>) -> Self {
        Self { rows, columns, body: Body::Dense(values) }
    }

    /// Of a dtype's bytes; halves stay halves.
    pub(super) fn from_bytes(rows: usize, columns: usize, dtype: Dtype, bytes: &[u8]) -> Result<Self> {
        let count = rows.checked_mul(columns).filter(|n| n.checked_mul(dtype.size()) == Some(bytes.len()));
        let count = count.ok_or_else(|| {
            Error::invalid(format!("{} bytes for {rows} x {columns} values of {dtype}", bytes.len()))
        })?;
        let bits = || bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        let body = match dtype {
            Dtype::F16 => Body::F16(bits()),
            Dtype::BF16 => Body::Bf16(bits()),
            _ => {
                let mut values = vec![0.0; count];
                dtype.to_f32(bytes, &mut values)?;
                Body::Dense(values)
            }
        };
        Ok(Self { rows, columns, body })
    }

    /// Of weights that are gathered; dense where they take more as codes.
    pub(super) fn gathered(rows: usize, columns: usize, gatherer: Gatherer<'_>) -> Option<Self> {
        Some(Self { rows, columns, body: Body::Codes(gatherer.finish()?) })
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.body {
            Body::Dense(values) => values.len() * 4,
            Body::F16(bits) | Body::Bf16(bits) => bits.len() * 2,
            Body::Codes(codes) => codes.bytes(),
        }
    }

    fn view(&self) -> View<'_> {
        match &self.body {
            Body::Dense(values) => View::Dense(values),
            Body::F16(bits) => View::F16(bits),
            Body::Bf16(bits) => View::Bf16(bits),
            Body::Codes(codes) => codes.view(),
        }
    }

    /// Rows as f32, one after the other.
    pub(super) fn expand(&self, rows: Range<usize>, out: &mut [f32]) {
        Path::fastest().expand(self.view(), rows.clone(), self.columns, out);
        if let Body::Codes(codes) = &self.body {
            codes.restore(rows.start, out);
        }
    }

    /// `out[i] = row (rows.start + i) * x`.
    fn dots(&self, rows: Range<usize>, x: &[f32], out: &mut [f32]) {
        Path::fastest().dots(self.view(), rows.clone(), x, out);
        if let Body::Codes(codes) = &self.body {
            codes.correct(rows.start, x, out);
        }
    }

    /// Products of several matrices with the same vectors, each into its part of `out`, `[vectors, rows]`.
    pub(super) fn products(matrices: &[&Self], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) {
        if vectors == 0 {
            return;
        }
        if vectors < WIDE {
            for v in 0..vectors {
                let outs = matrices.iter().zip(out.iter_mut()).map(|(m, o)| &mut o[v * m.rows..(v + 1) * m.rows]);
                Self::vector(matrices, x, v, outs.collect());
            }
            return;
        }
        for (matrix, out) in matrices.iter().zip(out) {
            matrix.panels(x, vectors, out);
        }
    }

    /// One vector: rows of all matrices are dealt to the threads.
    fn vector(matrices: &[&Self], x: &[f32], v: usize, outs: Vec<&mut [f32]>) {
        let mut tasks = Vec::new();
        for (matrix, out) in matrices.iter().zip(outs) {
            let x = &x[v * matrix.columns..(v + 1) * matrix.columns];
            let rows = (TASK / matrix.columns.max(1)).max(1);
            tasks.extend(out.chunks_mut(rows).enumerate().map(|(i, out)| (*matrix, x, i * rows, out)));
        }
        let one = |(matrix, x, first, out): (&Self, &[f32], usize, &mut [f32])| {
            matrix.dots(first..first + out.len(), x, out);
        };
        if tasks.len() < 2 {
            tasks.into_iter().for_each(one);
        } else {
            tasks.into_par_iter().for_each(one);
        }
    }

    /// Many vectors: a panel of rows is expanded once, and multiplied with all of them.
    fn panels(&self, x: &[f32], vectors: usize, out: &mut [f32]) {
        let rows = (PANEL / self.columns.max(1)).clamp(1, self.rows.max(1));
        let firsts: Vec<usize> = (0..self.rows).step_by(rows).collect();
        let panel = |first: usize| {
            let count = rows.min(self.rows - first);
            let mut weights = vec![0.0; count * self.columns];
            self.expand(first..first + count, &mut weights);
            let mut products = vec![0.0; count * vectors];
            multiply(x, vectors, &weights, count, self.columns, &mut products);
            (first, count, products)
        };
        // As many panels at a time as threads: what they hold is bounded.
        for firsts in firsts.chunks(4 * rayon::current_num_threads()) {
            let panels: Vec<(usize, usize, Vec<f32>)> = firsts.par_iter().map(|&first| panel(first)).collect();
            for (first, count, products) in panels {
                for (out, products) in out.chunks_mut(self.rows).zip(products.chunks(count)) {
                    out[first..first + count].copy_from_slice(products);
                }
            }
        }
    }
}

/// `out[v][r] = sum over k of x[v][k] * w[r][k]`, on this thread.
fn multiply(x: &[f32], vectors: usize, w: &[f32], rows: usize, columns: usize, out: &mut [f32]) {
    let x = faer::MatRef::from_row_major_slice(x, vectors, columns);
    let w = faer::MatRef::from_row_major_slice(w, rows, columns);
    let out = faer::MatMut::from_row_major_slice_mut(out, vectors, rows);
    faer::linalg::matmul::matmul(out, faer::Accum::Replace, x, w.transpose(), 1.0, faer::Par::Seq);
}
