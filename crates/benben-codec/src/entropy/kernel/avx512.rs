//! The kernel for x86-64 with AVX-512: 16 lanes to a register, two registers to a group.
//!
//! A gather looks slots up; lanes that need a word take the next ones by an expand under their mask, so that refilling
//! has no branch and no table.
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]

use super::super::rans::LANES;
use super::{Item, Lanes, Lookup, Tables};
use crate::entropy::Trellis;
use std::arch::x86_64::*;

/// Words that a group may take, in bytes.
const GROUP_BYTES: usize = 2 * LANES;

/// See [`Kernel::run`](super::Kernel::run), which has checked the machine, the tables and the states.
pub(super) fn run<I: Item, const N: usize>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [&mut [I]; N],
) -> usize {
    let each = tables.iter().any(|t| matches!(t, Tables::Each(_)));
    let wide = lookup.alphabet * if lookup.trellis == Trellis::None { 1 } else { 2 };
    // SAFETY: the caller has found AVX-512 F, BW and VL on this machine, every table below `lookup.slots.len()` and
    // values for each codebook where values are written; tables of each symbol are as many as `out` has symbols.
    unsafe {
        match wide.div_ceil(32) {
            _ if !I::VALUES => by_model::<I, N, 0>(each, lookup, tables, lanes, words, out),
            0 | 1 => by_model::<I, N, 1>(each, lookup, tables, lanes, words, out),
            2 => by_model::<I, N, 2>(each, lookup, tables, lanes, words, out),
            3 | 4 => by_model::<I, N, 4>(each, lookup, tables, lanes, words, out),
            _ => by_model::<I, N, 0>(each, lookup, tables, lanes, words, out),
        }
    }
}

/// # Safety
/// As `run` says.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi2")]
unsafe fn by_model<I: Item, const N: usize, const PAIRS: usize>(
    each: bool,
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [&mut [I]; N],
) -> usize {
    // SAFETY: as the caller says.
    unsafe {
        match (each, lookup.trellis) {
            (false, Trellis::None) => groups::<I, N, PAIRS, 0, false>(lookup, tables, lanes, words, out),
            (false, Trellis::Unions) => groups::<I, N, PAIRS, 1, false>(lookup, tables, lanes, words, out),
            (false, Trellis::States) => groups::<I, N, PAIRS, 7, false>(lookup, tables, lanes, words, out),
            (true, Trellis::None) => groups::<I, N, PAIRS, 0, true>(lookup, tables, lanes, words, out),
            (true, Trellis::Unions) => groups::<I, N, PAIRS, 1, true>(lookup, tables, lanes, words, out),
            (true, Trellis::States) => groups::<I, N, PAIRS, 7, true>(lookup, tables, lanes, words, out),
        }
    }
}

/// Values in registers, 32 to a pair.
#[derive(Clone, Copy)]
struct Near<const PAIRS: usize>([[__m512; 2]; PAIRS]);

impl<const PAIRS: usize> Near<PAIRS> {
    /// Values of one row side by side, of two rows each in one half.
    #[target_feature(enable = "avx512f")]
    fn new(lookup: Lookup<'_>) -> Self {
        let mut near = [[[0f32; 16]; 2]; PAIRS];
        let flat = near.as_flattened_mut().as_flattened_mut();
        let stride = if lookup.trellis == Trellis::None { flat.len() } else { flat.len() / 2 };
        if stride > 0 {
            for (row, values) in flat.chunks_mut(stride).zip(lookup.values) {
                row.iter_mut().zip(values).for_each(|(r, v)| *r = *v);
            }
        }
        // SAFETY: each holds 16 floats.
        Self(near.map(|pair| pair.map(|v| unsafe { _mm512_loadu_ps(v.as_ptr()) })))
    }

    /// The values number `index`, which are below `32 * PAIRS`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn get(&self, index: __m512i) -> __m512 {
        let mut found = [_mm512_setzero_ps(); PAIRS];
        for (found, [low, high]) in found.iter_mut().zip(&self.0) {
            *found = _mm512_permutex2var_ps(*low, index, *high);
        }
        let mut count = PAIRS;
        let mut bit = 32;
        while count > 1 {
            let upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(bit));
            for i in 0..count / 2 {
                found[i] = _mm512_mask_blend_ps(upper, found[2 * i], found[2 * i + 1]);
            }
            (count, bit) = (count / 2, 2 * bit);
        }
        found[0]
    }
}

