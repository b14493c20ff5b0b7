//! The directory: what a pack holds, as CBOR (`format-spec/container.md`, section Directory).
//!
//! Public types say what is stored; the `Wire` types below are their CBOR form. Unknown map keys are ignored,
//! so later minor versions can add some; unknown nodes are kept and refused when they are read.

use crate::{
    Dtype, Error, LeafSpec, Limits, Result, StreamKind, StreamSpec, cbor,
    expression::{Expr, StoredLeaf},
};
use ciborium::Value;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One tensor of a pack.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name, unique in the pack.
    pub name: String,
    /// Element type in which the tensor is handed out.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Where the tensor came from.
    pub origin: Origin,
    /// How it is stored.
    pub expr: Expr<StoredLeaf>,
}

/// What is remembered of a tensor's source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Type in the source file, `Q4_K` for example.
    #[serde(rename = "type")]
    pub dtype: String,
    /// Bytes in the source file.
    pub bytes: u64,
    /// Squared error of the stored values relative to the squared norm of the source's, as the encoder
    /// measured it; absent where nothing was measured.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub relative_mse: Option<f64>,
}

/// A small file that travels with the model: configuration, tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct FileEntry {
    /// Relative path with `/`, without `.` and `..`.
    pub name: String,
    /// Its bytes, a u8 leaf.
    pub leaf: StoredLeaf,
}

/// Everything that the index says apart from where chunks are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    /// Program and version that wrote the pack.
    pub generator: String,
    /// Free text pairs carried over from the source.
    pub metadata: BTreeMap<String, String>,
    /// The recipe that made the pack, TOML.
    pub recipe: Option<String>,
    /// Files, in the order in which they are stored.
    pub files: Vec<FileEntry>,
    /// Tensors, in execution order as far as it is known.
    pub tensors: Vec<Entry>,
}

impl Directory {
    pub(crate) fn to_cbor(&self) -> Result<Vec<u8>> {
        let wire = WireDirectory {
            generator: self.generator.clone(),
            metadata: self.metadata.clone(),
            recipe: self.recipe.clone(),
            files: self
                .files
                .iter()
                .map(|f| WireFile { name: f.name.clone(), leaf: leaf_to_wire(&f.leaf) })
                .collect(),
            tensors: self.tensors.iter().map(entry_to_wire).collect(),
        };
        let mut bytes = Vec::new();
        ciborium::into_writer(&wire, &mut bytes).map_err(|e| Error::invalid(format!("directory: {e}")))?;
        Ok(bytes)
    }

    pub(crate) fn from_cbor(bytes: &[u8], limits: &Limits) -> Result<Self> {
        // Each node takes two levels of CBOR (map and operand list); parameters take a few more.
        let recursion = 2 * limits.depth + 16;
        let plain = cbor::check(bytes, limits.items, recursion)?;
        let wire = if plain { parse(bytes, recursion)? } else { parse_by_tree(bytes, recursion)? };
        let entries = wire.files.len() + wire.tensors.len();
        if entries > limits.entries {
            return Err(Error::limit(format!(
                "{entries} tensors and files, the limit is {}",
                limits.entries
            )));
        }
        let files = wire.files.into_iter().map(file_from_wire).collect::<Result<Vec<_>>>()?;
        let tensors = wire.tensors.into_iter().map(entry_from_wire).collect::<Result<Vec<_>>>()?;
        Ok(Self { generator: wire.generator, metadata: wire.metadata, recipe: wire.recipe, files, tensors })
    }
}

/// Parses CBOR that [`cbor::check`] has found plain.
fn parse<T: DeserializeOwned>(bytes: &[u8], recursion: usize) -> Result<T> {
    ciborium::de::from_reader_with_recursion_limit(bytes, recursion)
        .map_err(|e| Error::corruption(format!("directory: {e}")))
}

