//! GGUF blocks against the values of the reference implementation (`tests/data/make_gguf.py`), bit for bit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panics too")]

use benben_format::{Dtype, ErrorKind};
use benben_io::{ModelSource, open};
use std::path::Path;

fn every_type() -> Box<dyn ModelSource> {
    open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/every_type.gguf")).unwrap()
}

#[test]
fn every_block_type_gives_the_bits_of_the_reference_implementation() {
    let model = every_type();
    let mut held = 0;
    for (i, values) in model.tensors().iter().enumerate() {
        let Some(name) = values.name.strip_suffix(".values") else { continue };
        let quantized = model.index_of(name).unwrap();
        let info = &model.tensors()[quantized];
        assert_eq!((info.source_type.as_str(), info.dtype), (name, Dtype::F32));
        assert_eq!(info.shape, values.shape);
        let (got, expected) = (model.read(quantized).unwrap(), model.read(i).unwrap());
        for (at, (a, b)) in got.as_chunks::<4>().0.iter().zip(expected.as_chunks::<4>().0).enumerate() {
            let (a, b) = (f32::from_le_bytes(*a), f32::from_le_bytes(*b));
            assert_eq!(a.to_bits(), b.to_bits(), "{name} element {at}: {a} is not {b}");
        }
        assert_eq!(got.len(), expected.len());
        held += 1;
    }
    assert_eq!(held, 12, "block types held against the reference");
}

#[test]
fn stored_types_keep_their_values_and_shapes_are_outermost_first() {
    let model = every_type();
    for dtype in [Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::I8, Dtype::I16, Dtype::I32, Dtype::I64] {
        let i = model.index_of(dtype.name()).unwrap();
        let info = &model.tensors()[i];
        assert_eq!((info.dtype, info.source_type.as_str()), (dtype, dtype.name()));
        assert_eq!(info.shape, [2, 5]);
        let mut values = [0.0; 10];
        dtype.to_f32(&model.read(i).unwrap(), &mut values).unwrap();
        assert_eq!(values, [-5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0], "{dtype}");
    }
}

#[test]
fn a_type_without_a_reader_is_listed_and_refused_when_read() {
    let model = every_type();
    let i = model.index_of("unread").unwrap();
    let info = &model.tensors()[i];
    assert_eq!((info.source_type.as_str(), info.source_bytes), ("TQ1_0", 54));
    let e = model.read(i).unwrap_err();
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::Unsupported, Some("unread")));
    assert!(e.message().contains("TQ1_0"), "{e}");
}

#[test]
fn key_values_of_the_reference_writer_come_out_complete() {
    let model = every_type();
    let metadata = model.metadata();
    for (key, text) in [
        ("general.name", "random blocks"),
        ("kv.u8", "255"),
        ("kv.i8", "-128"),
        ("kv.u16", "65535"),
        ("kv.i16", "-32768"),
        ("kv.u32", "4294967295"),
        ("kv.i32", "-2147483648"),
        ("kv.f32", "0.1"),
        ("kv.bool", "true"),
        ("kv.u64", "18446744073709551615"),
        ("kv.i64", "-9223372036854775808"),
        ("kv.f64", "0.1"),
    ] {
        assert_eq!(metadata[key], text, "{key}");
    }
    assert!(!metadata.contains_key("kv.strings"), "arrays are in gguf.json alone");

    let [json] = model.files() else { panic!("one side file") };
    assert_eq!(json.name(), "gguf.json");
    let json: serde_json::Value = serde_json::from_slice(&json.read().unwrap()).unwrap();
    let value = |key: &str| json["metadata"][key].clone();
    assert_eq!(value("kv.u64"), serde_json::json!({"type": "uint64", "value": u64::MAX}));
    assert_eq!(
        value("kv.strings"),
        serde_json::json!({"type": "array", "items": "string", "value": ["a", "ü\n"]})
    );
    assert_eq!(
        value("kv.integers"),
        serde_json::json!({"type": "array", "items": "int32", "value": [1, -2, 3]})
    );
    assert_eq!(json["metadata"].as_object().unwrap().len(), 16);
}