/// Decodes groups. `MASK` is what of a trellis state counts for the table, 0 without a trellis. Values are in `PAIRS`
/// of registers where that many hold all; a gather, for 0, takes twice as long.
///
/// # Safety
/// As `run` says.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi2")]
unsafe fn groups<I: Item, const N: usize, const PAIRS: usize, const MASK: i32, const EACH: bool>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    mut out: [&mut [I]; N],
) -> usize {
    let slots = lookup.slots.as_ptr().cast::<i32>();
    let values = lookup.values.as_ptr().cast::<f32>();
    let near = Near::<PAIRS>::new(lookup);
    // State after a symbol, by 2 * state + parity.
    let mut branch = [0i32; 16];
    for (i, next) in branch.iter_mut().enumerate() {
        *next = Trellis::next(i as u32 / 2, (i % 2) as u8) as i32;
    }
    // SAFETY: `branch` holds 16 integers.
    let branch = unsafe { _mm512_loadu_si512(branch.as_ptr().cast()) };
    let zero = _mm512_setzero_si512();
    let (mut x, mut path) = ([[zero; 2]; N], [[zero; 2]; N]);
    let mut shared = [zero; N];
    for n in 0..N {
        for half in 0..2 {
            // SAFETY: both hold 32 integers; loads are unaligned ones.
            unsafe {
                x[n][half] = _mm512_loadu_si512(lanes[n].coder.as_ptr().add(16 * half).cast());
                path[n][half] = _mm512_loadu_si512(lanes[n].trellis.as_ptr().add(16 * half).cast());
            }
        }
        if let Tables::Shared(first) = tables[n] {
            shared[n] = _mm512_set1_epi32(i32::from(first) << 12);
        }
    }
    let each = tables.map(|tables| match tables {
        Tables::Each(each) => each.as_ptr(),
        Tables::Shared(_) => std::ptr::null(),
    });
    let low = _mm512_set1_epi32(0xfff);
    let one = _mm512_set1_epi32(1);
    let initial = _mm512_set1_epi32(1 << 16);
    let count = out.iter().map(|o| o.len()).min().unwrap_or(0);
    let to = out.each_mut().map(|o| o.as_mut_ptr());
    let mut done = 0;
    while done + LANES <= count && words.iter().all(|w| w.len() >= GROUP_BYTES) {
        let mut taken = [0; N];
        for half in 0..2 {
            for n in 0..N {
                let base = if EACH && !each[n].is_null() {
                    // SAFETY: there is a table for each symbol of the group.
                    let tables = unsafe { _mm_loadu_si128(each[n].add(done + 16 * half).cast()) };
                    _mm512_slli_epi32::<12>(_mm512_cvtepu8_epi32(tables))
                } else {
                    shared[n]
                };
                let base = if MASK == 0 {
                    base
                } else {
                    let own = _mm512_and_si512(path[n][half], _mm512_set1_epi32(MASK));
                    _mm512_add_epi32(base, _mm512_slli_epi32::<12>(own))
                };
                let index = _mm512_add_epi32(base, _mm512_and_si512(x[n][half], low));
                // SAFETY: the table is one of `slots`, each of 4096.
                let slot = unsafe { _mm512_i32gather_epi32::<4>(index, slots) };
                let prefix = _mm512_srli_epi32::<12>(x[n][half]);
                let freq = _mm512_and_si512(_mm512_srli_epi32::<8>(slot), low);
                let rest = _mm512_add_epi32(prefix, _mm512_srli_epi32::<20>(slot));
                let next = _mm512_add_epi32(_mm512_mullo_epi32(freq, prefix), rest);
                let refill = _mm512_cmplt_epu32_mask(next, initial);
                // SAFETY: 64 bytes of words are left at the start of the group; the first half takes at most 32 of them.
                let fresh = unsafe { _mm256_loadu_si256(words[n].as_ptr().add(taken[n]).cast()) };
                let fresh = _mm512_maskz_expand_epi32(refill, _mm512_cvtepu16_epi32(fresh));
                x[n][half] = _mm512_mask_or_epi32(next, refill, _mm512_slli_epi32::<16>(next), fresh);
                taken[n] += 2 * refill.count_ones() as usize;

                let symbol = _mm512_and_si512(slot, _mm512_set1_epi32(0xff));
                // SAFETY: `out` has a whole group left, and the value index is below 256, or 512 with a trellis.
                unsafe {
                    let to = to[n].add(done + 16 * half);
                    if I::VALUES {
                        let union = _mm512_and_si512(path[n][half], one);
                        if PAIRS > 0 {
                            let index = match (MASK, PAIRS) {
                                (0, _) => symbol,
                                (_, 1) => _mm512_or_si512(symbol, _mm512_slli_epi32::<4>(union)),
                                (_, 2) => _mm512_or_si512(symbol, _mm512_slli_epi32::<5>(union)),
                                _ => _mm512_or_si512(symbol, _mm512_slli_epi32::<6>(union)),
                            };
                            _mm512_storeu_ps(to.cast(), near.get(index));
                        } else {
                            let index = match MASK {
                                0 => symbol,
                                _ => _mm512_or_si512(symbol, _mm512_slli_epi32::<8>(union)),
                            };
                            _mm512_storeu_ps(to.cast(), _mm512_i32gather_ps::<4>(index, values));
                        }
                    } else {
                        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(slot));
                    }
                }
                if MASK != 0 {
                    let parity = _mm512_and_si512(_mm512_srli_epi32::<1>(_mm512_add_epi32(symbol, one)), one);
                    let turn = _mm512_add_epi32(_mm512_add_epi32(path[n][half], path[n][half]), parity);
                    path[n][half] = _mm512_permutexvar_epi32(turn, branch);
                }
            }
        }
        for n in 0..N {
            words[n] = &words[n][taken[n]..];
        }
        done += LANES;
    }
    for n in 0..N {
        for half in 0..2 {
            // SAFETY: as for the loads.
            unsafe {
                _mm512_storeu_si512(lanes[n].coder.as_mut_ptr().add(16 * half).cast(), x[n][half]);
                _mm512_storeu_si512(lanes[n].trellis.as_mut_ptr().add(16 * half).cast(), path[n][half]);
            }
        }
    }
    done
}
