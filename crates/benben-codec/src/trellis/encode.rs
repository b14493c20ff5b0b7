//! Weights to a `trellis` leaf.

use super::cells::Cells;
use super::fit::{Coding, Weights};
use super::{CODEC, Params, Settings, VERSION, decode};
use crate::entropy::{self, CHUNK_ITEMS, Columns, Model, Rows, SideWriter};
use crate::runs::rows_and_columns;
use crate::{Fit, check_finite, exceptions, squared_error};
use benben_format::{Dtype, EncodedLeaf, LeafSpec, Result};

/// Passes over the whole tensor, at most.
const TRIES: usize = 5;

/// Codes `values`, the row-major elements of a tensor of `shape`, at the settings' target.
///
/// The target is met within 0.3 % on its better side where it is in reach; a rate below what the tables and checksums
/// of a small tensor take, or above what the codebooks reach (6 to 8 bits), gives the nearest that there is: look at
/// the [`Fit`].
///
/// # Errors
/// InvalidArgument where the shape or the importance does not fit the values, a value is not finite, or the target is
/// not a positive number.
pub fn encode(values: &[f32], shape: &[u64], settings: &Settings<'_>) -> Result<(EncodedLeaf, Fit)> {
    check_finite(values, shape)?;
    let (rows, columns) = rows_and_columns(shape)?;
    let cells = Cells::new(values, rows, columns, settings.max_classes);
    let weights = Weights::new(values, columns, &cells, settings)?;
    let (dial, coding) = if weights.energy > 0.0 { weights.search()? } else { weights.silent()? };
    let tries = if weights.energy > 0.0 { TRIES } else { 1 };
    weights.finish(dial, coding, tries, |coding, symbols| {
        let leaf = write(&weights, shape, coding, symbols)?;
        let mut decoded = vec![0.0; values.len()];
        decode(&leaf, 0..values.len() as u64, &mut decoded)?;
        let error = squared_error(values, &decoded).0;
        let fit = Fit {
            bits_per_weight: leaf.stored_bytes() as f64 * 8.0 / values.len().max(1) as f64,
            relative_mse: if weights.energy > 0.0 { error / weights.energy } else { 0.0 },
        };
        Ok((fit.bits_per_weight, fit.relative_mse, (leaf, fit)))
    })
}

fn write(weights: &Weights<'_>, shape: &[u64], coding: &Coding, symbols: &[u8]) -> Result<EncodedLeaf> {
    leaf(weights.cells, shape, coding, symbols, CHUNK_ITEMS, &weights.exceptions(coding.step))
}

/// The leaf of `symbols` in chunks of `chunk_items`.
pub(super) fn leaf(
    cells: &Cells,
    shape: &[u64],
    coding: &Coding,
    symbols: &[u8],
    chunk_items: u32,
    exceptions: &[(u64, f32)],
) -> Result<EncodedLeaf> {
    let Coding { form, step, shifts, plan } = coding;
    let tables = entropy::fit_tables(&plan.counts);
    let mut side = SideWriter::new();
    for shifts in &shifts.0 {
        side.varint(shifts.len() as u64);
        shifts.iter().for_each(|s| side.u8(s.cast_unsigned()));
    }
    side.tables(&tables)?;
    let tables_of_class = form.trellis().tables() * usize::from(cells.count());
    let classes = match tables.len() / tables_of_class {
        1 => Vec::new(),
        _ => cells.row_groups(&plan.group_of),
    };
    let params = Params {
        step: *step,
        run: cells.runs.rows,
        columns: cells.count(),
        zero: form.zero,
        states: form.states,
    };
    let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, shape, &params)?);
    let push = |leaf: &mut EncodedLeaf, (spec, chunks)| leaf.push(spec, chunks);
    push(&mut leaf, entropy::encode_bytes(&side.into_bytes(), 1, CHUNK_ITEMS)?);
    push(&mut leaf, entropy::encode_symbols(&classes, &Model::none(), CHUNK_ITEMS)?);
    push(&mut leaf, entropy::encode_symbols(cells.columns(), &Model::none(), CHUNK_ITEMS)?);
    let model = Model {
        tables: &tables,
        rows: Rows { of: &classes, run: cells.runs.len as u64 },
        columns: Columns { of: cells.columns(), count: cells.count() },
        trellis: form.trellis(),
    };
    push(&mut leaf, entropy::encode_symbols(symbols, &model, chunk_items)?);
    exceptions::push(&mut leaf, exceptions);
    Ok(leaf)
}
