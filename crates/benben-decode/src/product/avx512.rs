//! The kernels for x86-64 with AVX-512: a register is one column of a group.
//!
//! A code becomes its value by a permutation of the table, which is in one register up to 4 bits and in two for 5: a shift
//! and a permutation for 16 weights. Of 6 bits the magnitude is looked up and the sign put to it, by one rotation for
//! both. Of 8 bits the 64 nearest to 0 are looked up and the others computed, which is twice as fast as a gather.
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]
#![allow(clippy::cast_possible_truncation, reason = "shifts below 32")]
#![allow(clippy::needless_range_loop, reason = "registers by number, in more than one array")]

use super::packing::{
    BRAIN, FAR, FULL, HALF, LANES, Line, Packing, REGULAR, SIGNED, TRITS, View, bits, by_count, lead, table,
    unit, unit_lines, unroll,
};
use super::portable::Lanes;
use std::arch::x86_64::*;

const BITS8: u8 = Packing::Bits8 as u8;

/// What codes are looked up in.
#[derive(Clone, Copy)]
struct Tables {
    near: [__m512; 4],
    all: *const f32,
    step: __m512,
}

impl Tables {
    /// Those of packing `P`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new<const P: u8>(view: &View<'_>) -> Self {
        let mut near = [_mm512_setzero_ps(); 4];
        let values = &view.tables[table(P)];
        if P == TRITS {
            for (near, line) in near.iter_mut().zip(&view.lines[..2]) {
                // SAFETY: a line is 64 bytes.
                *near = unsafe { _mm512_loadu_ps(line.0.as_ptr().cast()) };
            }
        }
        let parts = values.as_chunks::<LANES>().0;
        // Of 8 bits those that are near 0: the first of the positive integers, the last of the negative ones.
        let first = |i: usize| if P == REGULAR && i >= 2 { i + 12 } else { i };
        for (near, part) in near.iter_mut().zip((0..4).filter_map(|i| parts.get(first(i)))) {
            // SAFETY: a part is 16 floats.
            *near = unsafe { _mm512_loadu_ps(part.as_ptr()) };
        }
        Self { near, all: values.as_ptr(), step: _mm512_set1_ps(view.far.unwrap_or(0.0)) }
    }

    /// Column `i` of the unit at `line`.
    ///
    /// # Safety
    /// `line` may be read, `P` has units of one, and `self` is for `P`: its table has an entry for every code.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
    #[inline]
    unsafe fn column<const P: u8>(&self, line: *const Line, i: usize) -> __m512 {
        // SAFETY: `i` is below the columns of a line, halves are 32 bytes of its 64.
        let (whole, half) = unsafe {
            let at = line.cast::<u8>().add(if bits(P) == 0 { 32 * (i % 2) } else { 0 });
            (_mm512_load_si512(line.cast()), _mm256_loadu_si256(at.cast()))
        };
        let shift = (bits(P) * i) as i32;
        let code = _mm512_srlv_epi32(whole, _mm512_set1_epi32(shift));
        match P {
            FULL => _mm512_castsi512_ps(whole),
            HALF => _mm512_cvtph_ps(half),
            BRAIN => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))),
            TRITS => {
                let positive = _mm512_test_epi32_mask(whole, _mm512_set1_epi32(1 << shift));
                let negative = _mm512_test_epi32_mask(whole, _mm512_set1_epi32(2i32 << shift));
                _mm512_mask_mov_ps(_mm512_maskz_mov_ps(positive, self.near[0]), negative, self.near[1])
            }
            2..=4 => _mm512_permutexvar_ps(code, self.near[0]),
            5 => _mm512_permutex2var_ps(self.near[0], code, self.near[1]),
            REGULAR => {
                let above = _mm512_permutex2var_ps(self.near[0], code, self.near[1]);
                let below = _mm512_permutex2var_ps(self.near[2], code, self.near[3]);
                let negative = _mm512_test_epi32_mask(code, _mm512_set1_epi32(128));
                let near = _mm512_mask_blend_ps(negative, above, below);
                // The integer with its sign, from the top of the word.
                let up = _mm512_sllv_epi32(whole, _mm512_set1_epi32(24 - shift));
                let integer = _mm512_srai_epi32::<24>(up);
                let far = _mm512_mul_ps(_mm512_cvtepi32_ps(integer), self.step);
                let outside = _mm512_add_epi32(integer, _mm512_set1_epi32(FAR));
                _mm512_mask_blend_ps(_mm512_cmpge_epu32_mask(outside, _mm512_set1_epi32(2 * FAR)), near, far)
            }
            _ => {
                let code = _mm512_and_si512(code, _mm512_set1_epi32((1 << bits(P)) - 1));
                // SAFETY: the table has an entry for every code of so many bits.
                unsafe { _mm512_i32gather_ps::<4>(code, self.all) }
            }
        }
    }
}

