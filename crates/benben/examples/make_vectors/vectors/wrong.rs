//! Packs that open, and whose tensor `t` must be refused when it is read. Tensor `ok` beside it is good.

use super::chunks::{byte_leaf, four, symbol_leaf, symbol_leaf_with, symbols, words};
use super::leaves::{
    Params, Pvq, Scalar, Stage, Ternary, floats, leaf, push, pvq, raw_bytes, raw_planes, rvq, scalar, table,
    ternary,
};
use super::patch::Parts;
use super::{MustFail, Tensor, pack};
use benben::codec::entropy::{Model, SideWriter, encode_bytes, encode_symbols, encode_words};
use benben::{Dtype, Result};
use benben_format::{Chunk, EncodedLeaf, Expr, Mode, element_count};
use ciborium::{Value, cbor};

const CORRUPTION: &str = "Corruption";
const COMPATIBILITY: &str = "Compatibility";

/// Every case.
pub(crate) fn packs() -> Result<Vec<MustFail>> {
    let groups =
        [nodes()?, references()?, chunks()?, tables()?, raw()?, scalars()?, vectors()?, container()?];
    Ok(groups.into_iter().flatten().collect())
}

fn ok() -> Result<Tensor<'static>> {
    Ok(("ok", Dtype::U8, &[3], Expr::Leaf(raw_bytes(Dtype::U8, &[3], &[1, 2, 3])?)))
}

/// A pack whose tensor `t` is `expr`.
fn of(dtype: Dtype, shape: &[u64], expr: Expr<EncodedLeaf>) -> Result<Vec<u8>> {
    pack([("t", dtype, shape, expr), ok()?])
}

fn of_leaf(leaf: EncodedLeaf) -> Result<Vec<u8>> {
    let (dtype, shape) = (leaf.spec.dtype, leaf.spec.shape.clone());
    of(dtype, &shape, Expr::Leaf(leaf))
}

fn read(name: &'static str, kind: &'static str, why: &'static str, bytes: Vec<u8>) -> MustFail {
    MustFail { name, kind, when: "read", why, bytes }
}

/// What is not known, and what is known too well.
fn container() -> Result<Vec<MustFail>> {
    let good = of_leaf(floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])?)?;
    let expr = &["tensors", "0", "expr"][..];
    let edited = |edit: &dyn Fn(&mut Parts) -> Result<()>| -> Result<Vec<u8>> {
        let mut parts = Parts::of(&good)?;
        edit(&mut parts)?;
        parts.build()
    };
    let shape = |dims: &[u64]| Value::Array(dims.iter().map(|&d| d.into()).collect());
    let mut flipped = good.clone();
    flipped[256 + 5] ^= 0x20;
    Ok(vec![
        read("chunk-flipped", CORRUPTION, "a bit of a chunk is flipped", flipped),
        read(
            "codec-unknown",
            COMPATIBILITY,
            "a codec that is not known",
            edited(&|p| p.set(expr, "node", "trellis"))?,
        ),
        read(
            "codec-version",
            COMPATIBILITY,
            "a version of a codec that is not known",
            edited(&|p| p.set(expr, "version", 2))?,
        ),
        read(
            "mode-unknown",
            COMPATIBILITY,
            "a mode of a chunk that is not known",
            edited(&|p| {
                p.chunks[6] = 5;
                Ok(())
            })?,
        ),
        read(
            "tensor-2-to-the-40",
            "Limit",
            "a tensor that claims 4 TiB",
            edited(&|p| {
                p.set(&["tensors", "0"], "shape", shape(&[1 << 20, 1 << 20]))?;
                p.set(expr, "shape", shape(&[1 << 20, 1 << 20]))
            })?,
        ),
        read(
            "shape-wraps",
            "Limit",
            "a shape whose elements are more than 2^64",
            edited(&|p| {
                p.set(&["tensors", "0"], "shape", shape(&[1 << 40, 1 << 40]))?;
                p.set(expr, "shape", shape(&[1 << 40, 1 << 40]))
            })?,
        ),
        read(
            "rank-17",
            "Limit",
            "a tensor of 17 dimensions",
            edited(&|p| {
                let dims = [vec![2, 3], vec![1; 15]].concat();
                p.set(&["tensors", "0"], "shape", shape(&dims))?;
                p.set(expr, "shape", shape(&dims))
            })?,
        ),
        read(
            "entry-shape",
            CORRUPTION,
            "an expression of another shape than the tensor",
            edited(&|p| p.set(&["tensors", "0"], "shape", shape(&[3, 2])))?,
        ),
        read(
            "entry-dtype",
            CORRUPTION,
            "floats for a tensor of integers",
            edited(&|p| p.set(&["tensors", "0"], "dtype", "i32"))?,
        ),
        read(
            "stream-items",
            CORRUPTION,
            "a stream of fewer items than the tensor",
            edited(&|p| {
                p.set(&["tensors", "0"], "shape", shape(&[2, 4]))?;
                p.set(expr, "shape", shape(&[2, 4]))
            })?,
        ),
    ])
}

