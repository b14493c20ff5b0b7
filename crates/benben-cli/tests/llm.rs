//! `run` and `eval` on the demo model, as a person and as a script meet them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed assumption is a failed test"
)]

mod common;

use common::{benben, json, put, run, stderr, stdout};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/demo")
}

/// A folder with the demo model's packs, lossless and balanced.
fn packs() -> TempDir {
    let folder = TempDir::new().unwrap();
    run(folder.path(), &["demo", "--keep", "."], 0);
    folder
}

fn text(at: &Path) -> PathBuf {
    let path = at.join("text.txt");
    let whole = std::fs::read_to_string(demo().join("../../text/alice.txt")).unwrap();
    let start = whole.find("Alice was beginning").unwrap();
    put(&path, whole[start..].chars().take(3000).collect::<String>().as_bytes());
    path
}

#[test]
fn folder_and_packs_continue_the_same_text() {
    let folder = packs();
    let at = folder.path();
    let demo = demo();
    let (text, statistics) = run(at, &["run", demo.to_str().unwrap(), "-p", "Alice", "-n", "24"], 0);
    assert!(text.split_whitespace().count() > 8, "{text}");
    for word in ["prompt", "tokens/s", "generated  24 tokens", "memory", "read"] {
        assert!(statistics.contains(word), "{word} is missing in {statistics}");
    }
    for more in [&["--threads", "1"][..], &["--threads", "3"], &["--memory", "200KiB"], &["--dense"]] {
        let mut args = vec!["run", "demo-lossless.benben", "-p", "Alice", "-n", "24"];
        args.extend(more);
        assert_eq!(run(at, &args, 0).0, text, "{more:?}");
    }
    let packed = run(at, &["run", "demo-balanced.benben", "-p", "Alice", "-n", "24", "-q"], 0);
    assert!(packed.0.len() > 20 && packed.1.is_empty(), "{packed:?}");
}

#[test]
fn json_has_the_documented_fields_and_the_prompt_comes_from_stdin() {
    let folder = packs();
    let at = folder.path();
    let args = ["run", "demo-balanced.benben", "-n", "12", "--json", "--temperature", "0.8", "--seed", "5"];
    let first = benben(at).args(args).write_stdin("The Queen").output().unwrap();
    let again = benben(at).args(args).args(["-p", "-"]).write_stdin("The Queen").output().unwrap();
    let report = |output| serde_json::from_str::<serde_json::Value>(&stdout(output)).unwrap();
    let (first, again) = (report(&first), report(&again));
    assert_eq!(first["text"], again["text"]);
    for field in [
        "text",
        "end",
        "prompt_tokens",
        "prompt_seconds",
        "prompt_tokens_per_second",
        "generated_tokens",
        "tokens_per_second",
        "first_token_seconds",
        "open_seconds",
        "file_bytes",
        "bytes_read",
    ] {
        assert!(!first[field].is_null(), "{field} is missing in {first}");
    }
    assert_eq!(first["generated_tokens"], 12);
    assert!(first["bytes_read"].as_u64() > Some(100_000), "{first}");
}

