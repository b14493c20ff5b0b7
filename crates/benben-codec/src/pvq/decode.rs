//! A leaf to values.

use super::gain::{extra_bits, level, scale};
use super::pulse_side::PulseSide;
use super::pyramid::{MAX_DIM, Pyramid};
use super::side::Side;
use super::tail::TailReader;
use super::{CODEC, Form, Params, VERSION, pulse_decode};
use crate::entropy::{Model, decode_bytes, decode_symbols, decode_words};
use crate::lattice::Lattice;
use benben_format::{Error, LeafSource, LeafSpec, Result, StreamKind};
use rayon::prelude::*;
use std::ops::Range;

/// Groups of one block of parallel work.
const BLOCK: usize = 1 << 10;
/// Side information never takes more: 31 tables of 256 symbols with room to spare.
const MAX_SIDE: u64 = 1 << 16;

/// Decodes elements `elements` (flat, row-major) into `out`, which holds as many.
///
/// # Errors
/// InvalidArgument for a leaf of another codec, a range outside of the tensor or an `out` of another length;
/// Compatibility for a later version; Corruption where the leaf contradicts itself.
pub fn decode(source: &dyn LeafSource, elements: Range<u64>, out: &mut [f32]) -> Result<()> {
    let spec = source.spec();
    let (dim, form) = params(spec)?;
    crate::check_range(spec, &elements, out.len())?;
    match form {
        Form::Numbered => {
            let reader = Reader::open(source, dim)?;
            if out.is_empty() { Ok(()) } else { reader.decode(elements, out, &mut []) }
        }
        Form::Pulses => pulse_decode::decode(source, dim, elements, out, PulseSide::values),
    }
}

/// The integers of elements `elements` of a leaf of pulses, as f32.
pub(crate) fn integers(source: &dyn LeafSource, elements: Range<u64>, out: &mut [f32]) -> Result<()> {
    let (dim, form) = params(source.spec())?;
    crate::check_range(source.spec(), &elements, out.len())?;
    let places = |_: &PulseSide| std::array::from_fn(|s| ((s as i32 >> 1) ^ -(s as i32 & 1)) as f32);
    match form {
        Form::Pulses => pulse_decode::decode(source, dim, elements, out, places),
        Form::Numbered => Err(Error::invalid("numbered points of pvq have no step in common")),
    }
}

/// Values of a group of a numbered leaf, from the index alone; none in the form of pulses.
///
/// # Errors
/// Corruption where the parameters are out of range.
pub fn numbered(spec: &LeafSpec) -> Result<Option<usize>> {
    let (dim, form) = params(spec)?;
    Ok((form == Form::Numbered).then_some(dim))
}

/// Groups `groups` of a numbered leaf: their integers, as f32, into `points`, and what each is multiplied with into
/// `gains`. A value is `gain * integer`, rounded once: the bits that [`decode`] gives. The last group of the leaf may be
/// cut.
///
/// # Errors
/// As [`decode`]; InvalidArgument for the form of pulses.
pub fn points(
    source: &dyn LeafSource,
    groups: Range<u64>,
    points: &mut [f32],
    gains: &mut [f32],
) -> Result<()> {
    let spec = source.spec();
    let (dim, form) = params(spec)?;
    if form != Form::Numbered {
        return Err(Error::invalid("pulses of pvq have no gains"));
    }
    let all = spec.elements()?;
    let at = |group: u64| group.saturating_mul(dim as u64).min(all);
    let elements = at(groups.start)..at(groups.end);
    crate::check_range(spec, &elements, points.len())?;
    if points.len().div_ceil(dim) != gains.len() {
        return Err(Error::invalid(format!(
            "{} gains for groups {groups:?}, {} points",
            gains.len(),
            points.len()
        )));
    }
    let reader = Reader::open(source, dim)?;
    if points.is_empty() { Ok(()) } else { reader.decode(elements, points, gains) }
}

/// From pulses to values; none in the numbered form.
pub(crate) fn lattice(source: &dyn LeafSource) -> Result<Option<Lattice>> {
    if params(source.spec())?.1 == Form::Numbered {
        return Ok(None);
    }
    let PulseSide { step, shifts, .. } = PulseSide::read(&side_bytes(source)?)?;
    let shifts = std::iter::once(0.0).chain(shifts.iter().map(|&s| f32::from(s) / 256.0)).collect();
    Ok(Some(Lattice { step, shifts, lowest: -128, highest: 127, exceptions: Vec::new() }))
}

