//! The kernel for x86-64 with AVX-512 VBMI and VBMI2: all 32 lanes in one register of 16-bit integers, and tables of
//! few symbols in registers too.
//!
//! A gather takes a look-up of the cache for each lane. A table of at most [`RANKS`] symbols fits registers instead:
//! the high bits of a slot name a *bucket*, a byte permutation gives the symbol at the bucket's start, and one
//! comparison says whether the slot is beyond that symbol's end. The few buckets that more symbols share (the rare ones
//! at both ends of a distribution) are looked up slot by slot, by a permutation of their own. Products of 12 and 20
//! bits fall into 16-bit halves, so that a state is two halves and nothing is ever widened.
//!
//! Twice as fast as gathers. What is not of this kind, and values, go to [`search`], and from there to [`avx512`].
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]

use super::super::rans::LANES;
use super::halves::{GROUP_BYTES, Halves};
use super::{Item, Lanes, Lookup, Tables, avx512, search};
use crate::entropy::{Table, Trellis};
use std::arch::x86_64::*;

/// Most symbols of a table for registers.
const RANKS: usize = 64;
/// Slots of a bucket, and buckets that are looked up slot by slot.
const BUCKET: usize = 32;
const FINE: usize = 4;

/// A table of few symbols, which are counted by *rank*: the first that has a frequency is 0.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub(in super::super) struct Narrow {
    /// Rank at the start of each bucket; or 128 and number times [`BUCKET`] of a bucket with an end more.
    buckets: [u8; 128],
    /// Ranks by slot of those buckets.
    fine: [u8; FINE * BUCKET],
    /// By rank: the last slot, the frequency, the first slot, the symbol.
    lasts: [u16; RANKS],
    freqs: [u16; RANKS],
    starts: [u16; RANKS],
    symbols: [u16; RANKS],
}

impl Narrow {
    /// The form of a table that is of this kind.
    pub(in super::super) fn new(table: &Table) -> Option<Self> {
        let mut narrow = Self {
            buckets: [0; 128],
            fine: [0; FINE * BUCKET],
            lasts: [0; RANKS],
            freqs: [0; RANKS],
            starts: [0; RANKS],
            symbols: [0; RANKS],
        };
        let mut by_slot = [0u8; 4096];
        let mut rank = 0;
        for symbol in 0..=u8::MAX {
            let Some((start, freq)) = table.interval(symbol) else { continue };
            // A product by a frequency of 4096 does not fit.
            if rank == RANKS || freq > 4095 {
                return None;
            }
            let (start, freq) = (start as u16, freq as u16);
            by_slot[usize::from(start)..][..usize::from(freq)].fill(rank as u8);
            narrow.lasts[rank] = start + freq - 1;
            narrow.freqs[rank] = freq;
            narrow.starts[rank] = start;
            narrow.symbols[rank] = symbol.into();
            rank += 1;
        }
        let mut fine = 0;
        for (bucket, slots) in narrow.buckets.iter_mut().zip(by_slot.chunks(BUCKET)) {
            let (first, last) = (slots[0], slots[BUCKET - 1]);
            if last - first < 2 {
                *bucket = first;
            } else {
                narrow.fine.get_mut(fine..fine + BUCKET)?.copy_from_slice(slots);
                *bucket = 128 + fine as u8;
                fine += BUCKET;
            }
        }
        Some(narrow)
    }
}

/// See [`Kernel::run`](super::Kernel::run), which has checked the machine, the tables and the states.
pub(super) fn run<I: Item, const N: usize>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [&mut [I]; N],
) -> usize {
    let of = tables.map(|t| match t {
        Tables::Shared(t) => lookup.narrow.get(usize::from(t)).and_then(Option::as_ref),
        Tables::Each(_) => None,
    });
    if I::VALUES || lookup.trellis != Trellis::None || of.iter().any(Option::is_none) {
        return searched(lookup, tables, lanes, words, out);
    }
    let (Some(first), count) = (of[0], out.iter().map(|o| o.len()).min().unwrap_or(0)) else { return 0 };
    let of = of.map(|t| t.unwrap_or(first));
    let mut out = out;
    let out = out.each_mut().map(|o| o.as_mut_ptr().cast::<u8>());
    // SAFETY: the caller has found AVX-512 F, BW, VL, VBMI and VBMI2 on this machine; items other than values are bytes,
    // and each of `out` has `count` of them.
    unsafe { groups(of, lanes, words, out, count) }
}