#[test]
fn what_cannot_run_says_why() {
    let folder = packs();
    let at = folder.path();
    common::model(at, 64);
    let without = ["run", "model.safetensors", "-p", "x"];
    assert!(run(at, &without, 2).1.contains("config.json"));
    run(at, &["pack", "demo-model", "-o", "bare.benben", "--no-files", "--preset", "lossless"], 0);
    assert!(run(at, &["run", "bare.benben", "-p", "x"], 2).1.contains("hint"));
    assert!(run(at, &["run", "nothing.benben", "-p", "x"], 2).1.contains("no such file"));
    assert!(run(at, &["run", "demo-balanced.benben", "-p", "x", "--chat"], 2).1.contains("chat template"));
    assert!(run(at, &["run", "demo-balanced.benben", "-p", "x", "--memory", "much"], 2).1.contains("200MiB"));
    assert!(run(at, &["run", "demo-model", "-p", "x", "--memory", "1MB"], 2).1.contains("no pack"));
    assert!(
        run(at, &["run", "demo-balanced.benben", "-p", "x", "--temperature", "-1"], 2).1.contains("temp")
    );
    std::fs::remove_file(at.join("demo-model/tokenizer.json")).unwrap();
    assert!(run(at, &["run", "demo-model", "-p", "x"], 2).1.contains("tokenizer.json"));
    let config = std::fs::read_to_string(at.join("demo-model/config.json")).unwrap();
    put(&at.join("demo-model/config.json"), config.replace("LlamaForCausalLM", "RwkvForCausalLM").as_bytes());
    let (_, error) = run(at, &["run", "demo-model", "-p", "x"], 4);
    assert!(error.contains("RwkvForCausalLM") && error.contains("Qwen2ForCausalLM"), "{error}");
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_build_without_wgpu_says_so() {
    let folder = packs();
    let (_, error) = run(folder.path(), &["run", "demo-balanced.benben", "-p", "x", "--device", "wgpu"], 4);
    assert!(error.contains("wgpu") && error.contains("hint"), "{error}");
}

/// A driver in software is enough; without any, the program says what to install.
#[cfg(feature = "wgpu")]
#[test]
fn the_graphics_processor_writes_what_the_processor_writes() {
    let folder = packs();
    let args = ["run", "demo-balanced.benben", "-p", "The King", "-n", "8", "--temperature", "0", "--json"];
    if benben_burn::gpu::Adapter::find().is_err() {
        let (_, error) = run(folder.path(), &[&args[..], &["--device", "wgpu"]].concat(), 4);
        assert!(error.contains("mesa-vulkan-drivers"), "{error}");
        println!("skipped: no wgpu adapter (install mesa-vulkan-drivers libvulkan1)");
        return;
    }
    let (expected, _) = run(folder.path(), &args, 0);
    let (found, _) = run(folder.path(), &[&args[..], &["--device", "wgpu"]].concat(), 0);
    let [expected, found] = [expected, found].map(|t| serde_json::from_str::<serde_json::Value>(&t).unwrap());
    assert_eq!(expected["text"], found["text"]);
    assert!(found["device"].as_str().unwrap().starts_with("wgpu: "), "{found}");
    // What is for the processor alone is refused, not ignored.
    run(folder.path(), &[&args[..], &["--device", "wgpu", "--dense"]].concat(), 4);
}

#[test]
fn a_template_in_the_folder_is_used() {
    let folder = packs();
    let at = folder.path();
    put(
        &at.join("demo-model/chat_template.jinja"),
        b"{% for m in messages %}\n{{ m.content }}\n{% endfor %}\n{% if add_generation_prompt %}Alice{% endif %}",
    );
    run(at, &["pack", "demo-model", "-o", "chat.benben", "--preset", "lossless"], 0);
    let args = ["run", "chat.benben", "-p", "The King", "--chat", "-n", "10", "-q"];
    let chat = run(at, &args, 0).0;
    let plain = run(at, &["run", "chat.benben", "-p", "The King\nAlice", "-n", "10", "-q"], 0).0;
    assert_eq!(chat, plain);
}

#[test]
fn eval_measures_resumes_and_refuses_to_join_what_differs() {
    let folder = packs();
    let at = folder.path();
    text(at);
    let base = [
        "eval",
        "demo-balanced.benben",
        "--data",
        "text.txt",
        "--context",
        "64",
        "--reference",
        "demo-model",
    ];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let whole = json(at, &with(&["--json"]), 0);
    for field in
        ["tokens", "context", "score", "chunks", "scored_tokens", "perplexity", "reference", "seconds"]
    {
        assert!(!whole[field].is_null(), "{field} is missing in {whole}");
    }
    let perplexity = whole["perplexity"]["value"].as_f64().unwrap();
    assert!(perplexity > 1.0 && perplexity < 1024.0, "{perplexity}");
    let found = &whole["reference"];
    assert!(found["divergence"]["value"].as_f64().unwrap() > 0.0);
    assert!(found["same_top"]["value"].as_f64().unwrap() > 0.5);
    assert!((found["perplexity_ratio"]["value"].as_f64().unwrap() - 1.0).abs() < 0.1);

    let first = json(at, &with(&["--json", "--chunks", "3", "--resume", "state.json"]), 0);
    assert_eq!(first["chunks"], 3);
    let second = json(at, &with(&["--json", "--resume", "state.json"]), 0);
    assert_eq!(second["resumed_chunks"], 3);
    assert_eq!(second["perplexity"], whole["perplexity"]);
    assert_eq!(second["reference"], whole["reference"]);
    let other = run(at, &with(&["--resume", "state.json", "--score", "half"]), 2);
    assert!(other.1.contains("--score"), "{}", other.1);
    put(&at.join("state.json"), b"{}");
    run(at, &with(&["--resume", "state.json"]), 2);

    let (table, _) = run(at, &base, 0);
    for word in ["perplexity", "\u{b1}", "KL divergence", "same likeliest token"] {
        assert!(table.contains(word), "{word} is missing in {table}");
    }
    let long = run(at, &["eval", "demo-balanced.benben", "--data", "text.txt"], 2);
    assert!(long.1.contains("--context 128"), "{}", long.1);
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_said() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let folder = packs();
    // A context that this model never saw: what it says there is of no use, and there is no end to it.
    let config = folder.path().join("demo-model/config.json");
    let endless = std::fs::read_to_string(&config)
        .unwrap()
        .replace("\"max_position_embeddings\": 128", "\"max_position_embeddings\": 1000000");
    put(&config, endless.replace("\"eos_token_id\": 0", "\"eos_token_id\": null").as_bytes());
    std::fs::remove_file(folder.path().join("demo-model/tokenizer_config.json")).unwrap();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("benben"))
        .current_dir(folder.path())
        .args(["run", "demo-model", "-p", "Alice", "-n", "900000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut letter = [0];
    output.read_exact(&mut letter).unwrap();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("(stopped)"), "{}", stderr(&ended));
}

#[test]
fn calibrate_makes_a_file_that_inspect_lists() {
    let folder = packs();
    let at = folder.path();
    text(at);
    let args = ["calibrate", "demo-model", "--data", "text.txt", "--context", "64", "--chunks", "5"];
    let (said, _) = run(at, &args, 0);
    assert!(said.contains("demo-model.calibration") && said.contains("5 chunks of 64 tokens"), "{said}");
    assert!(run(at, &args, 2).1.contains("--force"));
    let other = |more: &[&'static str]| [&args[..], more].concat();
    let found = json(at, &other(&["-o", "other.calibration", "--seed", "3", "--json"]), 0);
    assert_eq!((&found["samples"], &found["context"], &found["seed"]), (&5.into(), &64.into(), &3.into()));
    assert!(found["bytes"].as_u64() > Some(1_000_000) && found["seconds"].as_f64().is_some(), "{found}");
    let listed = json(at, &["inspect", "other.calibration", "--json"], 0);
    for field in ["model", "data", "tensors", "influence"] {
        assert!(!found[field].is_null() && found[field] == listed[field], "{field} is missing in {found}");
    }
    let tensors = found["tensors"].as_array().unwrap();
    assert!(tensors.iter().all(|t| t["vectors"] == 320 && t["rms"].as_f64() > Some(0.0)), "{found}");
    let (table, _) = run(at, &["inspect", "demo-model.calibration", "-t", "*.down_proj.*"], 0);
    assert!(table.contains("layers.0.mlp.down_proj") && !table.contains("q_proj"), "{table}");
    // A text of too few tokens, chunks that are too long for the model, and importances that are of something else.
    assert!(
        run(at, &["calibrate", "demo-model", "--data", "text.txt", "--context", "128000"], 2)
            .1
            .contains("hint")
    );
    let long = ["calibrate", "demo-model", "--data", "text.txt", "--context", "500", "-o", "x"];
    assert!(run(at, &long, 2).1.contains("--context 128"));
    common::model(at, 64);
    let wrong = run(at, &other(&["--force", "--rows", "model.safetensors"]), 2);
    assert!(wrong.1.contains("model.safetensors"), "{}", wrong.1);
    // A damaged file says that it is one, not that it is no pack.
    let mut bytes = std::fs::read(at.join("other.calibration")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    put(&at.join("other.calibration"), &bytes);
    assert!(run(at, &["inspect", "other.calibration"], 1).1.contains("hash"));
}
