//! Whole streams: cutting into chunks, and reading the chunks that a range touches. Chunks are independent, so that
//! both run in parallel.

use super::chunk::{self, Part, Piece, Preference};
use super::rans::{self, Decoder};
use super::{Kernel, Model, Table, Values};
use benben_format::{Chunk, Error, ErrorKind, LeafSource, Result, StreamKind, StreamSpec};
use rayon::prelude::*;
use std::ops::Range;

/// Codes symbols; the smallest of const, raw, bit-packed, zstd and (where the model has tables, and they have a
/// frequency for each symbol) rANS for each chunk.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) where the model's classes do not cover the symbols or name tables
/// that do not exist, and for a chunk size of 0 or above [`StreamSpec::MAX_CHUNK_ITEMS`].
pub fn encode_symbols(
    symbols: &[u8],
    model: &Model<'_>,
    chunk_items: u32,
) -> Result<(StreamSpec, Vec<Chunk<'static>>)> {
    encode_symbols_by(symbols, model, chunk_items, Preference::Smallest)
}

/// [`encode_symbols`] by another preference than the smallest size.
///
/// # Errors
/// As [`encode_symbols`].
pub fn encode_symbols_by(
    symbols: &[u8],
    model: &Model<'_>,
    chunk_items: u32,
    preference: Preference,
) -> Result<(StreamSpec, Vec<Chunk<'static>>)> {
    model.check(&(0..symbols.len() as u64), ErrorKind::InvalidArgument)?;
    let spec = spec(StreamKind::Symbols, symbols.len(), chunk_items)?;
    let chunks = (0u64..).step_by(chunk_items as usize).zip(symbols.chunks(chunk_items as usize));
    let chunks: Vec<(u64, &[u8])> = chunks.collect();
    let chunks = chunks.into_par_iter().map(|(first, s)| chunk::encode_symbols(s, first, model, preference));
    Ok((spec, chunks.collect()))
}

/// Decodes symbols `range` of stream `stream` into `out`. The model is the one that the symbols were encoded with.
///
/// # Errors
/// [`Corruption`](ErrorKind::Corruption) where a payload contradicts itself, or the model does not cover a chunk
/// that needs it; [`InvalidArgument`](ErrorKind::InvalidArgument) where `range` is not within the stream or `out` not
/// of its length.
pub fn decode_symbols(
    source: &dyn LeafSource,
    stream: usize,
    range: Range<u64>,
    model: &Model<'_>,
    out: &mut [u8],
) -> Result<()> {
    SymbolDecoder::new(model).decode(source, stream, range, out)
}

/// [`decode_symbols`] by a kernel of one's choice, for comparisons.
///
/// # Errors
/// As [`decode_symbols`].
pub fn decode_symbols_by(
    kernel: Kernel,
    source: &dyn LeafSource,
    stream: usize,
    range: Range<u64>,
    model: &Model<'_>,
    out: &mut [u8],
) -> Result<()> {
    SymbolDecoder(Decoder::new(model, kernel)).decode(source, stream, range, out)
}

/// [`decode_symbols`] for a caller who reads chunk by chunk: the tables' slots are made once, at the first chunk that
/// needs them.
pub struct SymbolDecoder<'a>(Decoder<'a>);

impl<'a> SymbolDecoder<'a> {
    /// A decoder of streams that were encoded with `model`.
    pub fn new(model: &'a Model<'a>) -> Self {
        Self(Decoder::new(model, Kernel::fastest()))
    }