/// Evaluates `$body` for each column `$i` of the unit at `$lines`, whose weights are `$weights`. Sixteen columns are
/// written out: the compiler does not unroll so many, and looks for their place in a loop at twice the time.
macro_rules! each_column {
    ($P:ident, $tables:expr, $lines:expr, |$i:ident, $weights:ident| $body:expr) => {
        if $P == SIGNED {
            each_column!(@ $tables, $lines, $i, $weights, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
        } else {
            for $i in 0..unit($P) {
                let $weights = $tables.column::<$P>($lines, $i);
                $body
            }
        }
    };
    (@ $tables:expr, $lines:expr, $i:ident, $weights:ident, $body:expr, $($n:literal)*) => {{
        $(
            let $i = $n;
            let $weights = $tables.signed::<$n>($lines);
            $body;
        )*
    }};
}

impl Tables {
    /// Column `I` of a unit of signs and magnitudes; see [`signed`](super::packing::signed).
    ///
    /// # Safety
    /// Three lines may be read.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn signed<const I: usize>(&self, unit: *const Line) -> __m512 {
        // SAFETY: as the caller says.
        let word = |j: usize| unsafe { _mm512_load_si512(unit.add(j).cast()) };
        let (sign, magnitude) = if I < 15 {
            let turned = _mm512_rorv_epi32(word(I / 5), _mm512_set1_epi32((6 * (I % 5) + 1) as i32));
            (turned, turned)
        } else {
            const AND_OR: i32 = 0xea;
            let high = _mm512_srli_epi32::<26>(word(0));
            let middle = _mm512_srli_epi32::<28>(word(2));
            let low = _mm512_srli_epi32::<30>(word(1));
            let low = _mm512_ternarylogic_epi32::<AND_OR>(middle, _mm512_set1_epi32(12), low);
            (word(0), _mm512_ternarylogic_epi32::<AND_OR>(high, _mm512_set1_epi32(16), low))
        };
        // The permutation looks at five bits of the magnitude.
        let value = _mm512_permutex2var_ps(self.near[0], magnitude, self.near[1]);
        // (sign & 1 << 31) ^ value.
        const AND_XOR: i32 = 0x78;
        let top = _mm512_set1_epi32(i32::MIN);
        let signed = _mm512_ternarylogic_epi32::<AND_XOR>(_mm512_castps_si512(value), sign, top);
        _mm512_castsi512_ps(signed)
    }
}

/// See [`Kernel::dot`](super::Kernel::dot), which has checked machine and lengths.
pub(super) fn dot<const P: u8>(view: View<'_>, x: &[f32]) -> Lanes {
    // SAFETY: the caller has found the instructions, lines for all columns, and values in `x` for all of these.
    unsafe {
        if P == BITS8 && view.far.is_some() { dot_in::<REGULAR>(view, x) } else { dot_in::<P>(view, x) }
    }
}

/// See [`Kernel::expand`](super::Kernel::expand), which has checked the machine.
pub(super) fn expand<const P: u8>(view: View<'_>, first: usize, out: &mut [Lanes]) {
    // SAFETY: the caller has found the instructions.
    unsafe {
        if P == BITS8 && view.far.is_some() {
            expand_in::<REGULAR>(view, first, out);
        } else {
            expand_in::<P>(view, first, out);
        }
    }
}