/// References to a tensor, `broken`, whose entry has another shape than its expression.
fn references() -> Result<Vec<MustFail>> {
    let six: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let to = |shape: &[u64]| Expr::Ref { tensor: "broken".into(), shape: shape.into(), dtype: Dtype::F32 };
    let shape = |dims: &[u64]| Value::Array(dims.iter().map(|&d| d.into()).collect());
    let with = |t: Expr<EncodedLeaf>, path: &[&str]| -> Result<Vec<u8>> {
        let broken = ("broken", Dtype::F32, &[3, 2][..], Expr::Leaf(floats(&[3, 2], &six)?));
        let mut parts = Parts::of(&pack([broken, ("t", Dtype::F32, &[3, 2], t), ok()?])?)?;
        for tensor in ["0", "1"] {
            parts.set(&["tensors", tensor], "shape", shape(&[3, 5]))?;
        }
        parts.set(&[&["tensors", "1", "expr"], path].concat(), "shape", shape(&[3, 5]))?;
        parts.build()
    };
    let none = Expr::Sum(vec![to(&[3, 2])]);
    Ok(vec![
        read(
            "ref-contradicts",
            CORRUPTION,
            "a reference to a tensor that is not what its entry says",
            with(to(&[3, 2]), &[])?,
        ),
        read("ref-contradicts-within", CORRUPTION, "the same within a sum", with(none, &["of", "0"])?),
    ])
}

