//! Leaves of codecs `pvq`, `rvq` and `ternary` from the integers that they store.

use super::leaves::{CHUNK, leaf, push, table, tables, zigzag};
use benben::codec::entropy::bits::BitWriter;
use benben::codec::entropy::{Model, SideWriter, Table, encode_bytes, encode_symbols, encode_words};
use benben::{Dtype, Result};
use benben_format::EncodedLeaf;
use ciborium::cbor;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// What a `pvq` leaf of numbered points is made of.
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
    let mut leaf = leaf("pvq", Dtype::F32, p.shape, cbor!({"dim" => p.dim, "form" => "numbered"}))?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(p.bands, &Model::none(), CHUNK)?);
    let model = Model::by_rows(&gains, p.bands, p.run as u64);
    push(&mut leaf, encode_symbols(&symbols, &model, p.chunk)?);
    let model = Model::by_rows(&heads, if p.head_bits == 0 { &[] } else { &classes }, 1);
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

/// What a `pvq` leaf of pulses is made of.
#[derive(Clone, Copy)]
pub(crate) struct Pulses<'a> {
    pub(crate) shape: &'a [u64],
    pub(crate) dim: u8,
    pub(crate) step: f32,
    pub(crate) shifts: &'a [i8],
    pub(crate) integers: &'a [i32],
    /// Class of each run of `run` groups, none for one table.
    pub(crate) classes: &'a [u8],
    /// Whether classes have a table.
    pub(crate) tabled: bool,
    pub(crate) run: usize,
    pub(crate) chunk: u32,
}

pub(crate) fn pulses(p: &Pulses<'_>) -> Result<EncodedLeaf> {
    let symbols: Vec<u8> = p.integers.iter().map(|&q| zigzag(q) as u8).collect();
    let run = p.run * usize::from(p.dim);
    let of_pulses = tables(&symbols, p.classes, run.max(1));
    let of_classes = if p.tabled { vec![table(p.classes.iter().copied())] } else { Vec::new() };
    let mut side = SideWriter::new();
    side.f32(p.step);
    side.varint(p.run as u64);
    side.u8(p.shifts.len() as u8);
    p.shifts.iter().for_each(|s| side.u8(s.cast_unsigned()));
    side.tables(&of_classes)?;
    side.tables(&of_pulses)?;
    let mut leaf = leaf("pvq", Dtype::F32, p.shape, cbor!({"dim" => p.dim, "form" => "pulses"}))?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(p.classes, &Model::by_rows(&of_classes, &[], 1), p.chunk)?);
    let model = Model::by_rows(&of_pulses, p.classes, run.max(1) as u64);
    push(&mut leaf, encode_symbols(&symbols, &model, p.chunk)?);
    Ok(leaf)
}

/// One codebook of an `rvq` leaf: step, the two Rice parameters, sorted codewords, and whether symbols have a table.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) step: f32,
    pub(crate) rice: [u32; 2],
    /// Sorted codewords; rows of the map where there is `noise`.
    pub(crate) words: &'a [Vec<i32>],
    /// Seed and number of codewords of a mapped codebook.
    pub(crate) noise: Option<(u64, u8)>,
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
        let size = stage.noise.map_or(stage.words.len(), |n| n.1.into());
        side.u8((size - 1) as u8);
        side.f32(stage.step);
        match stage.noise {
            None => side.u8(stage.rice[0] as u8),
            Some((seed, _)) => side.varint(seed),
        }
        side.u8(stage.rice[1] as u8);
        let mut bytes = Vec::new();
        let mut bits = BitWriter::new(&mut bytes);
        for (w, word) in stage.words.iter().enumerate() {
            for (i, &entry) in word.iter().enumerate() {
                match w.checked_sub(1) {
                    Some(before) if i == 0 && stage.noise.is_none() => {
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
    let params = if stages.iter().any(|s| s.noise.is_some()) {
        cbor!({"dim" => dim, "groups" => groups, "stages" => per_group as u64, "mapped" => true})
    } else {
        cbor!({"dim" => dim, "groups" => groups, "stages" => per_group as u64})
    };
    let mut leaf = leaf("rvq", Dtype::F32, shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    for (stage, tables) in stages.iter().zip(&models) {
        let model = Model::by_rows(tables, &[], 1);
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
    let model = Model::by_rows(&trit_tables, t.bands, t.run as u64);
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
fn strings() -> HashMap<Vec<u8>, u16> {
    let cost = |d: u8| [100, 2338, 2338][usize::from(d / 3)] + [100, 2338, 2338][usize::from(d % 3)];
    let offer = |sum: u32, digits: &[u8], d: u8| {
        let longer = [digits, &[d]].concat();
        Reverse((sum + cost(d), longer.len(), longer))
    };
    let mut offers: BinaryHeap<_> = (0..9).map(|d| offer(0, &[], d)).collect();
    let mut strings = HashMap::new();
    for codeword in 0..=u16::MAX {
        let Some(Reverse((sum, count, digits))) = offers.pop() else { break };
        if count < 14 {
            offers.extend((0..9).map(|d| offer(sum, &digits, d)));
        }
        strings.insert(digits, codeword);
    }
    strings
}

/// Divides a block into the longest strings from the front, as codewords.
fn divide(block: &[u8], strings: &HashMap<Vec<u8>, u16>, out: &mut Vec<u8>) {
    let digits: Vec<u8> = block.chunks(2).map(|p| 3 * p[0] + p.get(1).unwrap_or(&0)).collect();
    let mut rest = &digits[..];
    while !rest.is_empty() {
        let found = (1..=rest.len().min(14)).rev().find_map(|n| strings.get(&rest[..n]).map(|&c| (n, c)));
        let Some((n, codeword)) = found else { break };
        out.extend_from_slice(&codeword.to_le_bytes());
        rest = &rest[n..];
    }
}
