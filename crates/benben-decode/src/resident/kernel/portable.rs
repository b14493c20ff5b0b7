//! The kernels in plain Rust. Inlined into functions with more instructions, the same text is vectorized for these.

use super::{BLOCK, View, block_bytes};
use half::{bf16, f16};
use std::ops::Range;

/// Sums that run side by side.
const SUMS: usize = 32;

/// See [`Path::dots`](super::Path::dots).
#[inline(always)]
pub(super) fn dots(view: View<'_>, rows: Range<usize>, x: &[f32], out: &mut [f32]) {
    let columns = x.len();
    if let View::Dense(values) = view {
        for (row, out) in rows.zip(out) {
            *out = dot(&values[row * columns..(row + 1) * columns], x);
        }
        return;
    }
    let mut values = vec![0.0; columns];
    for (row, out) in rows.zip(out) {
        expand_row(view, row, &mut values);
        *out = dot(&values, x);
    }
}

/// See [`Path::expand`](super::Path::expand).
#[inline(always)]
pub(super) fn expand(view: View<'_>, rows: Range<usize>, columns: usize, out: &mut [f32]) {
    for (row, out) in rows.zip(out.chunks_mut(columns.max(1))) {
        expand_row(view, row, out);
    }
}

#[inline(always)]
fn dot(w: &[f32], x: &[f32]) -> f32 {
    let mut sums = [0f32; SUMS];
    let (whole, rest) = (w.chunks_exact(SUMS), w.len() / SUMS * SUMS);
    for (w, x) in whole.zip(x.chunks_exact(SUMS)) {
        for i in 0..SUMS {
            sums[i] += w[i] * x[i];
        }
    }
    let tail: f32 = w[rest..].iter().zip(&x[rest..]).map(|(w, x)| w * x).sum();
    sums.iter().sum::<f32>() + tail
}

#[inline(always)]
fn expand_row(view: View<'_>, row: usize, out: &mut [f32]) {
    let columns = out.len();
    let own = row * columns..(row + 1) * columns;
    match view {
        View::Dense(values) => out.copy_from_slice(&values[own]),
        View::F16(bits) => out.iter_mut().zip(&bits[own]).for_each(|(v, &b)| *v = f16::from_bits(b).to_f32()),
        View::Bf16(bits) => out.iter_mut().zip(&bits[own]).for_each(|(v, &b)| *v = bf16::from_bits(b).to_f32()),
        View::Codes { codes, table, width } => {
            let bytes = block_bytes(width);
            let row = &codes[row * columns.div_ceil(BLOCK) * bytes..];
            for (block, out) in row.chunks_exact(bytes).zip(out.chunks_mut(BLOCK)) {
                let mut code = [0u8; BLOCK];
                for i in 0..32 {
                    code[i] = block[i] & 15;
                    code[32 + i] = block[i] >> 4;
                }
                for (plane, bits) in block[32..].chunks_exact(8).enumerate() {
                    for (i, code) in code.iter_mut().enumerate() {
                        *code |= (bits[i / 8] >> (i % 8) & 1) << (4 + plane);
                    }
                }
                out.iter_mut().zip(code).for_each(|(v, c)| *v = table[usize::from(c)]);
            }
        }
    }
}
