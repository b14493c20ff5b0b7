//! Weights of a model that is not packed, used through the same code: so both can be compared.

use benben_decode::{Resident, Weights};
use benben_format::{Error, Result, element_count, in_memory, matrix};
use benben_io::ModelSource;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Weights of a [`ModelSource`], each read when it is first used and kept in the type in which it is stored.
pub struct SourceWeights {
    source: Arc<dyn ModelSource>,
    index: BTreeMap<String, usize>,
    held: Mutex<BTreeMap<String, Arc<Resident>>>,
    read: AtomicU64,
}

impl SourceWeights {
    /// The weights of `source`; nothing is read yet.
    #[must_use]
    pub fn new(source: Arc<dyn ModelSource>) -> Self {
        let index = source.tensors().iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Self { source, index, held: Mutex::default(), read: AtomicU64::new(0) }
    }

    /// Bytes of tensors that were read so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn find(&self, name: &str) -> Result<usize> {
        let missing = || Error::invalid(format!("no tensor {name:?} among the {}", self.index.len()));
        self.index.get(name).copied().ok_or_else(missing)
    }

    /// The bytes of tensor `index`.
    fn bytes(&self, index: usize) -> Result<std::borrow::Cow<'_, [u8]>> {
        let bytes = self.source.read(index)?;
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn get(&self, name: &str) -> Result<Arc<Resident>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = held.get(name) {
            return Ok(Arc::clone(found));
        }
        let index = self.find(name)?;
        let dtype = self.source.tensors()[index].dtype;
        let loaded = Resident::from_bytes(self.shape(name)?, dtype, &self.bytes(index)?);
        self.source.release(index);
        let loaded = Arc::new(loaded.map_err(|e| e.in_tensor(name))?);
        held.insert(name.to_owned(), Arc::clone(&loaded));
        Ok(loaded)
    }
}

impl Weights for SourceWeights {
    fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn shape(&self, name: &str) -> Result<[usize; 2]> {
        let (rows, columns) = matrix(&self.source.tensors()[self.find(name)?].shape)?;
        Ok([in_memory(rows)?, in_memory(columns)?])
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let index = self.find(name)?;
        let info = &self.source.tensors()[index];
        let mut values = vec![0.0; in_memory(element_count(&info.shape)?)?];
        info.dtype.to_f32(&self.bytes(index)?, &mut values).map_err(|e| e.in_tensor(name))?;
        Ok(values)
    }

    fn rows(&self, name: &str, ids: &[u32], out: &mut [f32]) -> Result<()> {
        self.get(name)?.rows(ids, out).map_err(|e| e.in_tensor(name))
    }

    fn products(&self, names: &[&str], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()> {
        if names.len() != out.len() {
            return Err(Error::invalid(format!("{} outputs for {} matrices", out.len(), names.len())));
        }
        let held = names.iter().map(|name| self.get(name)).collect::<Result<Vec<_>>>()?;
        let matrices: Vec<&Resident> = held.iter().map(|m| &**m).collect();
        Resident::products(&matrices, x, vectors, out)
    }

    fn release(&self, name: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
