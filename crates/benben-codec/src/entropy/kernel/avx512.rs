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
pub(super) fn run<I: Item>(
    lookup: Lookup<'_>,
    tables: Tables<'_>,
    lanes: &mut Lanes,
    words: &mut &[u8],
    out: &mut [I],
) -> usize {
    let (first, each) = match tables {
        Tables::Shared(first) => (first, None),
        Tables::Each(each) => (0, Some(each)),
    };
    // SAFETY: the caller has found AVX-512 F, BW and VL on this machine, and every table below `lookup.slots.len()`,
    // with values for each codebook where values are written; `each` is as long as `out`.
    unsafe {
        match (each, lookup.trellis) {
            (None, Trellis::None) => groups::<I, 0, false>(lookup, first, &[], lanes, words, out),
            (None, Trellis::Unions) => groups::<I, 1, false>(lookup, first, &[], lanes, words, out),
            (None, Trellis::States) => groups::<I, 7, false>(lookup, first, &[], lanes, words, out),
            (Some(each), Trellis::None) => groups::<I, 0, true>(lookup, 0, each, lanes, words, out),
            (Some(each), Trellis::Unions) => groups::<I, 1, true>(lookup, 0, each, lanes, words, out),
            (Some(each), Trellis::States) => groups::<I, 7, true>(lookup, 0, each, lanes, words, out),
        }
    }
}

/// Decodes groups. `MASK` is what of a trellis state counts for the table, 0 without a trellis.
///
/// # Safety
/// As `run` says.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt,bmi2")]
unsafe fn groups<I: Item, const MASK: i32, const EACH: bool>(
    lookup: Lookup<'_>,
    first: u8,
    each: &[u8],
    lanes: &mut Lanes,
    words: &mut &[u8],
    out: &mut [I],
) -> usize {
    let slots = lookup.slots.as_ptr().cast::<i32>();
    let values = lookup.values.as_ptr().cast::<f32>();
    // State after a symbol, by 2 * state + parity.
    let mut branch = [0i32; 16];
    for (i, next) in branch.iter_mut().enumerate() {
        *next = Trellis::next(i as u32 / 2, (i % 2) as u8) as i32;
    }
    // SAFETY: `branch`, `coder` and `trellis` hold 16 and 32 integers; loads are unaligned ones.
    let (branch, mut x, mut path) = unsafe {
        let load = |p: &[u32; LANES], at: usize| _mm512_loadu_si512(p.as_ptr().add(at).cast());
        (
            _mm512_loadu_si512(branch.as_ptr().cast()),
            [load(&lanes.coder, 0), load(&lanes.coder, 16)],
            [load(&lanes.trellis, 0), load(&lanes.trellis, 16)],
        )
    };
    let low = _mm512_set1_epi32(0xfff);
    let one = _mm512_set1_epi32(1);
    let shared = _mm512_set1_epi32(i32::from(first) << 12);
    let initial = _mm512_set1_epi32(1 << 16);
    let mut done = 0;
    while done + LANES <= out.len() && words.len() >= GROUP_BYTES {
        let mut taken = 0;
        for half in 0..2 {
            let base = if EACH {
                // SAFETY: `each` is as long as `out`, which has a whole group left.
                let tables = unsafe { _mm_loadu_si128(each.as_ptr().add(done + 16 * half).cast()) };
                _mm512_slli_epi32::<12>(_mm512_cvtepu8_epi32(tables))
            } else {
                shared
            };
            let base = if MASK == 0 {
                base
            } else {
                let own = _mm512_and_si512(path[half], _mm512_set1_epi32(MASK));
                _mm512_add_epi32(base, _mm512_slli_epi32::<12>(own))
            };
            let index = _mm512_add_epi32(base, _mm512_and_si512(x[half], low));
            // SAFETY: the table is one of `slots`, each of 4096.
            let slot = unsafe { _mm512_i32gather_epi32::<4>(index, slots) };
            let prefix = _mm512_srli_epi32::<12>(x[half]);
            let freq = _mm512_and_si512(_mm512_srli_epi32::<8>(slot), low);
            let rest = _mm512_add_epi32(prefix, _mm512_srli_epi32::<20>(slot));
            let next = _mm512_add_epi32(_mm512_mullo_epi32(freq, prefix), rest);
            let refill = _mm512_cmplt_epu32_mask(next, initial);
            // SAFETY: 64 bytes of words are left at the start of the group; the first half takes at most 32 of them.
            let fresh = unsafe { _mm256_loadu_si256(words.as_ptr().add(taken).cast()) };
            let fresh = _mm512_maskz_expand_epi32(refill, _mm512_cvtepu16_epi32(fresh));
            x[half] = _mm512_mask_or_epi32(next, refill, _mm512_slli_epi32::<16>(next), fresh);
            taken += 2 * refill.count_ones() as usize;

            let symbol = _mm512_and_si512(slot, _mm512_set1_epi32(0xff));
            // SAFETY: `out` has a whole group left, and the value index is below 256, or 512 with a trellis.
            unsafe {
                let to = out.as_mut_ptr().add(done + 16 * half);
                if I::VALUES {
                    let index = if MASK == 0 {
                        symbol
                    } else {
                        _mm512_add_epi32(symbol, _mm512_slli_epi32::<8>(_mm512_and_si512(path[half], one)))
                    };
                    _mm512_storeu_ps(to.cast(), _mm512_i32gather_ps::<4>(index, values));
                } else {
                    _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(slot));
                }
            }
            if MASK != 0 {
                let parity = _mm512_and_si512(_mm512_srli_epi32::<1>(_mm512_add_epi32(symbol, one)), one);
                let turn = _mm512_add_epi32(_mm512_add_epi32(path[half], path[half]), parity);
                path[half] = _mm512_permutexvar_epi32(turn, branch);
            }
        }
        *words = &words[taken..];
        done += LANES;
    }
    // SAFETY: as for the loads.
    unsafe {
        for half in 0..2 {
            _mm512_storeu_si512(lanes.coder.as_mut_ptr().add(16 * half).cast(), x[half]);
            _mm512_storeu_si512(lanes.trellis.as_mut_ptr().add(16 * half).cast(), path[half]);
        }
    }
    done
}
