//! safetensors: what is written is read back, and every broken rule is refused with the numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panics too")]

mod common;

use benben_format::{Dtype, Error, ErrorKind};
use benben_io::ModelSource;
use benben_io::safetensors::{SafeTensors, TensorSpec, write};
use common::{Noting, bytes_of, small_safetensors, spec, with_header};
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

fn open(bytes: Vec<u8>) -> Result<SafeTensors, Error> {
    SafeTensors::new(Arc::new(bytes))
}

fn refused(bytes: Vec<u8>) -> Error {
    open(bytes).err().expect("refused")
}

type Model = (Vec<(TensorSpec, Vec<u8>)>, BTreeMap<String, String>);

fn models() -> impl Strategy<Value = Model> {
    let dtype = (0..Dtype::ALL.len()).prop_map(|i| Dtype::ALL[i]);
    let tensor = (dtype, prop::collection::vec(0u64..5, 0..4)).prop_flat_map(|(dtype, shape)| {
        let len = bytes_of(&TensorSpec { name: String::new(), dtype, shape: shape.clone() });
        (Just(dtype), Just(shape), prop::collection::vec(any::<u8>(), len))
    });
    let name = any::<String>().prop_filter("reserved", |n| n != "__metadata__");
    let tensors = prop::collection::btree_map(name, tensor, 0..8).prop_map(|map| {
        map.into_iter()
            .map(|(name, (dtype, shape, bytes))| (TensorSpec { name, dtype, shape }, bytes))
            .collect::<Vec<_>>()
    });
    (tensors.prop_shuffle(), prop::collection::btree_map(any::<String>(), any::<String>(), 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_written_is_read_back_whatever_names_types_and_shapes((tensors, metadata) in models()) {
        let specs: Vec<TensorSpec> = tensors.iter().map(|t| t.0.clone()).collect();
        let give = |i: usize| Ok(Cow::Borrowed(&tensors[i].1[..]));
        let (mut file, mut again) = (Vec::new(), Vec::new());
        let length = write(&mut file, &specs, &metadata, give).unwrap();
        write(&mut again, &specs, &metadata, give).unwrap();
        prop_assert_eq!(length, file.len() as u64);
        prop_assert_eq!(&file, &again);
        let header = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
        prop_assert_eq!(header % 8, 0);

        let model = open(file).unwrap();
        prop_assert_eq!(model.metadata(), &metadata);
        prop_assert_eq!(model.tensors().len(), tensors.len());
        let mut at = 0;
        for (i, info) in model.tensors().iter().enumerate() {
            prop_assert_eq!(at % info.dtype.size() as u64, 0, "aligned");
            at += info.source_bytes;
            let (spec, bytes) = tensors.iter().find(|t| t.0.name == info.name).unwrap();
            prop_assert_eq!((info.dtype, &info.shape), (spec.dtype, &spec.shape));
            prop_assert_eq!(&*model.read(i).unwrap(), &bytes[..]);
        }
    }
}

#[test]
fn the_order_given_is_kept_where_alignment_allows_it() {
    let order = |specs: &[TensorSpec]| -> Vec<String> {
        open(common::safetensors(specs)).unwrap().tensors().iter().map(|t| t.name.clone()).collect()
    };
    let aligned = [spec("z", Dtype::F16, &[2]), spec("y", Dtype::F32, &[1]), spec("x", Dtype::U8, &[1])];
    assert_eq!(order(&aligned), ["z", "y", "x"]);
    let odd = [spec("z", Dtype::U8, &[3]), spec("y", Dtype::F16, &[1]), spec("x", Dtype::F32, &[1])];
    assert_eq!(order(&odd), ["x", "y", "z"]);
}

#[test]
fn reading_one_tensor_touches_its_bytes_alone() {
    let specs = [spec("a", Dtype::F32, &[8]), spec("b", Dtype::F32, &[100]), spec("c", Dtype::F32, &[4])];
    let file = common::safetensors(&specs);
    let data = file.len() as u64 - 112 * 4;
    let source = Noting::new(file);
    let model = SafeTensors::new(source.clone()).unwrap();
    let header: u64 = source.asked.lock().unwrap().drain(..).map(|(at, n)| at + n as u64).max().unwrap();
    assert_eq!(header, data, "opening reads the header and nothing behind it");
    model.read(1).unwrap();
    assert_eq!(*source.asked.lock().unwrap(), [(data + 32, 400)]);
}

#[test]
fn a_file_cut_at_any_byte_is_refused_as_incomplete() {
    let file = small_safetensors();
    for n in 0..file.len() {
        let e = refused(file[..n].to_vec());
        assert_eq!(e.kind(), ErrorKind::InsufficientData, "cut at {n}: {e}");
    }
}

#[test]
fn a_cut_file_says_how_much_is_missing_and_where_it_begins() {
    let mut file = common::safetensors(&[spec("a", Dtype::F32, &[8]), spec("b", Dtype::F32, &[8])]);
    file.truncate(file.len() - 40);
    let e = refused(file);
    assert_eq!(e.tensor(), Some("a"));
    assert!(e.message().contains("64 bytes") && e.message().contains("40 missing"), "{e}");
}

#[test]
fn headers_that_break_a_rule_are_refused_by_name() {
    let f32s = |range: &str| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":{range}}}"#);
    let (first, second) = (f32s("[0,8]"), f32s("[8,16]"));
    let cases = [
        // Two tensors of one name: a map would keep the last.
        (format!(r#"{{"w":{first},"w":{second}}}"#), 16, ErrorKind::Corruption, "\"w\" twice"),
        (
            format!(r#"{{"__metadata__":{{"k":"1","k":"2"}},"w":{first}}}"#),
            8,
            ErrorKind::Corruption,
            "\"k\" twice",
        ),
        (r#"{"__metadata__":{},"__metadata__":{}}"#.into(), 0, ErrorKind::Corruption, "duplicate"),
        (r#"{"__metadata__":{"k":1}}"#.into(), 0, ErrorKind::Corruption, "expected a string"),
        // Two fields of one name within a tensor.
        (
            r#"{"w":{"dtype":"F32","dtype":"F16","shape":[0],"data_offsets":[0,0]}}"#.into(),
            0,
            ErrorKind::Corruption,
            "\"w\"",
        ),
        (format!(r#"{{"v":{first},"w":{}}}"#, f32s("[4,12]")), 12, ErrorKind::Corruption, "overlaps with v"),
        (format!(r#"{{"v":{first},"w":{}}}"#, f32s("[12,20]")), 20, ErrorKind::Corruption, "gap behind v"),
        (format!(r#"{{"w":{second}}}"#), 16, ErrorKind::Corruption, "gap behind the header"),
        (format!(r#"{{"w":{first}}}"#), 9, ErrorKind::Corruption, "1 bytes belong to none"),
        (format!(r#"{{"w":{}}}"#, f32s("[0,9]")), 9, ErrorKind::Corruption, "takes 8 bytes"),
        (format!(r#"{{"w":{}}}"#, f32s("[8,0]")), 8, ErrorKind::Corruption, "[8, 0]"),
        (
            r#"{"w":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#.into(),
            1,
            ErrorKind::Unsupported,
            "\"F4\"",
        ),
        (
            r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#.into(),
            0,
            ErrorKind::Limit,
            "2^63",
        ),
        (
            r#"{"w":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}}"#.into(),
            0,
            ErrorKind::Limit,
            "2^64",
        ),
        (r#"{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#.into(), 0, ErrorKind::Corruption, "-1"),
        (r#"{"w":{"dtype":"F32","shape":[2]}}"#.into(), 0, ErrorKind::Corruption, "data_offsets"),
        (r#"{"w":}"#.into(), 0, ErrorKind::Corruption, "header"),
        (r#"["w"]"#.into(), 0, ErrorKind::Corruption, "offset 8"),
        (r#"{} {}"#.into(), 0, ErrorKind::Corruption, "trailing"),
    ];
    for (json, data, kind, part) in cases {
        let e = refused(with_header(&json, data));
        assert_eq!(e.kind(), kind, "{json}: {e}");
        assert!(e.to_string().contains(part), "{json}: {e}");
    }
}

#[test]
fn a_header_over_the_limit_is_refused_before_it_is_read() {
    let e = refused([&100_000_001u64.to_le_bytes()[..], b"{}"].concat());
    assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
}

#[test]
fn headers_may_be_padded_and_unordered_and_have_no_metadata() {
    let tensor =
        |range: &str| format!(r#"{{"shape":[1],"data_offsets":{range},"dtype":"I8","more":[{{}}]}}"#);
    let json = format!(r#"{{"b":{},"a":{},"__metadata__":null}}   "#, tensor("[1,2]"), tensor("[0,1]"));
    let model = open(with_header(&json, 2)).unwrap();
    let names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "b"], "order of data, not of the header");
    assert!(model.metadata().is_empty());
    assert_eq!(model.read(2).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_writer_refuses_what_it_cannot_write() {
    let none = BTreeMap::new();
    let zeros = |n: usize| move |_: usize| Ok(Cow::Owned(vec![0; n]));
    let one = [spec("w", Dtype::F32, &[2])];
    let e = write(&mut Vec::new(), &one, &none, zeros(7)).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::InvalidArgument, Some("w")));
    assert!(e.message().contains("8 bytes, 7 were given"), "{e}");
    let twice = [spec("w", Dtype::F32, &[0]), spec("w", Dtype::F32, &[0])];
    assert_eq!(write(&mut Vec::new(), &twice, &none, zeros(0)).unwrap_err().tensor(), Some("w"));
    let reserved = [spec("__metadata__", Dtype::F32, &[0])];
    assert!(write(&mut Vec::new(), &reserved, &none, zeros(0)).is_err());
    let huge = [spec("w", Dtype::F32, &[1 << 62])];
    assert_eq!(write(&mut Vec::new(), &huge, &none, zeros(0)).unwrap_err().kind(), ErrorKind::Limit);
    let full = write(&mut Full, &one, &none, zeros(8)).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Io);
}

/// A disk without space.
struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("no space"))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
