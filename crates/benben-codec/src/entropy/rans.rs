//! 32-lane rANS with static 12-bit tables.
//!
//! # Source
//! Duda, "Asymmetric numeral systems" (arXiv:1311.2540); interleaving after Giesen, "Interleaved entropy coders"
//! (arXiv:1402.3392). The bits are those of 32 `constriction` coders `AnsCoder<u16, u32>`, each begun with state
//! 2^16 (`from_raw_parts`), whose words go to and come from one stack; [`reference`](super::reference) is that
//! coder, and a test holds the two to the same bits.
//!
//! # Bits
//! Symbol `i` of the chunk belongs to lane `i mod 32`. A lane's state is a u32 in [2^16, 2^32); it starts at 2^16.
//! With `f` the frequency of a symbol and `c` the sum of the frequencies before it:
//!
//! - *Encode*, from the last symbol to the first: if `state >> 20 >= f`, push the low 16 bits of `state` and shift
//!   it right by 16; then `state = (state / f) * 4096 + c + state % f`.
//! - *Decode*, from the first to the last: `slot = state mod 4096` lies in one symbol's `c .. c + f`;
//!   `state = f * (state / 4096) + slot - c`; if that is below 2^16, `state = state * 65536 + next word`.
//!
//! Payload: the 32 states as u32, then the words as u16 in the order in which the decoder takes them (the reverse of
//! that in which the encoder pushed them); all little-endian. A decoder refuses a first state below 2^16, missing or
//! left-over words, and a last state other than 2^16.
//!
//! # Cost
//! 96 bytes for each chunk on top of the tables' cost ([`estimated_bytes`]). The decoder's inner loop has no branches:
//! about 0.48 Gsym/s on one x86-64 core without SIMD, with one table or with several in runs of 100 or more symbols;
//! runs of 16 take a quarter longer, runs of one symbol ten times as long.

use super::Model;
use benben_format::{Error, ErrorKind, Result};
use std::hint::select_unpredictable;

/// Lanes of a chunk.
pub const LANES: usize = 32;
/// State of each lane before the first symbol is encoded, and after the last is decoded.
pub const INITIAL: u32 = 1 << 16;
/// Bytes of the lane states at the front of a payload.
pub const STATE_BYTES: usize = 4 * LANES;

/// Bytes that a chunk is expected to take whose symbols cost `bits` by its tables: each lane stores 32 bits of
/// state of which 16 are the initial state's and 8, on average, hold symbols.
pub fn estimated_bytes(bits: f64) -> f64 {
    (bits / 8.0 + 96.0).max(STATE_BYTES as f64)
}

/// Codes `symbols`, the first of which is symbol `first` of the stream; `None` where a table has no frequency for
/// one of them, or the model does not cover them.
pub fn encode(symbols: &[u8], first: u64, model: &Model<'_>) -> Option<Vec<u8>> {
    let range = first..first + symbols.len() as u64;
    model.check(&range, ErrorKind::InvalidArgument).ok()?;
    let mut states = [INITIAL; LANES];
    // Filled from the back, at most one word for each symbol, so that the words end up in decoding order.
    let mut words = vec![0u16; symbols.len()];
    let mut at = symbols.len();
    let segments: Vec<_> = model.segments(range).collect();
    if segments.last().map_or(0, |s| s.0.end) != symbols.len() {
        return None;
    }
    for (range, table) in segments.into_iter().rev() {
        for i in range.rev() {
            let (start, freq) = table.interval(symbols[i])?;
            let state = states[i % LANES];
            let full = state >> 20 >= freq;
            words[at - 1] = state as u16;
            at -= usize::from(full);
            let state = select_unpredictable(full, state >> 16, state);
            states[i % LANES] = ((state / freq) << 12) + start + state % freq;
        }
    }
    let words = &words[at..];
    let mut payload = Vec::with_capacity(STATE_BYTES + 2 * words.len());
    states.iter().for_each(|s| payload.extend_from_slice(&s.to_le_bytes()));
    words.iter().for_each(|w| payload.extend_from_slice(&w.to_le_bytes()));
    Some(payload)
}

