//! A `scalar` leaf to weights.

use super::{
    CENTROID_UNIT, CLASSES, CODEC, COLUMN_CLASSES, LOW_BITS, MAX_CENTROIDS, POSITIONS, Params, SIDE, SYMBOLS,
    VERSION, reconstruct, unzigzag,
};
use crate::entropy::{self, Columns, Model, Rows, SideReader, Table, Trellis, Values};
use crate::exceptions;
use crate::lattice::Lattice;
use crate::runs::rows_and_columns;
use benben_format::{Error, LeafSource, LeafSpec, Result, StreamKind};
use std::ops::Range;

/// Decodes elements `range` of the row-major tensor into `out`, reading no more chunks of symbols than that takes.
///
/// # Errors
/// Corruption where the leaf contradicts itself; InvalidArgument where `out` does not fit `range`.
pub fn decode(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    if decode_as(source, range.clone(), out, reconstruct)? {
        exceptions::apply(source, POSITIONS, &range, out)?;
    }
    Ok(())
}

/// The integers of elements `range`, as f32, which holds them exactly; those of exceptions are any.
pub(crate) fn integers(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    decode_as(source, range, out, |q, _, _| q as f32).map(|_| ())
}

/// From integers to values, and the exceptions among elements `range`.
pub(crate) fn lattice(source: &dyn LeafSource) -> Result<Lattice> {
    let spec = source.spec();
    crate::check_codec(spec, CODEC, VERSION)?;
    let params: Params = spec.params()?;
    params.check()?;
    let (centroids, _) = read_side(source)?;
    let shifts =
        std::iter::once(0.0).chain(centroids.iter().map(|&c| f32::from(c) / CENTROID_UNIT)).collect();
    let reach = 128i32 << params.low_bits;
    let exceptions = exceptions::within(source, POSITIONS, &(0..spec.elements()?))?;
    Ok(Lattice { step: params.step, shifts, lowest: -reach, highest: reach - 1, exceptions })
}

/// Largest integer of a leaf in magnitude, and its most exceptions, from what the index says.
pub(crate) fn reach(spec: &LeafSpec) -> Result<(u32, u64)> {
    let params: Params = spec.params()?;
    params.check()?;
    Ok((128 << params.low_bits, exceptions::count(spec, POSITIONS)?))
}

/// Elements as `value(q, centroids, step)`, exceptions left out; whether there were any elements.
fn decode_as(
    source: &dyn LeafSource,
    range: Range<u64>,
    out: &mut [f32],
    value: impl Fn(i32, &[i8], f32) -> f32,
) -> Result<bool> {
    let spec = source.spec();
    crate::check_codec(spec, CODEC, VERSION)?;
    crate::check_range(spec, &range, out.len())?;
    if range.is_empty() {
        return Ok(false);
    }
    let params: Params = spec.params()?;
    params.check()?;
    let (rows, columns) = rows_and_columns(&spec.shape)?;
    let run = params.run.min(rows.max(1)).checked_mul(columns).filter(|&l| l > 0);
    let run = run.ok_or_else(|| Error::corruption(format!("runs of {} rows", params.run)))?;
    let n = spec.elements()?;
    spec.expect_stream(SYMBOLS, StreamKind::Symbols, n)?;
    spec.expect_stream(LOW_BITS, StreamKind::Words, if params.low_bits == 0 { 0 } else { n })?;
    exceptions::count(spec, POSITIONS)?;

    let (centroids, tables) = read_side(source)?;
    let each = usize::from(params.column_classes);
    if tables.is_empty() || tables.len() % each != 0 {
        return Err(Error::corruption(format!("{} tables, expected a multiple of {each}", tables.len())));
    }
    let classes = read_classes(source, CLASSES, tables.len() > each, rows.div_ceil(params.run))?;
    let column_classes = read_classes(source, COLUMN_CLASSES, each > 1, columns)?;
    let model = Model {
        tables: &tables,
        rows: Rows { of: &classes, run },
        columns: Columns { of: &column_classes, count: params.column_classes },
        trellis: Trellis::None,
    };
    if params.low_bits == 0 {
        let of = |symbol| value(unzigzag(symbol as u32), &centroids, params.step);
        let values = Values::new(std::array::from_fn(of));
        entropy::decode_values(source, SYMBOLS, range, &model, &values, out)?;
    } else {
        let mut symbols = vec![0; out.len()];
        entropy::decode_symbols(source, SYMBOLS, range.clone(), &model, &mut symbols)?;
        let mut low = vec![0; out.len()];
        entropy::decode_words(source, LOW_BITS, range, &mut low)?;
        for ((out, &symbol), &low) in out.iter_mut().zip(&symbols).zip(&low) {
            if low >> params.low_bits != 0 {
                return Err(Error::corruption(format!("low bits {low} do not fit {} bits", params.low_bits)));
            }
            let q = (unzigzag(u32::from(symbol)) << params.low_bits) | low as i32;
            *out = value(q, &centroids, params.step);
        }
    }
    Ok(true)
}

/// `items` classes where there are `several`, else none.
fn read_classes(source: &dyn LeafSource, stream: usize, several: bool, items: u64) -> Result<Vec<u8>> {
    let items = if several { items } else { 0 };
    source.spec().expect_stream(stream, StreamKind::Symbols, items)?;
    let mut classes = vec![0; items as usize];
    entropy::decode_symbols(source, stream, 0..items, &Model::none(), &mut classes)?;
    Ok(classes)
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
