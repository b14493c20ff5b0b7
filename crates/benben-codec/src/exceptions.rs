//! Elements that a quantizer cannot reach, kept bit for bit beside the symbols.
//!
//! Two streams of words: the element numbers, strictly rising, and the bits of their f32 values. A decoder writes them
//! over what the symbols gave. At most `n / 16 + 16` of `n` elements, so that what they take is bounded by the tensor.

use crate::entropy::{self, CHUNK_ITEMS};
use benben_format::{EncodedLeaf, Error, LeafSource, LeafSpec, Result, StreamKind};
use std::ops::Range;

/// Most exceptions of a tensor of `elements`.
pub(crate) fn limit(elements: u64) -> u64 {
    elements / 16 + 16
}

/// Appends the two streams; `exceptions` are element numbers, rising, and values.
pub(crate) fn push(leaf: &mut EncodedLeaf, exceptions: &[(u64, f32)]) {
    let (positions, bits): (Vec<u64>, Vec<u64>) =
        exceptions.iter().map(|&(at, value)| (at, u64::from(value.to_bits()))).unzip();
    for words in [positions, bits] {
        let (spec, chunks) = entropy::encode_words(&words, CHUNK_ITEMS);
        leaf.push(spec, chunks);
    }
}

/// Number of exceptions of a leaf whose streams `first` and `first + 1` hold them.
///
/// # Errors
/// Corruption where there are more than [`limit`], or the streams differ in length.
pub(crate) fn count(spec: &LeafSpec, first: usize) -> Result<u64> {
    let (elements, count) = (spec.elements()?, spec.stream(first, StreamKind::Words)?.items);
    if count > limit(elements) {
        return Err(Error::corruption(format!(
            "{count} exceptions among {elements} elements, at most {} expected",
            limit(elements)
        )));
    }
    spec.expect_stream(first + 1, StreamKind::Words, count)?;
    Ok(count)
}

/// Writes the exceptions among elements `range` over `out`.
///
/// # Errors
/// As [`within`].
pub(crate) fn apply(
    source: &dyn LeafSource,
    first: usize,
    range: &Range<u64>,
    out: &mut [f32],
) -> Result<()> {
    for (at, value) in within(source, first, range)? {
        if let Some(place) = out.get_mut((at - range.start) as usize) {
            *place = value;
        }
    }
    Ok(())
}

/// The exceptions among elements `range`: element numbers, rising, and values.
///
/// # Errors
/// Corruption as for [`count`], for positions that do not rise or are no elements, and for values that are not finite.
pub(crate) fn within(source: &dyn LeafSource, first: usize, range: &Range<u64>) -> Result<Vec<(u64, f32)>> {
    let (elements, count) = (source.spec().elements()?, count(source.spec(), first)?);
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut positions = vec![0; count as usize];
    entropy::decode_words(source, first, 0..count, &mut positions)?;
    if let Some(pair) = positions.windows(2).find(|p| p[0] >= p[1]) {
        return Err(Error::corruption(format!("exception at element {} follows {}", pair[1], pair[0])));
    }
    if let Some(&last) = positions.last().filter(|&&p| p >= elements) {
        return Err(Error::corruption(format!("exception at element {last} of {elements}")));
    }
    let from = positions.partition_point(|&p| p < range.start);
    let to = positions.partition_point(|&p| p < range.end);
    let mut bits = vec![0; to - from];
    entropy::decode_words(source, first + 1, from as u64..to as u64, &mut bits)?;
    let value = |(&at, &bits): (&u64, &u64)| {
        let value = u32::try_from(bits).ok().map(f32::from_bits).filter(|v| v.is_finite());
        let value = value.ok_or_else(|| {
            Error::corruption(format!("exception at element {at}: {bits:#x} is no finite f32"))
        })?;
        Ok((at, value))
    };
    positions[from..to].iter().zip(&bits).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use benben_format::Dtype;

    fn leaf(words: [&[u64]; 2]) -> EncodedLeaf {
        let mut leaf = EncodedLeaf::new(LeafSpec::new("test", 1, Dtype::F32, &[100], &()).unwrap());
        for words in words {
            let (spec, chunks) = entropy::encode_words(words, CHUNK_ITEMS);
            leaf.push(spec, chunks);
        }
        leaf
    }

    #[test]
    fn exceptions_are_written_over_what_is_in_range() {
        let mut leaf = EncodedLeaf::new(LeafSpec::new("test", 1, Dtype::F32, &[100], &()).unwrap());
        push(&mut leaf, &[(3, 1.5), (50, -2.0), (99, f32::MAX)]);
        let mut out = [0.0; 50];
        apply(&leaf, 0, &(50..100), &mut out).unwrap();
        assert_eq!((out[0], out[49], out.iter().filter(|v| **v != 0.0).count()), (-2.0, f32::MAX, 2));
    }

    #[test]
    fn wrong_exceptions_are_refused() {
        let one = u64::from(1f32.to_bits());
        let many: Vec<u64> = (0..23).collect();
        let cases: [[&[u64]; 2]; 7] = [
            [&[5, 5], &[one, one]],
            [&[6, 5], &[one, one]],
            [&[100], &[one]],
            [&[5], &[one << 32]],
            [&[5], &[f32::NAN.to_bits().into()]],
            [&[5, 6], &[one]],
            [&many, &many],
        ];
        for words in cases {
            let e = apply(&leaf(words), 0, &(0..100), &mut [0.0; 100]).unwrap_err();
            assert_eq!(e.kind(), benben_format::ErrorKind::Corruption, "{words:?}: {e}");
        }
        apply(&leaf([&many[..22], &[one; 22]]), 0, &(0..100), &mut [0.0; 100]).unwrap();
    }
}
