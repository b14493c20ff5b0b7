//! Layout `planes`: byte `p` of each element in a stream of its own, the least significant first.
//!
//! # Bits
//! Stream 0, bytes: one list of tables ([`write_tables`](crate::entropy::write_tables)), as many as an element has
//! bytes. Stream `1 + p`, symbols: byte `p` of each element, by table `p` where a chunk is in mode rANS.

use super::{by_chunk, expect_streams, histogram, map_elements};
use crate::entropy::{self, CHUNK_ITEMS, Model, SideReader, SideWriter, Table};
use benben_format::{Dtype, EncodedLeaf, Error, LeafSource, Result, StreamKind};
use std::ops::Range;

/// Appends the streams of `bytes`.
pub(super) fn encode(bytes: &[u8], dtype: Dtype, chunk_items: u32, leaf: &mut EncodedLeaf) -> Result<()> {
    let size = dtype.size();
    let planes: Vec<Vec<u8>> =
        (0..size).map(|p| map_elements(bytes, size, |bits| (bits >> (8 * p)) as u8)).collect();
    let tables: Vec<Table> = planes.iter().map(|p| Table::from_counts(&histogram(p))).collect();
    let mut side = SideWriter::new();
    side.tables(&tables)?;
    let side = side.into_bytes();
    let (spec, chunks) = entropy::encode_bytes(&side, 1, CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    for (plane, table) in planes.iter().zip(&tables) {
        let (spec, chunks) = entropy::encode_symbols(plane, &Model::single(table), chunk_items)?;
        leaf.push(spec, chunks);
    }
    Ok(())
}

/// Writes the bytes of elements `elements`, a range within the tensor, into `out`, which they fill.
pub(super) fn decode(source: &dyn LeafSource, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
    let (total, size) = (source.spec().elements()?, source.spec().dtype.size());
    let tables = read_side(source, |side| side.tables())?;
    if tables.len() != size {
        return Err(Error::corruption(format!("{} tables, {size} expected", tables.len())));
    }
    let kinds = std::iter::repeat_n(StreamKind::Symbols, size);
    let chunk_items = expect_streams(source.spec(), 1, kinds, total)?;
    by_chunk(chunk_items, elements, size, out, |range, out| {
        let mut plane = vec![0; out.len() / size];
        for (p, table) in tables.iter().enumerate() {
            entropy::decode_symbols(source, 1 + p, range.clone(), &Model::single(table), &mut plane)?;
            out.iter_mut().skip(p).step_by(size).zip(&plane).for_each(|(o, &b)| *o = b);
        }
        Ok(())
    })
}

/// Most bytes of stream 0: 16 tables of 256 symbols are below 7 KiB.
const MAX_SIDE: u64 = 1 << 14;

/// Reads stream 0 with `read`, which must consume it.
pub(super) fn read_side<T>(
    source: &dyn LeafSource,
    read: impl FnOnce(&mut SideReader<'_>) -> Result<T>,
) -> Result<T> {
    let spec = source.spec().stream(0, StreamKind::Bytes { width: 1 })?;
    if spec.items > MAX_SIDE {
        return Err(Error::corruption(format!(
            "side information of {} bytes, at most {MAX_SIDE}",
            spec.items
        )));
    }
    let mut bytes = vec![0; spec.items as usize];
    entropy::decode_bytes(source, 0, 0..spec.items, &mut bytes)?;
    let mut reader = SideReader::new(&bytes);
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}