/// Inner nodes whose operands do not fit.
fn nodes() -> Result<Vec<MustFail>> {
    let f = |shape: &[u64]| -> Result<Expr<EncodedLeaf>> {
        let n = element_count(shape)?;
        Ok(Expr::Leaf(floats(shape, &(0..n).map(|i| i as f32 + 1.0).collect::<Vec<_>>())?))
    };
    let bytes = |values: &[u8]| -> Result<Box<Expr<EncodedLeaf>>> {
        Ok(Box::new(Expr::Leaf(raw_bytes(Dtype::U8, &[values.len() as u64], values)?)))
    };
    let order = |values: &[u32]| -> Result<Box<Expr<EncodedLeaf>>> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(Box::new(Expr::Leaf(raw_bytes(Dtype::U32, &[values.len() as u64], &bytes)?)))
    };
    let four = |e| of(Dtype::F32, &[4, 4], e);
    let expr = &["tensors", "0", "expr"][..];
    // The writer refuses trees that do not fit: these are made to fit no more.
    let edited = |good: Vec<u8>, path: &[&str], key: &str, value: Value| -> Result<Vec<u8>> {
        let mut parts = Parts::of(&good)?;
        parts.set(&[expr, path].concat(), key, value)?;
        parts.build()
    };
    let shape = |dims: &[u64]| Value::Array(dims.iter().map(|&d| d.into()).collect());
    let sum = four(Expr::Sum(vec![f(&[4, 4])?, f(&[4, 4])?]))?;
    let product = four(Expr::Product(vec![f(&[4, 2])?, f(&[2, 4])?]))?;
    let sparse = Expr::Sparse {
        shape: vec![4, 4],
        group: [2, 2],
        mask: bytes(&[1, 0, 0, 1])?,
        values: Box::new(f(&[2, 4])?),
    };
    let sparse = four(sparse)?;
    let counted = Expr::Sparse {
        shape: vec![4, 4],
        group: [2, 2],
        mask: bytes(&[1, 0, 1, 1])?,
        values: Box::new(f(&[2, 4])?),
    };
    let permute = |axis, values: &[u32]| -> Result<Vec<u8>> {
        four(Expr::Permute { axis, order: order(values)?, of: Box::new(f(&[4, 4])?) })
    };
    let scale = Expr::Scale { rows: Some(Box::new(f(&[4])?)), columns: None, of: Box::new(f(&[4, 4])?) };
    let rotate = four(Expr::Rotate { seed: 1, block: 4, of: Box::new(f(&[4, 4])?) })?;
    let critical = Expr::Unknown { node: "train".into(), version: 1, ancillary: Some(Box::new(f(&[4, 4])?)) };
    let rows = Value::Array(vec![2.into(), 3.into()]);
    let group = Value::Map(vec![("group".into(), rows)]);
    let axis = Value::Map(vec![("axis".into(), 2.into())]);
    let block = |b: u64| Value::Map(vec![("seed".into(), 1.into()), ("block".into(), b.into())]);
    Ok(vec![
        read(
            "node-unknown",
            COMPATIBILITY,
            "a critical node that is not known, with a leaf",
            edited(four(critical)?, &[], "ancillary", false.into())?,
        ),
        read(
            "node-version",
            COMPATIBILITY,
            "a version of a node that is not known",
            edited(sum.clone(), &[], "version", 2.into())?,
        ),
        read(
            "sum-shapes",
            CORRUPTION,
            "terms of different shapes",
            edited(sum.clone(), &["of", "1"], "shape", shape(&[2, 8]))?,
        ),
        read(
            "sum-integers",
            CORRUPTION,
            "a term of integers",
            edited(sum, &["of", "1"], "dtype", "i32".into())?,
        ),
        read(
            "product-inner",
            CORRUPTION,
            "factors that do not fit each other",
            edited(product, &["of", "0"], "shape", shape(&[8, 1]))?,
        ),
        read(
            "sparse-tiles",
            CORRUPTION,
            "groups that do not tile the matrix",
            edited(sparse.clone(), &[], "params", group)?,
        ),
        read(
            "sparse-mask",
            CORRUPTION,
            "a mask of floats",
            edited(sparse, &["of", "0"], "dtype", "f8e5m2".into())?,
        ),
        read("sparse-kept", CORRUPTION, "a mask that keeps more groups than there are", four(counted)?),
        read("permute-position", CORRUPTION, "a position past the rows", permute(0, &[0, 1, 2, 4])?),
        read("permute-column", CORRUPTION, "a position past the columns", permute(1, &[0, 1, u32::MAX, 3])?),
        read("permute-axis", CORRUPTION, "axis 2", edited(permute(0, &[3, 2, 1, 0])?, &[], "params", axis)?),
        read(
            "scale-factors",
            CORRUPTION,
            "more factors than rows",
            edited(four(scale)?, &["of", "1"], "shape", shape(&[2, 8]))?,
        ),
        read(
            "rotate-block",
            CORRUPTION,
            "a block that is no power of two",
            edited(rotate.clone(), &[], "params", block(3))?,
        ),
        read(
            "rotate-block-8",
            CORRUPTION,
            "a block that does not divide the columns",
            edited(rotate, &[], "params", block(8))?,
        ),
    ])
}