/// Parses any CBOR, at a third of the speed. The parser takes byte strings for lists and for keys, and refuses keys
/// in parts or of more than 4 KiB even where nothing asks for them; a tree of values does neither.
fn parse_by_tree(bytes: &[u8], recursion: usize) -> Result<WireDirectory> {
    let tree: Value = parse(bytes, recursion)?;
    tree.deserialized()
        .map_err(|ciborium::value::Error::Custom(e)| Error::corruption(format!("directory: {e}")))
}

/// Pairs of text, refused where a key occurs twice.
fn pairs<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map of text to text")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, String>()? {
                if found.contains_key(&key) {
                    return Err(serde::de::Error::custom(format!("key {key:?} occurs twice in a map")));
                }
                found.insert(key, value);
            }
            Ok(found)
        }
    }
    value.deserialize_map(Pairs)
}

/// The value of a key that may be absent: null does not stand for that.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Refuses a tensor name that is empty or longer than `limits` allow.
pub(crate) fn check_name(name: &str, limits: &Limits) -> Result<()> {
    if name.is_empty() || name.len() > limits.name_bytes {
        return Err(Error::limit(format!(
            "a name of {} bytes, expected 1 to {}",
            name.len(),
            limits.name_bytes
        )));
    }
    Ok(())
}