/// See [`Kernel::tile`](super::Kernel::tile), which has checked machine and lengths; up to 12 vectors.
pub(super) fn tile<const R: usize>(
    panels: [&[Lanes]; R],
    x: &[f32],
    stride: usize,
    vectors: usize,
    sums: &mut [Lanes],
) {
    // SAFETY: the caller has found the instructions, panels of equal length, so many rows of `x` and so many sums.
    by_count!(vectors, V in [1 2 3 4 5 6 7 8 9 10 11 12], unsafe { tile_in::<R, V>(panels, x, stride, sums) });
}

/// # Safety
/// The machine has AVX-512 F, BW, VL and F16C; `x` has as many values as the lines have columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
unsafe fn dot_in<const P: u8>(view: View<'_>, x: &[f32]) -> Lanes {
    let tables = Tables::new::<P>(&view);
    let lines = &view.lines[lead(P)..];
    let units = lines.len() / unit_lines(P);
    let mut sums = [_mm512_setzero_ps(); 4];
    let mut done = 0;
    while done < units {
        for u in 0..unroll(P) {
            if done + u < units {
                let lines = lines[(done + u) * unit_lines(P)..].as_ptr();
                // SAFETY: the unit is there, and `x` has a value for each of its columns.
                unsafe {
                    let x = x.as_ptr().add((done + u) * unit(P));
                    each_column!(P, tables, lines, |i, weights| {
                        let k = u * unit(P) + i;
                        sums[k % 4] = _mm512_fmadd_ps(weights, _mm512_set1_ps(*x.add(i)), sums[k % 4]);
                    });
                }
            }
        }
        done += unroll(P);
    }
    let sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    let mut out = [0.0; LANES];
    // SAFETY: `out` is 16 floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    out
}

/// # Safety
/// The machine has AVX-512 F, BW, VL and F16C.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
unsafe fn expand_in<const P: u8>(view: View<'_>, first: usize, out: &mut [Lanes]) {
    let tables = Tables::new::<P>(&view);
    let units = view.lines[lead(P)..].chunks_exact(unit_lines(P)).skip(first);
    for (lines, out) in units.zip(out.chunks_mut(unit(P))) {
        // SAFETY: `lines` are a unit, what is written is 16 floats.
        unsafe {
            each_column!(P, tables, lines.as_ptr(), |i, weights| {
                if let Some(out) = out.get_mut(i) {
                    _mm512_storeu_ps(out.as_mut_ptr(), weights);
                }
            });
        }
    }
}

/// # Safety
/// The machine has AVX-512 F; all panels have the columns of the first, `x` has `V` rows of as many, `stride` apart, and
/// `sums` has `R` for each.
#[target_feature(enable = "avx512f")]
unsafe fn tile_in<const R: usize, const V: usize>(
    panels: [&[Lanes]; R],
    x: &[f32],
    stride: usize,
    sums: &mut [Lanes],
) {
    let columns = panels[0].len();
    let mut own = [[_mm512_setzero_ps(); R]; V];
    for v in 0..V {
        for r in 0..R {
            // SAFETY: as the caller says.
            own[v][r] = unsafe { _mm512_loadu_ps(sums.as_ptr().add(v * R + r).cast()) };
        }
    }
    let (x, panels) = (x.as_ptr(), panels.map(<[Lanes]>::as_ptr));
    for k in 0..columns {
        // SAFETY: as the caller says.
        unsafe {
            let weights: [__m512; R] = panels.map(|p| _mm512_loadu_ps(p.add(k).cast()));
            for v in 0..V {
                let x = _mm512_set1_ps(*x.add(v * stride + k));
                for r in 0..R {
                    own[v][r] = _mm512_fmadd_ps(weights[r], x, own[v][r]);
                }
            }
        }
    }
    for v in 0..V {
        for r in 0..R {
            // SAFETY: as the caller says.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr().add(v * R + r).cast(), own[v][r]) };
        }
    }
}
