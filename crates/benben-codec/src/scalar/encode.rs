//! Weights to a `scalar` leaf.

use super::fit::{Choice, Weights};
use super::survey::{Runs, quantize, symbol};
use super::{CODEC, ESCAPE, Params, Settings, VERSION, reconstruct, rows_and_columns, zigzag};
use crate::entropy::{self, CHUNK_ITEMS, Model, SideWriter};
use crate::{Fit, Target, check_finite, squared_error};
use benben_format::{Dtype, EncodedLeaf, LeafSpec, Result};
use rayon::prelude::*;

/// Codes `values`, the row-major elements of a tensor of `shape`, at the settings' target.
///
/// The target is met within a few tenths of a percent where it is in reach; a rate below what the tables and
/// checksums of a small tensor take, or an error beyond f32, gives the nearest that there is: look at the [`Fit`].
///
/// # Errors
/// InvalidArgument where the shape does not fit the values, or a value is not finite.
pub fn encode(values: &[f32], shape: &[u64], settings: &Settings) -> Result<(EncodedLeaf, Fit)> {
    check_finite(values, shape)?;
    let (rows, columns) = rows_and_columns(shape)?;
    let runs = Runs::new(values, rows, columns, settings.max_classes);
    let weights = Weights::new(values, &runs);
    let choice = weights.fit(settings.target);
    let (mut leaf, mut fit) = write(values, shape, &runs, &choice)?;
    // The estimate leaves out how the streams were really coded; one correction meets the target on small tensors.
    if let Target::BitsPerWeight(bits) = settings.target
        && (fit.bits_per_weight / bits - 1.0).abs() > 0.004
    {
        let corrected = bits + weights.bits_per_weight(&choice) - fit.bits_per_weight;
        if corrected > 0.0 {
            let (l, f) = write(values, shape, &runs, &weights.fit(Target::BitsPerWeight(corrected)))?;
            if (f.bits_per_weight - bits).abs() < (fit.bits_per_weight - bits).abs() {
                (leaf, fit) = (l, f);
            }
        }
    }
    Ok((leaf, fit))
}

fn write(values: &[f32], shape: &[u64], runs: &Runs, choice: &Choice) -> Result<(EncodedLeaf, Fit)> {
    let Choice { step, low_bits, survey, plan } = choice;
    let (inverse, centroids) = (1.0 / step, survey.centroids());
    let mut symbols = vec![0u8; values.len()];
    let mut decoded = vec![0f32; values.len()];
    symbols.par_iter_mut().zip(&mut decoded).zip(values).with_min_len(1 << 14).for_each(|((s, d), &x)| {
        let q = quantize(x, inverse);
        *s = symbol(q, *low_bits);
        *d = reconstruct(q, &centroids, *step);
    });
    let (error, energy) = squared_error(values, &decoded);
    drop(decoded);

    let mut side = SideWriter::new();
    side.u8(centroids.len() as u8);
    centroids.iter().for_each(|c| side.u8(c.cast_unsigned()));
    side.tables(&plan.tables)?;

    let classes: Vec<u8> = match plan.tables.len() {
        1 => Vec::new(),
        _ => runs.class.iter().map(|&c| plan.table_of[usize::from(c)]).collect(),
    };
    let params = Params { step: *step, low_bits: *low_bits, run: runs.rows };
    let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, shape, &params)?);
    let push = |leaf: &mut EncodedLeaf, (spec, chunks)| leaf.push(spec, chunks);
    push(&mut leaf, entropy::encode_bytes(&side.into_bytes(), 1, CHUNK_ITEMS)?);
    push(&mut leaf, entropy::encode_symbols(&classes, &Model::none(), CHUNK_ITEMS)?);
    let model = Model::by_rows(&plan.tables, &classes, runs.len as u64);
    push(&mut leaf, entropy::encode_symbols(&symbols, &model, CHUNK_ITEMS)?);

    let low: Vec<u64> = match low_bits {
        0 => Vec::new(),
        bits => values
            .par_iter()
            .zip(&symbols)
            .map(|(&x, &s)| {
                if s == ESCAPE {
                    0
                } else {
                    u64::from(quantize(x, inverse).cast_unsigned() & ((1 << bits) - 1))
                }
            })
            .collect(),
    };
    push(&mut leaf, entropy::encode_words(&low, CHUNK_ITEMS));

    let (mut escapes, mut ranks) = (Vec::new(), Vec::new());
    for (v, s) in values.chunks(CHUNK_ITEMS as usize).zip(symbols.chunks(CHUNK_ITEMS as usize)) {
        ranks.push(escapes.len() as u64);
        let escaped = v.iter().zip(s).filter(|(_, s)| **s == ESCAPE);
        escapes.extend(escaped.map(|(&x, _)| u64::from(zigzag(quantize(x, inverse)))));
    }
    if escapes.is_empty() {
        ranks.clear();
    }
    push(&mut leaf, entropy::encode_words(&escapes, CHUNK_ITEMS));
    push(&mut leaf, entropy::encode_words(&ranks, CHUNK_ITEMS));

    let fit = Fit {
        bits_per_weight: leaf.stored_bytes() as f64 * 8.0 / values.len().max(1) as f64,
        relative_mse: if energy > 0.0 { error / energy } else { 0.0 },
    };
    Ok((leaf, fit))
}