/// Decodes all symbols of a chunk, the first of which is symbol `first` of the stream.
///
/// # Errors
/// [`Corruption`](ErrorKind::Corruption) where the payload is not one that [`encode`] makes, or the model does not
/// cover the symbols.
pub fn decode(payload: &[u8], first: u64, model: &Model<'_>, out: &mut [u8]) -> Result<()> {
    let range = first..first + out.len() as u64;
    model.check(&range, ErrorKind::Corruption)?;
    let Some((head, words)) = payload.split_first_chunk::<STATE_BYTES>() else {
        return Err(Error::corruption(format!(
            "rANS payload of {} bytes, {STATE_BYTES} expected for the lane states alone",
            payload.len()
        )));
    };
    if words.len() % 2 != 0 {
        return Err(Error::corruption(format!(
            "rANS words take {} bytes, an even number expected",
            words.len()
        )));
    }
    let mut states = [0; LANES];
    for (lane, (state, bytes)) in states.iter_mut().zip(head.as_chunks::<4>().0).enumerate() {
        *state = u32::from_le_bytes(*bytes);
        if *state < INITIAL {
            return Err(Error::corruption(format!(
                "rANS lane {lane} starts at state {state}, below {INITIAL}"
            )));
        }
    }
    let mut words = Words(words);
    let mut segments = model.segments(range).peekable();
    let mut at = 0;
    while at < out.len() {
        while segments.next_if(|(range, _)| range.end <= at).is_some() {}
        let Some((range, table)) = segments.peek() else {
            return Err(Error::corruption(format!("rANS tables cover {at} of {} symbols", out.len())));
        };
        let whole = (range.end - at) / LANES * LANES;
        at += decode_groups(table.slots(), &mut states, &mut words, &mut out[at..at + whole]);
        if at == range.end {
            continue;
        }
        // The rest of a segment shares its group with the next ones; groups near the end of the words come here too.
        let mut slots = [table.slots(); LANES];
        let group = LANES.min(out.len() - at);
        let mut filled = 0;
        while filled < group {
            while segments.next_if(|(range, _)| range.end <= at + filled).is_some() {}
            let Some((range, table)) = segments.peek() else { break };
            let end = (range.end - at).min(group);
            slots[filled..end].fill(table.slots());
            filled = end;
        }
        let own = &mut out[at..at + group];
        match (own.first_chunk_mut::<LANES>(), words.0.first_chunk()) {
            (Some(own), Some(next)) => {
                let taken = decode_group(|lane| slots[lane], &mut states, next, own);
                words.0 = &words.0[2 * taken..];
            }
            _ => decode_singly(&slots, &mut states, &mut words, own)
                .map_err(|e| e.context(format!("symbols from {at} on")))?,
        }
        at += group;
    }
    if !words.0.is_empty() {
        return Err(Error::corruption(format!("rANS payload has {} bytes too many", words.0.len())));
    }
    match states.iter().position(|&s| s != INITIAL) {
        Some(lane) => Err(Error::corruption(format!(
            "rANS lane {lane} ends at state {}, expected {INITIAL}",
            states[lane]
        ))),
        None => Ok(()),
    }
}

/// What is left of the words, as little-endian bytes.
struct Words<'a>(&'a [u8]);

/// Decodes at most [`LANES`] symbols from lane 0 on, each by its own table.
fn decode_singly(
    slots: &[&[u32; 4096]; LANES],
    states: &mut [u32; LANES],
    words: &mut Words<'_>,
    out: &mut [u8],
) -> Result<()> {
    for ((o, slots), state) in out.iter_mut().zip(slots).zip(states) {
        (*state, *o) = step(slots, *state);
        if *state < INITIAL {
            let Some((word, rest)) = words.0.split_first_chunk::<2>() else {
                return Err(Error::corruption("rANS words end early"));
            };
            words.0 = rest;
            *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
        }
    }
    Ok(())
}

/// Decodes whole groups of [`LANES`] symbols, all by one table, while both symbols and words for a group are left,
/// and returns how many symbols that were. The kernel that a SIMD twin replaces.
#[inline(never)]
fn decode_groups(
    slots: &[u32; 4096],
    states: &mut [u32; LANES],
    words: &mut Words<'_>,
    out: &mut [u8],
) -> usize {
    let mut done = 0;
    for group in out.as_chunks_mut::<LANES>().0 {
        let Some(next) = words.0.first_chunk() else { break };
        let taken = decode_group(|_| slots, states, next, group);
        words.0 = &words.0[2 * taken..];
        done += LANES;
    }
    done
}

/// Decodes one symbol of each lane by the lane's slots, given as many words as lanes, and returns how many it took.
#[inline(always)]
fn decode_group<'a>(
    slots: impl Fn(usize) -> &'a [u32; 4096],
    states: &mut [u32; LANES],
    next: &[u8; 2 * LANES],
    out: &mut [u8; LANES],
) -> usize {
    let mut taken = 0;
    for (lane, (state, o)) in states.iter_mut().zip(out).enumerate() {
        let (x, symbol) = step(slots(lane), *state);
        *o = symbol;
        let at = 2 * (taken % LANES);
        let word = u32::from(u16::from_le_bytes([next[at], next[at + 1]]));
        let refill = x < INITIAL;
        // Whether a lane takes a word is a coin toss: a branch would be mispredicted every third symbol.
        *state = select_unpredictable(refill, x << 16 | word, x);
        taken += usize::from(refill);
    }
    taken
}

/// The state without its last symbol, and that symbol.
#[inline(always)]
fn step(slots: &[u32; 4096], state: u32) -> (u32, u8) {
    let slot = slots[(state & 0xfff) as usize];
    let prefix = state >> 12;
    // A frequency is stored less 1, so that 4096 fits 12 bits.
    (((slot >> 8) & 0xfff) * prefix + prefix + (slot >> 20), slot as u8)
}
