//! The JSON header: parsed without losing duplicates, then checked against the bytes that are there.

use super::{METADATA, dtype_of, tensor_bytes};
use crate::model::TensorInfo;
use crate::names::first_duplicate;
use benben_format::{Error, Result};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// A JSON object as it stands in the file: in order, repeated keys included. A map would keep the last of them
/// silently, and two readers could then see two different models in one file.
pub(crate) struct Pairs<V>(pub(crate) Vec<(String, V)>);

impl<V> Pairs<V> {
    /// The pairs, refused where a key is repeated.
    pub(crate) fn unique(self, what: &str) -> Result<Vec<(String, V)>> {
        match first_duplicate(self.0.iter().map(|(k, _)| k.as_str())) {
            Some(key) => Err(Error::corruption(format!("{what} has {key:?} twice"))),
            None => Ok(self.0),
        }
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct PairsVisitor<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        d.deserialize_map(PairsVisitor(PhantomData))
    }
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Raw {
    metadata: Pairs<String>,
    tensors: Pairs<Entry>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let (mut metadata, mut tensors) = (None, Vec::new());
                while let Some(name) = map.next_key::<String>()? {
                    let named = |e: A::Error| A::Error::custom(format!("{name:?}: {e}"));
                    if name != METADATA {
                        let entry = map.next_value().map_err(named)?;
                        tensors.push((name, entry));
                    } else if metadata.is_some() {
                        return Err(A::Error::duplicate_field(METADATA));
                    } else {
                        let pairs = map.next_value::<Option<Pairs<String>>>().map_err(named)?;
                        metadata = Some(pairs.unwrap_or(Pairs(Vec::new())));
                    }
                }
                Ok(Raw { metadata: metadata.unwrap_or(Pairs(Vec::new())), tensors: Pairs(tensors) })
            }
        }
        d.deserialize_map(RawVisitor)
    }
}

/// A checked header: tensors in the order of their data, which they cover without gap from offset 0.
pub(super) struct Header {
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Parses `json`, the header of a file with `data` bytes behind it.
pub(super) fn parse(json: &[u8], data: u64) -> Result<Header> {
    let raw: Raw = serde_json::from_slice(json).map_err(|e| Error::corruption(format!("header: {e}")))?;
    let metadata = raw.metadata.unique("metadata of the header")?.into_iter().collect();
    let mut entries = raw.tensors.unique("header")?;
    entries.sort_by_key(|(_, e)| e.data_offsets);
    let mut tensors: Vec<TensorInfo> = Vec::with_capacity(entries.len());
    let mut end = 0;
    let mut first_cut = None;
    for (name, entry) in entries {
        let info = check(&name, entry, end, tensors.last()).map_err(|e| e.in_tensor(&name))?;
        end += info.source_bytes;
        if end > data && first_cut.is_none() {
            first_cut = Some(tensors.len());
        }
        tensors.push(info);
    }
    if let Some(cut) = first_cut.and_then(|i| tensors.get(i)) {
        return Err(Error::insufficient(format!(
            "the header promises {end} bytes of tensors, the file has {data}: {} missing; \
             this is the first tensor that is not complete",
            end - data
        ))
        .in_tensor(&cut.name)
        .with_hint("the download was cut short: fetch the file again"));
    }
    if end < data {
        return Err(Error::corruption(format!(
            "the header describes {end} bytes of tensors, the file has {data}: {} bytes belong to none",
            data - end
        )));
    }
    Ok(Header { tensors, metadata })
}

/// The entry as a tensor, refused unless its bytes start at `start`, where the one before it ended.
fn check(name: &str, entry: Entry, start: u64, before: Option<&TensorInfo>) -> Result<TensorInfo> {
    let (from, to) = entry.data_offsets;
    let dtype = dtype_of(&entry.dtype)?;
    let bytes = tensor_bytes(dtype, &entry.shape)?;
    if to.checked_sub(from) != Some(bytes) {
        return Err(Error::corruption(format!(
            "shape {:?} of {dtype} takes {bytes} bytes, data_offsets are [{from}, {to}]",
            entry.shape
        )));
    }
    if from != start {
        let before = before.map_or("the header", |t| t.name.as_str());
        let what = if from < start { "overlaps with" } else { "leaves a gap behind" };
        return Err(Error::corruption(format!("starts at {from}, expected {start}: it {what} {before}")));
    }
    Ok(TensorInfo {
        name: name.into(),
        dtype,
        shape: entry.shape,
        source_type: dtype.name().into(),
        source_bytes: bytes,
    })
}
