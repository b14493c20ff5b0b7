//! Codec `raw`, version 1: any tensor, bit for bit.
//!
//! # What it stores
//! The little-endian bytes of a tensor of any dtype, NaN payloads, signed zeros and subnormals included, in the
//! smallest of four layouts (parameter `layout`):
//!
//! - `bytes`: the elements as they are, zstd or const where that is smaller. Tiny tensors, and what repeats.
//! - `float`: exponents with the leading bits of the mantissa by rANS, all other bits in planes ([`float`]). Exponents
//!   of weights carry 2.6 of their 8 bits; signs and mantissas hardly compress.
//! - `integer`: the highest bits of distances from an offset by rANS, all other bits in planes ([`integer`]).
//! - `palette`: at most 256 different elements by rANS.
//!
//! Planes are stored as they are, bit-packed, by zstd, or by rANS with a table of their own.
//!
//! # Source
//! Splitting floats into an exponent plane that is entropy-coded and a rest that is not: Hershcovitch et al.,
//! "ZipNN" (arXiv:2411.05239); Zhang et al., "DFloat11" (arXiv:2504.11651). Coding leading mantissa bits with the
//! exponent, and classes of rows, are this codec's own.
//!
//! # Bits
//! Parameters: `{"layout": "bytes"}`, `{"layout": "float", "mantissa", "lowest", "run"}`, `{"layout": "integer",
//! "zigzag", "offset", "low", "run"}` or `{"layout": "palette", "run"}`. Streams of `bytes`: stream 0, bytes of the
//! dtype's width. The others share one set of streams, `streams`.
//!
//! # Cost
//! MiniLM-L6 (`examples/lossless.rs`), one thread of Zen 5 with AVX-512 VBMI2: 66.4 % of a bf16 cast at 6.1 GB/s, 84.7 %
//! of f16, 81.8 % of the f32 original at 8.6 GB/s, into memory that has been written before. ZipNN in the same run, also
//! without page faults: 66.5 % at 3.7, 81.9 % at 5.2. Into fresh memory both wait for the system's pages first: 2.1 GB/s
//! of bf16 beside 1.6. Speeds by processor time. A half of the time of decoding is rANS, a third merging, which is bound by memory.
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
//!
//! | file | owns |
//! |---|---|
//! | `float`, `integer`, `palette` | what symbols and rest mean, and the encoder's choice of it |
//! | `cut`, `word` | taking elements apart, in their own arithmetic |
//! | `classes`, `planes` | the encoder's choice of tables |
//! | `streams`, `plane` | the streams, and the way back |
//! | `merge`, `unpack` | the kernels |

mod classes;
mod cut;
pub mod float;
pub mod integer;
mod merge;
mod palette;
mod plane;
mod planes;
mod streams;
mod unpack;
mod word;

use crate::entropy::{self, CHUNK_ITEMS};
use benben_format::{Dtype, EncodedLeaf, Error, LeafSource, LeafSpec, Result, StreamKind};
use cut::Kind;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use streams::{Content, Form, Rest};

/// Name of the codec.
pub const CODEC: &str = "raw";
/// Version of the codec.
pub const VERSION: u16 = 1;
/// Bytes below which only `bytes` is tried: the tables of the others would not pay.
const TINY: usize = 256;
/// Bytes up to which layout `bytes` is always tried in full.
const SMALL: usize = 1 << 17;
/// Bytes that one more stream takes in the directory, about.
const STREAM_COST: u64 = 24;

/// Parameters of the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "layout", rename_all = "lowercase")]
pub enum Layout {
    /// Elements as they are.
    Bytes,
    /// Exponents apart from the rest.
    Float(float::Split),
    /// The highest bits of distances apart from the rest.
    Integer(integer::Distance),
    /// Few different elements.
    Palette {
        /// Elements of one class.
        run: u64,
    },
}

/// Stores the elements of a tensor of `dtype` and `shape`, given as little-endian `bytes`.
///
/// # Errors
/// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) where `bytes` does not hold the elements of `shape`.
pub fn encode(bytes: &[u8], dtype: Dtype, shape: &[u64]) -> Result<EncodedLeaf> {
    encode_by(bytes, dtype, shape, CHUNK_ITEMS, chunk_items(bytes.len() / dtype.size()))
}

/// Of layout `float`: four chunks of a tensor, or as many as stay in the second-level cache while they are decoded side
/// by side; not so small that lane states would show (0.2 % of bf16).
fn chunk_items(elements: usize) -> u32 {
    const LEAST: usize = 1 << 15;
    const MOST: usize = 1 << 16;
    let quarter = elements.div_ceil(4).next_multiple_of(1 << 10);
    quarter.clamp(LEAST, MOST) as u32
}

/// [`encode`] with chunks of `chunk_items` elements: small ones make single rows cheap to read.
///
/// # Errors
/// As [`encode`], and for a chunk size of 0 or above
/// [`StreamSpec::MAX_CHUNK_ITEMS`](benben_format::StreamSpec::MAX_CHUNK_ITEMS).
pub fn encode_in_chunks(bytes: &[u8], dtype: Dtype, shape: &[u64], chunk_items: u32) -> Result<EncodedLeaf> {
    encode_by(bytes, dtype, shape, chunk_items, chunk_items)
}