    /// As [`decode_symbols`].
    ///
    /// # Errors
    /// As [`decode_symbols`].
    pub fn decode(
        &self,
        source: &dyn LeafSource,
        stream: usize,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<()> {
        let spec = stream_spec(source, stream, |kind| kind == StreamKind::Symbols)?;
        decode(source, stream, &spec, range, 1, out, |pieces| chunk::decode_symbols(pieces, &self.0))
    }

    /// As [`SymbolDecoder::decode`], on this thread alone: for a caller who has threads at work already.
    ///
    /// # Errors
    /// As [`decode_symbols`].
    pub(crate) fn decode_here(
        &self,
        source: &dyn LeafSource,
        stream: usize,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<()> {
        let spec = stream_spec(source, stream, |kind| kind == StreamKind::Symbols)?;
        let mut wanted = cut(&spec, stream, range, 1, out)?;
        let one = |pieces: &mut [Piece<'_, u8>]| chunk::decode_symbols(pieces, &self.0);
        wanted.chunks_mut(TOGETHER).try_for_each(|some| fetch(source, stream, some, one))
    }
}

/// Decodes symbols `range` of stream `stream` to their values, in one pass.
///
/// # Errors
/// As [`decode_symbols`], and [`InvalidArgument`](ErrorKind::InvalidArgument) for values of another trellis than the
/// model's.
pub fn decode_values(
    source: &dyn LeafSource,
    stream: usize,
    range: Range<u64>,
    model: &Model<'_>,
    values: &Values,
    out: &mut [f32],
) -> Result<()> {
    decode_values_by(Kernel::fastest(), source, stream, range, model, values, out)
}

/// [`decode_values`] by a kernel of one's choice, for comparisons.
///
/// # Errors
/// As [`decode_values`].
pub fn decode_values_by(
    kernel: Kernel,
    source: &dyn LeafSource,
    stream: usize,
    range: Range<u64>,
    model: &Model<'_>,
    values: &Values,
    out: &mut [f32],
) -> Result<()> {
    let rows = values.rows_for(model.trellis)?;
    let spec = stream_spec(source, stream, |kind| kind == StreamKind::Symbols)?;
    let decoder = Decoder::new(model, kernel);
    decode(source, stream, &spec, range, 1, out, |pieces| chunk::decode_values(pieces, &decoder, rows))
}

/// Codes unsigned integers, bit-packed per chunk by the widest (or const). A chunk size out of range is brought
/// into it.
pub fn encode_words(values: &[u64], chunk_items: u32) -> (StreamSpec, Vec<Chunk<'static>>) {
    let chunk_items = chunk_items.clamp(1, StreamSpec::MAX_CHUNK_ITEMS);
    let spec = StreamSpec { kind: StreamKind::Words, items: values.len() as u64, chunk_items };
    (spec, values.par_chunks(chunk_items as usize).map(chunk::encode_words).collect())
}

/// Decodes words `range`.
///
/// # Errors
/// As [`decode_symbols`].
pub fn decode_words(
    source: &dyn LeafSource,
    stream: usize,
    range: Range<u64>,
    out: &mut [u64],
) -> Result<()> {
    let spec = stream_spec(source, stream, |kind| kind == StreamKind::Words)?;
    decode(source, stream, &spec, range, 1, out, |pieces| chunk::each(pieces, chunk::decode_words))
}

/// Codes records of `width` bytes: the smaller of raw and zstd (or const) for each chunk.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) where `width` is not 1 to 8 or does not divide `bytes`, and for a
/// chunk size of 0 or above [`StreamSpec::MAX_CHUNK_ITEMS`].
pub fn encode_bytes(bytes: &[u8], width: u8, chunk_items: u32) -> Result<(StreamSpec, Vec<Chunk<'static>>)> {
    let size = usize::from(width);
    if !(1..=8).contains(&width) || !bytes.len().is_multiple_of(size) {
        return Err(Error::invalid(format!("{} bytes in records of {width}, 1 to 8 expected", bytes.len())));
    }
    let spec = spec(StreamKind::Bytes { width }, bytes.len() / size, chunk_items)?;
    let chunks = bytes.par_chunks(chunk_items as usize * size).map(|b| chunk::encode_bytes(b, width));
    Ok((spec, chunks.collect()))
}

/// Decodes records `range`; `out` holds `range.len() * width` bytes.
///
/// # Errors
/// As [`decode_symbols`].
pub fn decode_bytes(source: &dyn LeafSource, stream: usize, range: Range<u64>, out: &mut [u8]) -> Result<()> {
    let bytes = |kind| matches!(kind, StreamKind::Bytes { width: 1..=8 });
    let spec = stream_spec(source, stream, bytes)?;
    let StreamKind::Bytes { width } = spec.kind else {
        return Err(Error::corruption("not a stream of bytes"));
    };
    decode(source, stream, &spec, range, width.into(), out, |pieces| {
        chunk::each(pieces, |c, part, out| chunk::decode_bytes(c, part, width, out))
    })
}

/// Bytes that symbols with `counts[class][symbol]` are expected to take when they are coded by `tables[class]` in
/// chunks of `chunk_items`, payloads alone; infinite where a table lacks a symbol. Within 1 % of what rANS takes for
/// chunks above 10,000 symbols; another mode may be smaller.
pub fn estimate_symbols_bytes<C: AsRef<[u64]>>(counts: &[C], tables: &[Table], chunk_items: u32) -> f64 {
    let items: u64 = counts.iter().flat_map(|c| c.as_ref()).sum();
    let chunks = items.div_ceil(chunk_items.max(1).into()) as f64;
    let bits: f64 = counts
        .iter()
        .enumerate()
        .map(|(class, counts)| tables.get(class).map_or(f64::INFINITY, |t| t.cost_bits(counts.as_ref())))
        .sum();
    if chunks == 0.0 { 0.0 } else { chunks * rans::estimated_bytes(bits / chunks) }
}

fn spec(kind: StreamKind, items: usize, chunk_items: u32) -> Result<StreamSpec> {
    if !(1..=StreamSpec::MAX_CHUNK_ITEMS).contains(&chunk_items) {
        return Err(Error::invalid(format!(
            "chunks of {chunk_items} items, 1 to {} expected",
            StreamSpec::MAX_CHUNK_ITEMS
        )));
    }
    Ok(StreamSpec { kind, items: items as u64, chunk_items })
}

/// Extent of stream `stream`, refused unless it is there and well formed.
fn stream_spec(
    source: &dyn LeafSource,
    stream: usize,
    kind: impl Fn(StreamKind) -> bool,
) -> Result<StreamSpec> {
    let found = source.spec().streams.get(stream).copied();
    found
        .filter(|s| kind(s.kind) && (1..=StreamSpec::MAX_CHUNK_ITEMS).contains(&s.chunk_items))
        .ok_or_else(|| Error::corruption(format!("stream {stream} is not of the expected kind: {found:?}")))
}

/// Chunks that are decoded side by side at most: what one waits for the others hide. With tables in registers one
/// comes to 2.5 Gsym/s on Zen 5, two to 4.9, four to 7.4.
pub(crate) const TOGETHER: usize = 4;

/// Number of a chunk, what is wanted of it, and where that goes.
type Wanted<'a, T> = (u64, Part, &'a mut [T]);

/// The chunks that hold items `range`, each `width` elements of `out`.
fn cut<'a, T>(
    spec: &StreamSpec,
    stream: usize,
    range: Range<u64>,
    width: usize,
    out: &'a mut [T],
) -> Result<Vec<Wanted<'a, T>>> {
    let wanted = range.end.checked_sub(range.start).filter(|_| range.end <= spec.items);
    let wanted = wanted.and_then(|n| usize::try_from(n).ok()?.checked_mul(width));
    if wanted != Some(out.len()) {
        return Err(Error::invalid(format!(
            "items {range:?} of stream {stream}, which has {}, into room for {}",
            spec.items,
            out.len() / width
        )));
    }
    let chunk_items = u64::from(spec.chunk_items);
    let mut wanted = Vec::new();
    let mut rest = out;
    let mut at = range.start;
    while at < range.end {
        let index = at / chunk_items;
        let (first, items) = (index * chunk_items, spec.items_in(index));
        let end = range.end.min(first + items as u64);
        let part = Part { first, items, range: (at - first) as usize..(end - first) as usize };
        let (own, others) = std::mem::take(&mut rest).split_at_mut(part.range.len() * width);
        wanted.push((index, part, own));
        rest = others;
        at = end;
    }
    Ok(wanted)
}

