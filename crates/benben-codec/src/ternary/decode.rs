//! A leaf to values.

use super::dictionary::{Dictionary, MAX_TRITS};
use super::level::level;
use super::plane::apply;
use super::side::Side;
use super::{CODEC, Coder, Params, VERSION};
use crate::entropy::{Model, decode_bytes, decode_symbols, decode_words};
use benben_format::{Error, LeafSource, Result, StreamKind};
use rayon::prelude::*;
use std::ops::Range;

/// Side information never takes more: 17 tables and three numbers.
const MAX_SIDE: u64 = 1 << 14;

/// Decodes elements `elements` (flat, row-major) into `out`, which holds as many.
///
/// # Errors
/// InvalidArgument for a leaf of another codec, a range outside of the tensor or an `out` of another length;
/// Compatibility for a later version; Corruption where the leaf contradicts itself.
pub fn decode(source: &dyn LeafSource, elements: Range<u64>, out: &mut [f32]) -> Result<()> {
    crate::check_codec(source.spec(), CODEC, VERSION)?;
    crate::check_range(source.spec(), &elements, out.len())?;
    let side = read_side(source)?;
    if out.is_empty() {
        return Ok(());
    }
    let mut all = vec![0u8; out.len()];
    trits_of(source, &side, elements.clone(), &mut all)?;
    values(source, &side, elements, &all, out)
}

/// Trits of elements `elements`: 0 zero, 1 the positive level of the element's run, 2 minus the negative one.
///
/// # Errors
/// As [`decode`].
pub fn trits(source: &dyn LeafSource, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
    crate::check_codec(source.spec(), CODEC, VERSION)?;
    crate::check_range(source.spec(), &elements, out.len())?;
    let side = read_side(source)?;
    if out.is_empty() { Ok(()) } else { trits_of(source, &side, elements, out) }
}

/// Elements of a run, and the positive and the negative level (a magnitude) of each run.
///
/// # Errors
/// As [`decode`].
pub fn levels(source: &dyn LeafSource) -> Result<(u64, Vec<[f32; 2]>)> {
    crate::check_codec(source.spec(), CODEC, VERSION)?;
    let side = read_side(source)?;
    let runs = source.spec().elements()?.div_ceil(side.level_run);
    let mut codes = vec![0u8; 2 * runs as usize];
    decode_symbols(source, 1, 0..2 * runs, &Model::by_rows(&side.levels, &[], 1), &mut codes)?;
    let pairs = codes.as_chunks::<2>().0.iter();
    Ok((side.level_run, pairs.map(|pair| pair.map(|code| level(code, side.unit))).collect()))
}

/// Side information, the stream of levels held against the shape.
fn read_side(source: &dyn LeafSource) -> Result<Side> {
    let spec = source.spec();
    let total = spec.elements()?;
    let stored = spec.stream(0, StreamKind::Bytes { width: 1 })?.items;
    if stored > MAX_SIDE {
        return Err(Error::corruption(format!(
            "ternary side information of {stored} bytes, expected at most {MAX_SIDE}"
        )));
    }
    let mut bytes = vec![0; stored as usize];
    decode_bytes(source, 0, 0..stored, &mut bytes)?;
    let side = Side::read(&bytes)?;
    spec.expect_stream(1, StreamKind::Symbols, 2 * total.div_ceil(side.level_run))?;
    Ok(side)
}

/// Trits of elements `elements`, which are not none.
fn trits_of(source: &dyn LeafSource, side: &Side, elements: Range<u64>, trits: &mut [u8]) -> Result<()> {
    let total = source.spec().elements()?;
    let Params { coder } = source.spec().params()?;
    match coder {
        Coder::Symbols => symbols(source, side, total, elements, trits)?,
        Coder::Dictionary => codewords(source, side, total, elements, trits)?,
    }
    match trits.iter().find(|&&t| t > 2) {
        Some(t) => Err(Error::corruption(format!("trit {t}, expected 0, 1 or 2"))),
        None => Ok(()),
    }
}

/// Trits as symbols of rANS.
fn symbols(
    source: &dyn LeafSource,
    side: &Side,
    total: u64,
    elements: Range<u64>,
    trits: &mut [u8],
) -> Result<()> {
    let spec = source.spec();
    let runs = if side.trits.len() > 1 { total.div_ceil(side.run) } else { 0 };
    spec.expect_stream(2, StreamKind::Symbols, runs)?;
    let chunk = u64::from(spec.expect_stream(3, StreamKind::Symbols, total)?.chunk_items.max(1));
    let mut bands = vec![0u8; runs as usize];
    if runs > 0 {
        // Symbols are decoded by whole chunks, so the bands of whole chunks are needed.
        let first = elements.start / chunk * chunk / side.run;
        let end = (elements.end.div_ceil(chunk) * chunk).min(total).div_ceil(side.run);
        let wanted = &mut bands[first as usize..end as usize];
        decode_symbols(source, 2, first..end, &Model::none(), wanted)?;
    }
    let model = Model::by_rows(&side.trits, &bands, side.run);
    decode_symbols(source, 3, elements, &model, trits)
}

