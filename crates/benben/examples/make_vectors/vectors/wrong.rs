//! Packs that open, and whose tensor `t` must be refused when it is read. Tensor `ok` beside it is good.

use super::leaves::{floats, raw_bytes};
use super::patch::Parts;
use super::wrong_codecs::{raw, scalars, trellises, vectors};
use super::wrong_payloads::{chunks, tables};
use super::{MustFail, Tensor, pack};
use benben::{Dtype, Result};
use benben_format::{EncodedLeaf, Expr, element_count};
use ciborium::Value;

pub(super) const CORRUPTION: &str = "Corruption";
const COMPATIBILITY: &str = "Compatibility";

/// Every case.
pub(crate) fn packs() -> Result<Vec<MustFail>> {
    let groups = [
        nodes()?,
        references()?,
        chunks()?,
        tables()?,
        raw()?,
        scalars()?,
        trellises()?,
        vectors()?,
        container()?,
    ];
    Ok(groups.into_iter().flatten().collect())
}

fn ok() -> Result<Tensor<'static>> {
    Ok(("ok", Dtype::U8, &[3], Expr::Leaf(raw_bytes(Dtype::U8, &[3], &[1, 2, 3])?)))
}

/// A pack whose tensor `t` is `expr`.
fn of(dtype: Dtype, shape: &[u64], expr: Expr<EncodedLeaf>) -> Result<Vec<u8>> {
    pack([("t", dtype, shape, expr), ok()?])
}

pub(super) fn of_leaf(leaf: EncodedLeaf) -> Result<Vec<u8>> {
    let (dtype, shape) = (leaf.spec.dtype, leaf.spec.shape.clone());
    of(dtype, &shape, Expr::Leaf(leaf))
}

pub(super) fn read(name: &'static str, kind: &'static str, why: &'static str, bytes: Vec<u8>) -> MustFail {
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
            edited(&|p| p.set(expr, "node", "lattice"))?,
        ),
        read(
            "codec-unknown-bytes",
            COMPATIBILITY,
            "a codec that is not known, which gives bytes",
            edited(&|p| {
                p.set(&["tensors", "0"], "dtype", "u8")?;
                p.set(expr, "dtype", "u8")?;
                p.set(expr, "node", "lattice")
            })?,
        ),
        read(
            "codec-version",
            COMPATIBILITY,
            "a version of a codec that is not known",
            edited(&|p| p.set(expr, "version", 2))?,
        ),
        read(
            "codec-dtype",
            CORRUPTION,
            "a quantizer that gives bytes",
            edited(&|p| {
                p.set(&["tensors", "0"], "dtype", "u8")?;
                p.set(expr, "dtype", "u8")?;
                p.set(expr, "node", "scalar")
            })?,
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
    let transpose = four(Expr::Transpose(Box::new(f(&[4, 4])?)))?;
    let critical =
        Expr::Unknown { node: "train".into(), version: 1, ancillary: true, operands: vec![f(&[4, 4])?] };
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
            "sparse-wraps",
            "Limit",
            "more groups than 2^64",
            edited(sparse.clone(), &[], "shape", shape(&[1 << 40, 1 << 40]))?,
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
            "transpose-dimensions",
            CORRUPTION,
            "a value of three dimensions",
            edited(transpose, &["of", "0"], "shape", shape(&[4, 2, 2]))?,
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
