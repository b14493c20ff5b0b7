//! The kernel for x86-64 with AVX2: 8 lanes to a register, four registers to a group.
//!
//! As with AVX-512, but without masks and expands: the lanes that need a word are a byte of bits, and a table of 256
//! permutations deals the next words out to them.
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]

use super::super::rans::LANES;
use super::{Item, Lanes, Lookup, Tables};
use crate::entropy::Trellis;
use std::arch::x86_64::*;

/// Words that a group may take, in bytes.
const GROUP_BYTES: usize = 2 * LANES;

/// For each set of lanes that need a word: which of the next words lane `i` takes.
static DEAL: [[u8; 8]; 256] = {
    let mut deal = [[0; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                deal[set][lane] = next;
                next += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    deal
};

/// See [`Kernel::run`](super::Kernel::run), which has checked the machine, the tables and the states.
pub(super) fn run<I: Item, const N: usize>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [&mut [I]; N],
) -> usize {
    let each = tables.iter().any(|t| matches!(t, Tables::Each(_)));
    // SAFETY: the caller has found AVX2 on this machine, every table below `lookup.slots.len()` and values for
    // each codebook where values are written; tables of each symbol are as many as `out` has symbols.
    unsafe {
        match (each, lookup.trellis) {
            (false, Trellis::None) => groups::<I, N, 0, false>(lookup, tables, lanes, words, out),
            (false, Trellis::Unions) => groups::<I, N, 1, false>(lookup, tables, lanes, words, out),
            (false, Trellis::States) => groups::<I, N, 7, false>(lookup, tables, lanes, words, out),
            (true, Trellis::None) => groups::<I, N, 0, true>(lookup, tables, lanes, words, out),
            (true, Trellis::Unions) => groups::<I, N, 1, true>(lookup, tables, lanes, words, out),
            (true, Trellis::States) => groups::<I, N, 7, true>(lookup, tables, lanes, words, out),
        }
    }
}

/// Decodes groups. `MASK` is what of a trellis state counts for the table, 0 without a trellis.
///
/// # Safety
/// As `run` says.
#[target_feature(enable = "avx2,popcnt,bmi2")]
unsafe fn groups<I: Item, const N: usize, const MASK: i32, const EACH: bool>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    mut out: [&mut [I]; N],
) -> usize {
    let slots = lookup.slots.as_ptr().cast::<i32>();
    let values = lookup.values.as_ptr().cast::<f32>();
    let zero = _mm256_setzero_si256();
    let (mut x, mut path) = ([[zero; 4]; N], [[zero; 4]; N]);
    let mut shared = [zero; N];
    for n in 0..N {
        for quarter in 0..4 {
            // SAFETY: both hold 32 integers; loads are unaligned ones.
            unsafe {
                x[n][quarter] = _mm256_loadu_si256(lanes[n].coder.as_ptr().add(8 * quarter).cast());
                path[n][quarter] = _mm256_loadu_si256(lanes[n].trellis.as_ptr().add(8 * quarter).cast());
            }
        }
        if let Tables::Shared(first) = tables[n] {
            shared[n] = _mm256_set1_epi32(i32::from(first) << 12);
        }
    }
    let each = tables.map(|tables| match tables {
        Tables::Each(each) => each.as_ptr(),
        Tables::Shared(_) => std::ptr::null(),
    });
    let low = _mm256_set1_epi32(0xfff);
    let one = _mm256_set1_epi32(1);
    // The lowest byte of each integer, in front.
    let bytes = _mm256_setr_epi8(
        0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1,
        -1, -1, -1, -1, -1,
    );
    let count = out.iter().map(|o| o.len()).min().unwrap_or(0);
    let to = out.each_mut().map(|o| o.as_mut_ptr());
    let mut done = 0;
    while done + LANES <= count && words.iter().all(|w| w.len() >= GROUP_BYTES) {
        let mut taken = [0; N];
        for quarter in 0..4 {
            for n in 0..N {
                let base = if EACH && !each[n].is_null() {
                    // SAFETY: there is a table for each symbol of the group.
                    let tables = unsafe { _mm_loadl_epi64(each[n].add(done + 8 * quarter).cast()) };
                    _mm256_slli_epi32::<12>(_mm256_cvtepu8_epi32(tables))
                } else {
                    shared[n]
                };
                let base = if MASK == 0 {
                    base
                } else {
                    let own = _mm256_and_si256(path[n][quarter], _mm256_set1_epi32(MASK));
                    _mm256_add_epi32(base, _mm256_slli_epi32::<12>(own))
                };
                let index = _mm256_add_epi32(base, _mm256_and_si256(x[n][quarter], low));
                // SAFETY: the table is one of `slots`, each of 4096.
                let slot = unsafe { _mm256_i32gather_epi32::<4>(slots, index) };
                let prefix = _mm256_srli_epi32::<12>(x[n][quarter]);
                let freq = _mm256_and_si256(_mm256_srli_epi32::<8>(slot), low);
                let rest = _mm256_add_epi32(prefix, _mm256_srli_epi32::<20>(slot));
                let next = _mm256_add_epi32(_mm256_mullo_epi32(freq, prefix), rest);
                let refill = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(next), zero);
                let set = _mm256_movemask_ps(_mm256_castsi256_ps(refill)) as usize;
                // SAFETY: 64 bytes of words are left at the start of the group, each quarter takes at most 16 of them;
                // `set` is below 256.
                let (fresh, deal) = unsafe {
                    (
                        _mm_loadu_si128(words[n].as_ptr().add(taken[n]).cast()),
                        _mm_loadl_epi64(DEAL.as_ptr().add(set).cast()),
                    )
                };
                let fresh =
                    _mm256_permutevar8x32_epi32(_mm256_cvtepu16_epi32(fresh), _mm256_cvtepu8_epi32(deal));
                let filled = _mm256_or_si256(_mm256_slli_epi32::<16>(next), fresh);
                x[n][quarter] = _mm256_blendv_epi8(next, filled, refill);
                taken[n] += 2 * set.count_ones() as usize;

                let symbol = _mm256_and_si256(slot, _mm256_set1_epi32(0xff));
                // SAFETY: `out` has a whole group left, and the value index is below 256, or 512 with a trellis.
                unsafe {
                    let to = to[n].add(done + 8 * quarter);
                    if I::VALUES {
                        let index = if MASK == 0 {
                            symbol
                        } else {
                            _mm256_add_epi32(
                                symbol,
                                _mm256_slli_epi32::<8>(_mm256_and_si256(path[n][quarter], one)),
                            )
                        };
                        _mm256_storeu_ps(to.cast(), _mm256_i32gather_ps::<4>(values, index));
                    } else {
                        let packed = _mm256_shuffle_epi8(slot, bytes);
                        let (a, b) = (_mm256_castsi256_si128(packed), _mm256_extracti128_si256::<1>(packed));
                        _mm_storel_epi64(to.cast(), _mm_unpacklo_epi32(a, b));
                    }
                }
                if MASK != 0 {
                    let parity = _mm256_and_si256(_mm256_srli_epi32::<1>(_mm256_add_epi32(symbol, one)), one);
                    let state = path[n][quarter];
                    let flip = _mm256_xor_si256(_mm256_srli_epi32::<1>(state), _mm256_srli_epi32::<2>(state));
                    let branch = _mm256_xor_si256(parity, _mm256_and_si256(flip, one));
                    let shifted = _mm256_and_si256(_mm256_add_epi32(state, state), _mm256_set1_epi32(7));
                    path[n][quarter] = _mm256_or_si256(shifted, branch);
                }
            }
        }
        for n in 0..N {
            words[n] = &words[n][taken[n]..];
        }
        done += LANES;
    }
    for n in 0..N {
        for quarter in 0..4 {
            // SAFETY: as for the loads.
            unsafe {
                _mm256_storeu_si256(lanes[n].coder.as_mut_ptr().add(8 * quarter).cast(), x[n][quarter]);
                _mm256_storeu_si256(lanes[n].trellis.as_mut_ptr().add(8 * quarter).cast(), path[n][quarter]);
            }
        }
    }
    done
}
