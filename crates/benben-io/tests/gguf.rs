//! GGUF made by hand: what the reference writer does not write, and every broken rule.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panics too")]

mod common;

use benben_format::{Dtype, Error, ErrorKind};
use benben_io::ModelSource;
use benben_io::gguf::Gguf;
use common::{GgufBuilder, Noting, array, body, small_gguf};
use std::sync::Arc;

fn open(bytes: Vec<u8>) -> Result<Gguf, Error> {
    Gguf::new(Arc::new(bytes))
}

fn refused(bytes: Vec<u8>) -> Error {
    open(bytes).err().expect("refused")
}

#[test]
fn tensors_come_in_the_order_of_their_data() {
    let file = GgufBuilder::new().tensor_at("second", &[8], 0, 32).tensor("first", &[4], 0, &[1; 64]).build();
    let model = open(file).unwrap();
    let names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn reading_one_tensor_touches_its_bytes_alone() {
    let words: Vec<u8> = (0..20_000).flat_map(|_| GgufBuilder::string(b"word")).collect();
    let file = GgufBuilder::new()
        .key("words", 9, &array(8, 20_000, &words))
        .tensor("a", &[8], 0, &body(0, 32))
        .tensor("b", &[32], 8, &body(1, 34))
        .tensor("c", &[200_000], 24, &body(2, 200_000))
        .build();
    let (total, source) = (file.len() as u64, Noting::new(file));
    let model = Gguf::new(source.clone()).unwrap();
    let asked: Vec<(u64, usize)> = source.asked.lock().unwrap().drain(..).collect();
    assert!(asked.iter().all(|&(_, n)| n <= 64 * 1024), "the header is read in windows");
    model.read(1).unwrap();
    let data = total - 200_000 - 96;
    assert_eq!(*source.asked.lock().unwrap(), [(data + 32, 34)]);
}

#[test]
fn gguf_json_holds_nested_arrays_text_that_is_none_and_floats_that_json_has_not() {
    let model = open(small_gguf()).unwrap();
    let json = String::from_utf8(model.files()[0].read().unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["version"], 3);
    for part in [
        r#""count":{"type":"uint32","value":7}"#,
        r#""yes":{"type":"bool","value":true}"#,
        r#""not finite":{"type":"float32","value":{"bits":"7fc00000"}}"#,
        r#""not text":{"type":"string","value":{"hex":"c328"}}"#,
        r#""words":{"type":"array","items":"string","value":["a","\"b\""]}"#,
        r#""nested":{"type":"array","items":"array","value":[{"type":"array","items":"uint8","value":[1,2]},"#,
        r#"[1,2]},{"type":"array","items":"float64","value":[]}]}"#,
    ] {
        assert!(json.contains(part), "{part} not in {json}");
    }
    assert!(!model.metadata().contains_key("not text"));
}

#[test]
fn types_of_a_later_time_are_listed_with_the_bytes_up_to_the_next_tensor() {
    let model = open(small_gguf()).unwrap();
    let i = model.index_of("later").unwrap();
    let info = &model.tensors()[i];
    assert_eq!((info.source_type.as_str(), info.dtype), ("type 99", Dtype::F32));
    assert_eq!(info.source_bytes, 32);
    let e = model.read(i).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::Unsupported, Some("later")));
}

#[test]
fn a_file_cut_at_any_byte_is_refused_as_incomplete() {
    let file = GgufBuilder::new()
        .key("word", 8, &GgufBuilder::string(b"llama"))
        .key("words", 9, &array(8, 1, &GgufBuilder::string(b"a")))
        .tensor("a", &[8], 0, &body(0, 32))
        .tensor("q", &[32], 8, &body(1, 34))
        .build();
    assert!(open(file.clone()).is_ok());
    for n in 0..file.len() {
        let e = refused(file[..n].to_vec());
        assert_eq!(e.kind(), ErrorKind::InsufficientData, "cut at {n}: {e}");
        assert!(e.message().contains("missing"), "cut at {n}: {e}");
    }
    let e = refused(file[..file.len() - 40].to_vec());
    assert_eq!(e.tensor(), Some("a"));
    assert!(e.message().contains("40 missing"), "{e}");
}

