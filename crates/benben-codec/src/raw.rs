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
//! MiniLM-L6: 65.8 % of a bf16 cast, 81.5 % of the f32 original. Decoding runs at the speed of rANS.
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
use benben_format::{Dtype, EncodedLeaf, Error, LeafSource, LeafSpec, Result, StreamKind};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Name of the codec.
pub const CODEC: &str = "raw";
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
    encode_in_chunks(bytes, dtype, shape, CHUNK_ITEMS)
}

/// [`encode`] with chunks of `chunk_items` elements: small ones make single rows cheap to read.
///
/// # Errors
/// As [`encode`], and for a chunk size of 0 or above
/// [`StreamSpec::MAX_CHUNK_ITEMS`](benben_format::StreamSpec::MAX_CHUNK_ITEMS).
pub fn encode_in_chunks(bytes: &[u8], dtype: Dtype, shape: &[u64], chunk_items: u32) -> Result<EncodedLeaf> {
    let elements = benben_format::element_count(shape)?;
    let size = dtype.size();
    if elements.checked_mul(size as u64) != Some(bytes.len() as u64) {
        return Err(Error::invalid(format!(
            "{elements} elements of {dtype} take {size} bytes each, found {} bytes",
            bytes.len()
        )));
    }
    let leaf = |layout: Layout| LeafSpec::new(CODEC, VERSION, dtype, shape, &layout).map(EncodedLeaf::new);
    let mut plain = leaf(Layout::Bytes)?;
    let (spec, chunks) = entropy::encode_bytes(bytes, size as u8, chunk_items)?;
    plain.push(spec, chunks);
    // One item, repeated, is as small as a tensor gets.
    if bytes.len() < TINY || plain.payload_bytes() <= size as u64 {
        return Ok(plain);
    }
    let split = match float::Plan::choose(bytes, dtype, shape) {
        Some(plan) => {
            let mut split = leaf(Layout::Float(plan.split))?;
            plan.encode(bytes, dtype, chunk_items, &mut split)?;
            split
        }
        None => {
            let mut split = leaf(Layout::Planes)?;
            planes::encode(bytes, dtype, chunk_items, &mut split)?;
            split
        }
    };
    let stored = |leaf: &EncodedLeaf| leaf.stored_bytes() + STREAM_COST * leaf.chunks.len() as u64;
    Ok(if stored(&split) < stored(&plain) { split } else { plain })
}

/// Writes the bytes of elements `elements` into `out`.
///
/// # Errors
/// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) for a leaf of another codec, and where `elements` is
/// not within the tensor or `out` not of its bytes, [`Compatibility`](benben_format::ErrorKind::Compatibility) for a
/// later version, [`Corruption`](benben_format::ErrorKind::Corruption) where streams contradict the shape or themselves.
pub fn decode_bytes(source: &dyn LeafSource, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
    let spec = source.spec();
    crate::check_codec(spec, CODEC, VERSION)?;
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
        Layout::Float(split) => float::decode(split, source, elements, out),
    }
}

/// Refuses streams from `first` on unless they have these kinds, an item for each element, and chunks of the same
/// number of items, which it returns: otherwise a decoder would have to decode chunks more than once.
fn expect_streams(
    spec: &LeafSpec,
    first: usize,
    kinds: impl Iterator<Item = StreamKind>,
    elements: u64,
) -> Result<u64> {
    let mut chunk_items = None;
    for (index, kind) in (first..).zip(kinds) {
        let found = spec.expect_stream(index, kind, elements)?.chunk_items;
        if *chunk_items.get_or_insert(found) != found || found == 0 {
            return Err(Error::corruption(format!(
                "stream {index} has chunks of {found} items, expected {chunk_items:?} as in stream {first}"
            )));
        }
    }
    Ok(chunk_items.unwrap_or(1).into())
}

/// Runs `decode` on pieces of `elements` that are one chunk of `step` elements each, in parallel, so that what is
/// held beside `out` is one chunk for each thread.
fn by_chunk(
    step: u64,
    elements: Range<u64>,
    size: usize,
    out: &mut [u8],
    decode: impl Fn(Range<u64>, &mut [u8]) -> Result<()> + Sync,
) -> Result<()> {
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

/// One symbol for each element, whose bits it is made of.
fn map_elements(bytes: &[u8], size: usize, symbol: impl Fn(u64) -> u8 + Sync) -> Vec<u8> {
    fn sized<const N: usize>(bytes: &[u8], symbol: impl Fn(u64) -> u8 + Sync) -> Vec<u8> {
        const BLOCK: usize = 1 << 14;
        let mut out = vec![0; bytes.len() / N];
        out.par_chunks_mut(BLOCK).zip(bytes.par_chunks(BLOCK * N)).for_each(|(out, bytes)| {
            out.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(o, b)| *o = symbol(load(b)));
        });
        out
    }
    match size {
        1 => sized::<1>(bytes, symbol),
        2 => sized::<2>(bytes, symbol),
        4 => sized::<4>(bytes, symbol),
        _ => sized::<8>(bytes, symbol),
    }
}

/// Sum over all elements of what `add` makes of their bits, in blocks that `merge` puts together in order.
fn fold_elements<A: Clone + Send + Sync>(
    bytes: &[u8],
    size: usize,
    zero: A,
    add: impl Fn(&mut A, u64) + Sync,
    merge: impl Fn(&mut A, A),
) -> A {
    fn sized<const N: usize, A: Clone + Send + Sync>(
        bytes: &[u8],
        zero: &A,
        add: impl Fn(&mut A, u64) + Sync,
    ) -> Vec<A> {
        const BLOCK: usize = 1 << 16;
        let blocks = bytes.par_chunks(BLOCK * N).map(|bytes| {
            let mut sum = zero.clone();
            bytes.as_chunks::<N>().0.iter().for_each(|b| add(&mut sum, load(b)));
            sum
        });
        blocks.collect()
    }
    let blocks = match size {
        1 => sized::<1, A>(bytes, &zero, add),
        2 => sized::<2, A>(bytes, &zero, add),
        4 => sized::<4, A>(bytes, &zero, add),
        _ => sized::<8, A>(bytes, &zero, add),
    };
    let mut sum = zero;
    blocks.into_iter().for_each(|block| merge(&mut sum, block));
    sum
}

/// Bits of an element, zeros above.
#[inline(always)]
fn load<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut padded = [0; 8];
    padded[..N].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}

/// How often each byte occurs.
fn histogram(symbols: &[u8]) -> [u64; 256] {
    // Four counters for each byte: equal neighbours need not wait for each other.
    let mut counts = [[0u64; 256]; 4];
    let (groups, rest) = symbols.as_chunks::<4>();
    for group in groups {
        counts.iter_mut().zip(group).for_each(|(c, &s)| c[usize::from(s)] += 1);
    }
    rest.iter().for_each(|&s| counts[0][usize::from(s)] += 1);
    std::array::from_fn(|s| counts.iter().map(|c| c[s]).sum())
}
