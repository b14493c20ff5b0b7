//! Streams to chunks and back: rANS, zstd, bit-packed, constant and raw.
//!
//! Three kinds of streams ([`StreamKind`]): *symbols* (u8, alphabet at most 256) coded with static [`Table`]s,
//! *words* (u64, bit-packed), and *bytes* (records of 1 to 8 bytes, raw or zstd). Each encoder cuts its input into
//! chunks, codes chunks in parallel and keeps the smallest mode for each; each decoder reads just the chunks that
//! cover the range asked for. Bits never depend on threads.

use benben_format::{Chunk, LeafSource, Result, StreamSpec};
use std::ops::Range;

/// Items of a chunk unless a codec says otherwise: 0.1 % overhead of lane states.
pub const CHUNK_ITEMS: u32 = 1 << 18;

/// Static 12-bit frequencies of an alphabet of at most 256 symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table;

/// Which table codes which symbol: symbol `i` of the stream uses table `classes[i / run]`.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// At most 16 tables.
    pub tables: &'a [Table],
    /// Table of each run; empty where table 0 codes everything.
    pub classes: &'a [u8],
    /// Symbols of one run (a row, or several).
    pub run: u64,
}

impl Table {
    /// The best 12-bit table for symbols seen `counts[s]` times (every symbol with a count gets a frequency of at
    /// least 1), trading accuracy for its own stored size where `counts` are few.
    pub fn from_counts(_counts: &[u64]) -> Self {
        todo!()
    }
    /// Bits that this table spends on `counts`, itself not counted.
    pub fn cost_bits(&self, _counts: &[u64]) -> f64 {
        todo!()
    }
    /// Appends the compact serialized form.
    pub fn write(&self, _out: &mut Vec<u8>) {
        todo!()
    }
    /// Reads the form that [`Table::write`] makes off the front of `bytes`.
    ///
    /// # Errors
    /// Corruption, never a panic or a large allocation.
    pub fn read(_bytes: &mut &[u8]) -> Result<Self> {
        todo!()
    }
}

/// Codes symbols; the smallest of const, bit-packed, zstd and (where the model has tables) rANS for each chunk.
pub fn encode_symbols(
    _symbols: &[u8],
    _model: &Model<'_>,
    _chunk_items: u32,
) -> Result<(StreamSpec, Vec<Chunk<'static>>)> {
    todo!()
}
/// Decodes symbols `range` of stream `stream` into `out`.
///
/// # Errors
/// Corruption where a payload contradicts itself.
pub fn decode_symbols(
    _source: &dyn LeafSource,
    _stream: usize,
    _range: Range<u64>,
    _model: &Model<'_>,
    _out: &mut [u8],
) -> Result<()> {
    todo!()
}
/// Codes unsigned integers, bit-packed per chunk by the widest (or const).
pub fn encode_words(_values: &[u64], _chunk_items: u32) -> (StreamSpec, Vec<Chunk<'static>>) {
    todo!()
}
/// Decodes words `range`.
///
/// # Errors
/// Corruption where a payload contradicts itself.
pub fn decode_words(
    _source: &dyn LeafSource,
    _stream: usize,
    _range: Range<u64>,
    _out: &mut [u64],
) -> Result<()> {
    todo!()
}
/// Codes records of `width` bytes: the smaller of raw and zstd (or const) for each chunk.
pub fn encode_bytes(
    _bytes: &[u8],
    _width: u8,
    _chunk_items: u32,
) -> Result<(StreamSpec, Vec<Chunk<'static>>)> {
    todo!()
}
/// Decodes records `range`; `out` holds `range.len() * width` bytes.
///
/// # Errors
/// Corruption where a payload contradicts itself.
pub fn decode_bytes(
    _source: &dyn LeafSource,
    _stream: usize,
    _range: Range<u64>,
    _out: &mut [u8],
) -> Result<()> {
    todo!()
}
