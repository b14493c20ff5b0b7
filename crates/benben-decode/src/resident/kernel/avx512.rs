//! The kernels for x86-64 with AVX-512: tables of 16 to 256 values stay in registers, a code is a permutation's index.
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]

use super::{BLOCK, View, block_bytes};
use std::arch::x86_64::*;
use std::ops::Range;

/// See [`Path::dots`](super::Path::dots), which has checked sizes.
pub(super) fn dots(view: View<'_>, rows: Range<usize>, x: &[f32], out: &mut [f32]) {
    // SAFETY: `Path::available` has found AVX-512 F, BW and VL; the caller has checked that the rows lie within the
    // view, that a table has 2^width values, and that `out` has one place for each row.
    unsafe {
        match view {
            View::Dense(values) => dots_of(Dense(values.as_ptr()), rows, x, out),
            View::F16(bits) => dots_of(Half(bits.as_ptr()), rows, x, out),
            View::Bf16(bits) => dots_of(Brain(bits.as_ptr()), rows, x, out),
            View::Codes { codes, table, width: 4 } => dots_of(Codes::<1, 4>::new(codes, table), rows, x, out),
            View::Codes { codes, table, width: 5 } => dots_of(Codes::<2, 5>::new(codes, table), rows, x, out),
            View::Codes { codes, table, width: 6 } => dots_of(Codes::<4, 6>::new(codes, table), rows, x, out),
            View::Codes { codes, table, width: 7 } => dots_of(Codes::<8, 7>::new(codes, table), rows, x, out),
            View::Codes { codes, table, .. } => dots_of(Codes::<16, 8>::new(codes, table), rows, x, out),
        }
    }
}

/// See [`Path::expand`](super::Path::expand), which has checked sizes.
pub(super) fn expand(view: View<'_>, rows: Range<usize>, columns: usize, out: &mut [f32]) {
    // SAFETY: as in `dots`, with one place in `out` for each weight.
    unsafe {
        match view {
            View::Dense(values) => expand_of(Dense(values.as_ptr()), rows, columns, out),
            View::F16(bits) => expand_of(Half(bits.as_ptr()), rows, columns, out),
            View::Bf16(bits) => expand_of(Brain(bits.as_ptr()), rows, columns, out),
            View::Codes { codes, table, width: 4 } => expand_of(Codes::<1, 4>::new(codes, table), rows, columns, out),
            View::Codes { codes, table, width: 5 } => expand_of(Codes::<2, 5>::new(codes, table), rows, columns, out),
            View::Codes { codes, table, width: 6 } => expand_of(Codes::<4, 6>::new(codes, table), rows, columns, out),
            View::Codes { codes, table, width: 7 } => expand_of(Codes::<8, 7>::new(codes, table), rows, columns, out),
            View::Codes { codes, table, .. } => expand_of(Codes::<16, 8>::new(codes, table), rows, columns, out),
        }
    }
}

/// Weights that can be had by blocks of [`BLOCK`] columns.
trait Weights: Copy {
    /// Columns `BLOCK * block` to `BLOCK * block + count` of a row, zeros or anything finite after them.
    ///
    /// # Safety
    /// The row and these columns are within the view; AVX-512.
    unsafe fn block(self, row: usize, columns: usize, block: usize, count: usize) -> [__m512; 4];
}

/// The mask of the values of group `i` among `count`.
#[inline(always)]
fn mask(count: usize, i: usize) -> __mmask16 {
    match count.saturating_sub(16 * i) {
        left @ 0..16 => (1u16 << left) - 1,
        _ => u16::MAX,
    }
}

#[derive(Clone, Copy)]
struct Dense(*const f32);

impl Weights for Dense {
    #[inline(always)]
    unsafe fn block(self, row: usize, columns: usize, block: usize, count: usize) -> [__m512; 4] {
        // SAFETY: the caller's; lanes outside the mask are not read.
        unsafe {
            let at = self.0.add(row * columns + block * BLOCK);
            [0, 1, 2, 3].map(|i| _mm512_maskz_loadu_ps(mask(count, i), at.wrapping_add(16 * i)))
        }
    }
}

#[derive(Clone, Copy)]
struct Half(*const u16);

impl Weights for Half {
    #[inline(always)]
    unsafe fn block(self, row: usize, columns: usize, block: usize, count: usize) -> [__m512; 4] {
        // SAFETY: as for `Dense`.
        unsafe {
            let at = self.0.add(row * columns + block * BLOCK).cast::<i16>();
            [0, 1, 2, 3].map(|i| {
                _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask(count, i), at.wrapping_add(16 * i)))
            })
        }
    }
}

#[derive(Clone, Copy)]
struct Brain(*const u16);

impl Weights for Brain {
    #[inline(always)]
    unsafe fn block(self, row: usize, columns: usize, block: usize, count: usize) -> [__m512; 4] {
        // SAFETY: as for `Dense`.
        unsafe {
            let at = self.0.add(row * columns + block * BLOCK).cast::<i16>();
            [0, 1, 2, 3].map(|i| {
                let bits = _mm256_maskz_loadu_epi16(mask(count, i), at.wrapping_add(16 * i));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
            })
        }
    }
}

