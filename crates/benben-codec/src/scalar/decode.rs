//! A `scalar` leaf to weights.

use super::{
    CLASSES, CODEC, ESCAPE, ESCAPES, LOW_BITS, MAX_CENTROIDS, Params, RANKS, SIDE, SYMBOLS, VERSION,
    reconstruct, rows_and_columns, unzigzag,
};
use crate::entropy::{self, Model, SideReader, Table, Values};
use benben_format::{Error, LeafSource, LeafSpec, Result, StreamKind};
use std::ops::Range;

/// Decodes elements `range` of the row-major tensor into `out`, reading no more chunks than that takes.
///
/// # Errors
/// Corruption where the leaf contradicts itself; InvalidArgument where `out` does not fit `range`.
pub fn decode(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    let spec = source.spec();
    crate::check_codec(spec, CODEC, VERSION)?;
    crate::check_range(spec, &range, out.len())?;
    if range.is_empty() {
        return Ok(());
    }
    let layout = Layout::new(spec)?;
    let (centroids, tables) = read_side(source)?;
    let runs = if tables.len() > 1 { layout.runs } else { 0 };
    spec.expect_stream(CLASSES, StreamKind::Symbols, runs)?;
    let mut classes = vec![0; runs as usize];
    entropy::decode_symbols(source, CLASSES, 0..runs, &Model::none(), &mut classes)?;
    let model = Model::by_rows(&tables, &classes, layout.run_len);
    if layout.params.low_bits == 0 && layout.escapes == 0 {
        let mut values = [0f32; 256];
        for (s, v) in values.iter_mut().enumerate() {
            *v = reconstruct(unzigzag(s as u32), &centroids, layout.params.step);
        }
        return entropy::decode_values(source, SYMBOLS, range, &model, &Values::new(values), out);
    }
    let mut symbols = vec![0; out.len()];
    entropy::decode_symbols(source, SYMBOLS, range.clone(), &model, &mut symbols)?;
    let low_bits = layout.params.low_bits;
    let mut low = vec![0u64; if low_bits == 0 { 0 } else { out.len() }];
    if low_bits != 0 {
        entropy::decode_words(source, LOW_BITS, range.clone(), &mut low)?;
    }
    let mut escapes = read_escapes(source, &layout, &model, range.start, &symbols)?.into_iter();
    for (i, (o, &s)) in out.iter_mut().zip(&symbols).enumerate() {
        let q = match s {
            ESCAPE if layout.escapes > 0 => {
                let word = escapes.next().unwrap_or(0);
                u32::try_from(word)
                    .map(unzigzag)
                    .map_err(|_| Error::corruption(format!("escape {word} exceeds 32 bits")))?
            }
            s => {
                let low = low.get(i).copied().unwrap_or(0);
                if low >> low_bits != 0 {
                    return Err(Error::corruption(format!("low bits {low} do not fit {low_bits} bits")));
                }
                (unzigzag(u32::from(s)) << low_bits) | low as i32
            }
        };
        *o = reconstruct(q, &centroids, layout.params.step);
    }
    Ok(())
}

/// Sizes that the parameters and the streams agree on.
struct Layout {
    params: Params,
    runs: u64,
    /// Weights of one run.
    run_len: u64,
    escapes: u64,
    symbol_chunk: u64,
}

impl Layout {
    fn new(spec: &LeafSpec) -> Result<Self> {
        let params: Params = spec.params()?;
        if !params.step.is_finite() || params.step <= 0.0 || params.low_bits > 16 || params.run == 0 {
            return Err(Error::corruption(format!("scalar parameters out of range: {params:?}")));
        }
        let n = spec.elements()?;
        let (rows, columns) = rows_and_columns(&spec.shape)?;
        let run_len = params.run.min(rows.max(1)).checked_mul(columns).filter(|&l| l > 0);
        let run_len = run_len.ok_or_else(|| Error::corruption(format!("runs of {} rows", params.run)))?;
        spec.expect_stream(LOW_BITS, StreamKind::Words, if params.low_bits == 0 { 0 } else { n })?;
        let symbols = spec.expect_stream(SYMBOLS, StreamKind::Symbols, n)?;
        let escapes = spec.stream(ESCAPES, StreamKind::Words)?.items;
        spec.expect_stream(RANKS, StreamKind::Words, if escapes == 0 { 0 } else { symbols.chunks() })?;
        let symbol_chunk = u64::from(symbols.chunk_items);
        Ok(Self { params, runs: rows.div_ceil(params.run), run_len, escapes, symbol_chunk })
    }
}

fn read_side(source: &dyn LeafSource) -> Result<(Vec<i8>, Vec<Table>)> {
    let items = source.spec().stream(SIDE, StreamKind::Bytes { width: 1 })?.items;
    if items > 1 << 16 {
        return Err(Error::corruption(format!("side information of {items} bytes, expected at most 65536")));
    }
    let mut side = vec![0; items as usize];
    entropy::decode_bytes(source, SIDE, 0..items, &mut side)?;
    let mut side = SideReader::new(&side);
    let count = side.varint_at_most(MAX_CENTROIDS as u64)? as usize;
    let centroids = side.bytes(count)?.iter().map(|b| b.cast_signed()).collect();
    let tables = side.tables()?;
    side.finish()?;
    Ok((centroids, tables))
}

/// The escaped integers of the elements whose `symbols` begin at element `start`.
fn read_escapes(
    source: &dyn LeafSource,
    layout: &Layout,
    model: &Model<'_>,
    start: u64,
    symbols: &[u8],
) -> Result<Vec<u64>> {
    let count = |symbols: &[u8]| symbols.iter().filter(|&&s| s == ESCAPE).count() as u64;
    let here = count(symbols);
    if layout.escapes == 0 || here == 0 {
        return Ok(Vec::new());
    }
    let chunk = start / layout.symbol_chunk;
    let mut rank = [0];
    entropy::decode_words(source, RANKS, chunk..chunk + 1, &mut rank)?;
    // Escapes of the first chunk that come before the range.
    let first = chunk * layout.symbol_chunk;
    let mut before = vec![0; (start - first) as usize];
    entropy::decode_symbols(source, SYMBOLS, first..start, model, &mut before)?;
    let from = rank[0].saturating_add(count(&before));
    if from > layout.escapes || here > layout.escapes - from {
        return Err(Error::corruption(format!("escapes {from} to {from} + {here} of {}", layout.escapes)));
    }
    let mut words = vec![0; here as usize];
    entropy::decode_words(source, ESCAPES, from..from + here, &mut words)?;
    Ok(words)
}
