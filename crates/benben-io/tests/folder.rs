//! Folders, shards, and files that are not what their names say.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panics too")]

mod common;

use benben_format::{Dtype, Error, ErrorKind};
use benben_io::{ModelSource, SideFile, open};
use common::{body, put, safetensors, small_gguf, small_safetensors, spec};
use std::path::Path;

const INDEX: &str = "model.safetensors.index.json";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n";

fn refused(path: &Path) -> Error {
    open(path).expect_err("refused")
}

fn names(model: &dyn ModelSource) -> Vec<&str> {
    model.tensors().iter().map(|t| t.name.as_str()).collect()
}

fn files(model: &dyn ModelSource) -> Vec<&str> {
    model.files().iter().map(SideFile::name).collect()
}

/// Two shards, the map in an order of its own; tensors `a` and `b` are in the first.
fn shards(folder: &Path, weight_map: &str) {
    put(folder, "m-1.safetensors", safetensors(&[spec("b", Dtype::F32, &[2]), spec("a", Dtype::F32, &[1])]));
    put(folder, "m-2.safetensors", safetensors(&[spec("c", Dtype::U8, &[3])]));
    put(
        folder,
        INDEX,
        format!(r#"{{"metadata":{{"total_size":15,"x":"y"}},"weight_map":{{{weight_map}}}}}"#),
    );
}

#[test]
fn a_hugging_face_folder_brings_its_side_files_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    put(d, "model.safetensors", small_safetensors());
    put(d, "other.safetensors", "not looked at");
    for name in ["config.json", "tokenizer.json", "vocab.txt", "spiece.model", "1_Pooling/config.json"] {
        put(d, name, name);
    }
    for name in ["README.md", "LICENSE", "training_args.bin", "onnx/config.json", "x_Pooling/config.json"] {
        put(d, name, "stays");
    }
    let model = open(d).unwrap();
    assert_eq!(names(&*model), ["a", "b.weight", "empty", "scalar"]);
    assert_eq!(
        files(&*model),
        ["1_Pooling/config.json", "config.json", "spiece.model", "tokenizer.json", "vocab.txt"]
    );
    for file in model.files() {
        assert_eq!(file.read().unwrap(), file.name().as_bytes());
    }
    assert_eq!((model.format(), model.metadata()["format"].as_str()), ("safetensors", "pt"));
    assert_eq!(model.total_bytes(), small_safetensors().len() as u64);
    assert_eq!(*model.read(0).unwrap(), body(0, 24));
    assert!(open(&d.join("model.safetensors")).unwrap().files().is_empty(), "a file brings itself alone");
}