/// Largest pulse in magnitude and number of exceptions; none in the numbered form.
pub(crate) fn reach(spec: &LeafSpec) -> Result<Option<(u32, u64)>> {
    Ok((params(spec)?.1 == Form::Pulses).then_some((128, 0)))
}

fn params(spec: &LeafSpec) -> Result<(usize, Form)> {
    crate::check_codec(spec, CODEC, VERSION)?;
    let Params { dim, form } = spec.params()?;
    let dim = usize::from(dim);
    if !(1..=MAX_DIM).contains(&dim) {
        return Err(Error::corruption(format!("pvq groups of {dim}, expected 1 to {MAX_DIM}")));
    }
    Ok((dim, form))
}

/// Side information, stream 0.
///
/// # Errors
/// Corruption for more of it than there can be.
pub(super) fn side_bytes(source: &dyn LeafSource) -> Result<Vec<u8>> {
    let stored = source.spec().stream(0, StreamKind::Bytes { width: 1 })?.items;
    if stored > MAX_SIDE {
        return Err(Error::corruption(format!(
            "pvq side information of {stored} bytes, expected at most {MAX_SIDE}"
        )));
    }
    let mut bytes = vec![0; stored as usize];
    decode_bytes(source, 0, 0..stored, &mut bytes)?;
    Ok(bytes)
}

struct Reader<'a> {
    source: &'a dyn LeafSource,
    dim: usize,
    groups: u64,
    chunk_groups: u64,
    words: u64,
    side: Side,
    pyramid: Pyramid,
    class_of: [u8; 256],
    tails: Vec<u32>,
}

impl<'a> Reader<'a> {
    fn open(source: &'a dyn LeafSource, dim: usize) -> Result<Self> {
        let spec = source.spec();
        let groups = spec.elements()?.div_ceil(dim as u64);
        let (side, pyramid) = Side::read(&side_bytes(source)?, dim)?;
        let runs = if side.gains.len() > 1 { groups.div_ceil(u64::from(side.run)) } else { 0 };
        spec.expect_stream(1, StreamKind::Symbols, runs)?;
        let gains = spec.expect_stream(2, StreamKind::Symbols, groups)?;
        let heads = spec.expect_stream(3, StreamKind::Symbols, groups)?;
        if heads.chunk_items != gains.chunk_items {
            return Err(Error::corruption(format!(
                "pvq chunks of {} gains and {} heads, expected the same",
                gains.chunk_items, heads.chunk_items
            )));
        }
        spec.expect_stream(4, StreamKind::Words, gains.chunks().saturating_sub(1))?;
        let words = spec.stream(5, StreamKind::Words)?.items;
        Ok(Self {
            source,
            dim,
            groups,
            chunk_groups: u64::from(gains.chunk_items.max(1)),
            words,
            class_of: side.grid.class_of_symbol(),
            tails: side.tail_bits(&pyramid),
            side,
            pyramid: pyramid.with_tables(),
        })
    }

    /// Values of `elements`, or where there is room for the gains of their groups, these and integers.
    fn decode(&self, elements: Range<u64>, out: &mut [f32], gains: &mut [f32]) -> Result<()> {
        let dim = self.dim as u64;
        // Groups asked for, and the chunks that hold them: heads are decoded by whole chunks, and tails are found by
        // walking theirs.
        let wanted = elements.start / dim..elements.end.div_ceil(dim);
        let first = wanted.start / self.chunk_groups * self.chunk_groups;
        let end = (wanted.end.div_ceil(self.chunk_groups) * self.chunk_groups).min(self.groups);
        let symbols = self.gains(first..end)?;
        let mut classes = vec![0u8; self.groups as usize];
        let at = first as usize..end as usize;
        for (class, &s) in classes[at.clone()].iter_mut().zip(&symbols) {
            *class = self.class_of[usize::from(s)];
        }
        let mut heads = vec![0u8; (wanted.end - wanted.start) as usize];
        let tables = if self.side.head_bits == 0 { &[][..] } else { &self.side.heads };
        let model = Model::by_rows(tables, if tables.is_empty() { &[] } else { &classes }, 1);
        decode_symbols(self.source, 3, wanted.clone(), &model, &mut heads)?;
        let classes = &classes[at];
        let mut starts =
            vec![0u64; ((wanted.end - 1) / self.chunk_groups - first / self.chunk_groups + 1) as usize];
        self.starts(first / self.chunk_groups, &mut starts)?;

        // One piece of `out` for each chunk.
        let mut pieces = Vec::with_capacity(starts.len());
        let (mut rest, mut rest_gains) = (out, gains);
        let mut chunk = first;
        for &start in &starts {
            let groups = chunk.max(wanted.start)..(chunk + self.chunk_groups).min(wanted.end);
            let span = (groups.start * dim).max(elements.start)..(groups.end * dim).min(elements.end);
            let (piece, others) = rest.split_at_mut((span.end - span.start) as usize);
            rest = others;
            let count = rest_gains.len().min((groups.end - groups.start) as usize);
            let (gains, others) = rest_gains.split_at_mut(count);
            rest_gains = others;
            let codes = |g: Range<u64>| (g.start - first) as usize..(g.end - first) as usize;
            let (walked, coded) = (codes(chunk..groups.start), codes(groups.clone()));
            pieces.push(Piece {
                walked: (&classes[walked.clone()], &symbols[walked]),
                classes: &classes[coded.clone()],
                symbols: &symbols[coded],
                heads: &heads[(groups.start - wanted.start) as usize..(groups.end - wanted.start) as usize],
                start,
                skip: (span.start - groups.start * dim) as usize,
                out: piece,
                gains,
            });
            chunk += self.chunk_groups;
        }
        in_order(pieces.into_par_iter().map(|piece| self.piece(piece)))
    }

