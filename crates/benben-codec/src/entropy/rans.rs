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
//! 96 bytes for each chunk on top of the tables' cost ([`estimated_bytes`]). No branches in the decoder's inner
//! loop; about 2 cycles for each symbol.

use super::Model;
use benben_format::{Error, Result};
use std::ops::Range;

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
/// one of them, or there is no table.
pub fn encode(symbols: &[u8], first: u64, model: &Model<'_>) -> Option<Vec<u8>> {
    let mut states = [INITIAL; LANES];
    let mut words: Vec<u16> = Vec::with_capacity(symbols.len() / 4);
    let range = first..first + symbols.len() as u64;
    let segments: Vec<_> = model.segments(range).collect();
    if segments.last().map_or(0, |s| s.0.end) != symbols.len() {
        return None;
    }
    for (range, table) in segments.into_iter().rev() {
        for i in range.rev() {
            let (start, freq) = table.interval(symbols[i])?;
            let state = &mut states[i % LANES];
            if *state >> 20 >= freq {
                words.push(*state as u16);
                *state >>= 16;
            }
            *state = ((*state / freq) << 12) + start + *state % freq;
        }
    }
    let mut payload = Vec::with_capacity(STATE_BYTES + 2 * words.len());
    states.iter().for_each(|s| payload.extend_from_slice(&s.to_le_bytes()));
    words.iter().rev().for_each(|w| payload.extend_from_slice(&w.to_le_bytes()));
    Some(payload)
}

/// Decodes all symbols of a chunk, the first of which is symbol `first` of the stream. The model has passed
/// [`Model::check`] for them.
///
/// # Errors
/// [`Corruption`](benben_format::ErrorKind::Corruption) where the payload is not one that [`encode`] makes.
pub fn decode(payload: &[u8], first: u64, model: &Model<'_>, out: &mut [u8]) -> Result<()> {
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
    let mut done = 0;
    for (range, table) in model.segments(first..first + out.len() as u64) {
        done = range.end;
        decode_segment(table.slots(), &mut states, &mut words, range, out)?;
    }
    if done != out.len() {
        return Err(Error::corruption(format!("rANS tables cover {done} of {} symbols", out.len())));
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

/// Decodes symbols `range`, all by one table: single symbols up to lane 0, whole groups of lanes, single symbols.
fn decode_segment(
    slots: &[u32; 4096],
    states: &mut [u32; LANES],
    words: &mut Words<'_>,
    range: Range<usize>,
    out: &mut [u8],
) -> Result<()> {
    let start = range.start;
    let Some(out) = out.get_mut(range) else { return Ok(()) };
    let head = (start.next_multiple_of(LANES) - start).min(out.len());
    let (single, rest) = out.split_at_mut(head);
    decode_singly(slots, states, words, start, single)?;
    let groups = decode_groups(slots, states, words, rest);
    decode_singly(slots, states, words, start + head + groups, &mut rest[groups..])
}

/// Decodes symbols one at a time, the first of which is symbol `index` of the chunk.
fn decode_singly(
    slots: &[u32; 4096],
    states: &mut [u32; LANES],
    words: &mut Words<'_>,
    index: usize,
    out: &mut [u8],
) -> Result<()> {
    for (i, o) in out.iter_mut().enumerate() {
        let state = &mut states[(index + i) % LANES];
        (*state, *o) = step(slots, *state);
        if *state < INITIAL {
            let Some((word, rest)) = words.0.split_first_chunk::<2>() else {
                return Err(Error::corruption(format!("rANS words end at symbol {}", index + i)));
            };
            words.0 = rest;
            *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
        }
    }
    Ok(())
}

/// Decodes whole groups of [`LANES`] symbols while both symbols and words for a group are left, and returns how many
/// symbols that were. The kernel that a SIMD twin replaces.
fn decode_groups(
    slots: &[u32; 4096],
    states: &mut [u32; LANES],
    words: &mut Words<'_>,
    out: &mut [u8],
) -> usize {
    let mut done = 0;
    for group in out.as_chunks_mut::<LANES>().0 {
        let Some(next) = words.0.first_chunk::<{ 2 * LANES }>() else { break };
        let mut taken = 0;
        for (state, o) in states.iter_mut().zip(group) {
            let (x, symbol) = step(slots, *state);
            *o = symbol;
            let at = 2 * (taken % LANES);
            let word = u32::from(u16::from_le_bytes([next[at], next[at + 1]]));
            let refill = x < INITIAL;
            *state = if refill { x << 16 | word } else { x };
            taken += usize::from(refill);
        }
        words.0 = &words.0[2 * taken..];
        done += LANES;
    }
    done
}

/// The state without its last symbol, and that symbol.
#[inline(always)]
fn step(slots: &[u32; 4096], state: u32) -> (u32, u8) {
    let slot = slots[(state & 0xfff) as usize];
    let prefix = state >> 12;
    // A frequency is stored less 1, so that 4096 fits 12 bits.
    (((slot >> 8) & 0xfff) * prefix + prefix + (slot >> 20), slot as u8)
}
