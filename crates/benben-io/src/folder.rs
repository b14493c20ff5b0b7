//! A folder as Hugging Face lays it out: weights, and the small files without which they are of no use.
//!
//! Weights are, in this order: `model.safetensors`; `model.safetensors.index.json`; the only
//! `*.safetensors.index.json`; the only `*.safetensors`; the only `*.gguf`. Weights in subfolders (as of a
//! sentence-transformers `2_Dense`) are not part of the model.

use crate::model::{ModelSource, SideFile, TensorInfo};
use crate::open::open_file;
use benben_format::{Error, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Files that travel with the weights; so do `*.model` and, of folders named `1_Pooling` and alike, `config.json`.
const SIDE_FILES: [&str; 16] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "merges.txt",
    "modules.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
];

/// A folder with one model.
pub struct Folder {
    weights: Box<dyn ModelSource>,
    files: Vec<SideFile>,
}

impl Folder {
    /// Opens the weights of the folder at `path`, and lists its side files by name.
    ///
    /// # Errors
    /// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) where there are no weights or it is not clear
    /// which, [`Unsupported`](benben_format::ErrorKind::Unsupported) where they are all of formats without a reader,
    /// and what the reader of the weights reports.
    pub fn open(path: &Path) -> Result<Self> {
        let names = list(path).map_err(|e| Error::from(e).context(path.display()))?;
        let weights = choose(&names).map_err(|e| e.context(path.display()))?;
        let weights = open_file(&path.join(weights))?;
        let mut files = side_files(path, &names)?;
        files.extend_from_slice(weights.files());
        files.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(Self { weights, files })
    }
}

/// Names of everything in the folder, sorted; names that are not Unicode are none of the files looked for.
fn list(path: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The name of the weights file among `names`.
fn choose(names: &[String]) -> Result<&str> {
    let has = |name: &str| names.iter().map(String::as_str).find(|n| *n == name);
    if let Some(name) = has("model.safetensors").or_else(|| has("model.safetensors.index.json")) {
        return Ok(name);
    }
    let ending =
        |end: &str| -> Vec<&str> { names.iter().map(String::as_str).filter(|n| n.ends_with(end)).collect() };
    for end in [".safetensors.index.json", ".safetensors", ".gguf"] {
        match *ending(end) {
            [] => {}
            [name] => return Ok(name),
            ref several => {
                return Err(Error::invalid(format!(
                    "expected one *{end} file, found {}",
                    several.join(", ")
                ))
                .with_hint("name the file instead of the folder"));
            }
        }
    }
    for end in [".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz"] {
        if let Some(name) = ending(end).first() {
            return Err(Error::unsupported(format!(
                "expected *.safetensors or *.gguf, found only weights of another format: {name}"
            ))
            .with_hint("convert the model to safetensors with the framework that wrote it"));
        }
    }
    Err(Error::invalid("no weights: expected model.safetensors, model.safetensors.index.json, or one *.gguf"))
}

fn side_files(path: &Path, names: &[String]) -> Result<Vec<SideFile>> {
    let mut files = Vec::new();
    for name in names {
        let inner = if SIDE_FILES.contains(&name.as_str()) || name.ends_with(".model") {
            name.clone()
        } else if is_module(name) {
            format!("{name}/config.json")
        } else {
            continue;
        };
        let file = path.join(&inner);
        if file.is_file() {
            files.push(SideFile::on_disk(&inner, &file)?);
        }
    }
    Ok(files)
}

/// Whether this is the folder of a sentence-transformers module: `1_Pooling`, `2_Normalize`.
fn is_module(name: &str) -> bool {
    name.split_once('_')
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

impl ModelSource for Folder {
    fn format(&self) -> &'static str {
        self.weights.format()
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.weights.tensors()
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.weights.read(index)
    }

    fn release(&self, index: usize) {
        self.weights.release(index);
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.weights.metadata()
    }

    fn files(&self) -> &[SideFile] {
        &self.files
    }

    fn total_bytes(&self) -> u64 {
        self.weights.total_bytes()
    }
}
