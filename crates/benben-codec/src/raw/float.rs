//! Layout `float`: the exponent and the leading bits of the mantissa as one symbol, all other bits as they are.
//!
//! # Bits
//! An element has a sign bit, `E` exponent bits and `M` mantissa bits (f32: 8, 23; bf16: 8, 7; f16: 5, 10; f64: 11,
//! 52; f8e4m3: 4, 3; f8e5m2: 5, 2). With the parameters `mantissa = m` (0 to 3, at most `M`) and `lowest`:
//!
//! - *symbol* = `(exponent - lowest) << m | first m bits of the mantissa`, below 256;
//! - *rest* = `sign << (M - m) | other bits of the mantissa`, which are `1 + M - m` bits.
//!
//! | stream | kind | items |
//! |---|---|---|
//! | 0 | bytes | a list of tables for the symbols ([`write_tables`](crate::entropy::write_tables)) |
//! | 1 | symbols | class of each run of `run` elements, at most 2^24, without tables; no items where there is one table |
//! | 2 | symbols | the symbols, by the table of their class |
//! | 3 | symbols | the highest bits of the rest, `(M - m) mod 8 + 1` of them, without tables |
//! | 4, ... | bytes | the other bits of the rest, 8 to a stream, higher ones first |
//!
//! # Cost
//! The leading mantissa bits depend on the exponent a little: 0.07 bits for each weight at `m` = 2, and classes of
//! rows save another 0.04 (MiniLM-L6). The encoder tries each `m`, then 1, 4 and 8 classes, by what their tables cost.

use super::{by_chunk, expect_streams, fold_elements, histogram, map_elements, planes::read_side};
use crate::entropy::{self, CHUNK_ITEMS, Model, SideWriter, Table};
use benben_format::{Dtype, EncodedLeaf, Error, LeafSource, Result, StreamKind};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How elements are split into symbol and rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Leading bits of the mantissa that the symbol holds.
    pub mantissa: u8,
    /// Exponent of symbol 0.
    pub lowest: u16,
    /// Elements of one class.
    pub run: u64,
}

/// Exponent bits and mantissa bits of a float type.
const fn widths(dtype: Dtype) -> Option<(u32, u32)> {
    Some(match dtype {
        Dtype::F64 => (11, 52),
        Dtype::F32 => (8, 23),
        Dtype::F16 => (5, 10),
        Dtype::BF16 => (8, 7),
        Dtype::F8E4M3 => (4, 3),
        Dtype::F8E5M2 => (5, 2),
        _ => return None,
    })
}

/// A split with the widths of its type, checked against them.
#[derive(Debug, Clone, Copy)]
struct Cut {
    exponent: u32,
    /// Bits of the rest below the sign.
    low: u32,
    m: u32,
    lowest: u64,
}

impl Cut {
    fn new(split: Split, dtype: Dtype) -> Result<Self> {
        let Some((exponent, mantissa)) = widths(dtype) else {
            return Err(Error::corruption(format!("layout float of dtype {dtype}, a float type expected")));
        };
        let (m, lowest) = (u32::from(split.mantissa), u64::from(split.lowest));
        if m > mantissa.min(3) || lowest >> exponent != 0 {
            return Err(Error::corruption(format!(
                "{m} mantissa bits and lowest exponent {lowest} for dtype {dtype}"
            )));
        }
        Ok(Self { exponent, low: mantissa - m, m, lowest })
    }

    fn symbol(self, bits: u64) -> u64 {
        ((bits >> self.low) & ((1 << (self.exponent + self.m)) - 1)) - (self.lowest << self.m)
    }

    fn rest(self, bits: u64) -> u64 {
        (bits & ((1 << self.low) - 1)) | (bits >> (self.low + self.m + self.exponent) << self.low)
    }

    fn join(self, symbol: u8, rest: u64) -> u64 {
        let sign = rest >> self.low << (self.low + self.m + self.exponent);
        sign | ((self.lowest << self.m) + u64::from(symbol)) << self.low | (rest & ((1 << self.low) - 1))
    }

    /// Bits of stream 3.
    fn top_bits(self) -> u32 {
        self.low % 8 + 1
    }

    /// Streams from 4 on.
    fn planes(self) -> usize {
        self.low as usize / 8
    }

    /// Largest symbol that is an exponent of the type.
    fn max_symbol(self) -> u64 {
        (((1 << self.exponent) - self.lowest) << self.m) - 1
    }
}

/// The encoder's choice: a split, its symbols, and what codes them.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) split: Split,
    symbols: Vec<u8>,
    tables: Vec<Table>,
    classes: Vec<u8>,
}

