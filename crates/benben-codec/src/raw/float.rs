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
//! | 1 | symbols | class of each run of `run` elements, without tables; no items where there is one table |
//! | 2 | symbols | the symbols, by the table of their class |
//! | 3 | symbols | the highest bits of the rest, `(M - m) mod 8 + 1` of them, without tables |
//! | 4, ... | bytes | the other bits of the rest, 8 to a stream, higher ones first |
//!
//! # Cost
//! The leading mantissa bits depend on the exponent a little: 0.07 bits for each weight at `m` = 2, and classes of
//! rows save another 0.04 (MiniLM-L6). The encoder tries each `m` and 1, 4 and 8 classes by their exact cost.

use super::{by_chunk, histogram, planes::read_side};
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

/// Tables and the class of each run, the encoder's choice.
#[derive(Debug, Clone)]
pub(super) struct Classes {
    tables: Vec<Table>,
    classes: Vec<u8>,
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

    fn symbol(self, bits: u64) -> u8 {
        (((bits >> self.low) & ((1 << (self.exponent + self.m)) - 1)) - (self.lowest << self.m)) as u8
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

/// Elements as integers, zero bits above.
fn elements(bytes: &[u8], size: usize) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(size).map(move |b| {
        let mut padded = [0; 8];
        padded[..size].copy_from_slice(b);
        u64::from_le_bytes(padded)
    })
}

impl Split {
    /// The split and classes that are expected to be smallest; `None` where `dtype` is no float, or its exponents
    /// span more than 256.
    pub(super) fn choose(bytes: &[u8], dtype: Dtype, shape: &[u64]) -> Option<(Self, Classes)> {
        let (exponent, mantissa) = widths(dtype)?;
        let size = dtype.size();
        let exponents = elements(bytes, size).map(|b| (b >> mantissa) & ((1 << exponent) - 1));
        let (lowest, highest) = exponents.fold((u64::MAX, 0), |(a, b), e| (a.min(e), b.max(e)));
        let lowest = u16::try_from(lowest).ok()?;
        let run = shape.iter().rev().scan(1, |n, &d| {
            *n *= d;
            Some(*n)
        });
        let run = run.into_iter().find(|&n| n >= MIN_RUN).unwrap_or(u64::MAX);
        let mut best: Option<(f64, Self, Classes)> = None;
        for m in 0..=mantissa.min(3) {
            let split = Self { mantissa: m as u8, lowest, run };
            if (highest - u64::from(lowest) + 1) << m > 256 {
                break;
            }
            let cut = Cut::new(split, dtype).ok()?;
            let symbols: Vec<u8> = elements(bytes, size).map(|b| cut.symbol(b)).collect();
            let rest_bits = (f64::from(cut.low) + 1.0) * symbols.len() as f64;
            for count in [1, 4, 8] {
                let Some((bits, classes)) = Classes::of(&symbols, run, count) else { continue };
                if best.as_ref().is_none_or(|b| bits + rest_bits < b.0) {
                    best = Some((bits + rest_bits, split, classes));
                }
            }
        }
        best.map(|(_, split, classes)| (split, classes))
    }

