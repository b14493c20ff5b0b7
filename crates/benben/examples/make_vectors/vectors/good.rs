//! Packs that every reader decodes: the container, its modes and nodes.

use super::chunks::{byte_leaf, four, symbol_leaf, symbols};
use super::good_codecs;
use super::leaves::{floats, raw_bytes};
use super::patch::Parts;
use super::{Tensor, noise, origin, pack, pack_with, peaked};
use benben::{Dtype, Result};
use benben_format::{Chunk, EncodedLeaf, Expr, Mode, Writer};
use ciborium::Value;

type Node = Expr<EncodedLeaf>;

/// Every good pack by its name.
pub(crate) fn packs() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut packs = good_codecs::packs()?;
    packs.extend([
        ("empty", pack([])?),
        ("modes", modes_pack()?),
        ("nodes", nodes_pack()?),
        ("piped", piped_pack()?),
        ("front-index", front_index()?),
        ("plain-directory", Parts::of(&piped_pack()?)?.build()?),
        ("later-minor", later_minor()?),
        ("long-cbor", long_cbor()?),
    ]);
    Ok(packs)
}

pub(super) fn leaf<'a>(name: &'a str, dtype: Dtype, shape: &'a [u64], leaf: EncodedLeaf) -> Tensor<'a> {
    (name, dtype, shape, Expr::Leaf(leaf))
}

fn modes_pack() -> Result<Vec<u8>> {
    let items: Vec<u8> = (0..200).map(|i| (noise(i) % 4).min(noise(i + 500) % 4) as u8).collect();
    let (a, b) = items.split_at(100);
    let ones = [1; 100];
    let symbols = |mode, s: &[u8], bits| symbols(mode, s, bits, &four());
    let halves: Vec<u8> = (0..40u16).flat_map(|i| (i % 3 * 1000).to_le_bytes()).collect();
    let framed = Chunk::new(Mode::Zstd, zstd::bulk::compress(&halves, 3)?);
    let all = vec![
        symbols(Mode::Raw, a, 8)?,
        symbols(Mode::Const, &ones, 8)?,
        symbols(Mode::BitPacked, b, 2)?,
        symbols(Mode::Zstd, a, 2)?,
        symbols(Mode::Rans, b, 8)?,
    ];
    let (mut tensors, mut wide) = (Vec::new(), Vec::new());
    for bits in [3, 5, 7, 8] {
        wide.push(symbols(Mode::BitPacked, a, bits)?);
    }
    for bits in [4, 8] {
        wide.push(symbols(Mode::Zstd, b, bits)?);
    }
    tensors.push(leaf("symbols", Dtype::U8, &[500], symbol_leaf(100, all)?));
    tensors.push(leaf("wider", Dtype::U8, &[600], symbol_leaf(100, wide)?));
    tensors.push(leaf(
        "bytes-raw",
        Dtype::U16,
        &[40],
        byte_leaf(Dtype::U16, 40, Chunk::new(Mode::Raw, halves))?,
    ));
    tensors.push(leaf("bytes-zstd", Dtype::U16, &[40], byte_leaf(Dtype::U16, 40, framed)?));
    let constant = Chunk::new(Mode::Const, vec![7, 9]);
    tensors.push(leaf("bytes-const", Dtype::U16, &[40], byte_leaf(Dtype::U16, 40, constant)?));
    pack(tensors)
}

