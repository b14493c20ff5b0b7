//! One plane of the rest within one chunk: borrowed from the payload where it is stored as it is, unpacked block by
//! block where it is bit-packed, decoded into a buffer only where it is coded.

use super::unpack::unpack;
use crate::entropy::{SymbolDecoder, bits};
use benben_format::{Chunk, Error, LeafSource, LeafSpec, Mode, Result};
use std::ops::Range;

/// A chunk that has been fetched: asking the source again would verify its checksum a second time.
struct Fetched<'a> {
    spec: &'a LeafSpec,
    chunk: &'a Chunk<'a>,
}

impl LeafSource for Fetched<'_> {
    fn spec(&self) -> &LeafSpec {
        self.spec
    }

    fn chunk(&self, _: usize, _: u64) -> Result<Chunk<'_>> {
        Ok(Chunk { mode: self.chunk.mode, bytes: std::borrow::Cow::Borrowed(&self.chunk.bytes) })
    }
}

/// The plane's wanted items.
pub(super) enum Plane<'a> {
    /// Of a chunk in mode raw: items from `first` on.
    Stored { chunk: Chunk<'a>, first: usize },
    /// Of a chunk in mode bit-packed.
    Packed { chunk: Chunk<'a>, width: u8, first: usize },
    /// One item, repeated.
    Const(u8),
    /// Decoded.
    Decoded(Vec<u8>),
}

impl<'a> Plane<'a> {
    /// Opens items `range`, which lie in one chunk of stream `stream`. `spare` is a buffer that may be used.
    pub(super) fn open(
        source: &'a dyn LeafSource,
        stream: usize,
        range: Range<u64>,
        decoder: &SymbolDecoder<'_>,
        mut spare: Vec<u8>,
    ) -> Result<Self> {
        let spec = source.spec();
        let extent = spec.streams.get(stream);
        let extent = extent.ok_or_else(|| Error::corruption(format!("stream {stream} is missing")))?;
        let index = range.start / u64::from(extent.chunk_items.max(1));
        let (items, start) = (extent.items_in(index), index * u64::from(extent.chunk_items));
        let first = (range.start - start) as usize;
        let chunk = source.chunk(stream, index)?;
        let failed =
            |message: String| Err(Error::corruption(format!("stream {stream}, chunk {index}: {message}")));
        match chunk.mode {
            Mode::Raw if chunk.bytes.len() == items => Ok(Self::Stored { chunk, first }),
            Mode::Raw => failed(format!("{items} raw items, found {} bytes", chunk.bytes.len())),
            Mode::Const => match *chunk.bytes {
                [value] => Ok(Self::Const(value)),
                _ => failed(format!("constant of {} bytes, expected 1", chunk.bytes.len())),
            },
            Mode::BitPacked => match chunk.bytes.split_first() {
                Some((&width @ 1..=8, fields)) => {
                    bits::check_packed(fields, items, width)?;
                    Ok(Self::Packed { chunk, width, first })
                }
                found => failed(format!("fields of {:?} bits, expected 1 to 8", found.map(|f| f.0))),
            },
            _ => {
                spare.resize((range.end - range.start) as usize, 0);
                decoder.decode(&Fetched { spec, chunk: &chunk }, stream, range, &mut spare)?;
                Ok(Self::Decoded(spare))
            }
        }
    }

    /// Items `range` of those that were opened; `block` is room for them.
    pub(super) fn block<'b>(&'b self, range: Range<usize>, block: &'b mut [u8]) -> &'b [u8] {
        match self {
            Self::Stored { chunk, first } => &chunk.bytes[first + range.start..first + range.end],
            Self::Decoded(items) => &items[range],
            Self::Const(value) => {
                let block = &mut block[..range.len()];
                block.fill(*value);
                block
            }
            Self::Packed { chunk, width, first } => {
                let block = &mut block[..range.len()];
                unpack(&chunk.bytes[1..], *width, first + range.start, block);
                block
            }
        }
    }

    /// The buffer, if there is one.
    pub(super) fn into_spare(self) -> Vec<u8> {
        match self {
            Self::Decoded(spare) => spare,
            _ => Vec::new(),
        }
    }
}
