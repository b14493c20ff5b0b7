//! The built program, as a person and as a script meet it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

mod common;

use benben::Dtype;
use common::{benben, json, model, put, run, stderr};
use std::path::Path;
use tempfile::TempDir;

#[test]
fn demo_packs_the_model_that_comes_along_and_shows_a_table() {
    let folder = TempDir::new().unwrap();
    let (out, _) = run(folder.path(), &["demo"], 0);
    for word in ["lossless", "balanced", "none, bit for bit", "ok", "bits/weight"] {
        assert!(out.contains(word), "{word} is missing in:\n{out}");
    }
    let rows = json(folder.path(), &["demo", "--json", "--keep", "kept"], 0);
    assert_eq!(rows[0]["identical"], true);
    assert!(rows[1]["packed_bytes"].as_u64() < rows[0]["packed_bytes"].as_u64());
    assert!(folder.path().join("kept/demo-balanced.benben").is_file());
}

#[test]
fn a_lossless_pack_comes_back_bit_for_bit() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    run(at, &["pack", "model.safetensors", "--preset", "lossless"], 0);
    let (out, _) =
        run(at, &["verify", "model.benben", "--against", "model.safetensors", "--max-mse", "0"], 0);
    assert!(out.starts_with("ok: 3 tensors"), "{out}");
    run(at, &["unpack", "model.benben", "-o", "back.safetensors"], 0);
    let (out, _) = run(at, &["compare", "model.safetensors", "back.safetensors", "--exact"], 0);
    assert!(out.contains("identical: 3 tensors"), "{out}");
    let source = std::fs::read(at.join("model.safetensors")).unwrap();
    assert_eq!(source, std::fs::read(at.join("back.safetensors")).unwrap());
}

#[test]
fn json_has_the_documented_fields() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    let packed = json(at, &["pack", "model.safetensors", "-o", "m.benben", "--json", "--bpw", "6"], 0);
    let inspected = json(at, &["inspect", "m.benben", "--json"], 0);
    for report in [&packed, &inspected] {
        for field in ["source_bytes", "packed_bytes", "bits_per_weight", "weights", "root"] {
            assert!(!report[field].is_null(), "{field} is missing in {report}");
        }
        for field in ["name", "shape", "dtype", "expression", "bits_per_weight", "bytes", "relative_mse"] {
            assert!(!report["tensors"][0][field].is_null(), "tensors[].{field} is missing in {report}");
        }
    }
    assert_eq!(packed["root"], inspected["root"]);
    let planned = json(at, &["plan", "model.safetensors", "--json", "--bpw", "6"], 0);
    assert!(planned["predicted_bytes"].as_u64().unwrap() > 0);
    let compared = json(at, &["compare", "model.safetensors", "m.benben", "--json"], 0);
    assert!(compared["worst_relative_mse"].as_f64().unwrap() > 0.0);
    let verified = json(at, &["verify", "m.benben", "--json"], 0);
    assert_eq!(verified["ok"], true);
    let unpacked = json(at, &["unpack", "m.benben", "-o", "out", "--json"], 0);
    assert_eq!(unpacked["tensors"], 3);
}

#[test]
fn single_tensors_and_dtypes_can_be_chosen() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 64);
    run(at, &["pack", "model.safetensors", "--preset", "lossless"], 0);
    run(at, &["unpack", "model.benben", "-o", "a.safetensors", "-t", "a.*", "--dtype", "bf16"], 0);
    let model = benben::open_model(&at.join("a.safetensors")).unwrap();
    assert_eq!(model.tensors().len(), 1);
    assert_eq!(model.tensors()[0].dtype, Dtype::BF16);
    let (_, err) = run(at, &["unpack", "model.benben", "-o", "x.safetensors", "-t", "a.weigth"], 2);
    assert!(err.contains("hint: the nearest name is \"a.weight\""), "{err}");
}

#[test]
fn a_recipe_written_by_plan_packs_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 256);
    let flags = ["--preset", "small", "--set", "b.weight=scalar:bpw=5", "--seed", "3"];
    run(at, &[&["pack", "model.safetensors", "-o", "one.benben"][..], &flags].concat(), 0);
    run(at, &[&["plan", "model.safetensors", "--write-recipe", "r.toml"][..], &flags].concat(), 0);
    run(at, &["pack", "model.safetensors", "-o", "two.benben", "--recipe", "r.toml"], 0);
    assert_eq!(std::fs::read(at.join("one.benben")).unwrap(), std::fs::read(at.join("two.benben")).unwrap());
    run(at, &["pack", "model.safetensors", "-o", "three.benben", "--threads", "1", "--recipe", "r.toml"], 0);
    assert_eq!(
        std::fs::read(at.join("one.benben")).unwrap(),
        std::fs::read(at.join("three.benben")).unwrap()
    );
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    let (out, _) = run(at, &["pack", "model.safetensors", "--dry-run"], 0);
    assert!(out.contains("predicted:"), "{out}");
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 1);
}