#[test]
fn files_that_break_a_rule_are_refused_by_name() {
    let new = GgufBuilder::new;
    let alignment = |n: u32| new().key("general.alignment", 4, &n.to_le_bytes());
    let nested = |levels| (1..levels).fold(array(0, 0, &[]), |inner, _| array(9, 1, &inner));
    assert!(open(new().key("k", 9, &nested(8)).build()).is_ok());
    let cases = [
        (
            new().tensor_at("w", &[1], 0, 0).tensor("w", &[1], 0, &[0; 4]),
            ErrorKind::Corruption,
            "w: the file has this tensor twice",
        ),
        (new().key("k", 0, &[1]).key("k", 0, &[2]), ErrorKind::Corruption, "\"k\" twice"),
        (new().key("k", 13, &[1]), ErrorKind::Corruption, "value type 13"),
        (new().key("k", 7, &[2]), ErrorKind::Corruption, "a bool is 0 or 1, found 2"),
        (new().key("k", 9, &nested(9)), ErrorKind::Limit, "nest deeper"),
        (new().key("k", 9, &array(0, u64::MAX, &[])), ErrorKind::InsufficientData, "k at offset"),
        (new().key("k", 9, &array(12, u64::MAX, &[])), ErrorKind::InsufficientData, "k at offset"),
        (alignment(0), ErrorKind::Corruption, "power of two, found 0"),
        (alignment(48), ErrorKind::Corruption, "power of two, found 48"),
        (
            new().tensor("w", &[1], 0, &[0; 64]).tensor_at("x", &[1], 0, 4),
            ErrorKind::Corruption,
            "x: offset 4",
        ),
        (
            new().tensor("v", &[16], 0, &[0; 64]).tensor_at("w", &[8], 0, 32),
            ErrorKind::Corruption,
            "w: starts at 32, but v",
        ),
        (new().tensor("w", &[33], 8, &[0; 68]), ErrorKind::Corruption, "w: rows of 33"),
        (new().tensor("w", &[16, 2], 8, &[0; 34]), ErrorKind::Corruption, "w: rows of 16"),
        (new().tensor("w", &[1 << 32, 1 << 32], 0, &[]), ErrorKind::Limit, "2^63"),
        (new().tensor("w", &[1 << 62], 10, &[]), ErrorKind::Limit, "2^64"),
        (new().tensor_at("w", &[1 << 60], 28, 1 << 63), ErrorKind::Corruption, "out of any file's range"),
        (new().tensor("w", &[1 << 62], 0, &[]), ErrorKind::Limit, "2^64"),
        (new().tensor_at("w", &[8], 0, u64::MAX - 31), ErrorKind::Corruption, "out of any file's range"),
        (new().tensor_at("w", &[8], 0, 1 << 40), ErrorKind::InsufficientData, "missing"),
        (
            new().key("split.count", 2, &3u16.to_le_bytes()).key("split.no", 2, &[0; 2]),
            ErrorKind::Unsupported,
            "part 1 of a GGUF model in 3",
        ),
    ];
    for (builder, kind, part) in cases {
        let e = refused(builder.build());
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(part), "{part}: {e}");
    }
}

#[test]
fn versions_and_byte_orders_that_are_not_read_are_named() {
    let with = |version: [u8; 4]| [b"GGUF", &version[..], &[0; 16]].concat();
    assert!(open(with([2, 0, 0, 0])).is_ok());
    assert_eq!(refused(with([1, 0, 0, 0])).kind(), ErrorKind::Unsupported);
    assert_eq!(refused(with([4, 0, 0, 0])).kind(), ErrorKind::Compatibility);
    let e = refused(with([0, 0, 0, 3]));
    assert!(e.message().contains("big-endian"), "{e}");
}
