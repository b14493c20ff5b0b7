//! Leaves: what a codec stores. A leaf is a few parameters and a few *streams*; a stream is a
//! sequence of items cut into equal chunks, each coded on its own and each with its own checksum.
//!
//! The format knows where chunks are; only the codec named by the leaf knows what they mean.

use crate::{Dtype, Error, Result};
use ciborium::Value;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::borrow::Cow;

/// How the payload of one chunk is coded (`format-spec/entropy.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// Items as they are.
    Raw = 0,
    /// One item, repeated.
    Const = 1,
    /// Items of a fixed number of bits.
    BitPacked = 2,
    /// A zstd frame over items, or over several symbols to a byte.
    Zstd = 3,
    /// 32-lane rANS with static tables.
    Rans = 4,
}

impl Mode {
    /// The mode of a chunk table entry.
    ///
    /// # Errors
    /// [`Compatibility`](crate::ErrorKind::Compatibility) for a mode of a later version.
    pub fn from_u8(mode: u8) -> Result<Self> {
        Ok(match mode {
            0 => Self::Raw,
            1 => Self::Const,
            2 => Self::BitPacked,
            3 => Self::Zstd,
            4 => Self::Rans,
            other => {
                return Err(Error::compatibility(format!("chunk mode {other} is unknown, known are 0 to 4")));
            }
        })
    }

    /// Name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Const => "const",
            Self::BitPacked => "bit-packed",
            Self::Zstd => "zstd",
            Self::Rans => "rans",
        }
    }
}

/// What the items of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Items of a fixed number of bytes.
    Bytes {
        /// Bytes of one item, 1 to 8.
        width: u8,
    },
    /// Symbols of an alphabet of at most 256, one byte each when decoded.
    Symbols,
    /// Unsigned integers of at most 64 bits.
    Words,
}

/// Extent of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamSpec {
    /// What the items are.
    pub kind: StreamKind,
    /// Number of items.
    pub items: u64,
    /// Items in each chunk but the last; 1 to [`StreamSpec::MAX_CHUNK_ITEMS`].
    pub chunk_items: u32,
}

impl StreamSpec {
    /// Most items of one chunk: bounds what a reader holds at once.
    pub const MAX_CHUNK_ITEMS: u32 = 1 << 20;

    /// Number of chunks.
    pub fn chunks(&self) -> u64 {
        self.items.div_ceil(u64::from(self.chunk_items.max(1)))
    }

    /// Items of chunk `index`.
    pub fn items_in(&self, index: u64) -> usize {
        let chunk = u64::from(self.chunk_items);
        usize::try_from(self.items.saturating_sub(index.saturating_mul(chunk)).min(chunk)).unwrap_or(0)
    }
}

/// What is known of a leaf without reading any chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafSpec {
    /// Codec: `raw`, `scalar`, `pvq`, `rvq`, `ternary`, ...
    pub codec: String,
    /// Version of the codec, separate from that of the container.
    pub version: u16,
    /// Type of the values; quantizers give f32.
    pub dtype: Dtype,
    /// Shape of the values, outermost first.
    pub shape: Vec<u64>,
    /// The codec's parameters, as it defines them.
    pub params: Value,
    /// The codec's streams, in the order that it defines.
    pub streams: Vec<StreamSpec>,
}

impl LeafSpec {
    /// A spec without streams whose parameters are `params`.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) where `params` has no CBOR form.
    pub fn new(
        codec: &str,
        version: u16,
        dtype: Dtype,
        shape: &[u64],
        params: &impl Serialize,
    ) -> Result<Self> {
        let params =
            Value::serialized(params).map_err(|e| Error::invalid(format!("{codec} parameters: {e}")))?;
        Ok(Self { codec: codec.into(), version, dtype, shape: shape.into(), params, streams: Vec::new() })
    }

