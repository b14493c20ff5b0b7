//! One file for each command.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod eval;
pub(crate) mod inspect;
pub(crate) mod pack;
pub(crate) mod plan;
mod planning;
#[cfg(feature = "recover")]
pub(crate) mod recover;
#[cfg(not(feature = "recover"))]
#[path = "without_recover.rs"]
pub(crate) mod recover;
pub(crate) mod run;
pub(crate) mod unpack;
pub(crate) mod verify;

use benben::{Error, ModelSource, Result, TensorInfo};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The text of the file at `path`.
fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::invalid(format!("{} is no UTF-8 text", path.display())),
        std::io::ErrorKind::NotFound => Error::invalid(format!("{}: there is no such file", path.display())),
        _ => Error::from(e).context(path.display()),
    })
}

/// `model.safetensors` and `model/` with `extension`, in the folder that the program runs in.
fn beside(source: &Path, extension: &str) -> PathBuf {
    let absolute = source.canonicalize().unwrap_or_else(|_| source.to_path_buf());
    let name = if absolute.is_dir() { absolute.file_name() } else { absolute.file_stem() };
    Path::new(name.unwrap_or("model".as_ref())).with_added_extension(extension)
}

/// Globs over tensor names; none stands for everything.
struct Patterns(Vec<globset::GlobMatcher>);

impl Patterns {
    fn new(patterns: &[String]) -> Result<Self> {
        let globs = patterns.iter().map(|p| {
            globset::Glob::new(p)
                .map(|g| g.compile_matcher())
                .map_err(|e| Error::invalid(format!("pattern {p:?}: {e}")))
        });
        globs.collect::<Result<_>>().map(Self)
    }

    fn matches(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|g| g.is_match(name))
    }

    /// Refuses a pattern that matches none of `names`: most likely a slip.
    fn check<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        match self.0.iter().find(|g| !names.clone().any(|name| g.is_match(name))) {
            Some(g) => Err(Error::invalid(format!("no tensor matches {:?}", g.glob().glob()))
                .with_hint("without -t, every name is listed")),
            None => Ok(()),
        }
    }
}

/// `model`, without its files where `without` says so.
fn without_files(model: Box<dyn ModelSource>, without: bool) -> Box<dyn ModelSource> {
    if without { Box::new(Weights(model)) } else { model }
}

/// A model that has no files besides its weights.
struct Weights(Box<dyn ModelSource>);

impl ModelSource for Weights {
    fn format(&self) -> &'static str {
        self.0.format()
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.0.tensors()
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.0.read(index)
    }

    fn release(&self, index: usize) {
        self.0.release(index);
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.0.metadata()
    }

    fn files(&self) -> &[benben::SideFile] {
        &[]
    }

    fn total_bytes(&self) -> u64 {
        self.0.total_bytes()
    }
}