/// Payloads that contradict themselves; the checksums fit.
fn chunks() -> Result<Vec<MustFail>> {
    let items: Vec<u8> = (0..70).map(|i| (i * i % 7 % 4) as u8).collect();
    let coded = symbols(Mode::Rans, &items, 8, &four())?.bytes.into_owned();
    let one = |mode, payload: Vec<u8>| -> Result<Vec<u8>> {
        of_leaf(symbol_leaf(70, vec![Chunk::new(mode, payload)])?)
    };
    let rans = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = coded.clone();
        edit(&mut payload);
        one(Mode::Rans, payload)
    };
    // Lane 31 codes symbol 31 alone: another first state leads to another last one.
    let lane_31 = |b: &mut Vec<u8>| b[4 * 31 + 2] ^= 4;
    // Enough symbols for some words.
    let long: Vec<u8> = items.repeat(8);
    let mut payload = symbols(Mode::Rans, &long, 8, &four())?.bytes.into_owned();
    payload.truncate(payload.len() - 2);
    let missing = of_leaf(symbol_leaf(560, vec![Chunk::new(Mode::Rans, payload)])?)?;
    let packed = symbols(Mode::BitPacked, &items, 3, &four())?.bytes.into_owned();
    let framed = symbols(Mode::Zstd, &items, 2, &four())?.bytes.into_owned();
    let edited = |bytes: &[u8], at: usize, mask: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= mask;
        bytes
    };
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    let with_words = |mode, payload: Vec<u8>| -> Result<Vec<u8>> {
        let plain = Scalar {
            shape: &[8],
            step: 1.0,
            low_bits: 2,
            centroids: &[],
            integers: &[1, 2, 3, 4, 5, 6, 7, 8],
            classes: &[],
            run: 1,
            columns: 8,
            chunk: 1 << 18,
        };
        let mut leaf = scalar(&plain)?;
        leaf.chunks[3] = vec![Chunk::new(mode, payload)];
        of_leaf(leaf)
    };
    let low = |values: &[u64], bits| words(values, bits).bytes.into_owned();
    Ok(vec![
        read("rans-last-state", CORRUPTION, "a lane that does not end at 2^16", rans(&lane_31)?),
        read("rans-first-state", CORRUPTION, "a lane that begins below 2^16", rans(&|b| b[2..4].fill(0))?),
        read(
            "rans-words-left",
            CORRUPTION,
            "a word that no symbol takes",
            rans(&|b| b.extend_from_slice(&[1, 2]))?,
        ),
        read("rans-words-odd", CORRUPTION, "half a word", rans(&|b| b.push(0))?),
        read("rans-words-missing", CORRUPTION, "a word is missing", missing),
        read(
            "rans-states-missing",
            CORRUPTION,
            "fewer bytes than the states take",
            rans(&|b| b.truncate(127))?,
        ),
        read("symbols-raw-short", CORRUPTION, "a symbol is missing", one(Mode::Raw, items[1..].to_vec())?),
        read("symbols-const-two", CORRUPTION, "a constant of two bytes", one(Mode::Const, vec![1, 1])?),
        read("symbols-const-none", CORRUPTION, "a constant of no bytes", one(Mode::Const, vec![])?),
        read("packed-width-0", CORRUPTION, "fields of no bits", one(Mode::BitPacked, vec![0])?),
        read("packed-width-9", CORRUPTION, "symbols of nine bits", one(Mode::BitPacked, low(&[0; 70], 9))?),
        read(
            "packed-padding",
            CORRUPTION,
            "bits after the last field",
            one(Mode::BitPacked, edited(&packed, 27, 128))?,
        ),
        read(
            "packed-long",
            CORRUPTION,
            "a byte after the last field",
            one(Mode::BitPacked, longer(&packed))?,
        ),
        read("zstd-after", CORRUPTION, "a byte after the frame", one(Mode::Zstd, longer(&framed))?),
        read("zstd-cut", CORRUPTION, "half a frame", one(Mode::Zstd, framed[..framed.len() / 2].to_vec())?),
        read("zstd-three", CORRUPTION, "three symbols to a byte", one(Mode::Zstd, edited(&framed, 0, 7))?),
        read(
            "zstd-larger",
            CORRUPTION,
            "a frame of 16 MiB for 70 symbols",
            one(Mode::Zstd, [vec![1], zstd::bulk::compress(&vec![0; 16 << 20], 3)?].concat())?,
        ),
        read(
            "bytes-rans",
            CORRUPTION,
            "bytes in mode rans",
            of_leaf(byte_leaf(Dtype::U8, 70, Chunk::new(Mode::Rans, coded.clone()))?)?,
        ),
        read(
            "bytes-packed",
            CORRUPTION,
            "bytes in mode bit-packed",
            of_leaf(byte_leaf(Dtype::U8, 70, Chunk::new(Mode::BitPacked, packed.clone()))?)?,
        ),
        read(
            "bytes-short",
            CORRUPTION,
            "a byte is missing",
            of_leaf(byte_leaf(Dtype::U16, 4, Chunk::new(Mode::Raw, vec![0; 7]))?)?,
        ),
        read("words-raw", CORRUPTION, "words in mode raw", with_words(Mode::Raw, vec![0; 64])?),
        read(
            "words-const-zero",
            CORRUPTION,
            "a constant with a needless zero",
            with_words(Mode::Const, vec![1, 0])?,
        ),
        read(
            "words-const-nine",
            CORRUPTION,
            "a constant of nine bytes",
            with_words(Mode::Const, vec![1; 9])?,
        ),
        read(
            "words-width-65",
            CORRUPTION,
            "words of 65 bits",
            with_words(Mode::BitPacked, [vec![65], vec![0; 65]].concat())?,
        ),
        read(
            "words-too-large",
            CORRUPTION,
            "low bits that do not fit",
            with_words(Mode::BitPacked, low(&[1, 2, 3, 4, 0, 0, 0, 0], 3))?,
        ),
    ])
}

