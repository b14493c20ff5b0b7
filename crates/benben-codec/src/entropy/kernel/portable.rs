//! The kernel in plain Rust: what the others must equal.

use super::super::rans::{INITIAL, LANES};
use super::{Item, Lanes, Lookup, Slots, Tables};
use crate::entropy::Trellis;
use std::hint::select_unpredictable;

/// See [`Kernel::run`](super::Kernel::run), which has checked what is asked. Chunks side by side gain nothing here:
/// the first is decoded as far as it goes, the others as far as that.
pub(super) fn run<I: Item, const N: usize>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [&mut [I]; N],
) -> usize {
    let count = out.iter().map(|o| o.len()).min().unwrap_or(0);
    let mut done = 0;
    while done + LANES <= count && words.iter().all(|w| w.len() >= 2 * LANES) {
        // As many groups as no stream can run out of words in.
        let groups = words.iter().map(|w| w.len() / (2 * LANES)).min().unwrap_or(0);
        let end = count.min(done + groups * LANES);
        for stream in 0..N {
            let tables = match tables[stream] {
                Tables::Each(each) => Tables::Each(&each[done..end]),
                shared => shared,
            };
            one_stream(lookup, tables, &mut lanes[stream], &mut words[stream], &mut out[stream][done..end]);
        }
        done = end;
    }
    done
}

fn one_stream<I: Item>(
    lookup: Lookup<'_>,
    tables: Tables<'_>,
    lanes: &mut Lanes,
    words: &mut &[u8],
    out: &mut [I],
) {
    match (tables, lookup.trellis) {
        (Tables::Shared(first), Trellis::None) => {
            let slots = &lookup.slots[usize::from(first)];
            groups(lookup, lanes, words, out, |_, _, _| slots);
        }
        (Tables::Shared(first), trellis) => {
            let slots = &lookup.slots[usize::from(first)..][..trellis.tables()];
            let mask = trellis.tables() - 1;
            groups(lookup, lanes, words, out, |_, _, state| &slots[state as usize & mask]);
        }
        (Tables::Each(first), trellis) => {
            let mask = trellis.tables() as u32 - 1;
            groups(lookup, lanes, words, out, |group, lane, state| {
                &lookup.slots[usize::from(first[group * LANES + lane]) + (state & mask) as usize]
            });
        }
    }
}

#[inline(always)]
fn groups<'a, I: Item>(
    lookup: Lookup<'_>,
    lanes: &mut Lanes,
    words: &mut &[u8],
    out: &mut [I],
    slots: impl Fn(usize, usize, u32) -> &'a Slots,
) {
    const NOTHING: [f32; 256] = [0.0; 256];
    let [even, odd] = match lookup.values {
        [even, odd, ..] => [even, odd],
        [one] => [one, one],
        [] => [&NOTHING, &NOTHING],
    };
    let path = lookup.trellis != Trellis::None;
    for (group, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let Some(next) = words.first_chunk::<{ 2 * LANES }>() else { break };
        let mut taken = 0;
        for (lane, o) in out.iter_mut().enumerate() {
            let (coder, trellis) = (&mut lanes.coder[lane], &mut lanes.trellis[lane]);
            let (x, symbol) = one(slots(group, lane, *trellis), *coder);
            *o = I::of(symbol, if path && *trellis & 1 == 1 { odd } else { even });
            if path {
                *trellis = Trellis::next(*trellis, symbol);
            }
            let at = 2 * (taken % LANES);
            let word = u32::from(u16::from_le_bytes([next[at], next[at + 1]]));
            let refill = x < INITIAL;
            // Whether a lane takes a word is a coin toss: a branch would be mispredicted every third symbol.
            *coder = select_unpredictable(refill, x << 16 | word, x);
            taken += usize::from(refill);
        }
        *words = &words[2 * taken..];
    }
}

/// The state without its last symbol, and that symbol.
#[inline(always)]
pub(in super::super) fn one(slots: &Slots, state: u32) -> (u32, u8) {
    let slot = slots[(state & 0xfff) as usize];
    let prefix = state >> 12;
    // A frequency is stored less 1, so that 4096 fits 12 bits.
    (((slot >> 8) & 0xfff) * prefix + prefix + (slot >> 20), slot as u8)
}
