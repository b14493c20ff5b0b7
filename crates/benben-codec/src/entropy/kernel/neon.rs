//! The kernel for aarch64 with NEON: 4 lanes to a register, eight registers to a group.
//!
//! As with AVX2, but there are no gathers: slots and values are loaded lane by lane, and only the arithmetic on states
//! and the dealing of words is done on registers. Which lanes need a word is four bits, and a table of 16 permutations
//! deals the next words out to them.
//!
//! Checked against `portable` under emulation (`tools/check_neon`), which tells nothing about speed: it has not been
//! timed on any machine. Look-ups are one by one as in `portable`; what may be saved is arithmetic, and waiting where
//! chunks are decoded side by side.
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]

use super::super::rans::LANES;
use super::{Item, Lanes, Lookup, Tables};
use crate::entropy::Trellis;
use std::arch::aarch64::*;

/// Words that a group may take, in bytes.
const GROUP_BYTES: usize = 2 * LANES;
/// Registers of a group, and lanes of each.
const PARTS: usize = 8;
const WIDE: usize = LANES / PARTS;

/// For each set of lanes that need a word: which bytes of the next words each lane takes, as an integer of 32 bits; 255
/// is no byte.
static DEAL: [[u8; 16]; 16] = {
    let mut deal = [[255; 16]; 16];
    let mut set = 0;
    while set < 16 {
        let (mut lane, mut next) = (0, 0);
        while lane < WIDE {
            if set >> lane & 1 == 1 {
                deal[set][4 * lane] = next;
                deal[set][4 * lane + 1] = next + 1;
                next += 2;
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
    // SAFETY: every aarch64 machine that Rust's standard library runs on has NEON.
    unsafe {
        match lookup.trellis {
            Trellis::None => groups::<I, N, 0>(lookup, tables, lanes, words, out),
            Trellis::Unions => groups::<I, N, 1>(lookup, tables, lanes, words, out),
            Trellis::States => groups::<I, N, 7>(lookup, tables, lanes, words, out),
        }
    }
}

/// Decodes groups. `MASK` is what of a trellis state counts for the table, 0 without a trellis.
#[target_feature(enable = "neon")]
fn groups<I: Item, const N: usize, const MASK: u32>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [&mut [I]; N],
) -> usize {
    const NOTHING: [f32; 256] = [0.0; 256];
    let [even, odd] = match lookup.values {
        [even, odd, ..] => [even, odd],
        [one] => [one, one],
        [] => [&NOTHING, &NOTHING],
    };
    let (mut x, mut path) = ([[vdupq_n_u32(0); PARTS]; N], [[vdupq_n_u32(0); PARTS]; N]);
    for n in 0..N {
        for part in 0..PARTS {
            x[n][part] = load(&lanes[n].coder, part);
            path[n][part] = load(&lanes[n].trellis, part);
        }
    }
    let low = vdupq_n_u32(0xfff);
    let one = vdupq_n_u32(1);
    let bit = load_four(&[1, 2, 4, 8]);
    let count = out.iter().map(|o| o.len()).min().unwrap_or(0);
    let mut done = 0;
    while done + LANES <= count && words.iter().all(|w| w.len() >= GROUP_BYTES) {
        for part in 0..PARTS {
            for n in 0..N {
                let at = done + WIDE * part;
                let state = four(path[n][part]);
                let index = four(vandq_u32(x[n][part], low));
                let slot: [u32; WIDE] = std::array::from_fn(|lane| {
                    let first = match tables[n] {
                        Tables::Shared(first) => first,
                        Tables::Each(each) => each[at + lane],
                    };
                    lookup.slots[usize::from(first) + (state[lane] & MASK) as usize]
                        [index[lane] as usize & 0xfff]
                });
                for (lane, o) in out[n][at..at + WIDE].iter_mut().enumerate() {
                    let values = if MASK != 0 && state[lane] & 1 == 1 { odd } else { even };
                    *o = I::of(slot[lane] as u8, values);
                }
                let slot = load_four(&slot);
                let prefix = vshrq_n_u32::<12>(x[n][part]);
                let freq = vandq_u32(vshrq_n_u32::<8>(slot), low);
                let rest = vaddq_u32(prefix, vshrq_n_u32::<20>(slot));
                let next = vmlaq_u32(rest, freq, prefix);
                let refill = vceqq_u32(vshrq_n_u32::<16>(next), vdupq_n_u32(0));
                let set = vaddvq_u32(vandq_u32(refill, bit)) as usize;
                // 64 bytes of words are left at the start of the group; each part before took at most 8 of them.
                let fresh = deal(words[n], &DEAL[set]);
                let filled = vorrq_u32(vshlq_n_u32::<16>(next), fresh);
                x[n][part] = vbslq_u32(refill, filled, next);
                words[n] = &words[n][2 * set.count_ones() as usize..];
                if MASK != 0 {
                    let symbol = vandq_u32(slot, vdupq_n_u32(0xff));
                    let parity = vandq_u32(vshrq_n_u32::<1>(vaddq_u32(symbol, one)), one);
                    let state = path[n][part];
                    let flip = veorq_u32(vshrq_n_u32::<1>(state), vshrq_n_u32::<2>(state));
                    let branch = veorq_u32(parity, vandq_u32(flip, one));
                    let shifted = vandq_u32(vaddq_u32(state, state), vdupq_n_u32(7));
                    path[n][part] = vorrq_u32(shifted, branch);
                }
            }
        }
        done += LANES;
    }
    for n in 0..N {
        for part in 0..PARTS {
            lanes[n].coder[WIDE * part..][..WIDE].copy_from_slice(&four(x[n][part]));
            lanes[n].trellis[WIDE * part..][..WIDE].copy_from_slice(&four(path[n][part]));
        }
    }
    done
}

/// The next words of lanes that need one, 0 for others; `words` has at least 8 bytes.
#[target_feature(enable = "neon")]
#[inline]
fn deal(words: &[u8], order: &[u8; 16]) -> uint32x4_t {
    let mut fresh = [0; 8];
    fresh.copy_from_slice(&words[..8]);
    // SAFETY: 8 bytes and 16.
    let (fresh, order) = unsafe { (vld1_u8(fresh.as_ptr()), vld1q_u8(order.as_ptr())) };
    vreinterpretq_u32_u8(vqtbl1q_u8(vcombine_u8(fresh, vdup_n_u8(0)), order))
}

#[target_feature(enable = "neon")]
#[inline]
fn load(of: &[u32; LANES], part: usize) -> uint32x4_t {
    load_four(&std::array::from_fn(|lane| of[WIDE * part + lane]))
}

#[target_feature(enable = "neon")]
#[inline]
fn load_four(of: &[u32; WIDE]) -> uint32x4_t {
    // SAFETY: 4 integers.
    unsafe { vld1q_u32(of.as_ptr()) }
}

#[target_feature(enable = "neon")]
#[inline]
fn four(of: uint32x4_t) -> [u32; WIDE] {
    let mut four = [0; WIDE];
    // SAFETY: 4 integers.
    unsafe { vst1q_u32(four.as_mut_ptr(), of) };
    four
}
