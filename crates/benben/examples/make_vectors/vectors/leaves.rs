//! Leaves of each codec from the integers that they store, as the pages of `format-spec/codecs` have them.

use benben::codec::entropy::bits::BitWriter;
use benben::codec::entropy::{Model, SideWriter, Table, encode_bytes, encode_symbols, encode_words};
use benben::{Dtype, Error, Result};
use benben_format::{Chunk, EncodedLeaf, LeafSpec, StreamSpec};
use ciborium::{Value, cbor};
use std::collections::BinaryHeap;

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
const CHUNK: u32 = 1 << 18;

/// The table of `symbols`.
pub(crate) fn table(symbols: impl IntoIterator<Item = u8>) -> Table {
    let mut counts = [0; 256];
    symbols.into_iter().for_each(|s| counts[usize::from(s)] += 1);
    Table::from_counts(&counts)
}

/// A table for each of `count` classes of runs.
fn tables(symbols: &[u8], classes: &[u8], run: usize) -> Vec<Table> {
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

pub(crate) fn raw_planes(dtype: Dtype, shape: &[u64], bytes: &[u8], chunk: u32) -> Result<EncodedLeaf> {
    let size = dtype.size();
    let planes: Vec<Vec<u8>> =
        (0..size).map(|p| bytes.iter().skip(p).step_by(size).copied().collect()).collect();
    let tables: Vec<Table> = planes.iter().map(|p| table(p.iter().copied())).collect();
    let mut side = SideWriter::new();
    side.tables(&tables)?;
    let mut leaf = leaf("raw", dtype, shape, cbor!({"layout" => "planes"}))?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    for (plane, table) in planes.iter().zip(&tables) {
        push(&mut leaf, encode_symbols(plane, &Model::single(table), chunk)?);
    }
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
    let params =
        cbor!({"layout" => "float", "mantissa" => mantissa, "lowest" => lowest, "run" => run as u64});
    let mut leaf = leaf("raw", dtype, shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(classes, &Model::none(), CHUNK)?);
    let model = Model { tables: &tables, classes, run: run as u64 };
    push(&mut leaf, encode_symbols(&symbols, &model, chunk)?);
    let plane = |p: u32| -> Vec<u8> { rest.iter().map(|r| (r >> (8 * p)) as u8).collect() };
    push(&mut leaf, encode_symbols(&plane(low / 8), &Model::none(), chunk)?);
    for p in (0..low / 8).rev() {
        push(&mut leaf, encode_bytes(&plane(p), 1, chunk)?);
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
    pub(crate) chunk: u32,
}

fn zigzag(q: i32) -> u32 {
    if q >= 0 { q.unsigned_abs() * 2 } else { q.unsigned_abs() * 2 - 1 }
}

pub(crate) fn scalar(s: &Scalar<'_>) -> Result<EncodedLeaf> {
    let symbols: Vec<u8> = s.integers.iter().map(|&q| zigzag(q >> s.low_bits).min(255) as u8).collect();
    let run = s.run * s.columns;
    let tables = tables(&symbols, s.classes, run);
    let mut side = SideWriter::new();
    side.varint(s.centroids.len() as u64);
    s.centroids.iter().for_each(|c| side.u8(c.cast_unsigned()));
    side.tables(&tables)?;
    let params = cbor!({"step" => s.step, "low_bits" => s.low_bits, "run" => s.run as u64});
    let mut leaf = leaf("scalar", Dtype::F32, s.shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(s.classes, &Model::none(), CHUNK)?);
    let model = Model { tables: &tables, classes: s.classes, run: run as u64 };
    push(&mut leaf, encode_symbols(&symbols, &model, s.chunk)?);
    // Where all integers fit, 255 is a symbol like the others.
    let any = s.integers.iter().any(|&q| zigzag(q >> s.low_bits) > 255);
    let escaped = |q: &i32| any && zigzag(q >> s.low_bits) >= 255;
    let low = |q: &i32| if escaped(q) { 0 } else { u64::from(q.cast_unsigned() & ((1 << s.low_bits) - 1)) };
    let low: Vec<u64> = if s.low_bits == 0 { Vec::new() } else { s.integers.iter().map(low).collect() };
    push(&mut leaf, encode_words(&low, s.chunk));
    let (mut escapes, mut ranks) = (Vec::new(), Vec::new());
    for chunk in s.integers.chunks(s.chunk as usize) {
        ranks.push(escapes.len() as u64);
        escapes.extend(chunk.iter().filter(|q| escaped(q)).map(|&q| u64::from(zigzag(q))));
    }
    if escapes.is_empty() {
        ranks.clear();
    }
    push(&mut leaf, encode_words(&escapes, CHUNK));
    push(&mut leaf, encode_words(&ranks, CHUNK));
    Ok(leaf)
}

/// What a `pvq` leaf is made of.
#[derive(Clone, Copy)]
pub(crate) struct Pvq<'a> {
    pub(crate) shape: &'a [u64],
    pub(crate) dim: u8,
    pub(crate) step: f32,
    pub(crate) head_bits: u32,
    /// First symbol and pulses of classes 1, 2, ...
    pub(crate) classes: &'a [(u8, u64)],
    /// Gain symbol, open bits, index of each group.
    pub(crate) groups: &'a [(u8, u64, u64)],
    /// Band of each run, none for one table.
    pub(crate) bands: &'a [u8],
    pub(crate) run: usize,
    pub(crate) chunk: u32,
}

/// Points of `n` integers and `k` pulses.
pub(crate) fn points(n: usize, k: usize) -> u64 {
    let mut row = vec![0u64; k + 1];
    row[0] = 1;
    for _ in 0..n {
        let below = row.clone();
        for k in 1..=k {
            row[k] = below[k] + row[k - 1] + below[k - 1];
        }
    }
    row[k]
}

impl Pvq<'_> {
    /// Class of a gain symbol.
    pub(crate) fn class(&self, symbol: u8) -> u8 {
        self.classes.iter().filter(|c| c.0 <= symbol).count() as u8
    }

    /// Points of a class.
    pub(crate) fn points(&self, class: u8) -> u64 {
        let k = usize::from(class).checked_sub(1).map_or(0, |c| self.classes[c].1);
        points(self.dim.into(), k as usize)
    }

    fn tail_bits(&self, class: u8) -> u32 {
        (64 - (self.points(class) - 1).leading_zeros()).saturating_sub(self.head_bits)
    }
}

