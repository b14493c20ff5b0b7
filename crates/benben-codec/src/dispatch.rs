//! From the name of a codec to its decoder: the one place that lists them all.

use crate::{pvq, raw, rvq, scalar, ternary, trellis};
use benben_format::{Error, LeafSource, Result};
use std::ops::Range;

/// Names of the codecs that this build decodes.
pub const CODECS: [&str; 6] =
    [raw::CODEC, scalar::CODEC, trellis::CODEC, pvq::CODEC, rvq::CODEC, ternary::CODEC];

/// Decodes elements `range` of a leaf of any codec into `out` as f32.
///
/// # Errors
/// Compatibility for a codec that this build does not know, by name; otherwise as the codec's own decoder.
pub fn decode(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    let spec = source.spec();
    match spec.codec.as_str() {
        raw::CODEC => raw_values(source, range, out),
        scalar::CODEC => scalar::decode(source, range, out),
        trellis::CODEC => trellis::decode(source, range, out),
        pvq::CODEC => pvq::decode(source, range, out),
        rvq::CODEC => rvq::decode(source, range, out),
        ternary::CODEC => ternary::decode(source, range, out),
        other => Err(Error::compatibility(format!(
            "codec {other} version {} is not known to this build, which knows {}",
            spec.version,
            CODECS.join(", ")
        ))
        .with_hint("a newer Benben reads this tensor")),
    }
}

/// A lossless leaf as f32, a block at a time so that the bytes take little room besides the values.
fn raw_values(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    const BLOCK: usize = 1 << 20;
    let spec = source.spec();
    crate::check_range(spec, &range, out.len())?;
    let mut bytes = vec![0; out.len().min(BLOCK) * spec.dtype.size()];
    let mut at = range.start;
    for block in out.chunks_mut(BLOCK) {
        let bytes = &mut bytes[..block.len() * spec.dtype.size()];
        raw::decode_bytes(source, at..at + block.len() as u64, bytes)?;
        spec.dtype.to_f32(bytes, block)?;
        at += block.len() as u64;
    }
    Ok(())
}