/// [`encode_in_chunks`] with a chunk size of its own for layout `float`.
fn encode_by(
    bytes: &[u8],
    dtype: Dtype,
    shape: &[u64],
    chunk_items: u32,
    of_floats: u32,
) -> Result<EncodedLeaf> {
    let elements = benben_format::element_count(shape)?;
    let size = dtype.size();
    if elements.checked_mul(size as u64) != Some(bytes.len() as u64) {
        return Err(Error::invalid(format!(
            "{elements} elements of {dtype} take {size} bytes each, found {} bytes",
            bytes.len()
        )));
    }
    let plain = || {
        let mut leaf = leaf(dtype, shape, &Layout::Bytes)?;
        let (spec, chunks) = entropy::encode_bytes(bytes, size as u8, chunk_items)?;
        leaf.push(spec, chunks);
        Ok(leaf)
    };
    // One element, repeated, is as small as a tensor gets.
    if bytes.len() < TINY || bytes[size..] == bytes[..bytes.len() - size] {
        return plain();
    }
    let apart = encode_apart(bytes, dtype, shape, chunk_items, of_floats)?;
    let stored = |leaf: &EncodedLeaf| leaf.stored_bytes() + STREAM_COST * leaf.chunks.len() as u64;
    let ratio = stored(&apart) as f64 / bytes.len() as f64;
    // Floats take more than half: here something repeats, which larger chunks see more of.
    if of_floats != chunk_items && ratio < 0.5 {
        return encode_by(bytes, dtype, shape, chunk_items, chunk_items);
    }
    if bytes.len() > SMALL && ratio < 1.0 && sampled_ratio(bytes, size)? > 1.02 * ratio {
        return Ok(apart);
    }
    let plain = plain()?;
    Ok(if stored(&apart) < stored(&plain) { apart } else { plain })
}

fn leaf(dtype: Dtype, shape: &[u64], layout: &Layout) -> Result<EncodedLeaf> {
    LeafSpec::new(CODEC, VERSION, dtype, shape, layout).map(EncodedLeaf::new)
}

/// What layout `bytes` makes of four pieces of a tensor of more than [`SMALL`] bytes: finds repeats within 32 KiB, at
/// a fraction of the time that the whole takes.
fn sampled_ratio(bytes: &[u8], size: usize) -> Result<f64> {
    const PIECE: usize = SMALL / 4;
    let mut stored = 0;
    for piece in 0..4 {
        let at = (bytes.len() - PIECE) / 3 * piece / size * size;
        let (_, chunks) = entropy::encode_bytes(&bytes[at..at + PIECE], size as u8, CHUNK_ITEMS)?;
        stored += chunks.iter().map(|c| c.bytes.len()).sum::<usize>();
    }
    Ok(stored as f64 / (4 * PIECE) as f64)
}

/// The smallest of the layouts that code symbols, as far as tables tell.
fn encode_apart(
    bytes: &[u8],
    dtype: Dtype,
    shape: &[u64],
    chunk_items: u32,
    of_floats: u32,
) -> Result<EncodedLeaf> {
    let (size, run) = (dtype.size(), classes::run(shape));
    let (layout, cut) = match float::choose(bytes, dtype, run) {
        Some(split) => (Layout::Float(split), float::cut(split, dtype)?),
        None => {
            let distance = integer::choose(bytes, dtype, run);
            (Layout::Integer(distance), integer::cut(distance, dtype)?)
        }
    };
    let symbols = planes::symbols(&cut, bytes);
    let rest_bits = f64::from(cut.rest_bits()) * symbols.len() as f64;
    let coding = classes::choose(&symbols, run, &scale(&cut.kind, dtype, &symbols), rest_bits);
    let (tables, rest_bits) = planes::choose(&cut, bytes, coding.bits);
    let bits = coding.bits + rest_bits;
    let values = (size > 1).then(|| palette::distinct(bytes, size)).flatten();
    if let Some(values) = values {
        let symbols = palette::symbols(bytes, size, &values);
        let named = Kind::Plain { offset: 0 };
        let coding = classes::choose(&symbols, run, &scale(&named, Dtype::U8, &symbols), 0.0);
        if 0.998 * bits > coding.bits + 8.0 * (values.len() * size) as f64 {
            let rest = Rest::Palette { values: &values, size };
            let content = Content { coding: &coding, run, symbols: &symbols, rest };
            let mut leaf = leaf(dtype, shape, &Layout::Palette { run })?;
            streams::encode(&content, chunk_items, &mut leaf)?;
            return Ok(leaf);
        }
    }
    let rest = Rest::Planes { cut: &cut, bytes, tables: &tables };
    let mut leaf = leaf(dtype, shape, &layout)?;
    let chunk_items = if matches!(layout, Layout::Float(_)) { of_floats } else { chunk_items };
    streams::encode(&Content { coding: &coding, run, symbols: &symbols, rest }, chunk_items, &mut leaf)?;
    Ok(leaf)
}

/// A weight of each symbol that grows with the scale of the values that it stands for.
fn scale(kind: &Kind, dtype: Dtype, symbols: &[u8]) -> [u8; 256] {
    match kind {
        Kind::Float { .. } | Kind::Zigzag { .. } => std::array::from_fn(|s| s as u8),
        // A float of one byte: its sign is the highest bit.
        Kind::Plain { .. } if dtype.is_float() => std::array::from_fn(|s| s as u8 & 0x7f),
        Kind::Plain { .. } => {
            let counts = word::histogram(symbols);
            let mut below = 0;
            let half = symbols.len() as u64 / 2;
            let median = counts.iter().position(|c| {
                below += c;
                below > half
            });
            std::array::from_fn(|s| s.abs_diff(median.unwrap_or(0)) as u8)
        }
    }
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
        Layout::Float(split) => {
            let cut = float::cut(split, spec.dtype)?;
            streams::decode(&Form::Cut(cut), split.run, source, elements, out)
        }
        Layout::Integer(distance) => {
            let cut = integer::cut(distance, spec.dtype)?;
            streams::decode(&Form::Cut(cut), distance.run, source, elements, out)
        }
        Layout::Palette { run } => streams::decode(&Form::Palette(size), run, source, elements, out),
    }
}