    /// Gain symbols of groups `groups`.
    fn gains(&self, groups: Range<u64>) -> Result<Vec<u8>> {
        let run = u64::from(self.side.run);
        let mut bands = Vec::new();
        if self.side.gains.len() > 1 {
            bands.resize(self.groups.div_ceil(run) as usize, 0u8);
            let runs = groups.start / run..groups.end.div_ceil(run);
            let span = &mut bands[runs.start as usize..runs.end as usize];
            decode_symbols(self.source, 1, runs, &Model::none(), span)?;
            if let Some(band) = span.iter().find(|&&b| usize::from(b) >= self.side.gains.len()) {
                return Err(Error::corruption(format!("gain band {band} of {}", self.side.gains.len())));
            }
        }
        let mut symbols = vec![0; (groups.end - groups.start) as usize];
        decode_symbols(self.source, 2, groups, &Model::by_rows(&self.side.gains, &bands, run), &mut symbols)?;
        Ok(symbols)
    }

    /// Words at which chunks `first`, `first + 1`, ... begin.
    fn starts(&self, first: u64, starts: &mut [u64]) -> Result<()> {
        let stored = if first == 0 { &mut starts[1..] } else { starts };
        let from = first.max(1) - 1;
        decode_words(self.source, 4, from..from + stored.len() as u64, stored)
    }

    fn piece(&self, piece: Piece<'_>) -> Result<()> {
        let width = |classes: &[u8], symbols: &[u8]| -> u64 {
            let tail = |(&c, &s): (&u8, &u8)| u64::from(self.tails[usize::from(c)] + extra_bits(s));
            classes.iter().zip(symbols).map(tail).sum()
        };
        let before = width(piece.walked.0, piece.walked.1);
        // Bit at which each block begins, within the words read.
        let mut bits = before % 64;
        let blocks: Vec<u64> = piece
            .classes
            .chunks(BLOCK)
            .zip(piece.symbols.chunks(BLOCK))
            .map(|(classes, symbols)| {
                let at = bits;
                bits += width(classes, symbols);
                at
            })
            .collect();
        let from = piece.start.checked_add(before / 64).filter(|&f| f <= self.words);
        let from = from.ok_or_else(|| self.past_end(piece.start))?;
        if bits.div_ceil(64) > self.words - from {
            return Err(self.past_end(from));
        }
        let mut words = vec![0; bits.div_ceil(64) as usize];
        decode_words(self.source, 5, from..from + words.len() as u64, &mut words)?;

        // The first block ends where a block of whole groups would, so that all others start with a whole group.
        let head = (BLOCK * self.dim - piece.skip).min(piece.out.len());
        let (head, tail) = piece.out.split_at_mut(head);
        let outs = std::iter::once(head).chain(tail.chunks_mut(BLOCK * self.dim));
        let mut gains = piece.gains.chunks_mut(BLOCK);
        let work: Vec<_> = outs
            .zip(&blocks)
            .enumerate()
            .map(|(i, (out, &bit))| (i, out, gains.next().unwrap_or_default(), TailReader::new(&words, bit)))
            .collect();
        in_order(work.into_par_iter().map(|(i, out, gains, reader)| {
            let span = i * BLOCK..((i + 1) * BLOCK).min(piece.classes.len());
            let skip = if i == 0 { piece.skip } else { 0 };
            let codes =
                piece.classes[span.clone()].iter().zip(&piece.symbols[span.clone()]).zip(&piece.heads[span]);
            let codes = codes.map(|((&class, &symbol), &head)| (class, symbol, head));
            self.block(codes, reader, skip, out, gains)
        }))
    }