    /// Appends the streams of `bytes`.
    pub(super) fn encode(
        self,
        bytes: &[u8],
        dtype: Dtype,
        classes: Classes,
        leaf: &mut EncodedLeaf,
    ) -> Result<()> {
        let cut = Cut::new(self, dtype)?;
        let size = dtype.size();
        let Classes { tables, classes } = classes;
        let mut side = SideWriter::new();
        side.tables(&tables)?;
        let (spec, chunks) = entropy::encode_bytes(&side.into_bytes(), 1, CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let (spec, chunks) = entropy::encode_symbols(&classes, &Model::none(), CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let symbols: Vec<u8> = elements(bytes, size).map(|b| cut.symbol(b)).collect();
        let model = Model { tables: &tables, classes: &classes, run: self.run };
        let (spec, chunks) = entropy::encode_symbols(&symbols, &model, CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        for plane in (0..=cut.planes()).rev() {
            let bits = elements(bytes, size).map(|b| (cut.rest(b) >> (8 * plane)) as u8).collect::<Vec<_>>();
            let (spec, chunks) = if plane == cut.planes() {
                entropy::encode_symbols(&bits, &Model::none(), CHUNK_ITEMS)?
            } else {
                entropy::encode_bytes(&bits, 1, CHUNK_ITEMS)?
            };
            leaf.push(spec, chunks);
        }
        Ok(())
    }

    /// Writes the bytes of elements `elements`, a range within the tensor, into `out`, which they fill.
    pub(super) fn decode(self, source: &dyn LeafSource, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let spec = source.spec();
        let (cut, total, size) = (Cut::new(self, spec.dtype)?, spec.elements()?, spec.dtype.size());
        let tables = read_side(source, |side| side.tables())?;
        let runs = if tables.len() > 1 { total.div_ceil(self.run.max(1)) } else { 0 };
        spec.expect_stream(1, StreamKind::Symbols, runs)?;
        let stream = spec.expect_stream(2, StreamKind::Symbols, total)?;
        spec.expect_stream(3, StreamKind::Symbols, total)?;
        for plane in 0..cut.planes() {
            spec.expect_stream(4 + plane, StreamKind::Bytes { width: 1 }, total)?;
        }
        by_chunk(&stream, elements, size, out, |range, out| {
            let n = out.len() / size;
            // Whole chunks are decoded at once, so that the classes of the whole chunk are wanted.
            let step = u64::from(stream.chunk_items);
            let chunk = range.start / step * step..(range.start / step + 1).saturating_mul(step).min(total);
            let (mut symbols, mut plane, mut rest) = (vec![0; n], vec![0; n], vec![0u64; n]);
            let first_run = if runs > 0 { chunk.start / self.run } else { 0 };
            let last_run = if runs > 0 { (chunk.end - 1) / self.run + 1 } else { 0 };
            let _ = first_run;
            let mut classes = vec![0; last_run as usize];
            entropy::decode_symbols(source, 1, 0..last_run, &Model::none(), &mut classes)?;
            let model = Model { tables: &tables, classes: &classes, run: self.run };
            entropy::decode_symbols(source, 2, range.clone(), &model, &mut symbols)?;
            entropy::decode_symbols(source, 3, range.clone(), &Model::none(), &mut plane)?;
            let largest = |of: &[u8]| u64::from(of.iter().copied().max().unwrap_or(0));
            if largest(&symbols) > cut.max_symbol() || largest(&plane) >> cut.top_bits() != 0 {
                return Err(Error::corruption(format!(
                    "elements {range:?}: symbol {} or rest {} does not fit dtype {}",
                    largest(&symbols),
                    largest(&plane),
                    spec.dtype
                )));
            }
            rest.iter_mut().zip(&plane).for_each(|(r, &p)| *r = p.into());
            for stream in 4..4 + cut.planes() {
                entropy::decode_bytes(source, stream, range.clone(), &mut plane)?;
                rest.iter_mut().zip(&plane).for_each(|(r, &p)| *r = *r << 8 | u64::from(p));
            }
            for ((o, &s), &r) in out.chunks_exact_mut(size).zip(&symbols).zip(&rest) {
                o.copy_from_slice(&cut.join(s, r).to_le_bytes()[..size]);
            }
            Ok(())
        })
    }
}

/// Fewest elements of one class.
const MIN_RUN: u64 = 64;

impl Classes {
    /// At most `count` classes of runs by their mean symbol, of equally many runs each, and the bits that symbols,
    /// tables and classes take.
    fn of(symbols: &[u8], run: u64, count: usize) -> Option<(f64, Self)> {
        if count == 1 {
            let counts = histogram(symbols);
            let table = Table::from_counts(&counts);
            let bits = table.cost_bits(&counts) + 8.0 * table.stored_bytes() as f64;
            return Some((bits, Self { tables: vec![table], classes: Vec::new() }));
        }
        let run = usize::try_from(run).ok()?;
        let runs: Vec<&[u8]> = symbols.chunks(run).collect();
        if runs.len() < 4 * count {
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
        let class_bits = f64::from((count as u32).ilog2()) * classes.len() as f64;
        let bits = symbol_bits + class_bits + 8.0 * side.into_bytes().len() as f64;
        Some((bits, Self { tables, classes }))
    }
}
