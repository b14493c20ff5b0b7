//! Tensors of a pack at hand while a network runs.

use crate::resident::{Form, Resident};
use crate::{Pack, Weights};
use benben_format::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Hands out the tensors of a pack to a running network, each decoded once.
#[derive(Debug)]
pub struct LayerStore {
    pack: Arc<Pack>,
    resident: Mutex<BTreeMap<String, Arc<Resident>>>,
}

impl LayerStore {
    /// A store over `pack`; nothing is decoded yet.
    #[must_use]
    pub fn new(pack: Arc<Pack>) -> Self {
        Self { pack, resident: Mutex::default() }
    }

    /// The pack under the store.
    #[must_use]
    pub fn pack(&self) -> &Arc<Pack> {
        &self.pack
    }

    fn get(&self, name: &str) -> Result<Arc<Resident>> {
        let mut resident = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = resident.get(name) {
            return Ok(Arc::clone(found));
        }
        let loaded = Arc::new(Resident::load(&self.pack.tensor(name)?, Form::Codes)?);
        resident.insert(name.to_owned(), Arc::clone(&loaded));
        Ok(loaded)
    }
}

impl Weights for LayerStore {
    fn contains(&self, name: &str) -> bool {
        self.pack.reader().tensor(name).is_some()
    }

    fn shape(&self, name: &str) -> Result<[usize; 2]> {
        let (rows, columns) = benben_format::matrix(self.pack.tensor(name)?.shape())?;
        Ok([benben_format::in_memory(rows)?, benben_format::in_memory(columns)?])
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        self.pack.tensor(name)?.to_f32()
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
}
