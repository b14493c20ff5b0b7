//! Gradients and recovery on the demo model; without the feature, that they are missed by name.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod common;

use common::{put, run};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn demo() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/demo").to_str().unwrap().to_owned()
}

/// A text that the model knows.
fn text(at: &Path) -> PathBuf {
    let whole = std::fs::read_to_string(Path::new(&demo()).join("../../text/alice.txt")).unwrap();
    let start = whole.find("Alice was beginning").unwrap();
    let path = at.join("calib.txt");
    put(&path, whole[start..].chars().take(30_000).collect::<String>().as_bytes());
    path
}

/// A folder with the text and a small pack.
fn packed() -> TempDir {
    let folder = TempDir::new().unwrap();
    text(folder.path());
    run(folder.path(), &["pack", &demo(), "-o", "p.benben", "--bpw", "2.5", "--quantizer", "trellis"], 0);
    folder
}

#[cfg(not(feature = "recover"))]
#[test]
fn builds_without_gradients_say_so() {
    let (folder, demo) = (packed(), demo());
    let at = folder.path();
    for args in [
        &["recover", "p.benben", "--model", &demo, "--calib", "calib.txt"][..],
        &["calibrate", &demo, "--data", "calib.txt", "-o", "c", "--gradients"],
        &["pack", &demo, "-o", "o.benben", "--calib", "calib.txt", "--recover", "3"],
    ] {
        let (_, complaint) = run(at, args, 4);
        assert!(complaint.contains("--features recover"), "{args:?}: {complaint}");
        assert!(!at.join("c").exists() && !at.join("o.benben").exists());
    }
    let plan =
        ["plan", &demo, "--preset", "small", "--calib", "calib.txt", "--effort", "5", "--recover", "0"];
    let note = run(at, &plan, 0).1;
    assert!(note.contains("gradients"), "{note}");
}

#[cfg(feature = "recover")]
mod built {
    use super::*;
    use assert_cmd::cargo::cargo_bin;
    use benben::calibrate::Calibration;
    use common::json;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_pack_comes_nearer_and_the_same_steps_give_the_same_bytes() {
        let (folder, demo) = (packed(), demo());
        let at = folder.path();
        let asked = ["recover", "p.benben", "--model", &demo, "--calib", "calib.txt", "--steps", "8"];
        let report = json(at, &[&asked[..], &["-o", "a.benben", "--json"]].concat(), 0);
        let (before, after) = (report["before"].as_f64().unwrap(), report["after"].as_f64().unwrap());
        assert!(after < before, "{before} -> {after}");
        run(at, &[&asked[..], &["-o", "b.benben", "--threads", "1"]].concat(), 0);
        let bytes = |name: &str| std::fs::read(at.join(name)).unwrap();
        assert!(bytes("a.benben") == bytes("b.benben"), "a repeat gives other bytes");
        assert!(bytes("a.benben").len() < bytes("p.benben").len() * 103 / 100);
        assert!(!at.join("a.benben.checkpoint").exists());
        run(at, &["verify", "a.benben"], 0);
        let recipe = run(at, &["inspect", "a.benben", "--show-recipe"], 0).0;
        assert!(recipe.contains("[[recovery]]") && recipe.contains("steps = 8"), "{recipe}");
        // Another text than the checkpoint's, an output that is there, a recipe without its text.
        assert!(run(at, &[&asked[..], &["-o", "a.benben"]].concat(), 2).1.contains("-f"));
        let limited = run(at, &[&asked[..6], &["--seconds", "1", "-o", "s.benben"]].concat(), 0).0;
        assert!(limited.contains("--steps makes packs that can be repeated"), "{limited}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_interrupted_goes_on_to_the_same_bytes() {
        let (folder, demo) = (packed(), demo());
        let at = folder.path();
        let asked = ["recover", "p.benben", "--model", &demo, "--calib", "calib.txt", "--steps", "60"];
        run(at, &[&asked[..], &["-o", "a.benben"]].concat(), 0);
        let stopped = [&asked[..], &["-o", "b.benben"]].concat();
        let mut command = Command::new(cargo_bin!("benben"));
        let mut child = command.current_dir(at).args(&stopped).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while !at.join("b.benben.checkpoint").exists() && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(!at.join("b.benben").exists() && at.join("b.benben.checkpoint").exists());
        let other = [&asked[..7], &["61", "-o", "b.benben"]].concat();
        assert!(run(at, &other, 2).1.contains("checkpoint"));
        run(at, &stopped, 0);
        let bytes = |name: &str| std::fs::read(at.join(name)).unwrap();
        assert!(bytes("a.benben") == bytes("b.benben"), "it went on to other bytes");
        assert!(!at.join("b.benben.checkpoint").exists());
    }

    #[test]
    fn gradients_are_those_of_the_library_and_plans_have_them() {
        let folder = TempDir::new().unwrap();
        let (at, demo, path) = (folder.path(), demo(), text(folder.path()));
        let asked = ["calibrate", &demo, "--data", "calib.txt", "-o", "c.calibration", "--context", "128"];
        let shown = run(at, &[&asked[..], &["--gradients=3", "--influence"]].concat(), 0).0;
        assert!(shown.contains("1 - cosine"), "{shown}");
        let found = Calibration::open(&at.join("c.calibration")).unwrap();

        let model = benben::llm::Model::open(demo.as_ref(), &benben::store::Options::default()).unwrap();
        let words = std::fs::read_to_string(path).unwrap();
        let tokens = model.tokenizer().unwrap().encode(&words, false).unwrap();
        let chunks: Vec<&[u32]> = tokens.chunks_exact(128).take(3).collect();
        let network = benben::recover::graph(&model);
        let expected = benben::recover::fisher(&network, &chunks, 1, &mut benben::ignore).unwrap();
        let mut compared = 0;
        for (name, rows) in &expected.matrices {
            let Some(own) = found.rows(name).unwrap().filter(|_| name.contains("layers")) else { continue };
            for (own, row) in own.iter().zip(&rows.rows) {
                let row = f64::from(*row) * rows.mean;
                assert!((f64::from(*own) - row).abs() <= 1e-6 * row, "{name}: {own} {row}");
            }
            compared += 1;
        }
        assert!(compared >= 7, "{compared}");
    }

    #[test]
    fn a_pack_that_is_recovered_keeps_its_size_and_its_recipe_repeats_it() {
        let (folder, demo) = (TempDir::new().unwrap(), demo());
        let at = folder.path();
        text(at);
        let asked = ["--size", "700kB", "--calib", "calib.txt", "--effort", "2", "--recover", "4"];
        run(at, &[&["pack", &demo, "-o", "a.benben", "--levels", "l"][..], &asked].concat(), 0);
        let bytes = |name: &str| std::fs::read(at.join(name)).unwrap();
        let size = bytes("a.benben").len();
        assert!((680_000..=700_000).contains(&size), "{size}");
        let recipe = benben::Contents::new(&benben::open(at.join("a.benben")).unwrap()).recipe.unwrap();
        put(&at.join("r.toml"), recipe.as_bytes());
        run(at, &["pack", &demo, "-o", "b.benben", "--recipe", "r.toml", "--calib", "calib.txt"], 0);
        assert!(bytes("a.benben") == bytes("b.benben"), "the recipe gives another pack");
        let (_, complaint) =
            run(at, &["pack", &demo, "-o", "-", "--recipe", "r.toml", "--calib", "calib.txt"], 2);
        assert!(complaint.contains("-o FILE"), "{complaint}");
    }
}
