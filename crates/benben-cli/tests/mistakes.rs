//! What people really get wrong: each slip is named, and nothing is lost by it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

mod common;

use common::{benben, json, model, put, run, stderr};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `benben inspect m.benben | head -0`: quiet, where println! would panic.
#[test]
fn a_reader_that_went_away_is_no_failure() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    run(at, &["pack", "model.safetensors"], 0);
    for args in [
        &["inspect", "model.benben"][..],
        &["inspect", "model.benben", "--json"],
        &["plan", "model.safetensors"],
        &["verify", "model.benben"],
        &["compare", "model.benben", "model.benben"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("benben"));
        let child = command.current_dir(at).args(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn misspelled_paths_are_answered_with_the_name_beside() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    for args in [&["pack", "model.safetensor"][..], &["verify", "modle.safetensors"]] {
        let (_, err) = run(at, args, 1);
        assert!(err.contains("no such file") && err.contains("hint: there is model.safetensors"), "{err}");
    }
    let (_, err) = run(at, &["pack", "-", "-o", "m.benben"], 1);
    assert!(err.contains("stdin"), "{err}");
    let (out, err) = run(at, &["compare", "model.safetensors", "nowhere/m.benben", "--json"], 1);
    assert!(out.is_empty() && err.contains("nowhere does not exist"), "{err}");
    assert_eq!(names(at), ["model.safetensors"]);
}

#[test]
fn the_source_is_not_replaced_even_by_force() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let source = std::fs::read(model(at, 128)).unwrap();
    for args in [["model.safetensors", "model.safetensors"], [".", "./model.safetensors"]] {
        let (_, err) = run(at, &["pack", args[0], "-o", args[1], "--force"], 2);
        assert!(err.contains("what is being packed"), "{err}");
    }
    assert_eq!(std::fs::read(at.join("model.safetensors")).unwrap(), source);
    run(at, &["pack", "model.safetensors"], 0);
    run(at, &["pack", "model.benben", "--preset", "tiny", "--force"], 2);
    run(at, &["pack", ".", "-o", "model.benben", "--force"], 0);
}

#[test]
fn outputs_that_cannot_be_are_refused_before_the_work() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    let (_, err) = run(at, &["pack", "model.safetensors", "-o", "none/m.benben"], 2);
    assert!(err.contains("the folder none does not exist") && !err.contains(".tmp"), "{err}");
    #[cfg(unix)]
    {
        let (_, err) = run(at, &["pack", "model.safetensors", "-o", "/dev/null", "--force"], 2);
        assert!(err.contains("a device"), "{err}");
    }
    run(at, &["pack", "model.safetensors"], 0);
    let (_, err) = run(at, &["unpack", "model.benben", "-o", "model.safetensors/x"], 2);
    assert!(err.contains("is a file, expected a folder"), "{err}");
    let (_, err) = run(at, &["unpack", "model.benben", "-o", "-"], 2);
    assert!(err.contains("stdout"), "{err}");
    assert_eq!(names(at), ["model.benben", "model.safetensors"]);
}

#[test]
fn a_failed_unpack_leaves_no_folder() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    run(at, &["pack", "model.safetensors", "-o", "m.benben"], 0);
    let mut bytes = std::fs::read(at.join("m.benben")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    put(&at.join("m.benben"), &bytes);
    run(at, &["unpack", "m.benben", "-o", "deep/er"], 1);
    assert_eq!(names(at), ["m.benben", "model.safetensors"]);
}

#[test]
fn patterns_that_match_nothing_are_slips() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    run(at, &["pack", "model.safetensors"], 0);
    for args in [
        &["inspect", "model.benben", "-t", "a.*", "-t", "nothing*"][..],
        &["compare", "model.safetensors", "model.benben", "-t", "a.*", "-t", "nothing*"],
        &["unpack", "model.benben", "-o", "x", "-t", "a.*", "-t", "nothing*"],
    ] {
        let (out, err) = run(at, args, 2);
        assert!(out.is_empty() && err.contains("nothing*"), "{err}");
    }
}

