//! Streams whose chunks are in a mode of our choice, which the encoders would not always take.

use super::leaves::{leaf, push, table};
use benben::codec::entropy::bits::{pack, pack_symbols};
use benben::codec::entropy::{Model, SideWriter, Table, encode_bytes, encode_symbols, rans};
use benben::{Dtype, Error, Result};
use benben_format::{Chunk, EncodedLeaf, Mode, StreamKind, StreamSpec};
use ciborium::cbor;

/// A payload of `symbols` in `mode`, with fields of `bits` where the mode has them.
pub(crate) fn symbols(mode: Mode, symbols: &[u8], bits: u8, table: &Table) -> Result<Chunk<'static>> {
    let headed = |head: u8, tail: Vec<u8>| [vec![head], tail].concat();
    Ok(Chunk::new(
        mode,
        match mode {
            Mode::Raw => symbols.to_vec(),
            Mode::Const => symbols[..1].to_vec(),
            Mode::BitPacked => headed(bits, pack_symbols(symbols, bits)),
            Mode::Zstd => headed(8 / bits, zstd::bulk::compress(&pack_symbols(symbols, bits), 3)?),
            Mode::Rans => rans::encode(symbols, 0, &Model::single(table))
                .ok_or_else(|| Error::invalid("a symbol without a frequency"))?,
        },
    ))
}

/// A payload of words in fields of `bits`.
pub(crate) fn words(values: &[u64], bits: u8) -> Chunk<'static> {
    Chunk::new(Mode::BitPacked, [vec![bits], pack(values, bits)].concat())
}

/// The table of the leaves below: symbols 0 to 3.
pub(crate) fn four() -> Table {
    table([0, 0, 0, 0, 0, 1, 1, 2, 3])
}

/// A u8 leaf, layout `integer` with table [`four`], whose elements are the chunks given, each of `items` symbols.
pub(crate) fn symbol_leaf(items: u32, chunks: Vec<Chunk<'static>>) -> Result<EncodedLeaf> {
    let mut side = SideWriter::new();
    side.tables(&[four()])?;
    symbol_leaf_with(&side.into_bytes(), items, chunks)
}

/// [`symbol_leaf`] with side information of our choice.
pub(crate) fn symbol_leaf_with(side: &[u8], items: u32, chunks: Vec<Chunk<'static>>) -> Result<EncodedLeaf> {
    let n = u64::from(items) * chunks.len() as u64;
    let params = cbor!({"layout" => "integer", "zigzag" => false, "offset" => 0, "low" => 0, "run" => 1});
    let mut leaf = leaf("raw", Dtype::U8, &[n], params)?;
    push(&mut leaf, encode_bytes(side, 1, 1 << 18)?);
    push(&mut leaf, encode_symbols(&[], &Model::none(), 1 << 18)?);
    leaf.push(StreamSpec { kind: StreamKind::Symbols, items: n, chunk_items: items }, chunks);
    Ok(leaf)
}

/// A leaf of layout `bytes` whose only chunk is `chunk`.
pub(crate) fn byte_leaf(dtype: Dtype, items: u64, chunk: Chunk<'static>) -> Result<EncodedLeaf> {
    let mut leaf = leaf("raw", dtype, &[items], cbor!({"layout" => "bytes"}))?;
    let kind = StreamKind::Bytes { width: dtype.size() as u8 };
    leaf.push(StreamSpec { kind, items, chunk_items: 1 << 18 }, vec![chunk]);
    Ok(leaf)
}
