//! The two inner loops of feedback: errors carried into later columns, and the trailing update of a Cholesky factor.
//!
//! Each element takes its terms one after the other in the order of their index, a product and a sum rounded by
//! themselves: no width of a register and no number of threads changes a bit.

#![allow(
    unsafe_code,
    reason = "functions compiled for AVX2 and AVX-512 are called where those have been detected"
)]

use std::ops::Range;

/// Rows of the matrix side by side; strides are multiples of it.
pub(super) const LANES: usize = 16;
/// Sums that stay in registers: 4 of AVX-512.
const TILE: usize = 64;

/// A function and the same compiled for wider registers.
macro_rules! compiled {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $portable:ident) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) {
                    $portable($($arg),*);
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) {
                    $portable($($arg),*);
                }
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx2") {
                    // SAFETY: the features that the function is compiled for have been detected.
                    return unsafe { avx512($($arg),*) };
                }
                if has!("avx2") {
                    // SAFETY: the feature that the function is compiled for has been detected.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $portable($($arg),*);
        }
    };
}

compiled! {
    /// `sums[i] += errors[k * sums.len() + i] * factors[k]`, for k from 0 on. The length of `sums` is a multiple of 16.
    add(sums: &mut [f32], errors: &[f32], factors: &[f32]) = add_portable
}

compiled! {
    /// [`add`] for each of the `columns`: column l, at `l * stride` of `sums`, has the factors
    /// `factors[l * width + first ..]`, as many as there are errors.
    add_all(
        sums: &mut [f32], stride: usize, columns: Range<usize>, errors: &[f32], factors: &[f32], width: usize,
        first: usize
    ) = add_all_portable
}

compiled! {
    /// `rows[r * width + c] -= sum over k of left[r * left.len() / count + k] * right[k * width + c]`, for each of the
    /// `count` rows and each c below `limit + r`.
    trailing(rows: &mut [f64], width: usize, left: &[f64], right: &[f64], count: usize, limit: usize)
        = trailing_portable
}

#[inline(always)]
fn add_tile<const N: usize>(sums: &mut [f32], errors: &[f32], stride: usize, factors: &[f32]) {
    let Some(own) = sums.first_chunk_mut::<N>() else { return };
    let mut acc = *own;
    for (&factor, errors) in factors.iter().zip(errors.chunks(stride)) {
        let Some(errors) = errors.first_chunk::<N>() else { return };
        for i in 0..N {
            acc[i] += errors[i] * factor;
        }
    }
    *own = acc;
}

#[inline(always)]
fn add_portable(sums: &mut [f32], errors: &[f32], factors: &[f32]) {
    let stride = sums.len();
    let whole = stride / TILE * TILE;
    for at in (0..whole).step_by(TILE) {
        add_tile::<TILE>(&mut sums[at..], &errors[at.min(errors.len())..], stride, factors);
    }
    for at in (whole..stride).step_by(LANES) {
        add_tile::<LANES>(&mut sums[at..], &errors[at.min(errors.len())..], stride, factors);
    }
}

#[inline(always)]
fn add_all_portable(
    sums: &mut [f32],
    stride: usize,
    columns: Range<usize>,
    errors: &[f32],
    factors: &[f32],
    width: usize,
    first: usize,
) {
    let count = errors.len() / stride.max(1);
    let whole = stride / TILE * TILE;
    // Errors of a tile stay in the first cache for all columns.
    for at in (0..whole).step_by(TILE) {
        for l in columns.clone() {
            let factors = &factors[l * width + first..][..count];
            add_tile::<TILE>(&mut sums[l * stride + at..], &errors[at..], stride, factors);
        }
    }
    for at in (whole..stride).step_by(LANES) {
        for l in columns.clone() {
            let factors = &factors[l * width + first..][..count];
            add_tile::<LANES>(&mut sums[l * stride + at..], &errors[at..], stride, factors);
        }
    }
}

#[inline(always)]
fn trailing_portable(
    rows: &mut [f64],
    width: usize,
    left: &[f64],
    right: &[f64],
    count: usize,
    limit: usize,
) {
    const TILE: usize = 32;
    let inner = left.len() / count.max(1);
    // The columns of a tile stay in the first cache for all rows.
    for at in (0..limit + count).step_by(TILE) {
        for (r, left) in left.chunks(inner.max(1)).enumerate() {
            let end = (limit + r).min(width);
            if at >= end {
                continue;
            }
            let row = &mut rows[r * width..(r + 1) * width];
            if at + TILE <= end {
                let mut acc = [0f64; TILE];
                acc.copy_from_slice(&row[at..at + TILE]);
                for (&l, right) in left.iter().zip(right.chunks(width)) {
                    let Some(right) = right[at..].first_chunk::<TILE>() else { return };
                    for i in 0..TILE {
                        acc[i] -= l * right[i];
                    }
                }
                row[at..at + TILE].copy_from_slice(&acc);
            } else {
                for c in at..end {
                    for (&l, right) in left.iter().zip(right.chunks(width)) {
                        row[c] -= l * right[c];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * i % 8191) as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn wide_registers_add_the_same() {
        for (stride, count) in [(16, 3), (64, 0), (96, 5), (208, 64)] {
            let (errors, factors) = (numbers(stride * count), numbers(200 * 7));
            let mut twins = [numbers(stride), numbers(stride)];
            add(&mut twins[0], &errors, &factors[..count]);
            add_portable(&mut twins[1], &errors, &factors[..count]);
            assert_eq!(twins[0], twins[1]);
            for (i, sum) in twins[0].iter().enumerate() {
                let plain =
                    (0..count).fold(numbers(stride)[i], |s, k| s + errors[k * stride + i] * factors[k]);
                assert_eq!(plain, *sum);
            }
            let mut twins = [numbers(stride * 7), numbers(stride * 7)];
            add_all(&mut twins[0], stride, 2..7, &errors, &factors, 200, 9);
            add_all_portable(&mut twins[1], stride, 2..7, &errors, &factors, 200, 9);
            assert_eq!(twins[0], twins[1]);
            for l in 2..7 {
                let mut one = numbers(stride * 7)[l * stride..(l + 1) * stride].to_vec();
                add(&mut one, &errors, &factors[l * 200 + 9..][..count]);
                assert_eq!(one, twins[0][l * stride..(l + 1) * stride]);
            }
        }
    }

    #[test]
    fn wide_registers_subtract_the_same() {
        for (width, inner, count, limit) in [(100, 64, 9, 80), (40, 3, 8, 1), (70, 5, 70, 1)] {
            let of = |n: usize| numbers(n).into_iter().map(f64::from).collect::<Vec<f64>>();
            let (left, right) = (of(count * inner), of(inner * width));
            let mut twins = [of(count * width), of(count * width)];
            trailing(&mut twins[0], width, &left, &right, count, limit);
            trailing_portable(&mut twins[1], width, &left, &right, count, limit);
            assert_eq!(twins[0], twins[1]);
            for (i, (found, before)) in twins[0].iter().zip(of(count * width)).enumerate() {
                let (r, c) = (i / width, i % width);
                let product = |s: f64, k: usize| s - left[r * inner + k] * right[k * width + c];
                let plain = if c < limit + r { (0..inner).fold(before, product) } else { before };
                assert_eq!(plain, *found, "{r} {c}");
            }
        }
    }
}
