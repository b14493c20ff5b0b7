//! A leaf of pulses to values.

use super::decode::side_bytes;
use super::pulse_side::PulseSide;
use crate::entropy::{Model, Values, decode_symbols, decode_values};
use benben_format::{Error, LeafSource, Result, StreamKind};
use std::ops::Range;

/// Decodes elements `elements` of a leaf in groups of `dim`, as what `values` gives their symbols; `out` holds as many.
pub(super) fn decode(
    source: &dyn LeafSource,
    dim: usize,
    elements: Range<u64>,
    out: &mut [f32],
    values: impl Fn(&PulseSide) -> [f32; 256],
) -> Result<()> {
    let spec = source.spec();
    let count = spec.elements()?;
    let side = PulseSide::read(&side_bytes(source)?)?;
    // At most 2^37.
    let run = u64::from(side.run) * dim as u64;
    let runs = if side.pulses.len() > 1 { count.div_ceil(run) } else { 0 };
    spec.expect_stream(1, StreamKind::Symbols, runs)?;
    let chunk = u64::from(spec.expect_stream(2, StreamKind::Symbols, count)?.chunk_items.max(1));
    let mut classes = vec![0u8; runs as usize];
    if runs > 0 {
        // Of all runs that the chunks reach into.
        let first = elements.start / chunk * chunk / run;
        let end = elements.end.div_ceil(chunk).saturating_mul(chunk).min(count).div_ceil(run);
        let span = &mut classes[first as usize..end as usize];
        decode_symbols(source, 1, first..end, &Model::by_rows(&side.classes, &[], 1), span)?;
        if let Some(class) = span.iter().find(|&&c| usize::from(c) >= side.pulses.len()) {
            return Err(Error::corruption(format!("pulses of class {class} of {}", side.pulses.len())));
        }
    }
    let model = Model::by_rows(&side.pulses, &classes, run);
    decode_values(source, 2, elements, &model, &Values::new(values(&side)), out)
}
