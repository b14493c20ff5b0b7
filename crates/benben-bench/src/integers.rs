//! Integers that are given, coded by class tables: what a quantizer's output takes, and how fast it is read.
//!
//! This is how to compare with coders of integers (DeepCABAC in NNCodec) on exactly the same integers, whatever chose
//! them. Side information, chunk entries and checksums are counted, as in a file.

use crate::sample::{entropy_bits, unzigzag, zigzag};
use crate::{Measure, measure::Task};
use benben::codec::bands;
use benben::codec::entropy::{self, CHUNK_ITEMS, Model, SideReader, SideWriter, Values};
use benben::{Dtype, Error, ModelSource, Result};
use benben_format::{EncodedLeaf, LeafSpec};
use serde::Serialize;

const SIDE: usize = 0;
const CLASSES: usize = 1;
const SYMBOLS: usize = 2;
const POSITIONS: usize = 3;
const EXCEPTIONS: usize = 4;
/// Weights of a run at the least: below, a run's class costs more than it saves.
const LEAST_RUN: usize = 64;
/// Integers beyond are not exact in f32.
const LARGEST: u32 = 1 << 24;

/// A matrix of integers, coded.
#[derive(Debug)]
pub(crate) struct Coded {
    leaf: EncodedLeaf,
    run: usize,
    step: f32,
}

