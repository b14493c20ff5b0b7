//! Decoder: codebooks and symbols to values.

use super::layout::Layout;
use super::stored::{self, Stage};
use super::{CODEC, Params, VERSION};
use crate::entropy;
use benben_format::{Error, ErrorKind, LeafSource, LeafSpec, Result, StreamKind};
use rayon::prelude::*;
use std::ops::Range;

/// Vectors that one task adds up.
const BLOCK: usize = 1 << 12;

/// Decodes elements `elements` of the flat tensor into `out`. Only the chunks that hold their symbols are read, and
/// the side information, which is a few kilobytes.
///
/// # Errors
/// [`Corruption`](ErrorKind::Corruption) where the leaf contradicts itself: symbols without a codeword, streams that
/// do not fit the shape, sizes of zero, steps that are no positive numbers, codewords out of the range of f32, more side
/// information than a tensor of this size warrants.
/// [`Compatibility`](ErrorKind::Compatibility) for a later version.
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for another codec, and where `elements` is not within the tensor or
/// `out` not of its length.
pub fn decode(source: &dyn LeafSource, elements: Range<u64>, out: &mut [f32]) -> Result<()> {
    let spec = source.spec();
    crate::check_codec(spec, CODEC, VERSION)?;
    crate::check_range(spec, &elements, out.len())?;
    let params: Params = spec.params()?;
    let layout = Layout::new(&spec.shape, params.dim, params.groups, ErrorKind::Corruption)?;
    let side = read_side(source, &params, &layout)?;
    let dim = layout.dim as u64;
    let vectors = elements.start / dim..elements.end.div_ceil(dim);
    // Elements of the first vector that come before the range.
    let skip = (elements.start % dim) as usize;
    let stages = layout.groups * usize::from(params.stages);
    stored::read(&side, layout.dim, stages, params.mapped, |index, stage| {
        let (group, first) = (index / usize::from(params.stages), index % usize::from(params.stages) == 0);
        let symbols = layout.before(group, vectors.start)..layout.before(group, vectors.end);
        let mut codes = vec![0; (symbols.end - symbols.start) as usize];
        entropy::decode_symbols(source, index + 1, symbols, &stage.model(), &mut codes)?;
        let words = words(&stage, &codes, index)?;
        let mut codes = &codes[..];
        for run in layout.runs(group, vectors.clone()) {
            let (here, rest) = codes.split_at((run.end - run.start) as usize);
            codes = rest;
            // Where the run begins in `out`, counted from the start of the first vector.
            let at = ((run.start - vectors.start) * dim) as usize;
            let (from, lead) = if at == 0 { (0, skip) } else { (at - skip, 0) };
            let to = (at + here.len() * layout.dim - skip).min(out.len());
            add(&mut out[from..to], lead, here, &words, layout.dim, first);
        }
        Ok(())
    })
}

/// One stage of one group: what products need in place of values.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Elements of a vector.
    pub dim: usize,
    /// Vectors of a row that belong to the group, by position; all vectors of the leaf where there is one group, whose
    /// vectors may cross rows.
    pub positions: Range<u64>,
    /// Codewords, one after the other.
    pub words: Vec<f32>,
    /// Codeword of each vector of the group, row-major.
    pub codes: Vec<u8>,
    /// What entries of codewords are multiples of, unless the codebook is mapped.
    pub step: f32,
}

/// All stages of all groups, those of group 0 first. A value is the sum of its codewords in this order.
///
/// # Errors
/// As [`decode`].
pub fn parts(source: &dyn LeafSource) -> Result<Vec<Part>> {
    let spec = source.spec();
    crate::check_codec(spec, CODEC, VERSION)?;
    let params: Params = spec.params()?;
    let layout = Layout::new(&spec.shape, params.dim, params.groups, ErrorKind::Corruption)?;
    let side = read_side(source, &params, &layout)?;
    let stages = layout.groups * usize::from(params.stages);
    let mut parts = Vec::new();
    stored::read(&side, layout.dim, stages, params.mapped, |index, stage| {
        let group = index / usize::from(params.stages);
        let mut codes = vec![0; layout.vectors(group) as usize];
        entropy::decode_symbols(source, index + 1, 0..codes.len() as u64, &stage.model(), &mut codes)?;
        let words = words(&stage, &codes, index)?;
        parts.push(Part {
            dim: layout.dim,
            positions: layout.positions(group),
            words,
            codes,
            step: stage.step,
        });
        Ok(())
    })?;
    Ok(parts)
}

