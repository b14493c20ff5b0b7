//! The streams of the layouts `float`, `integer` and `palette`.
//!
//! # Bits
//! | stream | kind | items |
//! |---|---|---|
//! | 0 | bytes | tables of the symbols ([`write_tables`](crate::entropy::write_tables)); then for each plane a list of no or one table, or the palette |
//! | 1 | symbols | class of each run of `run` elements, at most 2^24, without tables; no items where there is at most one table |
//! | 2 | symbols | the symbols, by the table of their class |
//! | 3, ... | symbols | the planes of the rest, 8 bits each and the highest first, by the plane's table |
//!
//! # Cost
//! The symbols of a few chunks are decoded side by side into a buffer that stays in the second-level cache, and merged
//! with the planes, block by block, straight into the caller's bytes; planes that are stored as they are are read where
//! they lie.

use super::classes::{Coding, MAX_RUNS};
use super::cut::{Cut, Kind};
use super::merge::{self, BLOCK};
use super::plane::Plane;
use super::{palette, planes};
use crate::entropy::{
    self, CHUNK_ITEMS, Model, Preference, SideReader, SideWriter, SymbolDecoder, TOGETHER, Table,
};
use benben_format::{EncodedLeaf, Error, LeafSource, LeafSpec, Result, StreamKind};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

/// Most bytes of stream 0: 32 tables of symbols, 7 of planes and a palette are below 19 KiB.
const MAX_SIDE: u64 = 1 << 15;

/// What symbols stand for.
pub(super) enum Form {
    /// With a rest, elements.
    Cut(Cut),
    /// Elements of a palette, which stands in stream 0; elements have this many bytes.
    Palette(usize),
}

/// What the encoder puts into the streams.
pub(super) struct Content<'a> {
    pub(super) coding: &'a Coding,
    pub(super) run: u64,
    pub(super) symbols: &'a [u8],
    pub(super) rest: Rest<'a>,
}