/// Side information whose tables are wrong.
fn tables() -> Result<Vec<MustFail>> {
    let items = vec![Chunk::new(Mode::Raw, vec![0, 1, 2, 3])];
    let with = |name, why, side: &[u8]| -> Result<MustFail> {
        Ok(read(name, CORRUPTION, why, of_leaf(symbol_leaf_with(side, 4, items.clone())?)?))
    };
    // The list of entropy.md: 01 00 00 02 73 00.
    Ok(vec![
        with("tables-17", "a list of 17 tables", &[17, 0, 0, 2, 0x73, 0])?,
        with("tables-cut", "a table that ends early", &[1, 0, 0, 2])?,
        with("tables-predictor", "a predictor that needs a table before", &[1, 0x10, 0, 2, 0x73, 0])?,
        with("tables-range", "a last symbol before the first", &[1, 0, 2, 1, 0x73, 0])?,
        with("tables-level", "a level above the largest", &[1, 0, 0, 0, 0x0e])?,
        with("tables-first-level", "a first symbol of level 0", &[1, 0, 0, 2, 0x30])?,
        with("tables-padding", "bits after the last table", &[1, 0, 0, 2, 0x73, 2])?,
        with("tables-after", "a byte after the tables", &[1, 0, 0, 2, 0x73, 0, 0])?,
        with("tables-none", "a table is missing", &[0])?,
    ])
}

fn symbols_of(values: &[u8]) -> Result<(benben_format::StreamSpec, Vec<Chunk<'static>>)> {
    encode_symbols(values, &Model::none(), 1 << 18)
}

/// Leaves of codec `raw` that contradict themselves.
fn raw() -> Result<Vec<MustFail>> {
    let with = |name, why, dtype, params: Params, streams: &[&[u8]]| -> Result<MustFail> {
        let mut side = SideWriter::new();
        side.tables(&[table([1, 2, 3])])?;
        let mut broken = leaf("raw", dtype, &[4], params)?;
        push(&mut broken, encode_bytes(&side.into_bytes(), 1, 1 << 18)?);
        for (i, s) in streams.iter().enumerate() {
            let bytes = i > 2;
            push(&mut broken, if bytes { encode_bytes(s, 1, 1 << 18)? } else { symbols_of(s)? });
        }
        Ok(read(name, CORRUPTION, why, of_leaf(broken)?))
    };
    let float =
        |m: u64, lowest: u64| cbor!({"layout" => "float", "mantissa" => m, "lowest" => lowest, "run" => 4});
    let chunked = raw_planes(Dtype::U16, &[4], &[1, 2, 3, 4, 5, 6, 7, 8], 4)?;
    let mut uneven = raw_planes(Dtype::U16, &[4], &[1, 2, 3, 4, 5, 6, 7, 8], 2)?;
    uneven.chunks[2] = chunked.chunks[2].clone();
    uneven.spec.streams[2] = chunked.spec.streams[2];
    Ok(vec![
        with(
            "raw-layout",
            "a layout that is not known",
            Dtype::U8,
            cbor!({"layout" => "zigzag"}),
            &[&[1; 4]],
        )?,
        with(
            "raw-float-dtype",
            "layout float of integers",
            Dtype::U16,
            float(1, 1),
            &[&[], &[1; 4], &[0; 4]],
        )?,
        with(
            "raw-float-mantissa",
            "more leading bits than 3",
            Dtype::BF16,
            float(4, 1),
            &[&[], &[1; 4], &[0; 4]],
        )?,
        with(
            "raw-float-lowest",
            "a lowest exponent past the type",
            Dtype::BF16,
            float(2, 256),
            &[&[], &[1; 4], &[0; 4]],
        )?,
        with(
            "raw-float-symbol",
            "an exponent past the type",
            Dtype::BF16,
            float(2, 255),
            &[&[], &[1, 2, 3, 4], &[0; 4]],
        )?,
        with(
            "raw-float-rest",
            "a rest of too many bits",
            Dtype::BF16,
            float(2, 1),
            &[&[], &[1, 2, 3, 1], &[0, 64, 0, 0]],
        )?,
        with(
            "raw-float-classes",
            "classes of one table",
            Dtype::BF16,
            float(2, 1),
            &[&[0], &[1, 2, 3, 1], &[0; 4]],
        )?,
        read("raw-chunks-uneven", CORRUPTION, "planes of different chunks", of_leaf(uneven)?),
    ])
}

