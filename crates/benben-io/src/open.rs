//! One entry for every format.

use crate::detect::{Format, HEAD, detect};
use crate::folder::Folder;
use crate::gguf::Gguf;
use crate::model::ModelSource;
use crate::safetensors::SafeTensors;
use crate::sharded::Sharded;
use benben_format::{Error, Result};
use std::path::Path;

/// The model at `path`: a weights file, the index of a sharded one, or a folder. The content decides, not the name.
///
/// A folder brings its configuration and tokenizer along; a file brings itself alone.
///
/// # Errors
/// [`Unsupported`](benben_format::ErrorKind::Unsupported) for formats without a reader, with a hint at what to do;
/// [`InsufficientData`](benben_format::ErrorKind::InsufficientData) for a file that is cut short, with the bytes
/// missing; [`Corruption`](benben_format::ErrorKind::Corruption) where it contradicts itself. All name the path.
pub fn open(path: &Path) -> Result<Box<dyn ModelSource>> {
    let meta = std::fs::metadata(path).map_err(|e| Error::from(e).context(path.display()))?;
    if meta.is_dir() { Ok(Box::new(Folder::open(path)?)) } else { open_file(path) }
}

/// The weights file, or the index of one, at `path`.
pub(crate) fn open_file(path: &Path) -> Result<Box<dyn ModelSource>> {
    let named = |e: Error| e.context(path.display());
    let source = map(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let head =
        source.read_at(0, usize::try_from(source.len()).map_or(HEAD, |n| n.min(HEAD))).map_err(named)?;
    let format = detect(&name, &head).map_err(named)?;
    drop(head);
    Ok(match format {
        Format::Safetensors => Box::new(SafeTensors::new(source).map_err(named)?),
        Format::Gguf => Box::new(Gguf::new(source).map_err(named)?),
        Format::ShardIndex => Box::new(Sharded::open(path)?),
    })
}

/// The bytes of the file at `path`; refuses pipes and devices, which would block or never end.
pub(crate) fn map(path: &Path) -> Result<benben_format::Source> {
    let meta = std::fs::metadata(path).map_err(|e| Error::from(e).context(path.display()))?;
    if !meta.is_file() {
        return Err(Error::invalid(format!("{} is no regular file", path.display())));
    }
    benben_format::open(path)
}
