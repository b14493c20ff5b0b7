//! Leaves of codecs `raw` and `scalar` from the integers that they store, as the pages of `format-spec/codecs` have them.

use benben::codec::entropy::{Columns, Model, SideWriter, Table, encode_bytes, encode_symbols, encode_words};
use benben::{Dtype, Error, Result};
use benben_format::{Chunk, EncodedLeaf, LeafSpec, StreamSpec};
use ciborium::{Value, cbor};

/// A leaf without streams.
pub(crate) fn leaf(codec: &str, dtype: Dtype, shape: &[u64], params: Params) -> Result<EncodedLeaf> {
    let params = params.map_err(|e| Error::invalid(e.to_string()))?;
    Ok(EncodedLeaf::new(LeafSpec::new(codec, 1, dtype, shape, &params)?))
}

/// What `cbor!` gives.
pub(crate) type Params = std::result::Result<Value, ciborium::value::Error>;
type Stream = (StreamSpec, Vec<Chunk<'static>>);

pub(crate) fn push(leaf: &mut EncodedLeaf, (spec, chunks): Stream) {
    leaf.push(spec, chunks);
}

/// Items of the chunks of small streams.
pub(super) const CHUNK: u32 = 1 << 18;

/// The table of `symbols`.
pub(crate) fn table(symbols: impl IntoIterator<Item = u8>) -> Table {
    let mut counts = [0; 256];
    symbols.into_iter().for_each(|s| counts[usize::from(s)] += 1);
    Table::from_counts(&counts)
}

/// A table for each of `count` classes of runs.
pub(super) fn tables(symbols: &[u8], classes: &[u8], run: usize) -> Vec<Table> {
    let count = classes.iter().max().map_or(1, |&c| c + 1);
    let class = |i: usize| classes.get(i / run.max(1)).copied().unwrap_or(0);
    let of = |c| symbols.iter().enumerate().filter(move |(i, _)| class(*i) == c).map(|s| *s.1);
    (0..count).map(|c| table(of(c))).collect()
}

pub(crate) fn raw_bytes(dtype: Dtype, shape: &[u64], bytes: &[u8]) -> Result<EncodedLeaf> {
    let mut leaf = leaf("raw", dtype, shape, cbor!({"layout" => "bytes"}))?;
    push(&mut leaf, encode_bytes(bytes, dtype.size() as u8, CHUNK)?);
    Ok(leaf)
}

/// The usual leaf of f32 values.
pub(crate) fn floats(shape: &[u64], values: &[f32]) -> Result<EncodedLeaf> {
    raw_bytes(Dtype::F32, shape, &Dtype::F32.from_f32(values)?)
}

/// Layout `integer` of `raw`, one table for the symbols and one for each plane.
pub(crate) fn raw_integer(
    dtype: Dtype,
    shape: &[u64],
    bytes: &[u8],
    (zigzag, offset, low): (bool, u64, u32),
    chunk: u32,
) -> Result<EncodedLeaf> {
    let size = dtype.size();
    let (width, all) = (8 * size as u32, u64::MAX >> (64 - 8 * size));
    let elements = bytes.chunks(size).map(|b| b.iter().rev().fold(0, |bits, &b| bits << 8 | u64::from(b)));
    let distance = |bits: u64| match (bits.wrapping_sub(offset) & all, zigzag) {
        (v, true) if v >> (width - 1) == 1 => !(v << 1) & all,
        (v, true) => v << 1,
        (v, false) => v,
    };
    let distances: Vec<u64> = elements.map(distance).collect();
    let symbols: Vec<u8> = distances.iter().map(|u| (u >> low) as u8).collect();
    let rest = |u: &u64| u & ((1 << low) - 1);
    let planes = (0..low.div_ceil(8)).rev();
    let planes: Vec<Vec<u8>> =
        planes.map(|p| distances.iter().map(|u| (rest(u) >> (8 * p)) as u8).collect()).collect();
    let symbol_table = table(symbols.iter().copied());
    let tables: Vec<Table> = planes.iter().map(|p| table(p.iter().copied())).collect();
    let mut side = SideWriter::new();
    side.tables(std::slice::from_ref(&symbol_table))?;
    tables.iter().try_for_each(|t| side.tables(std::slice::from_ref(t)))?;
    let params =
        cbor!({"layout" => "integer", "zigzag" => zigzag, "offset" => offset, "low" => low, "run" => 1});
    let mut leaf = leaf("raw", dtype, shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(&[], &Model::none(), CHUNK)?);
    push(&mut leaf, encode_symbols(&symbols, &Model::single(&symbol_table), chunk)?);
    for (plane, table) in planes.iter().zip(&tables) {
        push(&mut leaf, encode_symbols(plane, &Model::single(table), chunk)?);
    }
    Ok(leaf)
}

/// Layout `palette` of `raw`, of at most 256 values.
pub(crate) fn raw_palette(dtype: Dtype, shape: &[u64], bytes: &[u8], chunk: u32) -> Result<EncodedLeaf> {
    let size = dtype.size();
    let elements: Vec<u64> =
        bytes.chunks(size).map(|b| b.iter().rev().fold(0, |bits, &b| bits << 8 | u64::from(b))).collect();
    let values: Vec<u64> =
        elements.iter().copied().collect::<std::collections::BTreeSet<u64>>().into_iter().collect();
    let symbols: Vec<u8> = elements.iter().map(|e| values.partition_point(|v| v < e) as u8).collect();
    let table = table(symbols.iter().copied());
    let mut side = SideWriter::new();
    side.tables(std::slice::from_ref(&table))?;
    side.u8((values.len() - 1) as u8);
    values.iter().for_each(|v| side.bytes(&v.to_le_bytes()[..size]));
    let mut leaf = leaf("raw", dtype, shape, cbor!({"layout" => "palette", "run" => 1}))?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(&[], &Model::none(), CHUNK)?);
    push(&mut leaf, encode_symbols(&symbols, &Model::single(&table), chunk)?);
    Ok(leaf)
}

