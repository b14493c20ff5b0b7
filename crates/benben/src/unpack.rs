//! Packs back to model files.

use crate::output::NewFolders;
use crate::{AtomicFile, Dtype, Error, Observer, Pack, Progress, Result, Tensor};
use benben_io::safetensors::{self, TensorSpec};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Which tensors to unpack, and as what.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Globs over names, any of which is enough; none selects everything.
    pub patterns: Vec<String>,
    /// Element type of floats; none keeps each tensor's own.
    pub dtype: Option<Dtype>,
    /// Leave out tensors that cannot be read instead of refusing; what was left out is in [`Unpacked::skipped`].
    pub skip_unreadable: bool,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Tensors written.
    pub tensors: usize,
    /// Files written besides the weights.
    pub files: usize,
    /// Bytes of the weights file.
    pub weight_bytes: u64,
    /// Paths written.
    pub paths: Vec<PathBuf>,
    /// Tensors left out, and why.
    pub skipped: Vec<(String, String)>,
}

impl Selection {
    /// The tensors of `pack` that are selected, in stored order.
    ///
    /// # Errors
    /// InvalidArgument for a pattern that does not parse or selects nothing.
    pub fn tensors<'a>(&self, pack: &'a Pack) -> Result<Vec<Tensor<'a>>> {
        let mut selected = vec![self.patterns.is_empty(); pack.tensors().len()];
        for pattern in &self.patterns {
            let wrong = |e| Error::invalid(format!("pattern {pattern:?}: {e}"));
            let glob = globset::Glob::new(pattern).map_err(wrong)?.compile_matcher();
            let mut any = false;
            for (i, tensor) in pack.tensors().enumerate() {
                if glob.is_match(tensor.name()) {
                    (selected[i], any) = (true, true);
                }
            }
            if !any {
                // A plain name is most likely a slip: say which name is near.
                pack.tensor(pattern)?;
            }
        }
        Ok(pack.tensors().zip(selected).filter(|(_, s)| *s).map(|(t, _)| t).collect())
    }

    fn dtype_of(&self, tensor: &Tensor<'_>) -> Dtype {
        self.dtype.filter(|_| tensor.dtype().is_float()).unwrap_or(tensor.dtype())
    }
}

/// Unpacks `pack` to `destination`: a safetensors file where the name ends so, else a folder with the weights
/// in `model.safetensors` and the files that travelled along. Nothing is put in place before everything is written.
///
/// # Errors
/// InvalidArgument where a file is in the way and `replace` is false; what decoding reports; Interrupted; Io.
pub fn unpack(
    pack: &Pack,
    destination: &Path,
    selection: &Selection,
    replace: bool,
    observer: &mut Observer<'_>,
) -> Result<Unpacked> {
    let mut tensors = selection.tensors(pack)?;
    let mut skipped = Vec::new();
    if selection.skip_unreadable {
        tensors.retain(|t| match readable(pack, t) {
            Ok(()) => true,
            Err(e) => {
                skipped.push((t.name().to_owned(), e.message().to_owned()));
                false
            }
        });
    }
    let single = destination.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let weights = if single { destination.to_path_buf() } else { destination.join("model.safetensors") };
    // Dropped last: by then the files that failed are gone.
    let mut folders = NewFolders::default();
    let mut outputs = Vec::new();
    if !single {
        folders.make(destination)?;
        for name in pack.files() {
            // Names have been checked: plain relative paths.
            let path = destination.join(name);
            if let Some(folder) = path.parent() {
                folders.make(folder)?;
            }
            let bytes = match pack.file(name) {
                Err(e) if selection.skip_unreadable => {
                    skipped.push((name.to_owned(), e.message().to_owned()));
                    continue;
                }
                other => other?,
            };
            let mut file = AtomicFile::create(&path, replace)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            outputs.push((path, file));
        }
    }
    let files = outputs.len();
    let mut file = AtomicFile::create(&weights, replace)?;
    let weight_bytes = write_weights(&mut file, pack, &tensors, selection, observer)?;
    outputs.push((weights, file));
    let mut paths = Vec::with_capacity(outputs.len());
    for (path, file) in outputs {
        file.commit()?;
        paths.push(path);
    }
    Ok(Unpacked { tensors: tensors.len(), files, weight_bytes, paths, skipped })
}

/// Whether every byte behind a tensor is there and right; decodes it to see.
fn readable(pack: &Pack, tensor: &Tensor<'_>) -> Result<()> {
    for leaf in tensor.entry().expr.leaves() {
        if !pack.reader().is_complete(leaf) {
            return Err(Error::insufficient("its bytes are missing").in_tensor(tensor.name()));
        }
    }
    tensor.to_bytes().map(drop)
}

fn write_weights(
    out: &mut AtomicFile,
    pack: &Pack,
    tensors: &[Tensor<'_>],
    selection: &Selection,
    observer: &mut Observer<'_>,
) -> Result<u64> {
    let specs: Vec<TensorSpec> = tensors
        .iter()
        .map(|t| TensorSpec { name: t.name().into(), dtype: selection.dtype_of(t), shape: t.shape().into() })
        .collect();
    let total = tensors.iter().map(Tensor::elements).sum();
    let mut done = 0;
    let metadata = &pack.reader().directory().metadata;
    let bytes = safetensors::write(out, &specs, metadata, |i| {
        let tensor = &tensors[i];
        if observer(Progress { item: tensor.name(), done, total }).is_break() {
            return Err(Error::interrupted());
        }
        done += tensor.elements();
        tensor.to_bytes_as(selection.dtype_of(tensor)).map(Cow::Owned)
    })?;
    let _ = observer(Progress { item: "", done: total, total });
    Ok(bytes)
}