/// Trits as codewords of the dictionary.
fn codewords(
    source: &dyn LeafSource,
    side: &Side,
    total: u64,
    elements: Range<u64>,
    trits: &mut [u8],
) -> Result<()> {
    let spec = source.spec();
    let blocks = total.div_ceil(side.run);
    spec.expect_stream(4, StreamKind::Words, blocks - 1)?;
    let stored = spec.stream(5, StreamKind::Bytes { width: 2 })?.items;
    let wanted = elements.start / side.run..elements.end.div_ceil(side.run);
    // Where each wanted block starts, and where the last one ends.
    let mut starts = vec![0u64; (wanted.end - wanted.start + 1) as usize];
    let first = usize::from(wanted.start == 0);
    let last = starts.len() - usize::from(wanted.end == blocks);
    let listed = wanted.start + first as u64 - 1..wanted.start + last as u64 - 1;
    decode_words(source, 4, listed, &mut starts[first..last])?;
    starts[last..].fill(stored);
    if !starts.is_sorted() || starts.last().is_some_and(|&s| s > stored) {
        return Err(Error::corruption(format!(
            "blocks of codewords out of order, or past the {stored} there are"
        )));
    }
    let (begin, end) = (starts[0], starts[starts.len() - 1]);
    // A block of so many trits has at most one codeword for each pair.
    let most = (wanted.end * side.run).min(total) - wanted.start * side.run;
    if end - begin > most {
        return Err(Error::corruption(format!("{} codewords for {most} trits", end - begin)));
    }
    let mut bytes = vec![0u8; (end - begin) as usize * 2];
    decode_bytes(source, 5, begin..end, &mut bytes)?;

    let mut pieces = Vec::with_capacity(starts.len() - 1);
    let mut rest = trits;
    for (i, bounds) in starts.windows(2).enumerate() {
        let from = (wanted.start + i as u64) * side.run;
        let size = side.run.min(total - from);
        let span = from.max(elements.start)..(from + size).min(elements.end);
        let (own, others) = rest.split_at_mut((span.end - span.start) as usize);
        rest = others;
        let bytes = &bytes[(bounds[0] - begin) as usize * 2..(bounds[1] - begin) as usize * 2];
        pieces.push((bytes, size as usize, (span.start - from) as usize, own));
    }
    let results: Vec<Result<()>> = pieces
        .into_par_iter()
        .map(|(bytes, size, skip, own)| {
            if own.len() == size {
                return Dictionary::get().decode(bytes, own);
            }
            if bytes.len() / 2 < size.div_ceil(MAX_TRITS) {
                return Err(Error::corruption(format!("{} codewords for {size} trits", bytes.len() / 2)));
            }
            let mut block = vec![0; size];
            Dictionary::get().decode(bytes, &mut block)?;
            own.copy_from_slice(&block[skip..skip + own.len()]);
            Ok(())
        })
        .collect();
    results.into_iter().collect()
}

/// Values of `trits`, which are those of `elements`.
fn values(
    source: &dyn LeafSource,
    side: &Side,
    elements: Range<u64>,
    trits: &[u8],
    out: &mut [f32],
) -> Result<()> {
    let runs = elements.start / side.level_run..elements.end.div_ceil(side.level_run);
    let mut levels = vec![0u8; (runs.end - runs.start) as usize * 2];
    let model = Model::by_rows(&side.levels, &[], 1);
    decode_symbols(source, 1, 2 * runs.start..2 * runs.end, &model, &mut levels)?;
    let head = ((runs.start + 1) * side.level_run).min(elements.end) - elements.start;
    let (head, tail) = out.split_at_mut(head as usize);
    let (trits, more) = trits.split_at(head.len());
    apply(trits, &levels[..2], side.unit, head);
    if !tail.is_empty() {
        let run = side.level_run as usize;
        let rest = tail.par_chunks_mut(run).zip(more.par_chunks(run)).zip(levels[2..].par_chunks(2));
        rest.for_each(|((out, trits), levels)| apply(trits, levels, side.unit, out));
    }
    Ok(())
}
