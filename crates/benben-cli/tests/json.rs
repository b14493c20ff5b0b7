//! What `--json` prints is what JSON.md says.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Every key of `value` and of what is in it, but not those of free maps.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.insert(key.clone());
                if !["metadata", "recipe"].contains(&key.as_str()) {
                    keys(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|v| keys(v, found)),
        _ => {}
    }
}

/// Names between backquotes in the section of JSON.md that begins with `heading`.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("JSON.md")).unwrap();
    let section = text.split("\n## ").find(|s| s.starts_with(heading)).unwrap();
    let names = section.split('`').skip(1).step_by(2);
    names.map(|n| n.rsplit('.').next().unwrap().trim_end_matches("[]").to_owned()).collect()
}

#[test]
fn every_field_is_documented_under_its_command() {
    let folder = tempfile::TempDir::new().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/demo");
    let model = model.to_str().unwrap();
    for (heading, args) in [
        ("pack", vec!["pack", model, "-o", "m.benben"]),
        ("plan", vec!["plan", model]),
        ("inspect", vec!["inspect", "m.benben"]),
        ("verify", vec!["verify", "m.benben", "--against", model]),
        ("compare", vec!["compare", model, "m.benben"]),
        ("unpack", vec!["unpack", "m.benben", "-o", "out"]),
        ("demo", vec!["demo"]),
        ("bench", vec!["bench", "--quick", "--weights", "20000"]),
        ("bench", vec!["bench", model, "--quick", "--weights", "20000", "--export", "data"]),
    ] {
        let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("benben"));
        let output = command.current_dir(folder.path()).args(&args).args(["--json", "-q"]).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        let mut found = BTreeSet::new();
        keys(&serde_json::from_slice(&output.stdout).unwrap(), &mut found);
        let documented = documented(heading);
        let missing: Vec<_> = found.difference(&documented).collect();
        assert!(!found.is_empty() && missing.is_empty(), "{heading}: JSON.md does not say {missing:?}");
    }
}
