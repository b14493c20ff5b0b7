//! The kernel in plain Rust: what the others must equal.

use super::super::rans::{INITIAL, LANES};
use super::{Item, Lanes, Lookup, Slots, Tables};
use crate::entropy::Trellis;
use std::hint::select_unpredictable;

/// See [`Kernel::run`](super::Kernel::run), which has checked what is asked.
pub(super) fn run<I: Item>(
    lookup: Lookup<'_>,
    tables: Tables<'_>,
    lanes: &mut Lanes,
    words: &mut &[u8],
    out: &mut [I],
) -> usize {
    match (tables, lookup.trellis) {
        (Tables::Shared(first), Trellis::None) => {
            let slots = &lookup.slots[usize::from(first)];
            groups(lookup, lanes, words, out, |_, _, _| slots)
        }
        (Tables::Shared(first), trellis) => {
            let slots = &lookup.slots[usize::from(first)..][..trellis.tables()];
            let mask = trellis.tables() - 1;
            groups(lookup, lanes, words, out, |_, _, state| &slots[state as usize & mask])
        }
        (Tables::Each(first), trellis) => {
            let mask = trellis.tables() as u32 - 1;
            groups(lookup, lanes, words, out, |group, lane, state| {
                &lookup.slots[usize::from(first[group * LANES + lane]) + (state & mask) as usize]
            })
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
) -> usize {
    const NOTHING: [f32; 256] = [0.0; 256];
    let [even, odd] = match lookup.values {
        [even, odd, ..] => [even, odd],
        [one] => [one, one],
        [] => [&NOTHING, &NOTHING],
    };
    let path = lookup.trellis != Trellis::None;
    let mut done = 0;
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
        done += LANES;
    }
    done
}

/// The state without its last symbol, and that symbol.
#[inline(always)]
pub(in super::super) fn one(slots: &Slots, state: u32) -> (u32, u8) {
    let slot = slots[(state & 0xfff) as usize];
    let prefix = state >> 12;
    // A frequency is stored less 1, so that 4096 fits 12 bits.
    (((slot >> 8) & 0xfff) * prefix + prefix + (slot >> 20), slot as u8)
}