#[test]
fn numbers_out_of_range_say_what_is_expected() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    let pack = ["pack", "model.safetensors", "-o", "m.benben"];
    for (args, word) in [
        (&["--bpw", "-1"][..], "above 0 and at most 32, found -1"),
        (&["--bpw", "NaN"], "found NaN"),
        (&["--bpw", "4", "--quantizer", "pvq:bpw=3"], "two targets"),
        (&["--bpw", "4", "--quantizer", "raw"], "no tensor is free"),
        (&["--preset", "lossless", "--quantizer", "pvq"], "--quantizer scalar:bpw=4"),
        (&["--quantizer", "pcq"], "known: raw, scalar"),
        (&["--threads", "0"], "1..=1024"),
        (&["--threads", "100000"], "1..=1024"),
        (&["--recipe", "model.safetensors"], "expected a recipe in TOML"),
    ] {
        let (_, err) = run(at, &[&pack[..], args].concat(), 2);
        assert!(err.contains(word), "{args:?}: {err}");
    }
    run(at, &pack, 0);
    for most in ["NaN", "-1", "much"] {
        let check = ["compare", "model.safetensors", "m.benben", "--max-mse", most];
        assert!(run(at, &check, 2).1.contains("0 or more"));
        let check = ["verify", "m.benben", "--against", "model.safetensors", "--max-mse", most];
        assert!(run(at, &check, 2).1.contains("0 or more"));
    }
    assert!(run(at, &["unpack", "m.benben", "-o", "x", "--dtype", "i32"], 2).1.contains("bf16"));
}

#[test]
fn a_slip_in_a_rule_of_a_recipe_does_not_pass() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    let (recipe, err) =
        run(at, &["plan", "model.safetensors", "--set", "a.*=scalar:5", "--write-recipe", "-"], 0);
    assert_eq!(err, "");
    put(&at.join("good.toml"), recipe.as_bytes());
    run(at, &["pack", "model.safetensors", "--recipe", "good.toml", "--dry-run"], 0);
    put(&at.join("slip.toml"), format!("{recipe}colour = 3\n").as_bytes());
    let (_, err) = run(at, &["pack", "model.safetensors", "--recipe", "slip.toml"], 2);
    assert!(err.contains("slip.toml") && err.contains("line") && err.contains("`colour`"), "{err}");
    assert_eq!(names(at), ["good.toml", "model.safetensors", "slip.toml"]);
}

#[test]
fn two_unlike_models_are_told_so() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 64);
    run(at, &["pack", "model.safetensors", "-o", "m.benben"], 0);
    run(at, &["unpack", "m.benben", "-o", "part.safetensors", "-t", "*.bias"], 0);
    let (out, _) = run(at, &["verify", "m.benben", "--against", "part.safetensors"], 3);
    assert!(out.contains("another model") && !out.contains("exact"), "{out}");
    let (out, _) = run(at, &["compare", "part.safetensors", "m.benben"], 3);
    assert!(out.contains("only in the second: a.weight") && out.contains("NOT MET"), "{out}");
    let (out, _) = run(at, &["compare", "model.safetensors", "m.benben", "--max-mse", "1e-9"], 3);
    assert!(out.contains("weight has relative error") && out.contains("1.00e-9"), "{out}");
    let output = benben(at).args(["inspect", "m.benben", "--quiet"]).output().unwrap();
    assert!(output.stdout.is_empty());
    assert_eq!(
        json(at, &["inspect", "m.benben", "--quiet", "--json"], 0)["tensors"].as_array().unwrap().len(),
        3
    );
}

/// A name is data: it does not move the cursor or start a line.
#[test]
fn names_do_not_steer_the_terminal() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let mut bytes = Vec::new();
    let name = "a\u{1b}[31m\nb".to_owned();
    let spec = benben_io::safetensors::TensorSpec { name, dtype: benben::Dtype::F32, shape: vec![4] };
    let none = std::collections::BTreeMap::new();
    benben_io::safetensors::write(&mut bytes, &[spec], &none, |_| Ok(vec![0; 16].into())).unwrap();
    put(&at.join("m.safetensors"), &bytes);
    run(at, &["pack", "m.safetensors", "-v"], 0);
    for args in
        [&["inspect", "m.benben"][..], &["plan", "m.safetensors"], &["compare", "m.benben", "m.benben"]]
    {
        let (out, _) = run(at, args, 0);
        assert!(!out.contains('\u{1b}') && out.contains("a\\u{1b}[31m\\nb"), "{out}");
    }
}

#[test]
fn packing_a_pack_says_where_errors_count_from() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    model(at, 128);
    run(at, &["pack", "model.safetensors"], 0);
    let (out, _) = run(at, &["pack", "model.benben", "-o", "again.benben", "--preset", "small"], 0);
    assert!(out.contains("errors count from it"), "{out}");
    let (out, _) = run(at, &["pack", "model.benben", "-o", "same.benben", "--preset", "lossless"], 0);
    assert!(!out.contains("note:"), "{out}");
}