fn nodes_pack() -> Result<Vec<u8>> {
    let node = |shape: &[u64], seed: u64| -> Result<Node> {
        let n = benben_format::element_count(shape)?;
        let values: Vec<f32> = (0..n).map(|i| peaked(seed * 4096 + i) as f32 / 3.0).collect();
        Ok(Expr::Leaf(floats(shape, &values)?))
    };
    let words = |values: &[u32]| -> Result<Node> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(Expr::Leaf(raw_bytes(Dtype::U32, &[values.len() as u64], &bytes)?))
    };
    let mask =
        |shape: &[u64], bytes: &[u8]| -> Result<Node> { Ok(Expr::Leaf(raw_bytes(Dtype::U8, shape, bytes)?)) };
    let sparse = |shape: &[u64], group, mask, values| Expr::Sparse {
        shape: shape.into(),
        group,
        mask: Box::new(mask),
        values: Box::new(values),
    };
    let half = Expr::Leaf(raw_bytes(Dtype::F16, &[4, 6], &Dtype::F16.from_f32(&[0.3; 24])?)?);
    let tied = |tensor: &str, shape: &[u64]| Expr::Ref {
        tensor: tensor.into(),
        shape: shape.into(),
        dtype: Dtype::F32,
    };
    let hint = Expr::Unknown {
        node: "hint".into(),
        version: 3,
        ancillary: true,
        operands: vec![node(&[4, 6], 20)?],
    };
    let some = |e: Node| Some(Box::new(e));
    let rotate = |seed, block, of: Node| Expr::Rotate { seed, block, of: Box::new(of) };
    let all_nodes = Expr::Scale {
        rows: some(node(&[4], 21)?),
        columns: None,
        of: Box::new(Expr::Sum(vec![
            tied("sum", &[4, 6]),
            rotate(5, 2, Expr::Product(vec![node(&[4, 2], 22)?, node(&[2, 6], 23)?])),
        ])),
    };
    let f = Dtype::F32;
    let tensors: Vec<Tensor<'_>> = vec![
        ("sum", f, &[4, 6], Expr::Sum(vec![node(&[4, 6], 1)?, half, node(&[4, 6], 2)?])),
        (
            "product",
            f,
            &[4, 2, 3],
            Expr::Product(vec![node(&[4, 5], 3)?, node(&[5, 3], 4)?, node(&[3, 2, 3], 5)?]),
        ),
        ("ref", f, &[4, 6], tied("sum", &[4, 6])),
        (
            "sparse-elements",
            f,
            &[3, 4],
            sparse(&[3, 4], [1, 1], mask(&[12], &[1, 0, 0, 2, 0, 0, 0, 0, 1, 1, 0, 0])?, node(&[4], 6)?),
        ),
        (
            "sparse-groups",
            f,
            &[4, 6],
            sparse(&[4, 6], [2, 3], mask(&[2, 2], &[0, 1, 1, 0])?, node(&[2, 6], 7)?),
        ),
        ("sparse-rows", f, &[4, 6], sparse(&[4, 6], [1, 6], mask(&[4], &[0, 1, 0, 1])?, node(&[2, 6], 8)?)),
        (
            "scale-rows",
            f,
            &[4, 6],
            Expr::Scale { rows: some(node(&[4], 9)?), columns: None, of: Box::new(node(&[4, 6], 10)?) },
        ),
        (
            "scale-both",
            f,
            &[4, 6],
            Expr::Scale {
                rows: some(node(&[4], 11)?),
                columns: some(node(&[6], 12)?),
                of: Box::new(node(&[4, 6], 13)?),
            },
        ),
        (
            "permute-rows",
            f,
            &[4, 6],
            Expr::Permute {
                axis: 0,
                order: Box::new(words(&[2, 0, 3, 1])?),
                of: Box::new(node(&[4, 6], 14)?),
            },
        ),
        (
            "permute-columns",
            f,
            &[2, 2, 3],
            Expr::Permute {
                axis: 1,
                order: Box::new(words(&[5, 4, 0, 1, 3, 2])?),
                of: Box::new(node(&[2, 2, 3], 15)?),
            },
        ),
        ("rotate", f, &[3, 96], rotate(0x0123_4567_89ab_cdef, 32, node(&[3, 96], 16)?)),
        ("rotate-whole", f, &[2, 128], rotate(7, 128, node(&[2, 128], 17)?)),
        ("transpose", f, &[4, 6], Expr::Transpose(Box::new(node(&[6, 4], 24)?))),
        ("ancillary", f, &[4, 6], hint),
        ("nested", Dtype::BF16, &[4, 6], all_nodes),
    ];
    pack(tensors)
}

