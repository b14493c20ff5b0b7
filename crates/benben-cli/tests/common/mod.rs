//! A small model, and ways to run the program on it.
#![allow(dead_code, reason = "not every test file uses all of it")]

use assert_cmd::Command;
use benben::Dtype;
use benben_io::safetensors::{TensorSpec, write};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) fn benben(folder: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("benben"));
    command.current_dir(folder).arg("--no-progress");
    command
}

/// Writes a model of two matrices of `columns` columns and a bias, and returns its path.
pub(crate) fn model(folder: &Path, columns: usize) -> PathBuf {
    let specs = [
        ("a.weight", vec![64, columns as u64]),
        ("b.weight", vec![32, columns as u64]),
        ("b.bias", vec![32]),
    ]
    .map(|(name, shape)| TensorSpec { name: name.into(), dtype: Dtype::F32, shape });
    let mut bytes = Vec::new();
    write(&mut bytes, &specs, &BTreeMap::new(), |i| {
        let n = specs[i].shape.iter().product::<u64>();
        let values: Vec<f32> =
            (0..n).map(|j| ((j * 2_654_435_761 % 1009) as f32 / 504.5 - 1.0).powi(3)).collect();
        Dtype::F32.from_f32(&values).map(Cow::Owned)
    })
    .unwrap();
    let path = folder.join("model.safetensors");
    let mut file = benben::AtomicFile::create(&path, true).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    file.commit().unwrap();
    path
}

pub(crate) fn put(path: &Path, bytes: &[u8]) {
    let mut file = benben::AtomicFile::create(path, true).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    file.commit().unwrap();
}

pub(crate) fn stdout(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn run(folder: &Path, args: &[&str], code: i32) -> (String, String) {
    let output = benben(folder).args(args).output().unwrap();
    let (out, err) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "benben {args:?}\nstdout: {out}\nstderr: {err}");
    (out, err)
}

pub(crate) fn json(folder: &Path, args: &[&str], code: i32) -> Value {
    serde_json::from_str(&run(folder, args, code).0).unwrap()
}