    /// Decodes the groups of one block: (class, gain symbol, head) of each. The first value is at `skip` of its
    /// group, the last group may be cut.
    fn block(
        &self,
        codes: impl Iterator<Item = (u8, u8, u8)>,
        mut reader: TailReader<'_>,
        skip: usize,
        out: &mut [f32],
        gains: &mut [f32],
    ) -> Result<()> {
        let grid = &self.side.grid;
        let pulses: Vec<usize> =
            (0..=grid.classes.len() as u8).map(|class| usize::from(grid.pulses(class))).collect();
        let mut at = 0;
        // Zeros past the group, so that sums and products have a length that the compiler knows.
        let mut point = [0i16; MAX_DIM];
        let mut values = [0f32; MAX_DIM];
        let mut skip = skip;
        let mut gains = gains.iter_mut();
        for (class, symbol, head) in codes {
            let level = level(symbol, reader.take(extra_bits(symbol))? as u32);
            let width = self.tails[usize::from(class)];
            let tail = reader.take(width)?;
            let count = (self.dim - skip).min(out.len() - at);
            let own = &mut out[at..at + count];
            let head = u64::from(head);
            if head > 0 && (width == 64 || head > u64::MAX >> width) {
                return Err(Error::corruption(format!("pvq head {head} before a tail of {width} bits")));
            }
            let index = if head > 0 { head << width | tail } else { tail };
            self.pyramid.point(index, pulses[usize::from(class)], &mut point[..self.dim])?;
            if let Some(gain) = gains.next() {
                *gain = if class == 0 { 0.0 } else { gain_of::<MAX_DIM>(&point, level, grid.step) };
                own.iter_mut().zip(&point[skip..]).for_each(|(o, &p)| *o = f32::from(p));
            } else if class == 0 {
                own.fill(0.0);
            } else if self.dim <= HALF {
                scaled::<HALF>(&point, level, grid.step, &mut values);
                own.copy_from_slice(&values[skip..skip + count]);
            } else {
                scaled::<MAX_DIM>(&point, level, grid.step, &mut values);
                own.copy_from_slice(&values[skip..skip + count]);
            }
            at += count;
            skip = 0;
        }
        Ok(())
    }

    fn past_end(&self, word: u64) -> Error {
        Error::corruption(format!("pvq tails from word {word} on run past the {} that there are", self.words))
    }
}

/// Most integers of a point that is scaled sixteen at a time.
const HALF: usize = MAX_DIM / 2;

/// Values of the first `N` integers of `point`, those past them being 0.
#[inline]
fn scaled<const N: usize>(point: &[i16; MAX_DIM], level: u32, step: f32, values: &mut [f32; MAX_DIM]) {
    let scale = gain_of::<N>(point, level, step);
    for (v, &p) in values[..N].iter_mut().zip(&point[..N]) {
        *v = scale * f32::from(p);
    }
}

/// What the first `N` integers of `point`, those past them being 0, are multiplied with.
#[inline]
fn gain_of<const N: usize>(point: &[i16; MAX_DIM], level: u32, step: f32) -> f32 {
    // 32 squares of 2^24 stay below 2^31.
    let squares: i32 = point[..N].iter().map(|&p| i32::from(p) * i32::from(p)).sum();
    scale(level, step, squares as u32)
}

/// The error of the first piece that has one, whichever thread was first.
fn in_order(results: impl IndexedParallelIterator<Item = Result<()>>) -> Result<()> {
    let results: Vec<Result<()>> = results.collect();
    results.into_iter().collect()
}

/// What one chunk gives to the range.
struct Piece<'a> {
    /// Classes and gain symbols of the chunk's groups before the range.
    walked: (&'a [u8], &'a [u8]),
    classes: &'a [u8],
    symbols: &'a [u8],
    heads: &'a [u8],
    /// Word at which the chunk begins.
    start: u64,
    /// Values of the first group before the range.
    skip: usize,
    out: &'a mut [f32],
    /// Of each group, or none.
    gains: &'a mut [f32],
}