/// What there is beside the symbols.
pub(super) enum Rest<'a> {
    /// The planes of elements, each with its table if it has one.
    Planes { cut: &'a Cut, bytes: &'a [u8], tables: &'a [Option<Table>] },
    /// A palette of elements of `size` bytes.
    Palette { values: &'a [u64], size: usize },
}

/// Appends the streams.
pub(super) fn encode(content: &Content<'_>, chunk_items: u32, leaf: &mut EncodedLeaf) -> Result<()> {
    let mut side = SideWriter::new();
    let Coding { tables, classes, .. } = content.coding;
    side.tables(tables)?;
    match content.rest {
        Rest::Planes { tables, .. } => tables.iter().try_for_each(|t| side.tables(t.as_slice()))?,
        Rest::Palette { values, size } => {
            side.u8((values.len() - 1) as u8);
            values.iter().for_each(|v| side.bytes(&v.to_le_bytes()[..size]));
        }
    }
    let mut push = |(spec, chunks)| leaf.push(spec, chunks);
    push(entropy::encode_bytes(&side.into_bytes(), 1, CHUNK_ITEMS)?);
    push(entropy::encode_symbols(classes, &Model::none(), CHUNK_ITEMS)?);
    let model = Model::by_rows(tables, classes, content.run);
    push(entropy::encode_symbols_by(content.symbols, &model, chunk_items, Preference::Rans)?);
    if let Rest::Planes { cut, bytes, tables } = content.rest {
        // One after the other: a plane takes as much memory as the symbols do.
        for (p, table) in tables.iter().enumerate() {
            let model = table.as_ref().map_or(Model::none(), Model::single);
            push(entropy::encode_symbols(&planes::extract(cut, bytes, p), &model, chunk_items)?);
        }
    }
    Ok(())
}

/// Stream 0.
struct Side {
    tables: Vec<Table>,
    /// Of each plane, none or one.
    planes: Vec<Vec<Table>>,
    palette: Vec<u64>,
}

impl Side {
    fn read(form: &Form, source: &dyn LeafSource) -> Result<Self> {
        let spec = source.spec().stream(0, StreamKind::Bytes { width: 1 })?;
        if spec.items > MAX_SIDE {
            return Err(Error::corruption(format!(
                "side information of {} bytes, at most {MAX_SIDE}",
                spec.items
            )));
        }
        let mut bytes = vec![0; spec.items as usize];
        entropy::decode_bytes(source, 0, 0..spec.items, &mut bytes)?;
        let mut reader = SideReader::new(&bytes);
        let tables = reader.tables()?;
        let (mut planes, mut palette) = (Vec::new(), Vec::new());
        match form {
            Form::Cut(cut) => {
                for p in 0..cut.planes() {
                    let own = reader.tables()?;
                    if own.len() > 1 {
                        return Err(Error::corruption(format!(
                            "{} tables of plane {p}, at most 1",
                            own.len()
                        )));
                    }
                    planes.push(own);
                }
            }
            &Form::Palette(size) => {
                let count = usize::from(reader.u8()?) + 1;
                let values = reader.bytes(count * size)?.chunks_exact(size);
                palette.extend(values.map(|v| v.iter().rev().fold(0, |p, &b| p << 8 | u64::from(b))));
            }
        }
        reader.finish()?;
        Ok(Self { tables, planes, palette })
    }
}

/// Writes the bytes of elements `elements`, a range within the tensor, into `out`, which they fill.
pub(super) fn decode(
    form: &Form,
    run: u64,
    source: &dyn LeafSource,
    elements: Range<u64>,
    out: &mut [u8],
) -> Result<()> {
    let spec = source.spec();
    let total = spec.elements()?;
    let side = Side::read(form, source)?;
    let chunk_items = expect_streams(spec, 3 + side.planes.len(), total)?;
    let classes = classes_of(source, run, side.tables.len(), chunk_items, &elements)?;
    let model = Model::by_rows(&side.tables, &classes, run);
    let symbols = SymbolDecoder::new(&model);
    let models: Vec<Model<'_>> = side.planes.iter().map(|t| Model::by_rows(t, &[], 1)).collect();
    let planes: Vec<SymbolDecoder<'_>> = models.iter().map(SymbolDecoder::new).collect();
    let size = spec.dtype.size();
    by_chunks(chunk_items, elements, size, out, |range, out| match *form {
        Form::Cut(cut) if cut.size == 1 && planes.is_empty() => {
            symbols.decode_here(source, 2, range, out)?;
            in_place(&cut, out);
            Ok(())
        }
        Form::Cut(cut) => {
            let mut buffers = Buffers::take(out.len() / cut.size);
            symbols.decode_here(source, 2, range.clone(), &mut buffers.symbols)?;
            let Buffers { symbols, spare } = &mut buffers;
            let (mut symbols, mut rest) = (&symbols[..], out);
            for range in cut_range(chunk_items, range) {
                let (own, others) = symbols.split_at((range.end - range.start) as usize);
                symbols = others;
                let (out, others) = std::mem::take(&mut rest).split_at_mut(own.len() * cut.size);
                rest = others;
                chunk(&cut, source, range, own, &planes, spare, out)?;
            }
            buffers.put();
            Ok(())
        }
        Form::Palette(size) => {
            let mut buffers = Buffers::take((range.end - range.start) as usize);
            symbols.decode_here(source, 2, range, &mut buffers.symbols)?;
            palette::look_up(&side.palette, size, &buffers.symbols, out)?;
            buffers.put();
            Ok(())
        }
    })
}

/// What a thread decodes chunks into, kept for the next.
#[derive(Default)]
struct Buffers {
    symbols: Vec<u8>,
    /// For planes.
    spare: Vec<Vec<u8>>,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

impl Buffers {
    /// Buffers with room for `items` symbols. They are taken out of the thread's place: whoever comes to run on this
    /// thread meanwhile makes its own.
    fn take(items: usize) -> Self {
        let mut buffers = BUFFERS.take();
        buffers.symbols.resize(items, 0);
        buffers
    }

    fn put(self) {
        BUFFERS.set(self);
    }
}

/// Elements of one chunk, from their symbols.
fn chunk(
    cut: &Cut,
    source: &dyn LeafSource,
    range: Range<u64>,
    symbols: &[u8],
    decoders: &[SymbolDecoder<'_>],
    spare: &mut Vec<Vec<u8>>,
    out: &mut [u8],
) -> Result<()> {
    let mut planes = Vec::with_capacity(decoders.len());
    for (p, decoder) in decoders.iter().enumerate() {
        let spare = spare.pop().unwrap_or_default();
        planes.push(Plane::open(source, 3 + p, range.clone(), decoder, spare)?);
    }
    let mut room = [[0; BLOCK]; 7];
    let top_bits = cut.plane_bits(0);
    let mut at = 0;
    for out in out.chunks_mut(BLOCK * cut.size) {
        let part = at..at + out.len() / cut.size;
        at = part.end;
        let symbols = &symbols[part.clone()];
        let mut blocks: [&[u8]; 7] = [&[]; 7];
        for ((block, plane), room) in blocks.iter_mut().zip(&planes).zip(&mut room) {
            *block = plane.block(part.clone(), room);
        }
        let (symbol, top) =
            (merge::largest(symbols), if top_bits < 8 { merge::largest(blocks[0]) } else { 0 });
        if symbol >= cut.symbols || top >> top_bits != 0 {
            return Err(Error::corruption(format!(
                "elements {range:?}: symbol {symbol} of {}, or {top} in a plane of {top_bits} bits",
                cut.symbols
            )));
        }
        merge::merge(cut, symbols, &blocks[..planes.len()], out);
    }
    spare.extend(planes.into_iter().map(Plane::into_spare).filter(|p| p.capacity() > 0));
    Ok(())
}

/// Elements of one byte from their symbols.
fn in_place(cut: &Cut, out: &mut [u8]) {
    let typed = cut.typed::<u8, 1>();
    match cut.kind {
        Kind::Plain { offset: 0 } | Kind::Float { .. } => {}
        Kind::Plain { .. } => out.iter_mut().for_each(|b| *b = typed.plain(*b, 0)),
        Kind::Zigzag { .. } => out.iter_mut().for_each(|b| *b = typed.zigzag(*b, 0)),
    }
}

/// Refuses streams 2 up to `end` unless they are symbols, one for each element, in chunks of one size, which it
/// returns: otherwise a decoder would have to decode chunks more than once.
fn expect_streams(spec: &LeafSpec, end: usize, elements: u64) -> Result<u64> {
    let expected = spec.expect_stream(2, StreamKind::Symbols, elements)?.chunk_items;
    for index in 2..end {
        let found = spec.expect_stream(index, StreamKind::Symbols, elements)?.chunk_items;
        if expected != found || found == 0 {
            return Err(Error::corruption(format!(
                "stream {index} has chunks of {found} items, expected {expected} as in stream 2, above 0"
            )));
        }
    }
    Ok(expected.into())
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

/// The parts of `elements` that are in one chunk of `step` elements each.
fn cut_range(step: u64, elements: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end_of = move |at: u64| elements.end.min((at / step + 1).saturating_mul(step));
    let mut at = elements.start;
    std::iter::from_fn(move || {
        let range = at..end_of(at);
        at = range.end;
        (!range.is_empty()).then_some(range)
    })
}

/// Runs `decode` on ranges of `elements` that are a few chunks of `step` elements each, in parallel, so that what is
/// held beside `out` is [`TOGETHER`] chunks at most for each thread.
fn by_chunks(
    step: u64,
    elements: Range<u64>,
    size: usize,
    out: &mut [u8],
    decode: impl Fn(Range<u64>, &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
    // Chunks side by side are faster than one after the other, unless a thread would go idle for it.
    let chunks = elements.end.div_ceil(step) - elements.start / step;
    let together = (chunks / rayon::current_num_threads() as u64).clamp(1, TOGETHER as u64);
    let mut pieces = Vec::new();
    let mut rest = out;
    for range in cut_range(step.saturating_mul(together), elements) {
        let own = (range.end - range.start) as usize * size;
        let (own, others) = std::mem::take(&mut rest).split_at_mut(own);
        pieces.push((range, own));
        rest = others;
    }
    if pieces.len() == 1 {
        return pieces.into_iter().try_for_each(|(range, own)| decode(range, own));
    }
    let results: Vec<Result<()>> = pieces.into_par_iter().map(|(range, own)| decode(range, own)).collect();
    results.into_iter().collect()
}