/// Refuses a file name that could leave the folder it is unpacked into.
pub(crate) fn check_file_name(name: &str, limits: &Limits) -> Result<()> {
    check_name(name, limits)?;
    let unsafe_part = |p: &str| p.is_empty() || p == "." || p == "..";
    if name.split('/').any(unsafe_part) || name.contains(['\\', ':', '\0']) {
        return Err(Error::corruption(format!("file name {name:?} is not a plain relative path")));
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct WireDirectory {
    generator: String,
    #[serde(default, deserialize_with = "pairs", skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<WireFile>,
    tensors: Vec<WireEntry>,
}

#[derive(Serialize, Deserialize)]
struct WireFile {
    name: String,
    leaf: WireNode,
}

#[derive(Serialize, Deserialize)]
struct WireEntry {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    origin: Origin,
    expr: WireNode,
}

/// One node. Leaves have `segment`, `chunk` and `streams`; inner nodes have operands `of`.
#[derive(Serialize, Deserialize)]
struct WireNode {
    node: String,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    version: u16,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ancillary: bool,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    dtype: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<u64>>,
    #[serde(default = "null", skip_serializing_if = "Value::is_null")]
    params: Value,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    segment: Option<u32>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    chunk: Option<u64>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    streams: Option<Vec<Vec<u64>>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    of: Option<Vec<Self>>,
}

/// A dtype by name; one of a later version is no corruption.
fn known_dtype(name: &str) -> Result<Dtype> {
    let found = Dtype::ALL.into_iter().find(|d| d.name() == name);
    found.ok_or_else(|| Error::compatibility(format!("dtype {name:?} is not known to this build")))
}

fn one() -> u16 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(version: &u16) -> bool {
    *version == 1
}

fn null() -> Value {
    Value::Null
}

#[derive(Serialize, Deserialize)]
struct RefParams {
    tensor: String,
}

#[derive(Serialize, Deserialize)]
struct SparseParams {
    group: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct ScaleParams {
    rows: bool,
    columns: bool,
}

#[derive(Serialize, Deserialize)]
struct PermuteParams {
    axis: u8,
}

#[derive(Serialize, Deserialize)]
struct RotateParams {
    seed: u64,
    block: u32,
}

fn inner(node: &str, of: Vec<WireNode>) -> WireNode {
    WireNode {
        node: node.into(),
        version: 1,
        ancillary: false,
        dtype: None,
        shape: None,
        params: Value::Null,
        segment: None,
        chunk: None,
        streams: None,
        of: if of.is_empty() { None } else { Some(of) },
    }
}

fn value(params: &impl Serialize) -> Value {
    // These are plain structs of integers and text: they always have a CBOR form.
    Value::serialized(params).unwrap_or(Value::Null)
}

fn stream_to_wire(stream: &StreamSpec) -> Vec<u64> {
    let kind = match stream.kind {
        StreamKind::Symbols => 0,
        StreamKind::Words => 1,
        StreamKind::Bytes { width } => 16 + u64::from(width),
    };
    vec![kind, stream.items, stream.chunk_items.into()]
}

fn stream_from_wire(wire: &[u64]) -> Result<StreamSpec> {
    let &[code, items, chunk_items] = wire else {
        return Err(Error::corruption(format!("stream: expected three integers, found {}", wire.len())));
    };
    let code = u8::try_from(code)
        .map_err(|_| Error::corruption(format!("stream kind {code} is more than a byte")))?;
    let kind = match code {
        0 => StreamKind::Symbols,
        1 => StreamKind::Words,
        17..=24 => StreamKind::Bytes { width: code - 16 },
        other => return Err(Error::compatibility(format!("stream kind {other} is not known to this build"))),
    };
    let max = StreamSpec::MAX_CHUNK_ITEMS;
    let chunk_items = u32::try_from(chunk_items)
        .ok()
        .filter(|n| (1..=max).contains(n))
        .ok_or_else(|| Error::corruption(format!("chunks of {chunk_items} items, expected 1 to {max}")))?;
    Ok(StreamSpec { kind, items, chunk_items })
}

fn leaf_to_wire(leaf: &StoredLeaf) -> WireNode {
    let spec = &leaf.spec;
    WireNode {
        version: spec.version,
        dtype: Some(spec.dtype.to_string()),
        shape: Some(spec.shape.clone()),
        params: spec.params.clone(),
        segment: Some(leaf.segment),
        chunk: Some(leaf.first_chunk),
        streams: (!spec.streams.is_empty()).then(|| spec.streams.iter().map(stream_to_wire).collect()),
        ..inner(&spec.codec, Vec::new())
    }
}

fn leaf_from_wire(wire: WireNode) -> Result<StoredLeaf> {
    let (Some(dtype), Some(shape), Some(segment), Some(first_chunk)) =
        (wire.dtype, wire.shape, wire.segment, wire.chunk)
    else {
        return Err(Error::corruption(format!(
            "leaf {}: dtype, shape, segment or chunk is missing",
            wire.node
        )));
    };
    if wire.of.is_some() {
        return Err(Error::corruption(format!("leaf {}: has operands", wire.node)));
    }
    let streams = wire.streams.unwrap_or_default();
    let streams = streams.iter().map(|s| stream_from_wire(s)).collect::<Result<_>>()?;
    let dtype = known_dtype(&dtype)?;
    let spec =
        LeafSpec { codec: wire.node, version: wire.version, dtype, shape, params: wire.params, streams };
    Ok(StoredLeaf { spec, segment, first_chunk })
}

fn expr_to_wire(expr: &Expr<StoredLeaf>) -> WireNode {
    let of = expr.operands().into_iter().map(expr_to_wire).collect();
    let node = inner(expr.node(), of);
    match expr {
        Expr::Leaf(leaf) => leaf_to_wire(leaf),
        Expr::Sum(_) | Expr::Product(_) | Expr::Transpose(_) => node,
        Expr::Ref { tensor, shape, dtype } => WireNode {
            shape: Some(shape.clone()),
            dtype: Some(dtype.to_string()),
            params: value(&RefParams { tensor: tensor.clone() }),
            ..node
        },
        Expr::Sparse { shape, group, .. } => WireNode {
            shape: Some(shape.clone()),
            params: value(&SparseParams { group: group.to_vec() }),
            ..node
        },
        Expr::Scale { rows, columns, .. } => WireNode {
            params: value(&ScaleParams { rows: rows.is_some(), columns: columns.is_some() }),
            ..node
        },
        Expr::Permute { axis, .. } => WireNode { params: value(&PermuteParams { axis: *axis }), ..node },
        Expr::Rotate { seed, block, .. } => {
            WireNode { params: value(&RotateParams { seed: *seed, block: *block }), ..node }
        }
        Expr::Unknown { version, ancillary, .. } => {
            WireNode { version: *version, ancillary: *ancillary, ..node }
        }
    }
}

fn expr_from_wire(mut wire: WireNode) -> Result<Expr<StoredLeaf>> {
    if wire.segment.is_some() {
        return Ok(Expr::Leaf(leaf_from_wire(wire)?));
    }
    if wire.chunk.is_some() || wire.streams.is_some() {
        return Err(Error::corruption(format!("node {}: has chunks without a segment", wire.node)));
    }
    let of = wire.of.take().unwrap_or_default();
    let of: Vec<Expr<StoredLeaf>> = of.into_iter().map(expr_from_wire).collect::<Result<_>>()?;
    if wire.version != 1 {
        return Ok(unknown(wire, of));
    }
    let name = wire.node.clone();
    let wrong = |e: &dyn std::fmt::Display| Error::corruption(format!("node {name}: {e}"));
    let shape = |wire: &WireNode| wire.shape.clone().ok_or_else(|| wrong(&"shape is missing"));
    fn params<T: DeserializeOwned>(wire: &WireNode) -> Result<T> {
        wire.params.deserialized().map_err(|e| Error::corruption(format!("node {}: {e}", wire.node)))
    }
    let count = of.len();
    let mut operands = of.into_iter();
    let mut next = |expected: usize| {
        let operand = if count == expected { operands.next() } else { None };
        operand.map(Box::new).ok_or_else(|| wrong(&format!("expected {expected} operands, found {count}")))
    };
    if matches!(wire.node.as_str(), "sum" | "product" | "transpose") && (count == 0 || !wire.params.is_null())
    {
        return Err(wrong(&format!("takes operands and no params, found {count} and {:?}", wire.params)));
    }
    if wire.node == "ref" && count != 0 {
        return Err(wrong(&format!("expected no operands, found {count}")));
    }
    Ok(match wire.node.as_str() {
        "sum" => Expr::Sum(operands.collect()),
        "product" => Expr::Product(operands.collect()),
        "ref" => Expr::Ref {
            tensor: params::<RefParams>(&wire)?.tensor,
            shape: shape(&wire)?,
            dtype: known_dtype(&wire.dtype.take().ok_or_else(|| wrong(&"dtype is missing"))?)?,
        },
        "sparse" => Expr::Sparse {
            shape: shape(&wire)?,
            group: <[u32; 2]>::try_from(params::<SparseParams>(&wire)?.group)
                .map_err(|g| wrong(&format!("a group has two sides, found {}", g.len())))?,
            mask: next(2)?,
            values: next(2)?,
        },
        "scale" => {
            let has: ScaleParams = params(&wire)?;
            let expected = 1 + usize::from(has.rows) + usize::from(has.columns);
            let rows = has.rows.then(|| next(expected)).transpose()?;
            let columns = has.columns.then(|| next(expected)).transpose()?;
            Expr::Scale { rows, columns, of: next(expected)? }
        }
        "permute" => {
            Expr::Permute { axis: params::<PermuteParams>(&wire)?.axis, order: next(2)?, of: next(2)? }
        }
        "transpose" => Expr::Transpose(next(1)?),
        "rotate" => {
            let RotateParams { seed, block } = params(&wire)?;
            Expr::Rotate { seed, block, of: next(1)? }
        }
        _ => unknown(wire, operands.collect()),
    })
}

fn unknown(wire: WireNode, operands: Vec<Expr<StoredLeaf>>) -> Expr<StoredLeaf> {
    Expr::Unknown { node: wire.node, version: wire.version, ancillary: wire.ancillary, operands }
}

fn entry_to_wire(entry: &Entry) -> WireEntry {
    WireEntry {
        name: entry.name.clone(),
        dtype: entry.dtype.to_string(),
        shape: entry.shape.clone(),
        origin: entry.origin.clone(),
        expr: expr_to_wire(&entry.expr),
    }
}

fn entry_from_wire(wire: WireEntry) -> Result<Entry> {
    let expr = expr_from_wire(wire.expr).map_err(|e| e.in_tensor(&wire.name))?;
    let dtype = known_dtype(&wire.dtype).map_err(|e| e.in_tensor(&wire.name))?;
    Ok(Entry { name: wire.name, dtype, shape: wire.shape, origin: wire.origin, expr })
}

fn file_from_wire(wire: WireFile) -> Result<FileEntry> {
    let leaf = leaf_from_wire(wire.leaf).map_err(|e| e.context(format!("file {}", wire.name)))?;
    let spec = &leaf.spec;
    if spec.codec != "raw" || spec.dtype != Dtype::U8 || spec.shape.len() != 1 {
        let (codec, dtype, shape) = (&spec.codec, spec.dtype, &spec.shape);
        let message = format!("file {}: expected raw bytes, found {codec} {dtype} {shape:?}", wire.name);
        return Err(Error::corruption(message));
    }
    Ok(FileEntry { name: wire.name, leaf })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_directory_of_many_small_items_is_refused_before_it_is_parsed() {
        let directory = Directory { generator: "test".into(), ..Directory::default() };
        let bytes = directory.to_cbor().unwrap();
        // The map, its two keys, and their values.
        let items = 5;
        let limits = |items| Limits { items, ..Limits::default() };
        assert_eq!(Directory::from_cbor(&bytes, &limits(items)).unwrap(), directory);
        let e = Directory::from_cbor(&bytes, &limits(items - 1)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Limit);
        // Parsed, these 17 MiB would take more than half a gigabyte.
        let list = [&[0x9a, 1, 0, 0, 1][..], &vec![0; (1 << 24) + 1]].concat();
        assert_eq!(Directory::from_cbor(&list, &Limits::default()).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn the_long_way_gives_what_the_short_one_does() {
        let spec = LeafSpec {
            codec: "raw".into(),
            version: 3,
            dtype: Dtype::F16,
            shape: vec![2, 1 << 40],
            params: Value::Map(vec![("layout".into(), "bytes".into()), ("step".into(), 0.5.into())]),
            streams: vec![
                StreamSpec { kind: StreamKind::Bytes { width: 2 }, items: 7, chunk_items: 1 << 20 };
                2
            ],
        };
        let leaf = StoredLeaf { spec, segment: 1, first_chunk: 9 };
        let expr = Expr::Sum(vec![
            Expr::Leaf(leaf.clone()),
            Expr::Transpose(Box::new(Expr::Leaf(leaf.clone()))),
            Expr::Rotate { seed: 1, block: 4, of: Box::new(Expr::Leaf(leaf)) },
        ]);
        let origin = Origin { dtype: "F16".into(), bytes: 5, relative_mse: Some(0.1) };
        let directory = Directory {
            generator: "test".into(),
            metadata: [("a".into(), "b".into()), (String::new(), "c".into())].into(),
            recipe: Some("x".into()),
            tensors: vec![Entry { name: "t".into(), dtype: Dtype::F16, shape: vec![], origin, expr }],
            ..Directory::default()
        };
        let bytes = directory.to_cbor().unwrap();
        assert!(cbor::check(&bytes, 1000, 48).unwrap());
        let again = |wire: &WireDirectory| {
            let mut bytes = Vec::new();
            ciborium::into_writer(wire, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(again(&parse(&bytes, 48).unwrap()), bytes);
        assert_eq!(again(&parse_by_tree(&bytes, 48).unwrap()), bytes);
        assert_eq!(Directory::from_cbor(&bytes, &Limits::default()).unwrap(), directory);
        // Each byte changed: the two agree on what is refused, unless it no longer is the short one's to parse.
        for at in 0..bytes.len() {
            for change in [1, 0x20, 0x40, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                if cbor::check(&changed, 1000, 48).is_ok_and(|plain| plain) {
                    let short = parse(&changed, 48).ok().map(|w| again(&w));
                    let long = parse_by_tree(&changed, 48).ok().map(|w| again(&w));
                    assert_eq!(short, long, "byte {at} ^ {change}");
                }
            }
        }
    }
}
