//! Codec `raw`, version 1: any tensor, bit for bit.
//!
//! # What it stores
//! The little-endian bytes of a tensor of any dtype, NaN payloads, signed zeros and subnormals included, in the
//! smallest of three layouts (parameter `layout`):
//!
//! - `bytes`: the elements as they are, zstd or const where that is smaller. Tiny tensors, and what repeats.
//! - `planes`: byte `p` of each element in a stream of its own ([`planes`]). Integers.
//! - `float`: exponents with the leading bits of the mantissa by rANS, all other bits as they are ([`float`]).
//!   Exponents of weights carry 2.6 of their 8 bits; signs and mantissas hardly compress.
//!
//! # Source
//! Splitting floats into an exponent plane that is entropy-coded and a rest that is not: Hershcovitch et al.,
//! "ZipNN" (arXiv:2411.05239); Zhang et al., "DFloat11" (arXiv:2504.11651). Coding leading mantissa bits with the
//! exponent, and classes of rows, are this codec's own.
//!
//! # Bits
//! Parameters: `{"layout": "bytes"}`, `{"layout": "planes"}` or `{"layout": "float", "mantissa", "lowest", "run"}`.
//! Streams of `bytes`: stream 0, bytes of the dtype's width. Those of the others are in [`planes`] and [`float`].
//! All streams with an item for each element have chunks of the same number of items.
//!
//! # Cost
//! MiniLM-L6: 65.8 % of a bf16 cast, 81.7 % of the f32 original. Decoding runs at the speed of rANS.
//!
//! # When to choose it
//! For lossless packs, and in any pack for what is too small or too delicate to quantize.
//!
//! ```
//! use benben_codec::raw;
//! use benben_format::Dtype;
//!
//! let bytes = Dtype::F32.from_f32(&[0.5, -0.0, f32::NAN])?;
//! let leaf = raw::encode(&bytes, Dtype::F32, &[3])?;
//! let mut out = [0; 8];
//! raw::decode_bytes(&leaf, 1..3, &mut out)?;
//! assert_eq!(out, bytes[4..]);
//! # Ok::<(), benben_format::Error>(())
//! ```

pub mod float;
pub mod planes;

use crate::entropy::{self, CHUNK_ITEMS};
use benben_format::{Dtype, EncodedLeaf, Error, LeafSource, LeafSpec, Result, StreamKind, StreamSpec};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Name of the codec.
pub const NAME: &str = "raw";
/// Version of the codec.
pub const VERSION: u16 = 1;
/// Bytes below which only `bytes` is tried: the tables of the others would not pay.
const TINY: usize = 256;
/// Bytes that one more stream takes in the directory, about.
const STREAM_COST: u64 = 24;

/// Parameters of the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "layout", rename_all = "lowercase")]
pub enum Layout {
    /// Elements as they are.
    Bytes,
    /// Each byte of an element in a stream of its own.
    Planes,
    /// Exponents apart from the rest.
    Float(float::Split),
}

/// Stores the elements of a tensor of `dtype` and `shape`, given as little-endian `bytes`.
///
/// # Errors
/// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) where `bytes` does not hold the elements of `shape`.
pub fn encode(bytes: &[u8], dtype: Dtype, shape: &[u64]) -> Result<EncodedLeaf> {
    let elements = benben_format::element_count(shape)?;
    if elements.checked_mul(dtype.size() as u64) != Some(bytes.len() as u64) {
        return Err(Error::invalid(format!(
            "{elements} elements of {dtype} take {} bytes each, found {} bytes",
            dtype.size(),
            bytes.len()
        )));
    }
    let leaf = |layout: Layout| LeafSpec::new(NAME, VERSION, dtype, shape, &layout).map(EncodedLeaf::new);
    let mut best = leaf(Layout::Bytes)?;
    let (spec, chunks) = entropy::encode_bytes(bytes, dtype.size() as u8, CHUNK_ITEMS)?;
    best.push(spec, chunks);
    // One item, repeated, is as small as a tensor gets.
    if bytes.len() < TINY || best.payload_bytes() == dtype.size() as u64 {
        return Ok(best);
    }
    let mut other = match float::Split::choose(bytes, dtype, shape) {
        Some((split, classes)) => {
            let mut other = leaf(Layout::Float(split))?;
            split.encode(bytes, dtype, classes, &mut other)?;
            other
        }
        None => leaf(Layout::Planes)?,
    };
    if other.chunks.is_empty() {
        planes::encode(bytes, dtype, &mut other)?;
    }
    let size = |leaf: &EncodedLeaf| leaf.stored_bytes() + STREAM_COST * leaf.chunks.len() as u64;
    Ok(if size(&other) < size(&best) { other } else { best })
}

/// Writes the bytes of elements `elements` into `out`.
///
/// # Errors
/// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) where `elements` is not within the tensor or `out`
/// not of its bytes, [`Compatibility`](benben_format::ErrorKind::Compatibility) for a leaf of another codec or
/// version, [`Corruption`](benben_format::ErrorKind::Corruption) where streams contradict the shape or themselves.
pub fn decode_bytes(source: &dyn LeafSource, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
    let spec = source.spec();
    if spec.codec != NAME || spec.version != VERSION {
        return Err(Error::compatibility(format!(
            "codec {} version {}, expected {NAME} version {VERSION}",
            spec.codec, spec.version
        )));
    }
    let (total, size) = (spec.elements()?, spec.dtype.size());
    let wanted = elements.end.checked_sub(elements.start).filter(|_| elements.end <= total);
    let wanted = wanted.and_then(|n| usize::try_from(n).ok()?.checked_mul(size));
    if wanted != Some(out.len()) {
        return Err(Error::invalid(format!(
            "elements {elements:?} of {total}, {size} bytes each, into {} bytes",
            out.len()
        )));
    }
    match spec.params::<Layout>()? {
        Layout::Bytes => {
            spec.expect_stream(0, StreamKind::Bytes { width: size as u8 }, total)?;
            entropy::decode_bytes(source, 0, elements, out)
        }
        Layout::Planes => planes::decode(source, elements, out),
        Layout::Float(split) => split.decode(source, elements, out),
    }
}

/// Runs `decode` on pieces of `elements` that are one chunk each, in parallel, so that what is held beside `out` is
/// one chunk for each thread. `chunks` is a stream with an item for each element.
fn by_chunk(
    chunks: &StreamSpec,
    elements: Range<u64>,
    size: usize,
    out: &mut [u8],
    decode: impl Fn(Range<u64>, &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
    let step = u64::from(chunks.chunk_items.max(1));
    let mut pieces = Vec::new();
    let (mut rest, mut at) = (out, elements.start);
    while at < elements.end {
        let end = elements.end.min((at / step + 1).saturating_mul(step));
        let (own, others) = std::mem::take(&mut rest).split_at_mut((end - at) as usize * size);
        pieces.push((at..end, own));
        rest = others;
        at = end;
    }
    if pieces.len() == 1 {
        return pieces.into_iter().try_for_each(|(range, own)| decode(range, own));
    }
    let results: Vec<Result<()>> = pieces.into_par_iter().map(|(range, own)| decode(range, own)).collect();
    results.into_iter().collect()
}

/// How often each byte occurs.
fn histogram(symbols: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
    counts
}