/// Layout `float` of `raw`; `classes` of runs of `run` elements, none for one table.
pub(crate) fn raw_float(
    dtype: Dtype,
    shape: &[u64],
    bytes: &[u8],
    mantissa: u32,
    classes: &[u8],
    run: usize,
    chunk: u32,
) -> Result<EncodedLeaf> {
    let (e, m) = match dtype {
        Dtype::F64 => (11, 52),
        Dtype::F32 => (8, 23),
        Dtype::F16 => (5, 10),
        Dtype::BF16 => (8, 7),
        Dtype::F8E4M3 => (4, 3),
        _ => (5, 2),
    };
    let low = m - mantissa;
    let bits: Vec<u64> = bytes
        .chunks(dtype.size())
        .map(|b| b.iter().rev().fold(0, |bits, &b| bits << 8 | u64::from(b)))
        .collect();
    let exponent = |b: &u64| (b >> m) & ((1 << e) - 1);
    let lowest = bits.iter().map(exponent).min().unwrap_or(0);
    let symbol = |b: &u64| (((b >> low) & ((1 << (e + mantissa)) - 1)) - (lowest << mantissa)) as u8;
    let symbols: Vec<u8> = bits.iter().map(symbol).collect();
    let rest: Vec<u64> = bits.iter().map(|b| b >> (m + e) << low | b & ((1 << low) - 1)).collect();
    let tables = tables(&symbols, classes, run);
    let mut side = SideWriter::new();
    side.tables(&tables)?;
    (0..=low / 8).for_each(|_| side.u8(0)); // no table for any plane
    let params =
        cbor!({"layout" => "float", "mantissa" => mantissa, "lowest" => lowest, "run" => run as u64});
    let mut leaf = leaf("raw", dtype, shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(classes, &Model::none(), CHUNK)?);
    let model = Model::by_rows(&tables, classes, run as u64);
    push(&mut leaf, encode_symbols(&symbols, &model, chunk)?);
    let plane = |p: u32| -> Vec<u8> { rest.iter().map(|r| (r >> (8 * p)) as u8).collect() };
    for p in (0..=low / 8).rev() {
        push(&mut leaf, encode_symbols(&plane(p), &Model::none(), chunk)?);
    }
    Ok(leaf)
}