/// Elements of a vector, groups and stages of a leaf, from what the index says alone.
///
/// # Errors
/// Corruption where the parameters do not fit the shape.
pub fn extent(spec: &LeafSpec) -> Result<(usize, u16, u8)> {
    crate::check_codec(spec, CODEC, VERSION)?;
    let params: Params = spec.params()?;
    Layout::new(&spec.shape, params.dim, params.groups, ErrorKind::Corruption)?;
    Ok((usize::from(params.dim), params.groups, params.stages))
}

/// Codebooks and tables as they are stored, once the spec and its streams are seen to fit the shape.
fn read_side(source: &dyn LeafSource, params: &Params, layout: &Layout) -> Result<Vec<u8>> {
    let spec = source.spec();
    let count = layout.groups * usize::from(params.stages);
    if count == 0 || spec.streams.len() != count + 1 {
        return Err(Error::corruption(format!(
            "rvq: {} groups of {} stages need {} streams and at least one stage, found {} streams",
            params.groups,
            params.stages,
            count + 1,
            spec.streams.len()
        )));
    }
    for index in 0..count {
        let items = layout.vectors(index / usize::from(params.stages));
        spec.expect_stream(index + 1, StreamKind::Symbols, items)?;
    }
    let side = spec.stream(0, StreamKind::Bytes { width: 1 })?;
    let most = stored::most_bytes(layout, params.stages, params.mapped);
    if side.items > most {
        return Err(Error::corruption(format!(
            "rvq: {} bytes of codebooks, at most {most} expected for {} elements",
            side.items, layout.elements
        )));
    }
    let mut bytes = vec![0; side.items as usize];
    entropy::decode_bytes(source, 0, 0..side.items, &mut bytes)?;
    Ok(bytes)
}

/// All codewords of a stage, once they are seen to be numbers and the symbols to have one.
fn words(stage: &Stage, codes: &[u8], index: usize) -> Result<Vec<f32>> {
    let (words, size) = (stage.book().words, stage.len());
    if let Some(i) = words.iter().position(|w| !w.is_finite()) {
        return Err(Error::corruption(format!(
            "rvq codebook {index}: codeword {} leaves the range of f32",
            i / stage.dim
        )));
    }
    match codes.iter().position(|&c| usize::from(c) >= size) {
        Some(i) => Err(Error::corruption(format!(
            "rvq: stream {} has symbol {} (number {i} of the range), the codebook has {size} words",
            index + 1,
            codes[i]
        ))),
        None => Ok(words),
    }
}

/// Adds the codewords of `codes` to `out`, or writes them where they are the `first`; `out` begins `lead` elements
/// into the first codeword and may end within the last.
fn add(out: &mut [f32], lead: usize, codes: &[u8], words: &[f32], dim: usize, first: bool) {
    let put = |out: &mut [f32], word: &[f32]| {
        if first {
            out.copy_from_slice(&word[..out.len()]);
        } else {
            out.iter_mut().zip(word).for_each(|(o, w)| *o += w);
        }
    };
    let word = |code: u8| &words[usize::from(code) * dim..][..dim];
    let (mut out, mut codes) = (out, codes);
    if lead > 0
        && let Some((&code, rest)) = codes.split_first()
    {
        let (head, tail) = out.split_at_mut((dim - lead).min(out.len()));
        put(head, &word(code)[lead..]);
        (out, codes) = (tail, rest);
    }
    out.par_chunks_mut(BLOCK * dim).zip(codes.par_chunks(BLOCK)).for_each(|(out, codes)| {
        out.chunks_mut(dim).zip(codes).for_each(|(out, &code)| put(out, word(code)));
    });
}
