//! The values that a leaf's elements can have, where they are few.

use crate::{scalar, trellis};
use benben_format::{LeafSource, Result};

/// Every value that a symbol of the leaf can stand for, ascending, none twice; `None` where they are not few: codecs of
/// vectors, floats, and integers with low bits of their own. Exceptions may have others.
///
/// # Errors
/// As decoding the leaf's side information.
pub fn levels(source: &dyn LeafSource) -> Result<Option<Vec<f32>>> {
    let mut levels = match source.spec().codec.as_str() {
        scalar::CODEC => scalar::levels(source)?,
        trellis::CODEC => Some(trellis::levels(source)?),
        _ => None,
    };
    if let Some(levels) = &mut levels {
        levels.sort_unstable_by(f32::total_cmp);
        levels.dedup_by(|a, b| a.to_bits() == b.to_bits());
    }
    Ok(levels)
}
