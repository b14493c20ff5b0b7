//! A `trellis` leaf to weights.

use super::codebook::{MAX_SHIFTS, Shifts};
use super::{CLASSES, CODEC, COLUMNS, MAX_CLASSES, MAX_STEP, POSITIONS, Params, SIDE, SYMBOLS, VERSION};
use crate::entropy::{self, Columns, Model, Rows, SideReader, Table, Values};
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
    if decode_as(source, range.clone(), out, Shifts::values)? {
        exceptions::apply(source, POSITIONS, &range, out)?;
    }
    Ok(())
}

/// The places of elements `range` on the lattice of whole steps, as f32, which holds them exactly; those of exceptions
/// are any.
pub(crate) fn integers(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    decode_as(source, range, out, |_, params| Shifts::places(params)).map(|_| ())
}

/// From places to values, and the exceptions.
pub(crate) fn lattice(source: &dyn LeafSource) -> Result<Lattice> {
    let spec = source.spec();
    let params = params(spec)?;
    let (shifts, _) = read_side(source)?;
    let exceptions = exceptions::within(source, POSITIONS, &(0..spec.elements()?))?;
    Ok(Lattice { step: params.step, shifts: shifts.of_places(), lowest: -256, highest: 255, exceptions })
}

/// Largest place of a leaf in magnitude, and its most exceptions, from what the index says.
pub(crate) fn reach(spec: &LeafSpec) -> Result<(u32, u64)> {
    params(spec)?;
    Ok((256, exceptions::count(spec, POSITIONS)?))
}

fn params(spec: &LeafSpec) -> Result<Params> {
    crate::check_codec(spec, CODEC, VERSION)?;
    let params: Params = spec.params()?;
    let column_classes = 1..=MAX_CLASSES as u8;
    if !(params.step > 0.0 && params.step <= MAX_STEP)
        || params.run == 0
        || !column_classes.contains(&params.columns)
    {
        return Err(Error::corruption(format!("trellis parameters out of range: {params:?}")));
    }
    Ok(params)
}

/// Elements as what `values` gives their symbols, exceptions left out; whether there were any elements.
fn decode_as(
    source: &dyn LeafSource,
    range: Range<u64>,
    out: &mut [f32],
    values: impl Fn(&Shifts, &Params) -> Values,
) -> Result<bool> {
    let spec = source.spec();
    crate::check_codec(spec, CODEC, VERSION)?;
    crate::check_range(spec, &range, out.len())?;
    if range.is_empty() {
        return Ok(false);
    }
    let params = params(spec)?;
    let (rows, row) = rows_and_columns(&spec.shape)?;
    let run = params.run.min(rows.max(1)).checked_mul(row).filter(|&l| l > 0);
    let run = run.ok_or_else(|| Error::corruption(format!("runs of {} rows", params.run)))?;
    spec.expect_stream(SYMBOLS, StreamKind::Symbols, spec.elements()?)?;
    exceptions::count(spec, POSITIONS)?;

    let (shifts, tables) = read_side(source)?;
    let each = usize::from(params.columns) * params.trellis().tables();
    if tables.is_empty() || tables.len() % each != 0 {
        return Err(Error::corruption(format!("{} tables, expected a multiple of {each}", tables.len())));
    }
    let runs = if tables.len() > each { rows.div_ceil(params.run) } else { 0 };
    spec.expect_stream(CLASSES, StreamKind::Symbols, runs)?;
    let mut classes = vec![0; runs as usize];
    entropy::decode_symbols(source, CLASSES, 0..runs, &Model::none(), &mut classes)?;
    let of_columns = if params.columns > 1 { row } else { 0 };
    spec.expect_stream(COLUMNS, StreamKind::Symbols, of_columns)?;
    let mut columns = vec![0; of_columns as usize];
    entropy::decode_symbols(source, COLUMNS, 0..of_columns, &Model::none(), &mut columns)?;
    let model = Model {
        tables: &tables,
        rows: Rows { of: &classes, run },
        columns: Columns { of: &columns, count: params.columns },
        trellis: params.trellis(),
    };
    entropy::decode_values(source, SYMBOLS, range, &model, &values(&shifts, &params), out)?;
    Ok(true)
}

fn read_side(source: &dyn LeafSource) -> Result<(Shifts, Vec<Table>)> {
    let items = source.spec().stream(SIDE, StreamKind::Bytes { width: 1 })?.items;
    if items > 1 << 16 {
        return Err(Error::corruption(format!("side information of {items} bytes, expected at most 65536")));
    }
    let mut side = vec![0; items as usize];
    entropy::decode_bytes(source, SIDE, 0..items, &mut side)?;
    let mut side = SideReader::new(&side);
    let mut shifts = Shifts::default();
    for shifts in &mut shifts.0 {
        let count = side.varint_at_most(MAX_SHIFTS as u64)? as usize;
        shifts.extend(side.bytes(count)?.iter().map(|b| b.cast_signed()));
    }
    let tables = side.tables()?;
    side.finish()?;
    Ok((shifts, tables))
}