#[test]
fn a_pack_goes_to_stdout() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    run(at, &["pack", "model.safetensors", "-o", "m.benben"], 0);
    let output = benben(at).args(["pack", "model.safetensors", "-o", "-"]).output().unwrap();
    assert_eq!(output.stdout, std::fs::read(at.join("m.benben")).unwrap());
}

#[test]
fn an_output_that_exists_is_kept_unless_forced() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    put(&at.join("m.benben"), b"precious");
    let (_, err) = run(at, &["pack", "model.safetensors", "-o", "m.benben"], 2);
    assert!(err.contains("already exists") && err.contains("hint: --force"), "{err}");
    assert_eq!(std::fs::read(at.join("m.benben")).unwrap(), b"precious");
    run(at, &["pack", "model.safetensors", "-o", "m.benben", "--force"], 0);
    run(at, &["verify", "m.benben"], 0);
}

#[test]
fn exit_codes_tell_what_happened() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    run(at, &["pack", "model.safetensors", "-o", "m.benben"], 0);
    let good = std::fs::read(at.join("m.benben")).unwrap();

    // 1: corrupt, or cut short.
    let mut corrupt = good.clone();
    corrupt[good.len() / 2] ^= 1;
    put(&at.join("corrupt.benben"), &corrupt);
    let (_, err) = run(at, &["verify", "corrupt.benben"], 1);
    assert!(err.contains("expected"), "{err}");
    put(&at.join("cut.benben"), &good[..good.len() - 100]);
    let (_, err) = run(at, &["verify", "cut.benben"], 1);
    assert!(err.contains(&format!("100 of {} bytes are missing", good.len())), "{err}");
    put(&at.join("noise.benben"), b"this is no pack at all");
    let (_, err) = run(at, &["verify", "noise.benben"], 1);
    assert!(err.contains("not a Benben pack"), "{err}");

    // 2: usage.
    run(at, &["pack"], 2);
    run(at, &["pack", "model.safetensors", "--preset", "enormous"], 2);
    let (_, err) = run(at, &["pack", "model.safetensors", "-o", "x.benben", "--set", "nothing.*=raw"], 2);
    assert!(err.contains("no tensor matches"), "{err}");
    let (_, err) = run(at, &["pack", "model.safetensors", "-o", "x.benben", "--bpw", "0.01"], 2);
    assert!(err.contains("hint: ask for more than"), "{err}");
    run(at, &["inspect", "noise.benben"], 2);

    // 3: a check was not met.
    run(at, &["compare", "model.safetensors", "m.benben", "--max-mse", "1e-9"], 3);
    run(at, &["compare", "model.safetensors", "m.benben", "--exact"], 3);

    // 4: a version of the future.
    let mut future = good.clone();
    future[8] = 2;
    let crc = crc32c::crc32c(&future[..60]);
    future[60..64].copy_from_slice(&crc.to_le_bytes());
    put(&at.join("future.benben"), &future);
    let (_, err) = run(at, &["verify", "future.benben"], 4);
    assert!(err.contains("version 2"), "{err}");
    assert!(!at.join("x.benben").exists());
}

/// Ctrl-C in the middle: exit code 130, no temporary file left, the earlier file untouched.
#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 40_000);
    put(&at.join("m.benben"), b"earlier");
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("benben"))
        .current_dir(at)
        .args([
            "--no-progress",
            "pack",
            "model.safetensors",
            "-o",
            "m.benben",
            "--force",
            "--set",
            "*.weight=rvq:6",
        ])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let temporary = |at: &Path| {
        let names = std::fs::read_dir(at).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.ends_with(".tmp")).count()
    };
    while temporary(at) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "packed before it could be interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(temporary(at), 0);
    assert_eq!(std::fs::read(at.join("m.benben")).unwrap(), b"earlier");
}

#[test]
fn completions_are_printed_for_every_shell() {
    let folder = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(run(folder.path(), &["completions", shell], 0).0.contains("benben"));
    }
}