/// Codes of `WIDTH` bits over a table of `TABLES` registers.
#[derive(Clone, Copy)]
struct Codes<const TABLES: usize, const WIDTH: u32> {
    codes: *const u8,
    table: [__m512; TABLES],
}

impl<const TABLES: usize, const WIDTH: u32> Codes<TABLES, WIDTH> {
    /// # Safety
    /// `table` has `2^WIDTH = 16 * TABLES` values; AVX-512.
    #[inline(always)]
    unsafe fn new(codes: &[u8], table: &[f32]) -> Self {
        // SAFETY: the caller's.
        let table = std::array::from_fn(|i| unsafe { _mm512_loadu_ps(table.as_ptr().add(16 * i)) });
        Self { codes: codes.as_ptr(), table }
    }
}

impl<const TABLES: usize, const WIDTH: u32> Weights for Codes<TABLES, WIDTH> {
    #[inline(always)]
    unsafe fn block(self, row: usize, columns: usize, block: usize, _: usize) -> [__m512; 4] {
        // SAFETY: a row is whole blocks, so all of the block is within the view.
        unsafe {
            let at = self.codes.add((row * columns.div_ceil(BLOCK) + block) * block_bytes(WIDTH));
            let pairs = _mm256_loadu_si256(at.cast());
            let low = _mm256_and_si256(pairs, _mm256_set1_epi8(15));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(pairs), _mm256_set1_epi8(15));
            let planes: [u64; 4] = std::array::from_fn(|p| match p < WIDTH as usize - 4 {
                true => at.add(32 + 8 * p).cast::<u64>().read_unaligned(),
                false => 0,
            });
            // Plain loops: closures this deep are not inlined, and then nothing stays in registers.
            let mut weights = [_mm512_setzero_ps(); 4];
            for (i, weights) in weights.iter_mut().enumerate() {
                let half = if i < 2 { low } else { high };
                let own = if i % 2 == 0 { _mm256_castsi256_si128(half) } else { _mm256_extracti128_si256::<1>(half) };
                let mut index = _mm512_cvtepu8_epi32(own);
                if TABLES == 1 {
                    *weights = _mm512_permutexvar_ps(index, self.table[0]);
                    continue;
                }
                index = _mm512_mask_or_epi32(index, (planes[0] >> (16 * i)) as u16, index, _mm512_set1_epi32(16));
                let mut found = self.table;
                for k in 0..TABLES / 2 {
                    found[k] = _mm512_permutex2var_ps(self.table[2 * k], index, self.table[2 * k + 1]);
                }
                // Each further bit halves what is left.
                let mut left = TABLES / 2;
                for plane in &planes[1..] {
                    let bits = (plane >> (16 * i)) as u16;
                    left /= 2;
                    for k in 0..left {
                        found[k] = _mm512_mask_blend_ps(bits, found[2 * k], found[2 * k + 1]);
                    }
                }
                *weights = found[0];
            }
            weights
        }
    }
}

/// # Safety
/// As `dots`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn dots_of<W: Weights>(weights: W, rows: Range<usize>, x: &[f32], out: &mut [f32]) {
    let (columns, whole) = (x.len(), x.len() / BLOCK);
    for (row, out) in rows.zip(out) {
        let mut sums = [_mm512_setzero_ps(); 4];
        // SAFETY: blocks up to the end of `x`, which has as many columns as a row; lanes outside a mask are not read.
        unsafe {
            for block in 0..whole {
                let w = weights.block(row, columns, block, BLOCK);
                let x = x.as_ptr().add(block * BLOCK);
                for i in 0..4 {
                    sums[i] = _mm512_fmadd_ps(w[i], _mm512_loadu_ps(x.add(16 * i)), sums[i]);
                }
            }
            let left = columns - whole * BLOCK;
            if left > 0 {
                let w = weights.block(row, columns, whole, left);
                let x = x.as_ptr().add(whole * BLOCK);
                for i in 0..4 {
                    let x = _mm512_maskz_loadu_ps(mask(left, i), x.wrapping_add(16 * i));
                    sums[i] = _mm512_fmadd_ps(w[i], x, sums[i]);
                }
            }
        }
        *out = _mm512_reduce_add_ps(_mm512_add_ps(
            _mm512_add_ps(sums[0], sums[1]),
            _mm512_add_ps(sums[2], sums[3]),
        ));
    }
}

/// # Safety
/// As `expand`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn expand_of<W: Weights>(weights: W, rows: Range<usize>, columns: usize, out: &mut [f32]) {
    for (row, out) in rows.zip(out.chunks_mut(columns.max(1))) {
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            // SAFETY: these columns are within the row, and as many places in `out`; lanes outside a mask are not
            // written.
            unsafe {
                let w = weights.block(row, columns, block, out.len());
                for i in 0..4 {
                    _mm512_mask_storeu_ps(out.as_mut_ptr().wrapping_add(16 * i), mask(out.len(), i), w[i]);
                }
            }
        }
    }
}