/// Leaves of codec `scalar` that contradict themselves.
fn scalars() -> Result<Vec<MustFail>> {
    let with =
        |name, why, params: Params, centroids: u64, escapes: &[u64], ranks: &[u64]| -> Result<MustFail> {
            let mut side = SideWriter::new();
            side.varint(centroids);
            (0..centroids).for_each(|_| side.u8(1));
            side.tables(&[table([1, 2, 255])])?;
            let mut broken = leaf("scalar", Dtype::F32, &[4], params)?;
            push(&mut broken, encode_bytes(&side.into_bytes(), 1, 1 << 18)?);
            push(&mut broken, symbols_of(&[])?);
            push(&mut broken, symbols_of(&[1, 255, 255, 2])?);
            push(&mut broken, encode_words(&[], 1 << 18));
            push(&mut broken, encode_words(escapes, 1 << 18));
            push(&mut broken, encode_words(ranks, 1 << 18));
            Ok(read(name, CORRUPTION, why, of_leaf(broken)?))
        };
    let params = |step: f32, low: u64, run: u64| cbor!({"step" => step, "low_bits" => low, "run" => run});
    Ok(vec![
        with("scalar-step-0", "a step of 0", params(0.0, 0, 1), 0, &[600, 700], &[0])?,
        with("scalar-step-nan", "a step that is no number", params(f32::NAN, 0, 1), 0, &[600, 700], &[0])?,
        with(
            "scalar-step-integer",
            "a step that is an integer",
            cbor!({"step" => 1, "low_bits" => 0, "run" => 1}),
            0,
            &[600, 700],
            &[0],
        )?,
        with("scalar-low-17", "17 low bits", params(1.0, 17, 1), 0, &[600, 700], &[0])?,
        with("scalar-run-0", "runs of no rows", params(1.0, 0, 0), 0, &[600, 700], &[0])?,
        with("scalar-centroids-16", "16 centroids", params(1.0, 0, 1), 16, &[600, 700], &[0])?,
        with("scalar-escapes", "more escapes than there are", params(1.0, 0, 1), 0, &[600], &[0])?,
        with("scalar-escape-large", "an escape of 33 bits", params(1.0, 0, 1), 0, &[600, 1 << 32], &[0])?,
        with("scalar-ranks", "no ranks for the escapes", params(1.0, 0, 1), 0, &[600, 700], &[])?,
    ])
}