pub(crate) fn pvq(p: &Pvq<'_>) -> Result<EncodedLeaf> {
    let symbols: Vec<u8> = p.groups.iter().map(|g| g.0).collect();
    let classes: Vec<u8> = symbols.iter().map(|&s| p.class(s)).collect();
    let head =
        |(g, &c): (&(u8, u64, u64), &u8)| if p.head_bits == 0 { 0 } else { (g.2 >> p.tail_bits(c)) as u8 };
    let head_symbols: Vec<u8> = p.groups.iter().zip(&classes).map(head).collect();
    let gains = tables(&symbols, p.bands, p.run);
    let of = |class: u8| head_symbols.iter().zip(&classes).filter(move |h| *h.1 == class).map(|h| *h.0);
    let heads: Vec<Table> = if p.head_bits == 0 {
        Vec::new()
    } else {
        (0..=p.classes.len() as u8).map(|c| table(of(c))).collect()
    };

    let mut side = SideWriter::new();
    side.f32(p.step);
    side.u8(p.head_bits as u8);
    side.varint(p.run as u64);
    side.u8(p.classes.len() as u8);
    for &(first, pulses) in p.classes {
        side.u8(first);
        side.varint(pulses);
    }
    side.tables(&gains)?;
    side.tables(&heads)?;
    let mut leaf = leaf("pvq", Dtype::F32, p.shape, cbor!({"dim" => p.dim}))?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(p.bands, &Model::none(), CHUNK)?);
    let model = Model { tables: &gains, classes: p.bands, run: p.run as u64 };
    push(&mut leaf, encode_symbols(&symbols, &model, p.chunk)?);
    let model = Model { tables: &heads, classes: if p.head_bits == 0 { &[] } else { &classes }, run: 1 };
    push(&mut leaf, encode_symbols(&head_symbols, &model, p.chunk)?);

    let (mut starts, mut words) = (Vec::new(), Vec::new());
    for chunk in p.groups.chunks(p.chunk as usize) {
        if !words.is_empty() || !starts.is_empty() {
            starts.push(words.len() as u64);
        }
        let mut bits: Vec<bool> = Vec::new();
        for &(symbol, open, index) in chunk {
            let extra = if symbol < 64 { 0 } else { u32::from(symbol) / 16 - 2 };
            bits.extend((0..extra).map(|b| open >> b & 1 == 1));
            bits.extend((0..p.tail_bits(p.class(symbol))).map(|b| index >> b & 1 == 1));
        }
        words.extend(bits.chunks(64).map(|b| b.iter().rev().fold(0u64, |w, &b| w << 1 | u64::from(b))));
    }
    push(&mut leaf, encode_words(&starts, CHUNK));
    push(&mut leaf, encode_words(&words, CHUNK));
    Ok(leaf)
}

/// One codebook of an `rvq` leaf: step, the two Rice parameters, sorted codewords, and whether symbols have a table.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) step: f32,
    pub(crate) rice: [u32; 2],
    pub(crate) words: &'a [Vec<i32>],
    pub(crate) tabled: bool,
    /// Symbols of its group's vectors.
    pub(crate) symbols: &'a [u8],
}

fn put_rice(bits: &mut BitWriter<'_>, value: u32, r: u32) {
    let q = value >> r;
    if q < 24 {
        bits.put((1 << q) - 1, q + 1);
        bits.put(value & ((1 << r) - 1), r);
    } else {
        bits.put((1 << 24) - 1, 24);
        bits.put(value, 32);
    }
}

