//! What every reader offers: named tensors, read one at a time.

use crate::detect;
use crate::names::check_relative;
use benben_format::{Dtype, Error, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model file, or a set of files that make one model.
pub trait ModelSource: Send + Sync {
    /// Name of the file format, for tables: `safetensors`, `gguf`.
    fn format(&self) -> &'static str;

    /// Every tensor, in the order of the data in the file; that is close to the order in which a model uses them.
    fn tensors(&self) -> &[TensorInfo];

    /// Values of tensor `index`: little-endian, packed, outermost dimension first, of the type and shape that
    /// [`tensors`](Self::tensors) gives. Touches the bytes of that tensor alone.
    ///
    /// # Errors
    /// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) where there is no such tensor,
    /// [`Unsupported`](benben_format::ErrorKind::Unsupported) for a type that is not read, and what the byte source
    /// reports; all name the tensor.
    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>>;

    /// Says that tensor `index` is not wanted again soon, so that pages of a mapped file stop counting as this process's
    /// memory. It can still be read; a source that keeps nothing does nothing.
    fn release(&self, index: usize) {
        let _ = index;
    }

    /// What the file says about itself, as far as it is text or a number.
    fn metadata(&self) -> &BTreeMap<String, String>;

    /// Small files that belong to the model: configuration, tokenizer, the complete metadata of the format.
    fn files(&self) -> &[SideFile];

    /// Bytes of the weight files on disk, headers included.
    fn total_bytes(&self) -> u64;

    /// Index of the tensor called `name`.
    fn index_of(&self, name: &str) -> Option<usize> {
        self.tensors().iter().position(|t| t.name == name)
    }
}

/// What is known of a tensor without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the file; unique.
    pub name: String,
    /// Type of the values that [`ModelSource::read`] gives.
    pub dtype: Dtype,
    /// Shape, outermost dimension first. Shape x type is at most 2^63 elements and fits 64 bits in bytes.
    pub shape: Vec<u64>,
    /// Type in the file: the name of `dtype` where values are stored as they are, else the format's own (`Q4_K`).
    pub source_type: String,
    /// Bytes of the tensor in the file.
    pub source_bytes: u64,
}

/// The tensor's entry in a reader's own table.
pub(crate) fn entry<T>(table: &[T], index: usize) -> Result<&T> {
    table.get(index).ok_or_else(|| {
        Error::invalid(format!("tensor {index} was asked for, but the model has {}", table.len()))
    })
}

/// `bytes` as a length in memory, which on small devices a tensor of a large file may not have.
pub(crate) fn memory(bytes: u64) -> Result<usize> {
    isize::try_from(bytes)
        .map(isize::unsigned_abs)
        .map_err(|_| Error::limit(format!("{bytes} bytes do not fit the memory of this device")))
}

impl fmt::Debug for dyn ModelSource + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} model of {} tensors, {} bytes", self.format(), self.tensors().len(), self.total_bytes())
    }
}

/// A small file that travels with the weights. Read when asked for.
#[derive(Clone)]
pub struct SideFile {
    name: String,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Disk(PathBuf),
    Made(Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>),
}

impl SideFile {
    /// The file at `path`, called `name` in the model.
    ///
    /// # Errors
    /// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) unless `name` is a relative path with `/`
    /// between its parts, none of them `.` or `..`.
    pub fn on_disk(name: &str, path: &Path) -> Result<Self> {
        check_relative(name)?;
        Ok(Self { name: name.into(), body: Body::Disk(path.into()) })
    }

    /// A file called `name` whose bytes `make` gives.
    ///
    /// # Errors
    /// As for [`on_disk`](Self::on_disk).
    pub fn made(name: &str, make: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Result<Self> {
        check_relative(name)?;
        Ok(Self { name: name.into(), body: Body::Made(Arc::new(make)) })
    }

    /// Name relative to the model: never absolute, never leading out of the model's folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`Io`](benben_format::ErrorKind::Io), naming the path; a git-lfs pointer in place of the file is refused.
    pub fn read(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Made(make) => make(),
            Body::Disk(path) => {
                let named = |e: Error| e.context(path.display());
                let bytes = std::fs::read(path).map_err(|e| named(e.into()))?;
                detect::refuse_lfs_pointer(&bytes).map_err(named)?;
                Ok(bytes)
            }
        }
    }
}

impl fmt::Debug for SideFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideFile").field("name", &self.name).finish_non_exhaustive()
    }
}
