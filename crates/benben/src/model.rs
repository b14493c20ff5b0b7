//! A pack as a source of tensors like any other model file: what compares, unpacks and packs again.

use crate::{Error, Limits, Pack, Result};
use benben_format::layout::MAGIC;
use benben_io::{ModelSource, SideFile, TensorInfo};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An open pack seen as a model.
pub struct PackedModel {
    pack: Arc<Pack>,
    tensors: Vec<TensorInfo>,
    files: Vec<SideFile>,
}

impl PackedModel {
    /// The model in `pack`.
    ///
    /// # Errors
    /// InvalidArgument where a file's name leaves its folder; the reader of packs has refused such names before.
    pub fn new(pack: Pack) -> Result<Self> {
        let pack = Arc::new(pack);
        let tensors = pack.tensors().map(|t| TensorInfo {
            name: t.name().into(),
            dtype: t.dtype(),
            shape: t.shape().into(),
            source_type: t.dtype().to_string(),
            source_bytes: t.stored_bytes(),
        });
        let tensors = tensors.collect();
        let files = pack.files().map(|name| {
            let (pack, owned) = (Arc::clone(&pack), name.to_owned());
            SideFile::made(name, move || pack.file(&owned))
        });
        let files = files.collect::<Result<_>>()?;
        Ok(Self { pack, tensors, files })
    }
}

impl ModelSource for PackedModel {
    fn format(&self) -> &'static str {
        "benben"
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let info = self.tensors.get(index);
        let info = info.ok_or_else(|| Error::invalid(format!("tensor {index} of {}", self.tensors.len())))?;
        self.pack.tensor(&info.name)?.to_bytes().map(Cow::Owned)
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.pack.reader().directory().metadata
    }

    fn files(&self) -> &[SideFile] {
        &self.files
    }

    fn total_bytes(&self) -> u64 {
        self.pack.reader().len()
    }
}

/// Opens the model at `path`: a pack, or anything that `benben-io` reads.
///
/// # Errors
/// As the reader of the format that the content shows.
pub fn open_model(path: &Path) -> Result<Box<dyn ModelSource>> {
    crate::output::require(path)?;
    if path.is_file() {
        let source = benben_format::open(path)?;
        let is_pack = source.len() >= 8 && *source.read_at(0, 8)? == MAGIC;
        if is_pack {
            return Ok(Box::new(PackedModel::new(Pack::from_source(source, Limits::default())?)?));
        }
    }
    benben_io::open(path)
}
