//! What every codec checks of its arguments and of the leaf before it starts.

use benben_format::{Dtype, Error, LeafSpec, Result, element_count};
use std::ops::Range;

/// Refuses values that do not fill `shape`, or that no lossy codec can stand for.
///
/// # Errors
/// InvalidArgument, naming the index of the first value that is not finite.
pub fn check_finite(values: &[f32], shape: &[u64]) -> Result<()> {
    let expected = element_count(shape)?;
    if expected != values.len() as u64 {
        return Err(Error::invalid(format!(
            "shape {shape:?} has {expected} elements, found {}",
            values.len()
        )));
    }
    match values.iter().position(|x| !x.is_finite()) {
        Some(i) => {
            Err(Error::invalid(format!("value {i} is {}, only finite values can be quantized", values[i]))
                .with_hint("store this tensor losslessly: codec raw"))
        }
        None => Ok(()),
    }
}

/// Refuses a leaf of another codec or version, then one of a dtype that the codec does not give: every codec but
/// `raw` gives f32. What is unknown is never called corrupt, so the dtype comes last.
///
/// # Errors
/// Compatibility for a later version of the codec, InvalidArgument for another codec, Corruption for another dtype.
pub fn check_codec(spec: &LeafSpec, name: &str, version: u16) -> Result<()> {
    if spec.codec != name {
        return Err(Error::invalid(format!("expected a leaf of codec {name}, found {}", spec.codec)));
    }
    if spec.version != version {
        return Err(Error::compatibility(format!(
            "codec {name} version {}, this build reads version {version}",
            spec.version
        ))
        .with_hint("a newer Benben reads this tensor"));
    }
    if name != crate::raw::CODEC && spec.dtype != Dtype::F32 {
        return Err(Error::corruption(format!("codec {name} gives f32, the leaf says {}", spec.dtype)));
    }
    Ok(())
}

/// Refuses a range of elements that the leaf does not have, or that does not fit `out`.
///
/// # Errors
/// InvalidArgument.
pub fn check_range(spec: &LeafSpec, range: &Range<u64>, out: usize) -> Result<()> {
    let elements = spec.elements()?;
    if range.start > range.end || range.end > elements {
        return Err(Error::invalid(format!("elements {range:?} of {elements}")));
    }
    if range.end - range.start != out as u64 {
        return Err(Error::invalid(format!("elements {range:?} do not fit {out} places")));
    }
    Ok(())
}