/// Fetches some chunks and decodes them.
fn fetch<T>(
    source: &dyn LeafSource,
    stream: usize,
    wanted: &mut [Wanted<'_, T>],
    decode: impl Fn(&mut [Piece<'_, T>]) -> Result<()>,
) -> Result<()> {
    let mut pieces = Vec::with_capacity(wanted.len());
    for (index, part, out) in wanted {
        let chunk = source.chunk(stream, *index)?;
        pieces.push(Piece { index: *index, chunk, part, out });
    }
    decode(&mut pieces).map_err(|e| e.context(format!("stream {stream}")))
}

/// Decodes items `range`, each `width` elements of `out`, chunk by chunk with `decode`.
fn decode<T: Send>(
    source: &dyn LeafSource,
    stream: usize,
    spec: &StreamSpec,
    range: Range<u64>,
    width: usize,
    out: &mut [T],
    decode: impl Fn(&mut [Piece<'_, T>]) -> Result<()> + Sync,
) -> Result<()> {
    let mut wanted = cut(spec, stream, range, width, out)?;
    if wanted.len() == 1 {
        return fetch(source, stream, &mut wanted, decode);
    }
    // Chunks side by side are decoded faster than one after the other, unless a thread would go idle for it.
    let together = (wanted.len() / rayon::current_num_threads()).clamp(1, TOGETHER);
    // The error of the first chunk that has one, whichever thread was first.
    let some = |wanted: &mut [Wanted<'_, T>]| fetch(source, stream, wanted, &decode);
    let results: Vec<Result<()>> = wanted.par_chunks_mut(together).map(some).collect();
    results.into_iter().collect()
}