impl Plan {
    /// The plan that is expected to be smallest; `None` where `dtype` is no float, or its exponents span more than
    /// 256.
    pub(super) fn choose(bytes: &[u8], dtype: Dtype, shape: &[u64]) -> Option<Self> {
        let (exponent, mantissa) = widths(dtype)?;
        let size = dtype.size();
        let exponent_of = move |bits: u64| (bits >> mantissa) & ((1 << exponent) - 1);
        let extent = |a: &mut (u64, u64), e: u64| *a = (a.0.min(e), a.1.max(e));
        let (lowest, highest) = fold_elements(
            bytes,
            size,
            (u64::MAX, 0),
            |a, bits| extent(a, exponent_of(bits)),
            |a, b| {
                extent(a, b.0);
                extent(a, b.1);
            },
        );
        let span = highest.checked_sub(lowest)? + 1;
        if span > 256 {
            return None;
        }
        // Counts for the most mantissa bits; sums of neighbours are the counts for fewer.
        let most = mantissa.min(3);
        let widest = Cut { exponent, low: mantissa - most, m: most, lowest };
        let counts = fold_elements(
            bytes,
            size,
            vec![0u64; (span << most) as usize],
            |counts, bits| counts[widest.symbol(bits) as usize] += 1,
            |a, b| a.iter_mut().zip(b).for_each(|(a, b)| *a += b),
        );
        let candidates = (0..=most).filter(|&m| span << m <= 256).map(|m| {
            let counts: Vec<u64> = counts.chunks(1 << (most - m)).map(|c| c.iter().sum()).collect();
            let table = Table::from_counts(&counts);
            let rest = f64::from(mantissa - m + 1) * counts.iter().sum::<u64>() as f64;
            (table.cost_bits(&counts) + 8.0 * table.stored_bytes() as f64 + rest, m, table)
        });
        let (bits, m, table) = candidates.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let split = Split { mantissa: m as u8, lowest: u16::try_from(lowest).ok()?, run: run(shape) };
        let cut = Cut::new(split, dtype).ok()?;
        let symbols = map_elements(bytes, size, |bits| cut.symbol(bits) as u8);
        let single = table.cost_bits(&histogram(&symbols)) + 8.0 * table.stored_bytes() as f64;
        let classed = [4, 8].into_iter().filter_map(|count| classify(&symbols, split.run, count));
        let classed = classed.min_by(|a, b| a.0.total_cmp(&b.0));
        // A second table in the cache and a class for each run have to save a thousandth.
        let (tables, classes) = match classed {
            Some((bits_of_classes, tables, classes)) if single - bits_of_classes > bits / 1000.0 => {
                (tables, classes)
            }
            _ => (vec![table], Vec::new()),
        };
        Some(Self { split, symbols, tables, classes })
    }

    /// Appends the streams of `bytes`.
    pub(super) fn encode(
        &self,
        bytes: &[u8],
        dtype: Dtype,
        chunk_items: u32,
        leaf: &mut EncodedLeaf,
    ) -> Result<()> {
        let cut = Cut::new(self.split, dtype)?;
        let mut side = SideWriter::new();
        side.tables(&self.tables)?;
        let mut push = |(spec, chunks)| leaf.push(spec, chunks);
        push(entropy::encode_bytes(&side.into_bytes(), 1, CHUNK_ITEMS)?);
        push(entropy::encode_symbols(&self.classes, &Model::none(), CHUNK_ITEMS)?);
        let model = Model::by_rows(&self.tables, &self.classes, self.split.run);
        push(entropy::encode_symbols(&self.symbols, &model, chunk_items)?);
        let plane = |p: usize| map_elements(bytes, dtype.size(), |bits| (cut.rest(bits) >> (8 * p)) as u8);
        push(entropy::encode_symbols(&plane(cut.planes()), &Model::none(), chunk_items)?);
        for p in (0..cut.planes()).rev() {
            push(entropy::encode_bytes(&plane(p), 1, chunk_items)?);
        }
        Ok(())
    }
}

/// Fewest elements of a run that the encoder gives a class.
const MIN_RUN: u64 = 64;
/// Most runs that have classes: bounds what a decoder holds of them.
const MAX_RUNS: u64 = 1 << 24;

/// Elements of the shortest row, or block of rows, that is worth a class of its own.
fn run(shape: &[u64]) -> u64 {
    let mut run = 1;
    for &d in shape.iter().rev() {
        run *= d;
        if run >= MIN_RUN {
            break;
        }
    }
    run.max(1)
}

/// `count` classes of runs by their mean symbol, with equally many runs each: the bits that symbols, tables and
/// classes take, the tables, and the class of each run.
fn classify(symbols: &[u8], run: u64, count: usize) -> Option<(f64, Vec<Table>, Vec<u8>)> {
    let runs: Vec<&[u8]> = symbols.chunks(usize::try_from(run).ok()?).collect();
    if runs.len() < 4 * count || runs.len() as u64 > MAX_RUNS {
        return None;
    }
    let mean = |run: &[u8]| run.iter().map(|&s| u64::from(s)).sum::<u64>() * 256 / run.len() as u64;
    let mut order: Vec<(u64, usize)> = runs.iter().enumerate().map(|(i, r)| (mean(r), i)).collect();
    order.sort_unstable();
    let mut classes = vec![0; runs.len()];
    let mut counts = vec![[0; 256]; count];
    for (rank, &(_, i)) in order.iter().enumerate() {
        let class = rank * count / order.len();
        classes[i] = class as u8;
        runs[i].iter().for_each(|&s| counts[class][usize::from(s)] += 1);
    }
    let tables: Vec<Table> = counts.iter().map(|c| Table::from_counts(c)).collect();
    let mut side = SideWriter::new();
    side.tables(&tables).ok()?;
    let symbol_bits: f64 = tables.iter().zip(&counts).map(|(t, c)| t.cost_bits(c)).sum();
    let class_bits = f64::from(count.ilog2()) * classes.len() as f64;
    Some((symbol_bits + class_bits + 8.0 * side.into_bytes().len() as f64, tables, classes))
}

