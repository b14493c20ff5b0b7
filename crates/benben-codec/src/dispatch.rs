//! From the name of a codec to its decoder: the one place that lists them all.

use crate::{pvq, raw, rvq, scalar, ternary};
use benben_format::{Error, LeafSource, Result};
use std::ops::Range;

/// Names of the codecs that this build decodes.
pub const CODECS: [&str; 5] = [raw::NAME, scalar::NAME, pvq::NAME, rvq::NAME, ternary::NAME];

/// Decodes elements `range` of a leaf of any codec into `out` as f32.
///
/// # Errors
/// Compatibility for a codec that this build does not know, by name; otherwise as the codec's own decoder.
pub fn decode(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    match source.spec().codec.as_str() {
        raw::NAME => raw::decode(source, range, out),
        scalar::NAME => scalar::decode(source, range, out),
        pvq::NAME => pvq::decode(source, range, out),
        rvq::NAME => rvq::decode(source, range, out),
        ternary::NAME => ternary::decode(source, range, out),
        other => Err(Error::compatibility(format!(
            "codec {other} version {} is not known to this build, which knows {}",
            source.spec().version,
            CODECS.join(", ")
        ))
        .with_hint("a newer Benben reads this tensor")),
    }
}
