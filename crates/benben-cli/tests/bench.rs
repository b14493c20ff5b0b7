//! `benben bench`: what it prints and what it exports. Speeds are not looked at.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

use std::path::Path;

fn bench(folder: &Path, args: &[&str]) -> (bool, String, String) {
    let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("benben"));
    let output =
        command.current_dir(folder).args(["bench", "--quick", "--no-progress"]).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_table_has_peers_limits_and_verdicts() {
    let folder = tempfile::TempDir::new().unwrap();
    let (ok, table, _) = bench(folder.path(), &["--only", "coding", "--weights", "30000"]);
    assert!(ok);
    for line in
        ["Benben symbols, portable", "Benben trellis-states", "constriction", "zstd -19", "pco", "memcpy"]
    {
        assert!(table.lines().any(|l| l.starts_with(line)), "no line {line} in\n{table}");
    }
    assert_eq!(
        table.contains("x constriction: "),
        table.contains("AVX2,") || table.contains("symbols, AVX2")
    );
    assert!(!table.contains("Floats"));
}

#[test]
fn an_export_is_what_was_measured_and_is_not_overwritten_unasked() {
    let folder = tempfile::TempDir::new().unwrap();
    let args = ["--export", "data", "--weights", "20480"];
    assert!(bench(folder.path(), &args).0);
    let size = |name: &str| std::fs::metadata(folder.path().join("data").join(name)).unwrap().len();
    assert_eq!(
        ["f32.bin", "bf16.bin", "integers-1.5.bin", "integers-6.bin"].map(size),
        [81920, 40960, 20480, 20480]
    );
    let ours = std::fs::read(folder.path().join("data/ours.json")).unwrap();
    let ours: serde_json::Value = serde_json::from_slice(&ours).unwrap();
    assert_eq!(ours["export"]["floats"][0]["source_bytes"], 81920);
    let (ok, _, message) = bench(folder.path(), &args);
    assert!(!ok && message.contains("exists"), "{message}");
    assert!(bench(folder.path(), &[&args[..], &["--force"]].concat()).0);
}