#[test]
fn side_files_cannot_be_named_out_of_the_folder() {
    for name in ["../config.json", "/etc/passwd", "a/../../b", "a\\b"] {
        assert_eq!(SideFile::on_disk(name, Path::new("x")).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(SideFile::made(name, || Ok(Vec::new())).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_folder_with_one_weights_file_of_any_name_is_a_model() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "tiny.Q4_K.gguf", small_gguf());
    put(dir.path(), "config.json", "{}");
    let model = open(dir.path()).unwrap();
    assert_eq!(files(&*model), ["config.json", "gguf.json"]);
    assert_eq!(model.format(), "gguf");
    assert_eq!(model.read(model.index_of("q4k").unwrap()).unwrap().len(), 1024);

    put(dir.path(), "tiny.Q8_0.gguf", small_gguf());
    let e = refused(dir.path());
    assert!(e.message().contains("tiny.Q4_K.gguf, tiny.Q8_0.gguf") && e.hint().is_some(), "{e}");

    put(dir.path(), "named.safetensors", small_safetensors());
    assert_eq!(open(dir.path()).unwrap().format(), "safetensors");
}

#[test]
fn shards_open_as_one_model_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    // The map need not name every tensor.
    shards(dir.path(), r#""c":"m-2.safetensors","a":"m-1.safetensors""#);
    put(dir.path(), "config.json", "{}");
    for path in [dir.path().to_owned(), dir.path().join(INDEX)] {
        let model = open(&path).unwrap();
        assert_eq!(names(&*model), ["b", "a", "c"]);
        assert_eq!(*model.read(0).unwrap(), body(0, 8));
        assert_eq!(*model.read(2).unwrap(), body(0, 3));
        assert_eq!(model.read(3).unwrap_err().kind(), ErrorKind::InvalidArgument);
        let metadata = model.metadata();
        assert_eq!([&*metadata["total_size"], &metadata["x"], &metadata["format"]], ["15", "y", "pt"]);
        let on_disk = ["m-1.safetensors", "m-2.safetensors"]
            .map(|f| std::fs::metadata(dir.path().join(f)).unwrap().len());
        assert_eq!(model.total_bytes(), on_disk[0] + on_disk[1]);
    }
}

#[test]
fn an_index_that_does_not_match_its_shards_is_refused_by_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let with = |map: &str| {
        shards(dir.path(), map);
        refused(dir.path())
    };
    let e = with(r#""a":"m-1.safetensors","d":"m-2.safetensors""#);
    assert_eq!((e.kind(), e.tensor()), (ErrorKind::Corruption, Some("d")));
    assert!(e.message().contains("in m-2.safetensors, found in no shard"), "{e}");
    let e = with(r#""a":"m-2.safetensors","b":"m-1.safetensors""#);
    assert_eq!(e.tensor(), Some("a"));
    assert!(e.message().contains("found in m-1.safetensors"), "{e}");
    let e = with(r#""a":"m-1.safetensors","a":"m-1.safetensors""#);
    assert!(e.message().contains("\"a\" twice"), "{e}");
    let e = with(r#""a":"m-1.safetensors","b":"gone.safetensors""#);
    assert!(e.message().contains("gone.safetensors") && e.hint().is_some(), "{e}");
    put(dir.path(), "m-3.safetensors", safetensors(&[spec("a", Dtype::F32, &[1])]));
    let e = with(r#""a":"m-1.safetensors","c":"m-3.safetensors""#);
    assert_eq!(e.tensor(), Some("a"));
    assert!(e.message().contains("in two shards"), "{e}");
    put(dir.path(), "m-3.safetensors", POINTER);
    let e = with(r#""c":"m-3.safetensors""#);
    assert!(e.message().contains("git-lfs pointer") && e.message().contains("m-3"), "{e}");
}

#[test]
fn shards_outside_of_the_folder_are_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "secret.safetensors", safetensors(&[spec("a", Dtype::F32, &[1])]));
    let inside = dir.path().join("model");
    std::fs::create_dir(&inside).unwrap();
    let absolute = dir.path().join("secret.safetensors");
    for name in ["../secret.safetensors", "x/../../secret.safetensors", absolute.to_str().unwrap(), "", ".."]
    {
        let map = serde_json::json!({ "a": name }).to_string();
        put(&inside, INDEX, format!(r#"{{"weight_map":{map}}}"#));
        let e = refused(&inside);
        assert_eq!(e.kind(), ErrorKind::Corruption, "{e}");
        assert!(e.message().contains("must lie in the folder of the index"), "{e}");
    }
}

#[test]
fn content_decides_whatever_the_name_says() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "a.bin", small_gguf());
    put(dir.path(), "b.gguf", small_safetensors());
    assert_eq!(open(&dir.path().join("a.bin")).unwrap().format(), "gguf");
    assert_eq!(open(&dir.path().join("b.gguf")).unwrap().format(), "safetensors");
}

#[test]
fn what_is_no_model_is_refused_with_path_and_advice() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], ErrorKind, &str); 10] = [
        ("model.safetensors", POINTER.as_bytes(), ErrorKind::InsufficientData, "of 12345 bytes"),
        ("m.gguf", POINTER.as_bytes(), ErrorKind::InsufficientData, "git-lfs pointer"),
        ("empty.safetensors", b"", ErrorKind::InsufficientData, "empty"),
        ("five.safetensors", b"\x10\0\0\0\0", ErrorKind::InsufficientData, "found 5 bytes"),
        ("noise.safetensors", b"\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x77", ErrorKind::Limit, "ff ee dd cc"),
        ("noise.gguf", b"\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x77", ErrorKind::Corruption, "found ff ee dd cc"),
        ("noise", b"\xff\xee\xdd\xcc\xbb\xaa\x99\x88\x77", ErrorKind::Unsupported, "ff ee dd cc bb aa 99 88"),
        ("pytorch_model.bin", b"\x80\x02\x8a\x0a", ErrorKind::Unsupported, "pickle"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", ErrorKind::Unsupported, "ONNX"),
        ("config.json", b"{\"hidden_size\": 4}", ErrorKind::Corruption, "weight_map"),
    ];
    for (name, bytes, kind, part) in cases {
        put(dir.path(), name, bytes);
        let e = refused(&dir.path().join(name));
        assert_eq!(e.kind(), kind, "{name}: {e}");
        assert!(e.message().contains(part) && e.message().contains(name), "{name}: {e}");
    }
    let e = refused(&dir.path().join("nothing"));
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.message().contains("nothing"), "{e}");
}

#[test]
fn a_folder_without_weights_says_what_it_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refused(dir.path()).message().contains("no weights"), "empty folder");
    put(dir.path(), "pytorch_model.bin", b"\x80\x02");
    let e = refused(dir.path());
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.message().contains("pytorch_model.bin") && e.hint().is_some(), "{e}");
}

#[test]
fn a_side_file_that_is_a_pointer_is_refused_when_read() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "model.safetensors", small_safetensors());
    put(dir.path(), "tokenizer.json", POINTER);
    let model = open(dir.path()).unwrap();
    assert!(model.files()[0].read().unwrap_err().message().contains("git-lfs"));
}