impl Coded {
    /// Codes the rows of a matrix. Values are the integers times `step`.
    pub(crate) fn encode(integers: &[i32], rows: usize, columns: usize, step: f32) -> Result<Self> {
        if let Some(q) = integers.iter().find(|q| q.unsigned_abs() > LARGEST) {
            return Err(Error::invalid(format!("integer {q}, at most {LARGEST} expected")));
        }
        // Integers that have no symbol stand apart; they are a few in a million at 6 bits.
        let symbol = |&q: &i32| u8::try_from(zigzag(q));
        let symbols: Vec<u8> = integers.iter().map(|q| symbol(q).unwrap_or(0)).collect();
        let outside = || integers.iter().enumerate().filter(|(_, q)| symbol(q).is_err());
        let positions: Vec<u64> = outside().map(|(i, _)| i as u64).collect();
        let exceptions: Vec<u64> = outside().map(|(_, &q)| zigzag(q).into()).collect();

        let run = LEAST_RUN.div_ceil(columns.max(1)).min(rows.max(1)) * columns.max(1);
        let classes = bands::sort(&symbols, run);
        let mut side = SideWriter::new();
        side.tables(&classes.tables)?;
        let shape = [rows as u64, columns as u64];
        let mut leaf = EncodedLeaf::new(LeafSpec::new("integers", 1, Dtype::F32, &shape, &step)?);
        let (spec, chunks) = entropy::encode_bytes(&side.into_bytes(), 1, CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let (spec, chunks) = entropy::encode_symbols(&classes.of, &Model::none(), CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let model = Model::by_rows(&classes.tables, &classes.of, run as u64);
        let (spec, chunks) = entropy::encode_symbols(&symbols, &model, CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        for words in [&positions, &exceptions] {
            let (spec, chunks) = entropy::encode_words(words, CHUNK_ITEMS);
            leaf.push(spec, chunks);
        }
        Ok(Self { leaf, run, step })
    }

    /// Writes the values; side information is read anew each time, as from a file.
    pub(crate) fn decode(&self, out: &mut [f32]) -> Result<()> {
        let leaf = &self.leaf;
        let items = |stream: usize| leaf.spec.streams[stream].items;
        let room = |stream: usize| usize::try_from(items(stream)).unwrap_or(usize::MAX);
        let mut side = vec![0; room(SIDE)];
        entropy::decode_bytes(leaf, SIDE, 0..items(SIDE), &mut side)?;
        let mut side = SideReader::new(&side);
        let tables = side.tables()?;
        side.finish()?;
        let mut classes = vec![0; room(CLASSES)];
        entropy::decode_symbols(leaf, CLASSES, 0..items(CLASSES), &Model::none(), &mut classes)?;
        let model = Model::by_rows(&tables, &classes, self.run as u64);
        let values = Values::new(std::array::from_fn(|s| unzigzag(s as u32) as f32 * self.step));
        entropy::decode_values(leaf, SYMBOLS, 0..items(SYMBOLS), &model, &values, out)?;
        let mut words = [POSITIONS, EXCEPTIONS].map(|stream| vec![0; room(stream)]);
        for (stream, words) in [POSITIONS, EXCEPTIONS].into_iter().zip(&mut words) {
            entropy::decode_words(leaf, stream, 0..items(stream), words)?;
        }
        let [positions, exceptions] = words;
        for (at, z) in positions.into_iter().zip(exceptions) {
            let place = usize::try_from(at).ok().and_then(|at| out.get_mut(at));
            let (Some(o), Ok(z)) = (place, u32::try_from(z)) else {
                return Err(Error::corruption(format!("exception {z} at element {at}")));
            };
            *o = unzigzag(z) as f32 * self.step;
        }
        Ok(())
    }

    /// Bytes in a file.
    pub(crate) fn stored_bytes(&self) -> usize {
        usize::try_from(self.leaf.stored_bytes()).unwrap_or(usize::MAX)
    }

    /// Entropy of `symbols`, which were encoded, where the class of each is known.
    pub(crate) fn class_entropy_bits(&self, symbols: &[u8]) -> f64 {
        let items = self.leaf.spec.streams[CLASSES].items;
        let mut classes = vec![0; usize::try_from(items).unwrap_or(0)];
        if entropy::decode_symbols(&self.leaf, CLASSES, 0..items, &Model::none(), &mut classes).is_err() {
            return f64::NAN;
        }
        let mut counts = vec![[0u64; 256]; Model::MAX_TABLES];
        for (i, run) in symbols.chunks(self.run).enumerate() {
            let counts = &mut counts[usize::from(classes.get(i).copied().unwrap_or(0))];
            run.iter().for_each(|&s| counts[usize::from(s)] += 1);
        }
        counts.iter().map(|c| entropy_bits(c)).sum()
    }

    fn classes(&self) -> usize {
        let side = self.leaf.spec.streams[SIDE].items;
        let mut bytes = vec![0; usize::try_from(side).unwrap_or(0)];
        let read = entropy::decode_bytes(&self.leaf, SIDE, 0..side, &mut bytes);
        read.and_then(|()| SideReader::new(&bytes).tables()).map_or(0, |tables| tables.len())
    }
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Integers {
    /// Integers in all.
    pub weights: usize,
    /// Bytes that they take, everything counted.
    pub bytes: usize,
    /// Bits for each of them.
    pub bits_per_weight: f64,
    /// Order-0 entropy in bits for each, by tensor.
    pub entropy: f64,
    /// Integers encoded in a second, the choice of classes included.
    pub encode_per_second: f64,
    /// Integers decoded in a second, to f32.
    pub decode_per_second: f64,
    /// One for each tensor.
    pub tensors: Vec<TensorRow>,
}

/// One tensor.
#[derive(Debug, Clone, Serialize)]
pub struct TensorRow {
    /// Name in the file.
    pub name: String,
    /// Shape, outermost first.
    pub shape: Vec<u64>,
    /// Bytes that it takes.
    pub bytes: usize,
    /// Bits for each integer.
    pub bits_per_weight: f64,
    /// Tables.
    pub tables: usize,
}

/// Codes every tensor of integers in `model`.
///
/// # Errors
/// InvalidArgument where there is none, or one beyond 2^24; Corruption where decoding gives something else.
pub fn measure(model: &dyn ModelSource, measure: &mut Measure<'_>) -> Result<Integers> {
    measure_given(&given(model)?, measure)
}

/// [`measure`] of integers at hand.
pub(crate) fn measure_given(given: &[Given], measure: &mut Measure<'_>) -> Result<Integers> {
    let mut coded: Vec<Coded> = Vec::new();
    let encode = |coded: &mut Vec<Coded>| -> Result<()> {
        *coded = given.iter().map(|g| Coded::encode(&g.of, g.rows, g.columns, 1.0)).collect::<Result<_>>()?;
        Ok(())
    };
    let turn = Box::new(|| encode(&mut coded));
    let encode_seconds = measure.race(&mut [Task { name: "encode".into(), turn }])?;
    let mut out: Vec<Vec<f32>> = given.iter().map(|g| vec![0.0; g.of.len()]).collect();
    let turn = Box::new(|| coded.iter().zip(&mut out).try_for_each(|(c, out)| c.decode(out)));
    let decode_seconds = measure.race(&mut [Task { name: "decode".into(), turn }])?;

    let mut tensors = Vec::new();
    let mut entropy = 0.0;
    for ((given, coded), out) in given.iter().zip(&coded).zip(&out) {
        if !given.of.iter().map(|&q| q as f32).eq(out.iter().copied()) {
            return Err(Error::corruption("decoded integers differ").in_tensor(&given.name));
        }
        let bytes = coded.stored_bytes();
        tensors.push(TensorRow {
            name: given.name.clone(),
            shape: given.shape.clone(),
            bytes,
            bits_per_weight: 8.0 * bytes as f64 / given.of.len() as f64,
            tables: coded.classes(),
        });
        let mut sorted = given.of.clone();
        sorted.sort_unstable();
        let counts: Vec<u64> = sorted.chunk_by(|a, b| a == b).map(|c| c.len() as u64).collect();
        entropy += entropy_bits(&counts);
    }
    let weights: usize = given.iter().map(|g| g.of.len()).sum();
    let bytes: usize = tensors.iter().map(|t| t.bytes).sum();
    let per_second = |seconds: &[f64]| weights as f64 / seconds.iter().sum::<f64>();
    Ok(Integers {
        weights,
        bytes,
        bits_per_weight: 8.0 * bytes as f64 / weights as f64,
        entropy: entropy / weights as f64,
        encode_per_second: per_second(&encode_seconds),
        decode_per_second: per_second(&decode_seconds),
        tensors,
    })
}

/// A tensor of integers.
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) of: Vec<i32>,
}

fn given(model: &dyn ModelSource) -> Result<Vec<Given>> {
    let mut found = Vec::new();
    for (index, info) in model.tensors().iter().enumerate() {
        let bytes = || model.read(index);
        let of: Vec<i32> = match info.dtype {
            Dtype::I8 => bytes()?.iter().map(|b| b.cast_signed().into()).collect(),
            Dtype::I16 => bytes()?.as_chunks().0.iter().map(|b| i16::from_le_bytes(*b).into()).collect(),
            Dtype::I32 => bytes()?.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect(),
            _ => continue,
        };
        if of.is_empty() {
            continue;
        }
        let columns = info.shape.last().and_then(|&c| usize::try_from(c).ok()).unwrap_or(1).max(1);
        let rows = of.len() / columns;
        found.push(Given { name: info.name.clone(), shape: info.shape.clone(), rows, columns, of });
    }
    if found.is_empty() {
        return Err(Error::invalid("no tensor of i8, i16 or i32 in the file"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_size_come_back() {
        let integers: Vec<i32> = (0..6400)
            .map(|i| match i {
                77 => 128,
                3000 => -70_000,
                i => (i * i % 11 - 5) * if i < 3200 { 1 } else { 9 },
            })
            .collect();
        let coded = Coded::encode(&integers, 100, 64, 0.5).unwrap();
        let mut out = vec![0.0; integers.len()];
        coded.decode(&mut out).unwrap();
        assert!(integers.iter().zip(&out).all(|(&q, &v)| v == q as f32 * 0.5));
        assert!(coded.classes() >= 2, "two halves of unlike spread");
        assert!(Coded::encode(&[1 << 25], 1, 1, 1.0).is_err());
    }
}
