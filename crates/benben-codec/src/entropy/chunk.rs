//! One chunk: the choice of its mode, and its way back.
//!
//! # Bits of each mode, for a chunk of `n` items
//!
//! | mode | symbols | words | bytes (items of `width` bytes) |
//! |---|---|---|---|
//! | raw | `n` bytes | - | `n * width` bytes |
//! | const | 1 byte | the value, little-endian, without its high zero bytes (0 is no byte) | `width` bytes |
//! | bit-packed | a byte `b` in 1 to 8, then fields of `b` bits | a byte `b` in 1 to 64, then fields of `b` bits | - |
//! | zstd | a byte `p` in 1, 2, 4, 8, then a frame over bytes of `p` symbols of `8 / p` bits | - | a frame |
//! | rans | [`rans`](super::rans) | - | - |
//!
//! Fields are packed least significant bit first and zeros fill the last byte ([`bits`](super::bits)).
//!
//! # Choice
//! The smallest mode wins; among equals the one that is decoded fastest: const, raw, bit-packed, zstd, rANS. With
//! [`Preference::Fastest`], what is within 2 % counts as equal.

use super::kernel::Item;
use super::rans::{self, Decoder, Payload};
use super::{Model, Trellis, bits, values, zstd_mode};
use benben_format::{Chunk, Error, Mode, Result};
use std::ops::Range;

/// Where a chunk lies in its stream, and which of its items are wanted.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Index in the stream of the chunk's first item.
    pub(super) first: u64,
    /// Items of the chunk.
    pub(super) items: usize,
    /// Items wanted, counted from the chunk's first.
    pub(super) range: Range<usize>,
}

/// Which mode a chunk gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The smallest; among equals the one that is decoded fastest.
    #[default]
    Smallest,
    /// The one that is decoded fastest among those at most 2 % above the smallest: mostly zstd for rANS.
    Fastest,
    /// rANS unless another is smaller by more than a tenth: with few symbols, decoded at five times zstd's speed.
    Rans,
}

impl Preference {
    /// The choice among `candidates`, which come in the order of their decoding speed.
    fn choose(self, candidates: Vec<(Mode, Vec<u8>)>) -> Chunk<'static> {
        let smallest = candidates.iter().map(|c| c.1.len()).min().unwrap_or(0);
        let most = match self {
            Self::Smallest => smallest,
            Self::Fastest => smallest + smallest / 50,
            Self::Rans => smallest + smallest / 10,
        };
        let rans = candidates.iter().any(|c| c.0 == Mode::Rans && c.1.len() <= most) && self == Self::Rans;
        let most = if self == Self::Rans && !rans { smallest } else { most };
        let best = candidates.into_iter().find(|c| c.1.len() <= most && (!rans || c.0 == Mode::Rans));
        best.map_or_else(|| Chunk::new(Mode::Raw, Vec::new()), |(mode, bytes)| Chunk::new(mode, bytes))
    }
}

fn with_head(head: u8, mut tail: Vec<u8>) -> Vec<u8> {
    tail.insert(0, head);
    tail
}

/// Codes symbols, the first of which is symbol `first` of the stream.
pub(super) fn encode_symbols(
    symbols: &[u8],
    first: u64,
    model: &Model<'_>,
    preference: Preference,
) -> Chunk<'static> {
    if let [value, rest @ ..] = symbols
        && rest.iter().all(|s| s == value)
    {
        return Chunk::new(Mode::Const, vec![*value]);
    }
    let width = bits::width(symbols.iter().copied().max().unwrap_or(0).into());
    let mut candidates = vec![(Mode::Raw, symbols.to_vec())];
    if width < 8 {
        candidates.push((Mode::BitPacked, with_head(width, bits::pack_symbols(symbols, width))));
    }
    let each = 8 / width.next_power_of_two();
    let frame = zstd_mode::compress(&bits::pack_symbols(symbols, 8 / each));
    candidates.extend(frame.map(|f| (Mode::Zstd, with_head(each, f))));
    candidates.extend(rans::encode(symbols, first, model).map(|p| (Mode::Rans, p)));
    preference.choose(candidates)
}

/// A chunk, and where its wanted items go.
#[derive(Debug)]
pub(super) struct Piece<'a, T> {
    /// Number of the chunk in its stream.
    pub(super) index: u64,
    pub(super) chunk: Chunk<'a>,
    pub(super) part: &'a Part,
    pub(super) out: &'a mut [T],
}

impl<T> Piece<'_, T> {
    fn name(&self, e: Error) -> Error {
        e.context(format!("chunk {}", self.index))
    }
}