/// Decodes by searches what they can, and the rest by gathers.
fn searched<I: Item, const N: usize>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    mut out: [&mut [I]; N],
) -> usize {
    let count = out.iter().map(|o| o.len()).min().unwrap_or(0);
    if lookup.searches.is_none() {
        return avx512::run(lookup, tables, lanes, words, out);
    }
    let mut done = 0;
    loop {
        let rest = out.each_mut().map(|o| &mut o[done..]);
        let Some(more) = search::run(lookup, tables.map(|t| t.from(done)), lanes, words, rest) else {
            let rest = out.map(|o| &mut o[done..]);
            return done + avx512::run(lookup, tables.map(|t| t.from(done)), lanes, words, rest);
        };
        done += more;
        // A group of several row classes, or one that words may not be enough for.
        let group = (done + LANES).min(count);
        let rest = out.each_mut().map(|o| &mut o[done..group]);
        let more = avx512::run(lookup, tables.map(|t| t.from(done)), lanes, words, rest);
        if more == 0 {
            return done;
        }
        done += more;
    }
}

/// Decodes groups of at most `count` symbols for each of `out`.
///
/// # Safety
/// As `run` says.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi2")]
unsafe fn groups<const N: usize>(
    tables: [&Narrow; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [*mut u8; N],
    count: usize,
) -> usize {
    // SAFETY: 64 bytes from `at`, which each call has.
    let load = |at: *const u8| unsafe { _mm512_loadu_si512(at.cast()) };
    let both = |of: &[u16; RANKS]| [load(of.as_ptr().cast()), load(of[32..].as_ptr().cast())];
    let bytes = |of: &[u8; 128]| [load(of.as_ptr()), load(of[64..].as_ptr())];
    let pick = |[low, high]: [__m512i; 2], index: __m512i| _mm512_permutex2var_epi16(low, index, high);
    let mut states = lanes.each_ref().map(|l| Halves::load(&l.coder));
    let in_slot = _mm512_set1_epi16(0xfff);
    let in_bucket = _mm512_set1_epi16(BUCKET as i16 - 1);
    let is_fine = _mm512_set1_epi16(128);
    let mut done = 0;
    while done + LANES <= count && words.iter().all(|w| w.len() >= GROUP_BYTES) {
        for n in 0..N {
            let table = tables[n];
            let slot = _mm512_and_si512(states[n].low, in_slot);
            // Permutations look at the low 7 or 6 bits of an index: what is above them does not count, nor what the
            // high bytes of `bucket` and `fine` hold.
            let [first, second] = bytes(&table.buckets);
            let bucket = _mm512_permutex2var_epi8(first, _mm512_srli_epi16::<5>(states[n].low), second);
            // The bucket's first symbol, or the next one: the sign says which.
            let left = _mm512_sub_epi16(pick(both(&table.lasts), bucket), slot);
            let coarse = _mm512_add_epi16(bucket, _mm512_srli_epi16::<15>(left));
            let [first, second] = bytes(&table.fine);
            let fine = _mm512_or_si512(bucket, _mm512_and_si512(slot, in_bucket));
            let fine = _mm512_permutex2var_epi8(first, fine, second);
            let rank = _mm512_mask_mov_epi16(coarse, _mm512_test_epi16_mask(bucket, is_fine), fine);

            let freq = pick(both(&table.freqs), rank);
            let offset = _mm512_sub_epi16(slot, pick(both(&table.starts), rank));
            // SAFETY: as many words are left.
            unsafe { states[n].step::<false>(freq, offset, &mut words[n]) };
            let symbols = _mm512_cvtepi16_epi8(pick(both(&table.symbols), rank));
            // SAFETY: a whole group is left of `count`.
            unsafe { _mm256_storeu_si256(out[n].add(done).cast(), symbols) };
        }
        done += LANES;
    }
    states.iter().zip(lanes).for_each(|(states, lanes)| states.store(&mut lanes.coder));
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_exponents_fit() {
        // Of weights: each exponent half as often as the next, up to a few that are rare.
        let mut counts: Vec<u64> = (0..20).map(|e| 1 << (2 * e)).collect();
        counts.extend([1 << 37, 1 << 30, 3, 2, 1]);
        let narrow = Narrow::new(&Table::from_counts(&counts));
        assert!(narrow.is_some_and(|n| n.symbols[24] == 24 && n.lasts[24] == 4095));
        // One symbol alone, too many, and too many ends within buckets.
        assert!(Narrow::new(&Table::from_counts(&[1])).is_none());
        assert!(Narrow::new(&Table::from_counts(&[1; 65])).is_none());
        let ends: Vec<u64> = (0..64).map(|s| if s % 6 == 0 { 350 } else { 9 }).collect();
        assert!(Narrow::new(&Table::from_counts(&ends)).is_none());
    }
}