    /// The codec's parameters in its own type.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) where they do not fit that type.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T> {
        self.params
            .deserialized()
            .map_err(|e| Error::corruption(format!("parameters of codec {}: {e}", self.codec)))
    }

    /// Number of values.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) where it does not fit 63 bits.
    pub fn elements(&self) -> Result<u64> {
        crate::element_count(&self.shape)
    }

    /// Stream `index`, refused unless it is there with this kind and this number of items.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) where it is not.
    pub fn expect_stream(&self, index: usize, kind: StreamKind, items: u64) -> Result<StreamSpec> {
        let found = self.streams.get(index).copied();
        match found {
            Some(s) if s.kind == kind && s.items == items => Ok(s),
            _ => Err(Error::corruption(format!(
                "codec {} expects stream {index} to be {kind:?} with {items} items, found {found:?}",
                self.codec
            ))),
        }
    }

    /// Stream `index` of any length, refused unless it is there with this kind.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) where it is not.
    pub fn stream(&self, index: usize, kind: StreamKind) -> Result<StreamSpec> {
        let items = self.streams.get(index).map_or(0, |s| s.items);
        self.expect_stream(index, kind, items)
    }
}

/// One coded chunk: mode and payload. Payloads handed out by a reader have passed their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// How the payload is coded.
    pub mode: Mode,
    /// The payload.
    pub bytes: Cow<'a, [u8]>,
}

impl Chunk<'static> {
    /// A chunk that owns its payload.
    pub fn new(mode: Mode, bytes: Vec<u8>) -> Self {
        Self { mode, bytes: Cow::Owned(bytes) }
    }
}

/// Where a codec's decoder gets chunks from: a pack, or the encoder's own output.
pub trait LeafSource: Sync {
    /// What is known of the leaf.
    fn spec(&self) -> &LeafSpec;

    /// Chunk `index` of stream `stream`, its checksum verified.
    ///
    /// # Errors
    /// Corruption where the checksum fails or there is no such chunk, and what the byte source reports.
    fn chunk(&self, stream: usize, index: u64) -> Result<Chunk<'_>>;
}

/// A leaf as an encoder returns it, not yet placed in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedLeaf {
    /// What is known of the leaf.
    pub spec: LeafSpec,
    /// Chunks of each stream, in order.
    pub chunks: Vec<Vec<Chunk<'static>>>,
}

impl EncodedLeaf {
    /// A leaf without streams.
    pub fn new(spec: LeafSpec) -> Self {
        Self { spec, chunks: Vec::new() }
    }

    /// Appends a stream.
    pub fn push(&mut self, spec: StreamSpec, chunks: Vec<Chunk<'static>>) {
        debug_assert_eq!(spec.chunks(), chunks.len() as u64);
        self.spec.streams.push(spec);
        self.chunks.push(chunks);
    }

    /// Bytes of all payloads, without chunk table and checksums.
    pub fn payload_bytes(&self) -> u64 {
        self.chunks.iter().flatten().map(|c| c.bytes.len() as u64).sum()
    }

    /// Bytes that the leaf takes in a file, its share of the tables included and of the directory not.
    pub fn stored_bytes(&self) -> u64 {
        let chunks: usize = self.chunks.iter().map(Vec::len).sum();
        self.payload_bytes()
            + chunks as u64 * crate::layout::CHUNK_ENTRY as u64
            + crate::layout::SEGMENT_ENTRY as u64
    }
}

impl LeafSource for EncodedLeaf {
    fn spec(&self) -> &LeafSpec {
        &self.spec
    }

    fn chunk(&self, stream: usize, index: u64) -> Result<Chunk<'_>> {
        let chunk = usize::try_from(index).ok().and_then(|i| self.chunks.get(stream)?.get(i));
        let chunk =
            chunk.ok_or_else(|| Error::corruption(format!("stream {stream} has no chunk {index}")))?;
        Ok(Chunk { mode: chunk.mode, bytes: Cow::Borrowed(&chunk.bytes) })
    }
}
