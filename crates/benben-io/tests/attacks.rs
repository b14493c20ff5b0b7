//! Hostile bytes: the readers give a model or an error, never a panic, and no more memory than the bytes justify.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panics too")]

mod common;

use benben_format::{Error, Source};
use benben_io::ModelSource;
use benben_io::gguf::Gguf;
use benben_io::safetensors::SafeTensors;
use common::{GgufBuilder, small_gguf, small_safetensors, with_header};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::sync::Arc;

/// Reads all that was opened. Values are at most the bytes of the file, or 12.2 times that where blocks expand: Q2_K
/// has 84 bytes for 256 values.
fn read_all(model: &dyn ModelSource) {
    let total = usize::try_from(model.total_bytes()).unwrap();
    let (mut source, mut values) = (0, 0);
    for (i, info) in model.tensors().iter().enumerate() {
        source += usize::try_from(info.source_bytes).unwrap();
        if let Ok(bytes) = model.read(i) {
            let elements = benben_format::element_count(&info.shape).unwrap();
            assert_eq!(bytes.len() as u64, elements * info.dtype.size() as u64, "{info:?}");
            values += bytes.len();
        }
    }
    assert!(source <= total, "{source} bytes of tensors in a file of {total}");
    assert!(values <= 13 * total, "{values} bytes of values from a file of {total}");
    let text: usize = model.metadata().iter().map(|(k, v)| k.len() + v.len()).sum();
    assert!(text <= 25 * total + 100, "{text} bytes of metadata from a file of {total}");
    for file in model.files() {
        let n = file.read().unwrap().len();
        assert!(n <= 8 * total + 100, "{n} bytes of {} from a file of {total}", file.name());
    }
}

/// Ten thousand inputs of `strategy`; some must open, or nothing behind the header was attacked.
fn attack<M: ModelSource>(
    strategy: impl Strategy<Value = Vec<u8>>,
    open: impl Fn(Source) -> Result<M, Error>,
    at_least: usize,
) {
    let config = ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    let opened = Cell::new(0);
    let outcome = TestRunner::new(config).run(&strategy, |bytes| {
        if let Ok(model) = open(Arc::new(bytes)) {
            opened.set(opened.get() + 1);
            read_all(&model);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(opened.get() >= at_least, "only {} of the inputs opened", opened.get());
}

/// Random changes of a valid file: bytes replaced, removed, repeated, and its end cut.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let n = valid.len();
    let change = (0..n, 0..4u8, any::<u8>(), 1..40usize);
    (prop::collection::vec(change, 0..6), prop_oneof![3 => Just(n), 1 => 0..n]).prop_map(
        move |(changes, end)| {
            let mut bytes = valid.clone();
            for (at, what, byte, len) in changes {
                let at = at.min(bytes.len().saturating_sub(1));
                let stop = (at + len).min(bytes.len());
                match what {
                    0 => bytes[at] = byte,
                    1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'"'][usize::from(byte) % 8],
                    2 if stop - at < bytes.len() => drop(bytes.drain(at..stop)),
                    _ => {
                        let again = bytes[at..stop].to_vec();
                        bytes.splice(at..at, again);
                    }
                }
            }
            bytes.truncate(end.min(bytes.len()));
            bytes
        },
    )
}

/// JSON that is nearly a header: right words in the wrong places.
fn header_like() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        (0..40u64).prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        Just("-1".to_owned()),
        Just("1e3".to_owned()),
        Just("18446744073709551616".to_owned())
    ];
    let dtype = prop::sample::select(vec!["F32", "BF16", "I8", "BOOL", "F64", "F4", ""]);
    let entry = (dtype, prop::collection::vec(number.clone(), 0..4), prop::collection::vec(number, 1..4))
        .prop_map(|(dtype, shape, offsets)| {
            let (shape, offsets) = (shape.join(","), offsets.join(","));
            format!(r#"{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{offsets}]}}"#)
        });
    // Tensors that fit, so that some of the files open.
    let fitting = (0..9u64, 0..9u64)
        .prop_map(|(a, b)| format!(r#"{{"dtype":"U8","shape":[{b}],"data_offsets":[{a},{}]}}"#, a + b));
    let entry = prop_oneof![1 => entry, 4 => fitting];
    let name = prop::sample::select(vec!["a", "b", "c", "__metadata__", ""]);
    (prop::collection::vec((name, entry), 0..4), 0..20usize).prop_map(|(entries, data)| {
        let fields: Vec<String> = entries.iter().map(|(n, e)| format!("\"{n}\":{e}")).collect();
        with_header(&format!("{{{}}}", fields.join(",")), data)
    })
}

/// GGUF whose infos are well-formed and whose numbers are not.
fn gguf_like() -> impl Strategy<Value = Vec<u8>> {
    let dim = prop_oneof![4 => prop::sample::select(vec![0u64, 1, 3, 32, 256]), 1 => any::<u64>()];
    let kind = prop_oneof![4 => 0..45u32, 1 => any::<u32>()];
    let offset = prop_oneof![4 => (0..20u64).prop_map(|n| n * 32), 1 => any::<u64>()];
    let tensor = (prop::collection::vec(dim, 0..4), kind, offset);
    let value = (0..14u32, prop::collection::vec(any::<u8>(), 0..30));
    (prop::collection::vec(value, 0..3), prop::collection::vec(tensor, 0..4), 0..2000usize).prop_map(
        |(values, tensors, data)| {
            let mut file = GgufBuilder::new();
            for (i, (kind, bytes)) in values.iter().enumerate() {
                file = file.key(&format!("k{i}"), *kind, bytes);
            }
            file = file.tensor("data", &[data as u64], 24, &vec![7; data]);
            for (i, (dims, kind, offset)) in tensors.iter().enumerate() {
                file =
                    file.tensor_at(&format!("t{i}"), dims, *kind, data.next_multiple_of(32) as u64 + offset);
            }
            [file.build(), vec![3; 4096]].concat()
        },
    )
}

#[test]
fn ten_thousand_hostile_safetensors_give_a_model_or_an_error() {
    let strategy = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        4 => mutated(small_safetensors()),
        4 => header_like(),
    ];
    attack(strategy, SafeTensors::new, 500);
}

#[test]
fn ten_thousand_hostile_gguf_files_give_a_model_or_an_error() {
    let strategy = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(|b| [b"GGUF\x03\0\0\0", &b[..]].concat()),
        4 => mutated(small_gguf()),
        4 => gguf_like(),
    ];
    attack(strategy, Gguf::new, 500);
}

#[test]
fn the_valid_files_that_are_mutated_do_open() {
    let opened = SafeTensors::new(Arc::new(small_safetensors())).unwrap();
    assert_eq!(opened.tensors().len(), 4);
    read_all(&opened);
    let opened = Gguf::new(Arc::new(small_gguf())).unwrap();
    assert_eq!(opened.tensors().len(), 6);
    assert_eq!((0..6).filter(|&i| opened.read(i).is_ok()).count(), 4);
    read_all(&opened);
}