/// Leaves of codecs `pvq`, `rvq` and `ternary` that contradict themselves.
fn vectors() -> Result<Vec<MustFail>> {
    let p = Pvq {
        shape: &[4],
        dim: 2,
        step: 0.5,
        head_bits: 0,
        classes: &[(1, 2)],
        groups: &[(3, 0, 4), (1, 0, 7)],
        bands: &[],
        run: 16,
        chunk: 1 << 16,
    };
    // V(2, 3) is 12, which leaves four indices of four bits without a point.
    let over = Pvq { classes: &[(1, 3)], groups: &[(3, 0, 4), (1, 0, 12)], ..p };
    let coded = |p: &Pvq<'_>| pvq(p).and_then(of_leaf);
    let mut head = pvq(&p)?;
    head.chunks[3] = symbols_of(&[0, 1])?.1;
    let mut tails = pvq(&p)?;
    tails.chunks[5] = Vec::new();
    tails.spec.streams[5].items = 0;
    let mut dim = pvq(&p)?;
    dim.spec.params = cbor!({"dim" => 33}).map_err(|e| benben::Error::invalid(e.to_string()))?;

    let book = [vec![-3, 1], vec![2, 0]];
    let stage = Stage { step: 0.5, rice: [2, 1], words: &book, tabled: false, symbols: &[1, 2] };
    let good = Stage { symbols: &[1, 0], ..stage };
    let mut extra = rvq(&[4], 2, 1, &[good])?;
    push(&mut extra, symbols_of(&[0, 0])?);
    let zero = Stage { step: 0.0, ..good };
    let entry = [vec![0, (1 << 23) + 1], vec![2, 0]];
    let large = Stage { step: 0.5, rice: [2, 20], words: &entry, tabled: false, symbols: &[1, 0] };

    let t = Ternary {
        shape: &[2, 3],
        unit: 0.5,
        level_run: 3,
        levels: &[1, 2, 3, 4],
        trits: &[0, 1, 3, 0, 0, 2],
        run: 3,
        bands: &[],
    };
    let trits = Ternary { trits: &[0, 1, 2, 0, 0, 2], ..t };
    let mut over_end = ternary(&trits, true)?;
    over_end.chunks[4] = encode_words(&[9], 1 << 18).1;
    let mut short = ternary(&trits, true)?;
    // Two strings of one pair for a block of three trits, then none.
    short.chunks[4] = encode_words(&[0], 1 << 18).1;
    let unit = Ternary { unit: 0.0, ..trits };
    Ok(vec![
        read("pvq-index", CORRUPTION, "an index without a point", coded(&over)?),
        read(
            "pvq-classes",
            CORRUPTION,
            "classes whose first symbols do not rise",
            coded(&Pvq { classes: &[(1, 2), (1, 3)], ..p })?,
        ),
        read(
            "pvq-points",
            CORRUPTION,
            "more points than 2^64",
            coded(&Pvq { dim: 32, classes: &[(1, 30)], shape: &[64], groups: &[(0, 0, 0); 2], ..p })?,
        ),
        read("pvq-step", CORRUPTION, "a step of 2^112", coded(&Pvq { step: 2f32.powi(112), ..p })?),
        read("pvq-run", CORRUPTION, "runs of no groups", coded(&Pvq { run: 0, ..p })?),
        read("pvq-head", CORRUPTION, "a head where there are none", of_leaf(head)?),
        read("pvq-tails", CORRUPTION, "tails past the last word", of_leaf(tails)?),
        read("pvq-dim", CORRUPTION, "groups of 33", of_leaf(dim)?),
        read("rvq-symbol", CORRUPTION, "a symbol without a codeword", of_leaf(rvq(&[4], 2, 1, &[stage])?)?),
        read("rvq-stream", CORRUPTION, "a stream too many", of_leaf(extra)?),
        read("rvq-step", CORRUPTION, "a step of 0", of_leaf(rvq(&[4], 2, 1, &[zero])?)?),
        read("rvq-entry", CORRUPTION, "an entry above 2^23", of_leaf(rvq(&[4], 2, 1, &[large])?)?),
        read("ternary-trit", CORRUPTION, "a trit of 3", of_leaf(ternary(&t, false)?)?),
        read("ternary-unit", CORRUPTION, "a unit of 0", of_leaf(ternary(&unit, false)?)?),
        read("ternary-start", CORRUPTION, "a block that begins past the codewords", of_leaf(over_end)?),
        read("ternary-block", CORRUPTION, "codewords that do not fill their block", of_leaf(short)?),
    ])
}
