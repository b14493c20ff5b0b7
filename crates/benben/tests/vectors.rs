//! Holds the reader to the golden packs of `format-spec/vectors`, and the generator to the same bytes.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "tests")]

#[path = "../examples/make_vectors/vectors/mod.rs"]
mod vectors;

use benben::{Error, ErrorKind, Limits, Pack};
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../format-spec/vectors")
}

/// Files under `path` by their name relative to it.
fn listed(path: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            listed(&entry.path(), &format!("{name}/"), found);
        } else if !name.ends_with(".md") {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

fn vectors() -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    listed(&folder(), "", &mut found);
    found
}

fn open(bytes: &[u8]) -> Result<Pack, Error> {
    Pack::from_source(Arc::new(bytes.to_vec()), Limits::default())
}

#[test]
fn good_packs_give_their_values() {
    let files = vectors();
    let mut wrong = Vec::new();
    for (name, bytes) in files.iter().filter(|f| !f.0.contains('/') && f.0.ends_with(".benben")) {
        let name = name.trim_end_matches(".benben");
        let expected: Value = serde_json::from_slice(&files[&format!("{name}.json")]).unwrap();
        let pack = open(bytes).unwrap();
        assert_eq!(benben::hex(&pack.reader().root()), expected["root"], "{name}");
        let (tensors, kept) =
            (expected["tensors"].as_object().unwrap(), expected["files"].as_object().unwrap());
        assert!(pack.tensors().map(|t| t.name()).eq(tensors.keys()), "{name}: {:?}", tensors.keys());
        for tensor in pack.tensors() {
            let (expected, (key, value)) =
                (&tensors[tensor.name()], vectors::spelled(&tensor.to_bytes().unwrap()));
            assert_eq!(tensor.dtype().name(), expected["dtype"], "{name}");
            assert_eq!(serde_json::json!(tensor.shape()), expected["shape"], "{name}");
            if expected[key] != value.as_str() {
                wrong.push(format!("{name}: {}", tensor.name()));
            }
        }
        assert!(pack.files().eq(kept.keys()), "{name}: {:?}", kept.keys());
        for file in pack.files() {
            let (key, value) = vectors::spelled(&pack.file(file).unwrap());
            assert_eq!(kept[file][key], value.as_str(), "{name}: {file}");
        }
        let report = pack.verify(&mut benben::ignore).unwrap();
        assert!(report.is_good(), "{name}: {report:?}");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn rows_are_rows_of_the_whole() {
    for (name, bytes) in vectors().iter().filter(|f| !f.0.contains('/') && f.0.ends_with(".benben")) {
        let pack = open(bytes).unwrap();
        for tensor in pack.tensors() {
            let whole = bits(&tensor.to_f32().unwrap());
            let rows = tensor.shape().first().copied().unwrap_or(1);
            for (from, to) in [(0, rows / 2), (rows / 3, rows), (rows / 2, rows.min(rows / 2 + 1))] {
                let columns = if rows == 0 { 0 } else { whole.len() / rows as usize };
                let part = bits(&tensor.rows(from..to).unwrap());
                let expected = &whole[from as usize * columns..to as usize * columns];
                assert_eq!(part, expected, "{name}: {} rows {from} to {to}", tensor.name());
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn broken_packs_are_refused() {
    let files = vectors();
    let list: BTreeMap<String, Value> = serde_json::from_slice(&files["must-fail/must-fail.json"]).unwrap();
    assert_eq!(list.len(), files.keys().filter(|n| n.starts_with("must-fail/")).count() - 1);
    let mut wrong = Vec::new();
    for (name, case) in &list {
        let (when, error) = match open(&files[&format!("must-fail/{name}")]) {
            Err(e) => ("open", Some(e)),
            Ok(pack) => {
                let mut others = pack.tensors().filter(|t| !["t", "broken"].contains(&t.name()));
                assert!(others.all(|t| t.to_bytes().is_ok()), "{name}: the other tensors");
                let read = || pack.tensor("t").and_then(|t| t.to_bytes()).err();
                let panicked = |_| Some(Error::new(ErrorKind::Interrupted, "a panic"));
                ("read", catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(panicked))
            }
        };
        let kind = error.as_ref().map(|e| format!("{:?}", e.kind())).unwrap_or_default();
        let right = case["when"] == when && case["kind"] == kind.as_str();
        if !right {
            wrong.push(format!("{name}: expected {case}, found {error:?} at {when}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_generator_still_makes_the_same_bytes() {
    let files = vectors();
    let made: BTreeMap<String, Vec<u8>> = vectors::files().unwrap().into_iter().collect();
    let alone = |a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
    };
    assert_eq!(
        (alone(&made, &files), alone(&files, &made)),
        (vec![], vec![]),
        "made alone, in the folder alone"
    );
    for (name, bytes) in &made {
        assert!(files[name] == *bytes, "{name}: {} bytes, {} in the folder", bytes.len(), files[name].len());
    }
}
