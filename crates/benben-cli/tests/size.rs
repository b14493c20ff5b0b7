//! Packs of a size, and of a loss, of the demo model.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use common::{json, put, run};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn demo() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/demo");
    path.to_str().unwrap().to_owned()
}

/// Two parts of a text that the model knows.
fn texts(at: &Path) -> [PathBuf; 2] {
    let whole = std::fs::read_to_string(Path::new(&demo()).join("../../text/alice.txt")).unwrap();
    let start = whole.find("Alice was beginning").unwrap();
    let part = |name: &str, skip: usize| {
        let path = at.join(name);
        let text: String = whole[start..].chars().skip(skip).take(20_000).collect();
        put(&path, text.as_bytes());
        path
    };
    [part("calib.txt", 0), part("other.txt", 60_000)]
}

#[test]
fn a_size_is_met_and_its_recipe_gives_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let (at, demo) = (folder.path(), demo());
    let [calib, other] = texts(at);
    let (calib, other) = (calib.to_str().unwrap(), other.to_str().unwrap());
    let asked = ["--size", "620kB", "--calib", calib, "--effort", "4", "--levels", "levels"];
    let plan = [&["plan", &demo, "--write-recipe", "r.toml"][..], &asked].concat();
    let planned = json(at, &[&plan[..], &["--json"]].concat(), 0);
    let search = &planned["search"];
    let loss = |name: &str| search[name].as_f64().unwrap();
    assert!(loss("loss") <= loss("programme_loss") && loss("loss") < loss("uniform_loss"), "{search}");
    // From the levels that the plan left, and from nothing but recipe and text.
    run(at, &[&["pack", &demo, "-o", "a.benben"][..], &asked].concat(), 0);
    run(at, &["pack", &demo, "-o", "b.benben", "--recipe", "r.toml", "--calib", calib], 0);
    let a = std::fs::read(at.join("a.benben")).unwrap();
    assert!(a == std::fs::read(at.join("b.benben")).unwrap(), "the recipe gives another pack");
    assert!((616_900..=620_000).contains(&a.len()), "{}", a.len());
    assert_eq!(planned["predicted_bytes"], a.len());
    // Another text than that of the recipe, or none.
    let wrong = ["pack", &demo, "-o", "c.benben", "--recipe", "r.toml"];
    assert!(run(at, &wrong, 2).1.contains("give --calib"));
    let wrong = [&wrong[..], &["--calib", other]].concat();
    assert!(run(at, &wrong, 2).1.contains("the same text"));
    // What was planned is better than the same bits for all, on a text that was not seen either.
    let bits = format!("{}", a.len() as f64 * 8.0 / 1_935_104.0);
    let uniform = ["pack", &demo, "-o", "u.benben", "--bpw", &bits, "--quantizer", "trellis"];
    run(at, &uniform, 0);
    let divergence = |pack: &str| {
        let args = ["eval", pack, "--data", other, "--reference", &demo, "--context", "128", "--json"];
        json(at, &args, 0)["reference"]["divergence"]["value"].as_f64().unwrap()
    };
    let (planned, uniform) = (divergence("a.benben"), divergence("u.benben"));
    assert!(planned < 0.8 * uniform, "{planned} beside {uniform}");
}

#[test]
fn a_size_is_met_layer_after_layer_too_and_statistics_alone_do_not_do() {
    let folder = TempDir::new().unwrap();
    let (at, demo) = (folder.path(), demo());
    let [calib, other] = texts(at);
    let (calib, other) = (calib.to_str().unwrap(), other.to_str().unwrap());
    let asked = ["--size", "500kB", "--calib", calib, "--effort", "1", "--levels", "levels", "--sequential"];
    run(at, &[&["plan", &demo, "--write-recipe", "r.toml"][..], &asked].concat(), 0);
    run(at, &[&["pack", &demo, "-o", "a.benben"][..], &asked].concat(), 0);
    run(at, &["pack", &demo, "-o", "b.benben", "--recipe", "r.toml", "--calib", calib], 0);
    let a = std::fs::read(at.join("a.benben")).unwrap();
    assert!(a == std::fs::read(at.join("b.benben")).unwrap(), "the recipe gives another pack");
    assert!((497_500..=500_000).contains(&a.len()), "{}", a.len());
    run(
        at,
        &["calibrate", &demo, "--data", calib, "--context", "64", "--chunks", "4", "-o", "c.calibration"],
        0,
    );
    let pack = ["pack", &demo, "-o", "c.benben", "--calib", "c.calibration"];
    assert!(run(at, &[&pack[..], &["--sequential"]].concat(), 2).1.contains("--calib TEXT"));
    // The statistics are those of the recipe, the text is not.
    let both = ["plan", &demo, "--write-recipe", "s.toml", "--calib", "c.calibration", "--calib", calib];
    run(at, &[&both[..], &["--sequential"]].concat(), 0);
    let again = [&pack[..], &["--recipe", "s.toml"]].concat();
    assert!(run(at, &again, 2).1.contains("sequential"));
    assert!(run(at, &[&again[..], &["--calib", other]].concat(), 2).1.contains("other samples"));
}

#[test]
fn a_loss_is_met_and_mistakes_are_named() {
    let folder = TempDir::new().unwrap();
    let (at, demo) = (folder.path(), demo());
    let [calib, _] = texts(at);
    let calib = calib.to_str().unwrap();
    let asked = ["plan", &demo, "--max-loss", "0.1", "--calib", calib, "--effort", "2", "--json"];
    let found = json(at, &asked, 0)["search"]["loss"].as_f64().unwrap();
    assert!((0.05..=0.1).contains(&found), "{found}");
    // Without a text, by the errors of the weights.
    run(at, &["pack", &demo, "-o", "d.benben", "--size", "900000"], 0);
    let bytes = std::fs::metadata(at.join("d.benben")).unwrap().len();
    assert!((895_500..=900_000).contains(&bytes), "{bytes}");
    for (args, word) in [
        (&["--max-loss", "0.1"][..], "--calib"),
        (&["--max-loss", "-1", "--calib", calib], "above 0"),
        (&["--size", "1MB", "--bpw", "4"], "--bpw"),
        (&["--size", "1MB", "--effort", "10"], "1..=9"),
        (&["--size", "1MB", "--quantizer", "trellis:bpw=3"], "target"),
        (&["--size", "20kB"], "20000"),
        (&["--size", "1MB", "--calib", "nowhere.txt"], "nowhere.txt"),
        (&["--size", "1MB", "--calib", calib, "--calib", calib], "second text"),
    ] {
        let (_, complaint) = run(at, &[&["plan", &demo][..], args].concat(), 2);
        assert!(complaint.contains(word), "{args:?}: {complaint}");
    }
}
