//! Several safetensors files that make one model, as Hugging Face cuts them.
//!
//! `model.safetensors.index.json` is `{"metadata": {..}, "weight_map": {tensor: file, ..}}`; the files lie beside
//! it. Tensors come in the order of the shards' file names (`model-00001-of-00003.safetensors`, ..), within a shard
//! in the order of their data. A tensor of a shard that the map does not name is read too, as the reference
//! implementation does.

use crate::detect::{HEAD, refuse_lfs_pointer};
use crate::model::{ModelSource, SideFile, TensorInfo, entry};
use crate::names::{check_relative, first_duplicate};
use crate::open::map;
use crate::safetensors::{Pairs, SafeTensors};
use benben_format::{Error, Result};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Longest index that is read: some 500,000 tensors.
const MAX_INDEX: u64 = 100_000_000;

/// A model in several safetensors files.
pub struct Sharded {
    shards: Vec<SafeTensors>,
    tensors: Vec<TensorInfo>,
    /// Shard of each tensor, and the tensor's index there.
    places: Vec<(usize, usize)>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
struct Index {
    metadata: Option<Pairs<serde_json::Value>>,
    weight_map: Pairs<String>,
}

impl Sharded {
    /// Opens the index at `path` and every shard that it names; reads their headers.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption) where a tensor of the map is not in its shard or one is
    /// in two shards, naming it, and for shard names that lead out of the folder; whatever
    /// [`SafeTensors::new`] reports of a shard, naming its path.
    pub fn open(path: &Path) -> Result<Self> {
        let named = |e: Error| e.context(path.display());
        let index = read_index(path).map_err(named)?;
        let weight_map = index.weight_map.unique("weight_map").map_err(named)?;
        let files: BTreeSet<&str> = weight_map.iter().map(|(_, file)| file.as_str()).collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut model =
            Self { shards: Vec::new(), tensors: Vec::new(), places: Vec::new(), metadata: BTreeMap::new() };
        for (key, value) in index.metadata.map_or(Ok(Vec::new()), |m| m.unique("metadata")).map_err(named)? {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            model.metadata.insert(key, text);
        }
        for &file in &files {
            check_shard_name(file).map_err(named)?;
            model.push(open_shard(&folder.join(file))?);
        }
        model.check(&weight_map, &files).map_err(named)?;
        Ok(model)
    }

    fn push(&mut self, shard: SafeTensors) {
        let at = self.shards.len();
        self.places.extend((0..shard.tensors().len()).map(|i| (at, i)));
        self.tensors.extend_from_slice(shard.tensors());
        for (key, value) in shard.metadata() {
            self.metadata.entry(key.clone()).or_insert_with(|| value.clone());
        }
        self.shards.push(shard);
    }

    /// Refuses tensors that are in two shards, and tensors of the map that are not in theirs.
    fn check(&self, weight_map: &[(String, String)], files: &BTreeSet<&str>) -> Result<()> {
        if let Some(name) = first_duplicate(self.tensors.iter().map(|t| t.name.as_str())) {
            return Err(Error::corruption("this tensor is in two shards").in_tensor(name));
        }
        let files: Vec<&str> = files.iter().copied().collect();
        let held: BTreeMap<&str, &str> = self
            .tensors
            .iter()
            .zip(&self.places)
            .filter_map(|(t, place)| Some((t.name.as_str(), *files.get(place.0)?)))
            .collect();
        for (name, file) in weight_map {
            match held.get(name.as_str()) {
                Some(found) if found == file => {}
                found => {
                    let found = found.map_or("in no shard".to_owned(), |f| format!("in {f}"));
                    return Err(Error::corruption(format!(
                        "the index expects this tensor in {file}, found {found}"
                    ))
                    .in_tensor(name));
                }
            }
        }
        Ok(())
    }
}

fn read_index(path: &Path) -> Result<Index> {
    let source = map(path)?;
    if source.len() > MAX_INDEX {
        return Err(Error::limit(format!(
            "a file that starts as JSON has {} bytes, an index of shards at most {MAX_INDEX}",
            source.len()
        )));
    }
    let json = source.read_at(0, usize::try_from(source.len()).unwrap_or(usize::MAX))?;
    serde_json::from_slice(&json).map_err(|e| {
        Error::corruption(format!("no index of shards: {e}"))
            .with_hint("expected {\"weight_map\": {tensor: file}}, as in model.safetensors.index.json")
    })
}

fn check_shard_name(file: &str) -> Result<()> {
    if file.contains('/') || check_relative(file).is_err() {
        return Err(Error::corruption(format!(
            "shard {file:?} is refused: every shard must lie in the folder of the index"
        )));
    }
    Ok(())
}

fn open_shard(path: &Path) -> Result<SafeTensors> {
    let source = map(path).map_err(|e| e.with_hint("fetch every shard that the index names"))?;
    let head = source.read_at(0, usize::try_from(source.len()).map_or(HEAD, |n| n.min(HEAD)));
    let checked = head.and_then(|head| refuse_lfs_pointer(&head));
    checked.and_then(|()| SafeTensors::new(source)).map_err(|e| e.context(path.display()))
}

impl ModelSource for Sharded {
    fn format(&self) -> &'static str {
        "safetensors"
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let &(shard, local) = entry(&self.places, index)?;
        entry(&self.shards, shard)?.read(local)
    }

    fn release(&self, index: usize) {
        if let Some((shard, local)) = self.places.get(index)
            && let Some(shard) = self.shards.get(*shard)
        {
            shard.release(*local);
        }
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn files(&self) -> &[SideFile] {
        &[]
    }

    fn total_bytes(&self) -> u64 {
        self.shards.iter().map(ModelSource::total_bytes).sum()
    }
}