/// What a `scalar` leaf is made of.
#[derive(Clone, Copy)]
pub(crate) struct Scalar<'a> {
    pub(crate) shape: &'a [u64],
    pub(crate) step: f32,
    pub(crate) low_bits: u8,
    pub(crate) centroids: &'a [i8],
    pub(crate) integers: &'a [i32],
    /// Class of each run of `run` rows of `columns`, none for one table.
    pub(crate) classes: &'a [u8],
    pub(crate) run: usize,
    pub(crate) columns: usize,
    /// Class of each column, none for one.
    pub(crate) column_classes: &'a [u8],
    /// Elements and their values, in place of what the integers say.
    pub(crate) exceptions: &'a [(u64, f32)],
    pub(crate) chunk: u32,
}

pub(super) fn zigzag(q: i32) -> u32 {
    if q >= 0 { q.unsigned_abs() * 2 } else { q.unsigned_abs() * 2 - 1 }
}

pub(crate) fn scalar(s: &Scalar<'_>) -> Result<EncodedLeaf> {
    let symbols: Vec<u8> = s.integers.iter().map(|&q| zigzag(q >> s.low_bits) as u8).collect();
    let run = s.run * s.columns;
    let count = s.column_classes.iter().max().map_or(1, |&c| usize::from(c) + 1);
    let of_column = |i: usize| s.column_classes.get(i % s.columns).map_or(0, |&c| usize::from(c));
    let number = |i: usize| s.classes.get(i / run).map_or(0, |&c| usize::from(c)) * count + of_column(i);
    let last = (0..symbols.len()).map(number).max().unwrap_or(0);
    let own = |t| symbols.iter().enumerate().filter(move |(i, _)| number(*i) == t).map(|s| *s.1);
    let tables: Vec<Table> = (0..=last).map(|t| table(own(t))).collect();
    let mut side = SideWriter::new();
    side.varint(s.centroids.len() as u64);
    s.centroids.iter().for_each(|c| side.u8(c.cast_unsigned()));
    side.tables(&tables)?;
    let params = cbor!({
        "step" => s.step, "low_bits" => s.low_bits, "run" => s.run as u64, "column_classes" => count as u64
    });
    let mut leaf = leaf("scalar", Dtype::F32, s.shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(s.classes, &Model::none(), CHUNK)?);
    push(&mut leaf, encode_symbols(s.column_classes, &Model::none(), CHUNK)?);
    let columns = Columns { of: s.column_classes, count: count as u8 };
    let model = Model { columns, ..Model::by_rows(&tables, s.classes, run as u64) };
    push(&mut leaf, encode_symbols(&symbols, &model, s.chunk)?);
    let low = |q: &i32| u64::from(q.cast_unsigned() & ((1 << s.low_bits) - 1));
    let low: Vec<u64> = if s.low_bits == 0 { Vec::new() } else { s.integers.iter().map(low).collect() };
    push(&mut leaf, encode_words(&low, s.chunk));
    let positions: Vec<u64> = s.exceptions.iter().map(|e| e.0).collect();
    let bits: Vec<u64> = s.exceptions.iter().map(|e| u64::from(e.1.to_bits())).collect();
    push(&mut leaf, encode_words(&positions, CHUNK));
    push(&mut leaf, encode_words(&bits, CHUNK));
    Ok(leaf)
}