/// Writes the bytes of elements `elements`, a range within the tensor, into `out`, which they fill.
pub(super) fn decode(
    split: Split,
    source: &dyn LeafSource,
    elements: Range<u64>,
    out: &mut [u8],
) -> Result<()> {
    let spec = source.spec();
    let (cut, total, size) = (Cut::new(split, spec.dtype)?, spec.elements()?, spec.dtype.size());
    let tables = read_side(source, |side| side.tables())?;
    let kinds = [StreamKind::Symbols; 2].into_iter();
    let kinds = kinds.chain(std::iter::repeat_n(StreamKind::Bytes { width: 1 }, cut.planes()));
    let chunk_items = expect_streams(spec, 2, kinds, total)?;
    let classes = classes_of(source, split.run, tables.len(), chunk_items, &elements)?;
    let model = Model::by_rows(&tables, &classes, split.run);
    by_chunk(chunk_items, elements, size, out, |range, out| {
        let n = out.len() / size;
        let (mut symbols, mut planes) = (vec![0; n], vec![vec![0; n]; cut.planes() + 1]);
        entropy::decode_symbols(source, 2, range.clone(), &model, &mut symbols)?;
        entropy::decode_symbols(source, 3, range.clone(), &Model::none(), &mut planes[0])?;
        for (i, plane) in planes.iter_mut().enumerate().skip(1) {
            entropy::decode_bytes(source, 3 + i, range.clone(), plane)?;
        }
        let largest = |of: &[u8]| u64::from(of.iter().copied().max().unwrap_or(0));
        let (symbol, top) = (largest(&symbols), largest(&planes[0]));
        if symbol > cut.max_symbol() || top >> cut.top_bits() != 0 {
            return Err(Error::corruption(format!(
                "elements {range:?}: symbol {symbol} or rest {top} does not fit dtype {}",
                spec.dtype
            )));
        }
        match size {
            1 => join::<1>(cut, &symbols, &planes, out),
            2 => join::<2>(cut, &symbols, &planes, out),
            4 => join::<4>(cut, &symbols, &planes, out),
            _ => join::<8>(cut, &symbols, &planes, out),
        }
        Ok(())
    })
}

/// Classes of the runs up to the last that the chunks of `elements` reach; those before the first are left 0. None
/// where there is one table.
fn classes_of(
    source: &dyn LeafSource,
    run: u64,
    tables: usize,
    chunk_items: u64,
    elements: &Range<u64>,
) -> Result<Vec<u8>> {
    let total = source.spec().elements()?;
    let runs = if tables > 1 { total.div_ceil(run.max(1)) } else { 0 };
    source.spec().expect_stream(1, StreamKind::Symbols, runs)?;
    if runs == 0 || elements.is_empty() {
        return Ok(Vec::new());
    }
    if run == 0 || runs > MAX_RUNS {
        return Err(Error::corruption(format!("{runs} runs of {run} elements, at most {MAX_RUNS} expected")));
    }
    let first = elements.start / chunk_items * chunk_items / run;
    let end = elements.end.div_ceil(chunk_items).saturating_mul(chunk_items).min(total).div_ceil(run);
    let mut classes = vec![0; end as usize];
    entropy::decode_symbols(source, 1, first..end, &Model::none(), &mut classes[first as usize..])?;
    Ok(classes)
}

/// Elements of `N` bytes from their symbols and the planes of their rest, highest first.
fn join<const N: usize>(cut: Cut, symbols: &[u8], planes: &[Vec<u8>], out: &mut [u8]) {
    const BLOCK: usize = 512;
    let mut rest = [0u64; BLOCK];
    for (i, (out, symbols)) in out.chunks_mut(BLOCK * N).zip(symbols.chunks(BLOCK)).enumerate() {
        let rest = &mut rest[..symbols.len()];
        rest.fill(0);
        for plane in planes {
            let plane = &plane[i * BLOCK..][..symbols.len()];
            rest.iter_mut().zip(plane).for_each(|(r, &p)| *r = *r << 8 | u64::from(p));
        }
        for ((o, &s), &r) in out.as_chunks_mut::<N>().0.iter_mut().zip(symbols).zip(&*rest) {
            o.copy_from_slice(&cut.join(s, r).to_le_bytes()[..N]);
        }
    }
}