/// Two tensors.
fn two() -> Result<[Tensor<'static>; 2]> {
    let second: Vec<f32> = (0..24).map(|i| i as f32 * 0.5).collect();
    Ok([
        leaf("first", Dtype::U8, &[3], raw_bytes(Dtype::U8, &[3], &[1, 2, 3])?),
        leaf("second", Dtype::F32, &[4, 6], floats(&[4, 6], &second)?),
    ])
}

/// A pack written in order, without going back: its header does not know its length.
fn piped_pack() -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), "make_vectors", 0)?;
    for (name, dtype, shape, expr) in two()? {
        writer.tensor(name, dtype, shape, origin(dtype, shape)?, expr)?;
    }
    Ok(writer.finish()?.0)
}

/// A pack with a copy of its index at the front.
pub(crate) fn front_index() -> Result<Vec<u8>> {
    pack_with(700, |_| Ok(()), two()?)
}

/// What a later minor version may look like: its minor number, an ancillary feature, keys that are not known.
fn later_minor() -> Result<Vec<u8>> {
    let mut parts = Parts::of(&pack(two()?)?)?;
    parts.header[10] = 9;
    parts.header[16] = 5;
    parts.set(&[], "later", Value::Array(vec![Value::Null, Value::Bool(true)]))?;
    parts.set(&["tensors", "0"], "later", Value::from(1))?;
    parts.set(&["tensors", "0", "origin"], "later", Value::from(2))?;
    parts.set(&["tensors", "0", "expr"], "later", Value::from("text"))?;
    parts.build()
}

/// The same in the longest forms of CBOR: wide arguments, no lengths, text in parts, and keys that no buffer expects.
fn long_cbor() -> Result<Vec<u8>> {
    let mut parts = Parts::of(&pack(two()?)?)?;
    parts.set(&[], &"later ".repeat(1000), Value::Float(0.5))?;
    parts.set(&["tensors", "0", "origin"], "relative_mse", Value::Float(0.25))?;
    parts.set(&["tensors", "0", "expr"], "later", Value::Bytes(vec![0xff; 3]))?;
    let mut directory = Vec::new();
    put_long(&parts.directory, &mut directory);
    Ok(parts.build_around(&parts.index_of(&directory, directory.len() as u64, 0)))
}

/// Appends `value` in the longest form that it has.
fn put_long(value: &Value, out: &mut Vec<u8>) {
    let part = |major: u8, bytes: &[u8], out: &mut Vec<u8>| {
        out.push(major << 5 | 27);
        out.extend((bytes.len() as u64).to_be_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Integer(n) => {
            out.push(27);
            out.extend(u64::try_from(*n).unwrap_or_default().to_be_bytes());
        }
        Value::Text(text) => {
            out.push(0x7f);
            text.chars().for_each(|c| part(3, c.to_string().as_bytes(), out));
            out.push(0xff);
        }
        Value::Bytes(bytes) => {
            out.push(0x5f);
            bytes.chunks(1).for_each(|b| part(2, b, out));
            out.push(0xff);
        }
        Value::Array(items) => {
            out.push(0x9f);
            items.iter().for_each(|v| put_long(v, out));
            out.push(0xff);
        }
        Value::Map(map) => {
            out.push(0xbf);
            map.iter().for_each(|(k, v)| {
                put_long(k, out);
                put_long(v, out);
            });
            out.push(0xff);
        }
        Value::Float(f) => {
            out.push(0xfb);
            out.extend(f.to_be_bytes());
        }
        Value::Bool(b) => out.push(0xf4 | u8::from(*b)),
        _ => out.push(0xf6),
    }
}