pub(crate) fn rvq(shape: &[u64], dim: u8, groups: u16, stages: &[Stage<'_>]) -> Result<EncodedLeaf> {
    let (mut side, mut models) = (SideWriter::new(), Vec::new());
    for stage in stages {
        side.u8((stage.words.len() - 1) as u8);
        side.f32(stage.step);
        stage.rice.iter().for_each(|&r| side.u8(r as u8));
        let mut bytes = Vec::new();
        let mut bits = BitWriter::new(&mut bytes);
        for (w, word) in stage.words.iter().enumerate() {
            for (i, &entry) in word.iter().enumerate() {
                match w.checked_sub(1) {
                    Some(before) if i == 0 => {
                        put_rice(&mut bits, entry.abs_diff(stage.words[before][0]), stage.rice[0]);
                    }
                    _ => put_rice(&mut bits, zigzag(entry), stage.rice[1]),
                }
            }
        }
        bits.finish();
        side.bytes(&bytes);
        let tables = if stage.tabled { vec![table(stage.symbols.iter().copied())] } else { Vec::new() };
        side.tables(&tables)?;
        models.push(tables);
    }
    let per_group = stages.len() / usize::from(groups);
    let params = cbor!({"dim" => dim, "groups" => groups, "stages" => per_group as u64});
    let mut leaf = leaf("rvq", Dtype::F32, shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    for (stage, tables) in stages.iter().zip(&models) {
        let model = Model { tables, classes: &[], run: 1 };
        push(&mut leaf, encode_symbols(stage.symbols, &model, CHUNK)?);
    }
    Ok(leaf)
}

/// What a `ternary` leaf is made of.
#[derive(Clone, Copy)]
pub(crate) struct Ternary<'a> {
    pub(crate) shape: &'a [u64],
    pub(crate) unit: f32,
    pub(crate) level_run: usize,
    /// Codes of the positive and the negative level of each run.
    pub(crate) levels: &'a [u8],
    pub(crate) trits: &'a [u8],
    pub(crate) run: usize,
    /// Band of each run, none for one table.
    pub(crate) bands: &'a [u8],
}

pub(crate) fn ternary(t: &Ternary<'_>, dictionary: bool) -> Result<EncodedLeaf> {
    let level_table = table(t.levels.iter().copied());
    let trit_tables = if dictionary { Vec::new() } else { tables(t.trits, t.bands, t.run) };
    let mut side = SideWriter::new();
    side.f32(t.unit);
    side.varint(t.level_run as u64);
    side.varint(t.run as u64);
    side.tables(std::slice::from_ref(&level_table))?;
    side.tables(&trit_tables)?;
    let coder = if dictionary { "dictionary" } else { "symbols" };
    let mut leaf = leaf("ternary", Dtype::F32, t.shape, cbor!({"coder" => coder}))?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(t.levels, &Model::single(&level_table), CHUNK)?);
    let (mut starts, mut codewords) = (Vec::new(), Vec::new());
    let model = Model { tables: &trit_tables, classes: t.bands, run: t.run as u64 };
    if dictionary {
        let strings = strings();
        for (b, block) in t.trits.chunks(t.run).enumerate() {
            if b > 0 {
                starts.push(codewords.len() as u64 / 2);
            }
            divide(block, &strings, &mut codewords);
        }
        push(&mut leaf, encode_symbols(&[], &Model::none(), CHUNK)?);
        push(&mut leaf, encode_symbols(&[], &Model::none(), CHUNK)?);
    } else {
        push(&mut leaf, encode_symbols(t.bands, &Model::none(), CHUNK)?);
        push(&mut leaf, encode_symbols(t.trits, &model, CHUNK)?);
    }
    push(&mut leaf, encode_words(&starts, CHUNK));
    push(&mut leaf, encode_bytes(&codewords, 2, CHUNK)?);
    Ok(leaf)
}

/// The strings of the dictionary, as digits.
fn strings() -> std::collections::HashMap<Vec<u8>, u16> {
    let cost = |d: u8| [100, 2338, 2338][usize::from(d / 3)] + [100, 2338, 2338][usize::from(d % 3)];
    let offer = |sum: u32, digits: &[u8], d: u8| {
        let longer = [digits, &[d]].concat();
        std::cmp::Reverse((sum + cost(d), longer.len(), longer))
    };
    let mut offers: BinaryHeap<_> = (0..9).map(|d| offer(0, &[], d)).collect();
    let mut strings = std::collections::HashMap::new();
    for codeword in 0..=u16::MAX {
        let Some(std::cmp::Reverse((sum, count, digits))) = offers.pop() else { break };
        if count < 14 {
            offers.extend((0..9).map(|d| offer(sum, &digits, d)));
        }
        strings.insert(digits, codeword);
    }
    strings
}

/// Divides a block into the longest strings from the front, as codewords.
fn divide(block: &[u8], strings: &std::collections::HashMap<Vec<u8>, u16>, out: &mut Vec<u8>) {
    let digits: Vec<u8> = block.chunks(2).map(|p| 3 * p[0] + p.get(1).unwrap_or(&0)).collect();
    let mut rest = &digits[..];
    while !rest.is_empty() {
        let found = (1..=rest.len().min(14)).rev().find_map(|n| strings.get(&rest[..n]).map(|&c| (n, c)));
        let Some((n, codeword)) = found else { break };
        out.extend_from_slice(&codeword.to_le_bytes());
        rest = &rest[n..];
    }
}
