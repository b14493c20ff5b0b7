//! A plane to a leaf, and the threshold that a target asks for.

use super::dictionary::{Dictionary, MAX_TRITS};
use super::plane::Plane;
use super::side::Side;
use super::{CODEC, Coder, Params, Settings, VERSION, energy};
use crate::bands;
use crate::entropy::{CHUNK_ITEMS, Model, Table, encode_bytes, encode_symbols, encode_words};
use crate::{Fit, squared_error};
use benben_format::{Dtype, EncodedLeaf, Error, LeafSpec, Result, element_count};
use rayon::prelude::*;

/// Fewest elements of a block of codewords, and of a run of one band: whole rows above that.
const BLOCK: usize = 1 << 12;
/// Most elements of a block, however long a row is.
const MAX_BLOCK: usize = 1 << 16;
/// Codewords of one chunk, 64 KiB.
const CODEWORDS: u32 = 1 << 15;

/// Encodes `values`, a tensor of `shape`, as one plane, and tells what was reached. One plane goes down to an error of
/// 0.19 on Gaussian weights, at 1.54 bits; beyond that, and below what its tables take, the nearest is given.
///
/// # Errors
/// InvalidArgument where `values` does not fill `shape`, or a value is not finite or 2^112 or more.
pub fn encode(values: &[f32], shape: &[u64], settings: &Settings) -> Result<(EncodedLeaf, Fit)> {
    let (mut planes, fit) = super::stack::reach(values, shape, settings, 1)?;
    planes.pop().map(|leaf| (leaf, fit)).ok_or_else(|| Error::invalid("no plane was made"))
}

/// Refuses what cannot be encoded, and gives the length of a row.
pub(super) fn check(values: &[f32], shape: &[u64]) -> Result<usize> {
    let elements = element_count(shape)?;
    if elements != values.len() as u64 {
        return Err(Error::invalid(format!(
            "shape {shape:?} has {elements} elements, found {} values",
            values.len()
        )));
    }
    let limit = 2f32.powi(112);
    if let Some(i) = values.iter().position(|v| v.is_nan() || v.abs() >= limit) {
        return Err(Error::invalid(format!(
            "value {i} is {}, expected finite values below 2^112",
            values[i]
        )));
    }
    let row = shape.last().map_or(1, |&c| usize::try_from(c).unwrap_or(usize::MAX));
    Ok(row.clamp(1, values.len().max(1)))
}

/// Elements of a run of one band, and of a block of codewords.
fn run(row: usize) -> usize {
    if row > MAX_BLOCK { MAX_BLOCK } else { row * BLOCK.div_ceil(row) }
}

/// Bytes that the leaf of `plane` will take, about.
pub(super) fn estimate(plane: &Plane, row: usize) -> f64 {
    // Tables of the leaf and its chunks, and what levels and side information take.
    const FIXED: f64 = 48.0 + 3.0 * 16.0 + 14.0;
    let chunks = plane.trits.len().div_ceil(CHUNK_ITEMS as usize) as f64;
    FIXED + 16.0 * chunks + 0.65 * plane.levels.len() as f64 + bands::sort(&plane.trits, run(row)).bytes
}

/// The smaller of the two leaves of `plane`, a tensor of `shape` with rows of `row` values.
pub(super) fn assemble(plane: &Plane, shape: &[u64], row: usize) -> Result<EncodedLeaf> {
    let symbols = leaf(plane, shape, run(row), Coder::Symbols)?;
    // A string has at most 28 trits: where the other leaf takes less than that, there is nothing to try.
    if (symbols.stored_bytes() as usize) < plane.trits.len() / MAX_TRITS * 2 {
        return Ok(symbols);
    }
    let dictionary = leaf(plane, shape, run(row), Coder::Dictionary)?;
    Ok(if dictionary.stored_bytes() < symbols.stored_bytes() { dictionary } else { symbols })
}

/// The leaf of `plane` by one of the coders.
pub(super) fn leaf(plane: &Plane, shape: &[u64], run: usize, coder: Coder) -> Result<EncodedLeaf> {
    let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, shape, &Params { coder })?);
    let sorted = match coder {
        Coder::Symbols => bands::sort(&plane.trits, run),
        Coder::Dictionary => bands::Bands { of: Vec::new(), tables: Vec::new(), bytes: 0.0 },
    };
    let mut counts = [0; 256];
    plane.levels.iter().for_each(|&l| counts[usize::from(l)] += 1);
    // Few levels are packed; a table pays from some hundreds on.
    let levels = if plane.levels.len() > 128 { vec![Table::from_counts(&counts)] } else { Vec::new() };
    let side = Side {
        unit: plane.unit,
        level_run: plane.level_run as u64,
        run: run as u64,
        levels,
        trits: sorted.tables,
    };
    let (spec, chunks) = encode_bytes(&side.write()?, 1, CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    let model = Model::by_rows(&side.levels, &[], 1);
    let (spec, chunks) = encode_symbols(&plane.levels, &model, CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    let (spec, chunks) = encode_symbols(&sorted.of, &Model::none(), CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    let trits: &[u8] = if coder == Coder::Symbols { &plane.trits } else { &[] };
    let model = Model::by_rows(&side.trits, &sorted.of, run as u64);
    let (spec, chunks) = encode_symbols(trits, &model, CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    let blocks: Vec<Vec<u16>> = match coder {
        Coder::Symbols => Vec::new(),
        Coder::Dictionary => plane
            .trits
            .par_chunks(run)
            .map(|block| {
                let mut codewords = Vec::new();
                Dictionary::get().encode(block, &mut codewords);
                codewords
            })
            .collect(),
    };
    let mut starts = Vec::with_capacity(blocks.len());
    let mut total = 0u64;
    for block in &blocks {
        starts.push(total);
        total += block.len() as u64;
    }
    let (spec, chunks) = encode_words(starts.get(1..).unwrap_or(&[]), CHUNK_ITEMS);
    leaf.push(spec, chunks);
    let bytes: Vec<u8> = blocks.iter().flatten().flat_map(|c| c.to_le_bytes()).collect();
    let (spec, chunks) = encode_bytes(&bytes, 2, CODEWORDS)?;
    leaf.push(spec, chunks);
    Ok(leaf)
}

/// What `bytes` reach that decode to `decoded`.
pub(super) fn fit(values: &[f32], decoded: &[f32], bytes: f64) -> Fit {
    let (error, _) = squared_error(values, decoded);
    let energy = energy(values);
    Fit {
        bits_per_weight: bytes * 8.0 / values.len().max(1) as f64,
        relative_mse: if energy > 0.0 { error / energy } else { 0.0 },
    }
}