/// Decodes one piece after the other.
pub(super) fn each<T>(
    pieces: &mut [Piece<'_, T>],
    decode: impl Fn(&Chunk<'_>, &Part, &mut [T]) -> Result<()>,
) -> Result<()> {
    pieces.iter_mut().try_for_each(|p| decode(&p.chunk, p.part, p.out).map_err(|e| p.name(e)))
}

/// Decodes `N` whole chunks in mode rans side by side, and gives the number of the first that fails with its error.
fn beside<I: Item, const N: usize>(
    pieces: &mut [Piece<'_, I>; N],
    decoder: &Decoder<'_>,
    values: &[[f32; 256]],
) -> std::result::Result<(), (u64, Error)> {
    let mut payloads = [Payload { bytes: &[], first: 0 }; N];
    let mut out: [&mut [I]; N] = std::array::from_fn(|_| <&mut [I]>::default());
    for ((piece, payload), out) in pieces.iter_mut().zip(&mut payloads).zip(&mut out) {
        *payload = Payload { bytes: &piece.chunk.bytes, first: piece.part.first };
        *out = piece.out;
    }
    let results = decoder.decode(values, payloads, out);
    let mut named = results.into_iter().zip(pieces);
    named.try_for_each(|(result, piece)| result.map_err(|e| (piece.index, piece.name(e))))
}

/// Decodes pieces: whole chunks in mode rans side by side, what is left over one by one with `single`. The error is
/// that of the first chunk that has one, whatever was decoded with what.
fn some<I: Item>(
    pieces: &mut [Piece<'_, I>],
    decoder: &Decoder<'_>,
    values: &[[f32; 256]],
    single: impl Fn(&Chunk<'_>, &Part, &mut [I]) -> Result<()>,
) -> Result<()> {
    let beside_others = |p: &Piece<'_, I>| p.chunk.mode == Mode::Rans && p.part.range.len() == p.part.items;
    pieces.sort_by_key(|p| !beside_others(p));
    let whole = pieces.iter().filter(|p| beside_others(p)).count();
    let (mut whole, rest) = pieces.split_at_mut(whole);
    let mut failed = None;
    while !whole.is_empty() {
        let (outcome, taken) =
            if let Some(four) = whole.first_chunk_mut::<4>().filter(|_| decoder.takes_four()) {
                (beside(four, decoder, values), 4)
            } else if let Some(two) = whole.first_chunk_mut::<2>() {
                (beside(two, decoder, values), 2)
            } else {
                let first = &mut whole[0];
                let outcome = single(&first.chunk, first.part, first.out);
                (outcome.map_err(|e| (first.index, first.name(e))), 1)
            };
        first_error(&mut failed, outcome);
        whole = &mut whole[taken..];
    }
    for piece in rest {
        let outcome = single(&piece.chunk, piece.part, piece.out);
        first_error(&mut failed, outcome.map_err(|e| (piece.index, piece.name(e))));
    }
    failed.map_or(Ok(()), |(_, e)| Err(e))
}

/// Keeps the error of the chunk with the lowest number.
fn first_error(failed: &mut Option<(u64, Error)>, outcome: std::result::Result<(), (u64, Error)>) {
    if let Err((index, e)) = outcome
        && failed.as_ref().is_none_or(|(first, _)| index < *first)
    {
        *failed = Some((index, e));
    }
}

/// Decodes the wanted symbols of some chunks to their values.
pub(super) fn decode_values(
    pieces: &mut [Piece<'_, f32>],
    decoder: &Decoder<'_>,
    rows: &[[f32; 256]],
) -> Result<()> {
    some(pieces, decoder, rows, |chunk, part, out| {
        let trellis = decoder.model.trellis;
        if chunk.mode == Mode::Rans {
            let payload = Payload { bytes: &chunk.bytes, first: part.first };
            return whole_or_part(part, 1, out, |whole| decoder.decode_one(rows, payload, whole));
        }
        // A path is followed from the first symbol of the chunk on.
        let from = if trellis == Trellis::None { part.range.start } else { 0 };
        let mut symbols = vec![0; part.range.end - from];
        let part = Part { range: from..part.range.end, ..part.clone() };
        chunk_symbols(chunk, &part, decoder, &mut symbols)?;
        values::look_up(rows, &symbols, symbols.len() - out.len(), out);
        Ok(())
    })
}

/// Decodes the wanted symbols of some chunks.
pub(super) fn decode_symbols(pieces: &mut [Piece<'_, u8>], decoder: &Decoder<'_>) -> Result<()> {
    some(pieces, decoder, &[], |chunk, part, out| chunk_symbols(chunk, part, decoder, out))
}

/// Decodes the wanted symbols of a chunk.
fn chunk_symbols(chunk: &Chunk<'_>, part: &Part, decoder: &Decoder<'_>, out: &mut [u8]) -> Result<()> {
    let payload = &*chunk.bytes;
    match chunk.mode {
        Mode::Raw => copy_raw(payload, part, 1, out),
        Mode::Const => {
            let &[value] = payload else { return Err(wrong_const(payload, 1)) };
            out.fill(value);
            Ok(())
        }
        Mode::BitPacked => {
            let (width, fields) = packed_fields(payload, part, 8)?;
            bits::unpack_symbols(fields, width, part.range.start, out);
            Ok(())
        }
        Mode::Zstd => {
            let (&each, frame) = payload.split_first().ok_or_else(|| empty(chunk.mode))?;
            if !matches!(each, 1 | 2 | 4 | 8) {
                return Err(Error::corruption(format!("{each} symbols to a byte, expected 1, 2, 4 or 8")));
            }
            let mut packed = vec![0; part.items.div_ceil(each.into())];
            zstd_mode::decompress(frame, &mut packed)?;
            bits::check_packed(&packed, part.items, 8 / each)?;
            bits::unpack_symbols(&packed, 8 / each, part.range.start, out);
            Ok(())
        }
        Mode::Rans => whole_or_part(part, 1, out, |whole| {
            decoder.decode_one(&[], Payload { bytes: payload, first: part.first }, whole)
        }),
    }
}

/// Codes words.
pub(super) fn encode_words(values: &[u64]) -> Chunk<'static> {
    if let [value, rest @ ..] = values
        && rest.iter().all(|v| v == value)
    {
        let used = value.to_le_bytes();
        return Chunk::new(Mode::Const, used[..8 - value.leading_zeros() as usize / 8].to_vec());
    }
    let width = values.iter().map(|&v| bits::width(v)).max().unwrap_or(1);
    Chunk::new(Mode::BitPacked, with_head(width, bits::pack(values, width)))
}

/// Decodes the wanted words of a chunk.
pub(super) fn decode_words(chunk: &Chunk<'_>, part: &Part, out: &mut [u64]) -> Result<()> {
    match chunk.mode {
        Mode::Const => {
            let mut value = [0; 8];
            match value.get_mut(..chunk.bytes.len()) {
                Some(low) if chunk.bytes.last() != Some(&0) => low.copy_from_slice(&chunk.bytes),
                _ => {
                    return Err(Error::corruption(format!(
                        "constant word of {} bytes, expected at most 8 and the last not 0",
                        chunk.bytes.len()
                    )));
                }
            }
            out.fill(u64::from_le_bytes(value));
            Ok(())
        }
        Mode::BitPacked => {
            let (width, fields) = packed_fields(&chunk.bytes, part, 64)?;
            bits::unpack(fields, width, part.range.start, out);
            Ok(())
        }
        other => {
            Err(Error::corruption(format!("words in mode {}, expected const or bit-packed", other.name())))
        }
    }
}

/// Codes items of `width` bytes.
pub(super) fn encode_bytes(bytes: &[u8], width: u8) -> Chunk<'static> {
    let (first, rest) = bytes.split_at(usize::from(width).min(bytes.len()));
    if rest.chunks(width.into()).all(|item| item == first) {
        return Chunk::new(Mode::Const, first.to_vec());
    }
    let mut candidates = vec![(Mode::Raw, bytes.to_vec())];
    candidates.extend(zstd_mode::compress(bytes).map(|f| (Mode::Zstd, f)));
    Preference::Smallest.choose(candidates)
}

/// Decodes the wanted items of a chunk.
pub(super) fn decode_bytes(chunk: &Chunk<'_>, part: &Part, width: u8, out: &mut [u8]) -> Result<()> {
    let payload = &*chunk.bytes;
    match chunk.mode {
        Mode::Raw => copy_raw(payload, part, width.into(), out),
        Mode::Const if payload.len() == usize::from(width) => {
            out.chunks_exact_mut(payload.len()).for_each(|item| item.copy_from_slice(payload));
            Ok(())
        }
        Mode::Const => Err(wrong_const(payload, width.into())),
        Mode::Zstd => whole_or_part(part, width.into(), out, |whole| zstd_mode::decompress(payload, whole)),
        other => {
            Err(Error::corruption(format!("bytes in mode {}, expected raw, const or zstd", other.name())))
        }
    }
}

fn empty(mode: Mode) -> Error {
    Error::corruption(format!("empty payload in mode {}", mode.name()))
}

fn wrong_const(payload: &[u8], expected: usize) -> Error {
    Error::corruption(format!("constant of {} bytes, expected {expected}", payload.len()))
}

fn copy_raw(payload: &[u8], part: &Part, width: usize, out: &mut [u8]) -> Result<()> {
    if payload.len() != part.items * width {
        return Err(Error::corruption(format!(
            "{} raw items of {width} bytes, found {} bytes",
            part.items,
            payload.len()
        )));
    }
    out.copy_from_slice(&payload[part.range.start * width..part.range.end * width]);
    Ok(())
}

fn packed_fields<'a>(payload: &'a [u8], part: &Part, most: u8) -> Result<(u8, &'a [u8])> {
    let (&width, fields) = payload.split_first().ok_or_else(|| empty(Mode::BitPacked))?;
    if width == 0 || width > most {
        return Err(Error::corruption(format!("fields of {width} bits, expected 1 to {most}")));
    }
    bits::check_packed(fields, part.items, width)?;
    Ok((width, fields))
}

/// Decodes a whole chunk into `out`, or into a buffer of its own where only a part is wanted: what rANS and zstd
/// verify, they verify at the end.
fn whole_or_part<T: Copy + Default>(
    part: &Part,
    width: usize,
    out: &mut [T],
    decode: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<()> {
    if part.range.len() == part.items {
        return decode(out);
    }
    let mut whole = vec![T::default(); part.items * width];
    decode(&mut whole)?;
    out.copy_from_slice(&whole[part.range.start * width..part.range.end * width]);
    Ok(())
}
