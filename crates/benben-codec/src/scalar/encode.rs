//! Weights to a `scalar` leaf.

use super::coding::most;
use super::fit::{self, Made};
use super::plan::Plan;
use super::quantize::{self, Scale};
use super::tensor::Tensor;
use super::{CODEC, Params, Settings, VERSION, decode};
use crate::dial::Goal;
use crate::entropy::{self, CHUNK_ITEMS, Columns, Model, Rows, SideWriter, Table, Trellis};
use crate::runs::{Runs, rows_and_columns};
use crate::{Fit, check_finite, exceptions, squared_error};
use benben_format::{Dtype, EncodedLeaf, LeafSpec, Result};
use rayon::prelude::*;

/// Codes `values`, the row-major elements of a tensor of `shape`, at the settings' target.
///
/// The target is met within 0.3 % on its better side where it is in reach; a rate below what the tables and checksums
/// of a small tensor take, or an error beyond f32, gives the nearest that there is: look at the [`Fit`].
///
/// # Errors
/// InvalidArgument where the shape or the importance does not fit the values, a value is not finite, or the target is
/// not a positive number.
pub fn encode(values: &[f32], shape: &[u64], settings: &Settings<'_>) -> Result<(EncodedLeaf, Fit)> {
    check_finite(values, shape)?;
    let (rows, columns) = rows_and_columns(shape)?;
    let tensor = Tensor::new(values, rows, columns, settings)?;
    let goal = Goal::of(tensor.target)?;
    let (dial, coding) = fit::search(&tensor, goal)?;
    fit::finish(&tensor, goal, dial, coding, |made| {
        let leaf = write(&tensor, shape, made)?;
        let mut decoded = vec![0.0; values.len()];
        decode(&leaf, 0..values.len() as u64, &mut decoded)?;
        let error = squared_error(values, &decoded).0;
        let fit = Fit {
            bits_per_weight: leaf.stored_bytes() as f64 * 8.0 / values.len().max(1) as f64,
            relative_mse: if tensor.energy > 0.0 { error / tensor.energy } else { 0.0 },
        };
        Ok((fit.bits_per_weight, fit.relative_mse, (leaf, fit)))
    })
}

fn write(tensor: &Tensor<'_>, shape: &[u64], made: &Made) -> Result<EncodedLeaf> {
    let Made { coding, tables, symbols } = made;
    let scale = Scale { step: coding.step, limit: coding.limit };
    let mut low = vec![0u64; if coding.low_bits == 0 { 0 } else { symbols.len() }];
    low.par_chunks_mut(CHUNK_ITEMS as usize).zip(tensor.values.par_chunks(CHUNK_ITEMS as usize)).for_each(
        |(low, values)| quantize::low_bits(scale, most(coding.low_bits), coding.low_bits, values, low),
    );
    let mut kept = Vec::new();
    if f64::from(tensor.largest) / f64::from(coding.step) > f64::from(coding.limit) {
        let beyond = |v: f32| (v / coding.step).abs() > coding.limit;
        let all = tensor.values.iter().enumerate();
        kept.extend(all.filter(|(_, v)| beyond(**v)).map(|(i, &v)| (i as u64, v)));
    }
    let parts = Parts {
        step: coding.step,
        low_bits: coding.low_bits,
        centroids: &coding.centroids,
        plan: &coding.plan,
        runs: &tensor.runs,
        columns: &tensor.column_class,
        tables,
        symbols,
        low: &low,
        exceptions: &kept,
    };
    parts.leaf(shape)
}

/// Everything that a leaf is made of.
pub(super) struct Parts<'a> {
    pub(super) step: f32,
    pub(super) low_bits: u8,
    pub(super) centroids: &'a [i8],
    pub(super) plan: &'a Plan,
    pub(super) runs: &'a Runs,
    /// Fine class of each column.
    pub(super) columns: &'a [u8],
    pub(super) tables: &'a [Table],
    pub(super) symbols: &'a [u8],
    pub(super) low: &'a [u64],
    pub(super) exceptions: &'a [(u64, f32)],
}

impl Parts<'_> {
    pub(super) fn leaf(&self, shape: &[u64]) -> Result<EncodedLeaf> {
        let Self { plan, runs, .. } = self;
        let mut side = SideWriter::new();
        side.varint(self.centroids.len() as u64);
        self.centroids.iter().for_each(|c| side.u8(c.cast_unsigned()));
        side.tables(self.tables)?;
        let classes: Vec<u8> = match plan.row_count {
            1 => Vec::new(),
            _ => runs.class.iter().map(|&c| plan.rows[usize::from(c) % plan.rows.len()]).collect(),
        };
        let column_classes: Vec<u8> = match plan.column_count {
            1 => Vec::new(),
            _ => self.columns.iter().map(|&c| plan.columns[usize::from(c) % plan.columns.len()]).collect(),
        };
        let params = Params {
            step: self.step,
            low_bits: self.low_bits,
            run: runs.rows,
            column_classes: plan.column_count as u8,
        };
        let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, shape, &params)?);
        let push = |leaf: &mut EncodedLeaf, (spec, chunks)| leaf.push(spec, chunks);
        push(&mut leaf, entropy::encode_bytes(&side.into_bytes(), 1, CHUNK_ITEMS)?);
        push(&mut leaf, entropy::encode_symbols(&classes, &Model::none(), CHUNK_ITEMS)?);
        push(&mut leaf, entropy::encode_symbols(&column_classes, &Model::none(), CHUNK_ITEMS)?);
        let model = Model {
            tables: self.tables,
            rows: Rows { of: &classes, run: runs.len as u64 },
            columns: Columns { of: &column_classes, count: plan.column_count as u8 },
            trellis: Trellis::None,
        };
        push(&mut leaf, entropy::encode_symbols(self.symbols, &model, CHUNK_ITEMS)?);
        push(&mut leaf, entropy::encode_words(self.low, CHUNK_ITEMS));
        exceptions::push(&mut leaf, self.exceptions);
        Ok(leaf)
    }
}
