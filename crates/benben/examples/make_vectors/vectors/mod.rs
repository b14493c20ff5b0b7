//! The vectors: packs made by hand from coded leaves, so that no encoder's choice of values is part of them.

#![allow(clippy::cast_possible_truncation, reason = "numbers of our own making")]

mod broken;
mod chunks;
mod good;
mod good_codecs;
mod leaves;
mod patch;
mod trellis_leaves;
mod vector_leaves;
mod wrong;
mod wrong_codecs;
mod wrong_payloads;

use benben::{Dtype, Error, Limits, Pack, Result, hex};
use benben_format::{EncodedLeaf, Expr, Origin, Writer};
use serde_json::{Map, Value, json};
use std::io::Cursor;
use std::sync::Arc;

/// Longest value, in bytes, that is spelled out; of longer ones the BLAKE3 is given.
const SPELLED: usize = 4096;

/// Every file of the folder: relative name and bytes.
pub(crate) fn files() -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for (name, pack) in good::packs()? {
        let expected = text(&expected(&pack).map_err(|e| e.context(name))?);
        files.push((format!("{name}.benben"), pack));
        files.push((format!("{name}.json"), expected));
    }
    let mut list = Map::new();
    for case in broken::packs()?.into_iter().chain(wrong::packs()?) {
        let file = format!("{}.benben", case.name);
        list.insert(file.clone(), json!({"kind": case.kind, "when": case.when, "why": case.why}));
        files.push((format!("must-fail/{file}"), case.bytes));
    }
    files.push(("must-fail/must-fail.json".into(), text(&Value::Object(list))));
    Ok(files)
}

/// A pack that must be refused.
pub(crate) struct MustFail {
    /// File name without its ending.
    pub(crate) name: &'static str,
    /// Kind of the error.
    pub(crate) kind: &'static str,
    /// `open`, or `read`: then tensor `t` must be refused, and all others but `broken` must be readable.
    pub(crate) when: &'static str,
    /// What is wrong.
    pub(crate) why: &'static str,
    /// The pack.
    pub(crate) bytes: Vec<u8>,
}

/// What a pack holds, as `NAME.json` has it.
pub(crate) fn expected(pack: &[u8]) -> Result<Value> {
    let pack = Pack::from_source(Arc::new(pack.to_vec()), Limits::default())?;
    let mut tensors = Map::new();
    for tensor in pack.tensors() {
        // The value of a reference is that of the tensor it names.
        let named = match &tensor.entry().expr {
            Expr::Ref { tensor, .. } => pack.tensor(tensor)?,
            _ => tensor,
        };
        let (key, value) = spelled(&named.to_bytes()?);
        let entry = json!({"dtype": tensor.dtype().name(), "shape": tensor.shape(), key: value});
        tensors.insert(tensor.name().into(), entry);
    }
    let mut files = Map::new();
    for name in pack.files() {
        let (key, value) = spelled(&pack.file(name)?);
        files.insert(name.into(), json!({key: value}));
    }
    let root = hex(&pack.reader().root());
    Ok(json!({"root": root, "tensors": tensors, "files": files}))
}

pub(crate) fn spelled(bytes: &[u8]) -> (&'static str, String) {
    if bytes.len() <= SPELLED {
        ("values", hex(bytes))
    } else {
        ("blake3", blake3::hash(bytes).to_hex().to_string())
    }
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// A tensor to write: name, dtype, shape, expression.
type Tensor<'a> = (&'a str, Dtype, &'a [u64], Expr<EncodedLeaf>);

/// A pack of `tensors`, its header complete.
fn pack<'a>(tensors: impl IntoIterator<Item = Tensor<'a>>) -> Result<Vec<u8>> {
    pack_with(0, |_| Ok(()), tensors)
}

/// A pack with room for a copy of the index, and with whatever `more` adds to it.
fn pack_with<'a>(
    front: u64,
    more: impl FnOnce(&mut Writer<Cursor<Vec<u8>>>) -> Result<()>,
    tensors: impl IntoIterator<Item = Tensor<'a>>,
) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Cursor::new(Vec::new()), "make_vectors", front)?;
    more(&mut writer)?;
    for (name, dtype, shape, expr) in tensors {
        writer.tensor(name, dtype, shape, origin(dtype, shape)?, expr)?;
    }
    Ok(writer.finish_in_place()?.0.into_inner())
}

/// What the source would have said.
fn origin(dtype: Dtype, shape: &[u64]) -> Result<Origin> {
    let elements = benben_format::element_count(shape)?;
    let bytes = elements.checked_mul(dtype.size() as u64).ok_or_else(|| Error::limit("too large"))?;
    Ok(Origin { dtype: dtype.name().to_uppercase(), bytes, relative_mse: None })
}

/// splitmix64: number `i` of a noise without a pattern.
fn noise(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An integer around 0, of a peaked distribution, at most 12 in magnitude.
fn peaked(i: u64) -> i32 {
    let bits = noise(i);
    (bits as u32 & 0xfff).count_ones() as i32 - ((bits >> 32) as u32 & 0xfff).count_ones() as i32
}
