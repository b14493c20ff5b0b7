//! Weights of a model that is not packed, used through the same code: so both can be compared.

use benben_decode::Weights;
use benben_format::{Error, Result, in_memory, matrix};
use benben_io::ModelSource;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Weights of a [`ModelSource`], each read when it is first used and kept as f32.
pub struct SourceWeights {
    source: Arc<dyn ModelSource>,
    index: BTreeMap<String, usize>,
    held: Mutex<BTreeMap<String, Arc<Dense>>>,
    read: AtomicU64,
}

/// A matrix in memory.
struct Dense {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
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

    fn values(&self, index: usize) -> Result<Vec<f32>> {
        let info = &self.source.tensors()[index];
        let mut values = vec![0.0; in_memory(benben_format::element_count(&info.shape)?)?];
        let bytes = self.source.read(index)?;
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        info.dtype.to_f32(&bytes, &mut values).map_err(|e| e.in_tensor(&info.name))?;
        Ok(values)
    }

    fn get(&self, name: &str) -> Result<Arc<Dense>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = held.get(name) {
            return Ok(Arc::clone(found));
        }
        let [rows, columns] = self.shape(name)?;
        let loaded = Arc::new(Dense { rows, columns, values: self.values(self.find(name)?)? });
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
        self.values(self.find(name)?)
    }

    fn rows(&self, name: &str, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let table = self.get(name)?;
        if out.len() != ids.len() * table.columns || ids.iter().any(|id| *id as usize >= table.rows) {
            return Err(Error::invalid(format!("rows {ids:?} of {}", table.rows)).in_tensor(name));
        }
        for (id, out) in ids.iter().zip(out.chunks_mut(table.columns.max(1))) {
            let at = *id as usize * table.columns;
            out.copy_from_slice(&table.values[at..at + table.columns]);
        }
        Ok(())
    }

    fn products(&self, names: &[&str], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()> {
        for (name, out) in names.iter().zip(out) {
            let matrix = self.get(name)?;
            if x.len() != vectors * matrix.columns || out.len() != vectors * matrix.rows {
                return Err(
                    Error::invalid(format!("{} inputs, {} outputs", x.len(), out.len())).in_tensor(name)
                );
            }
            for (x, out) in x.chunks(matrix.columns.max(1)).zip(out.chunks_mut(matrix.rows.max(1))) {
                let rows = matrix.values.par_chunks(matrix.columns.max(1));
                out.par_iter_mut().zip(rows).with_min_len(256).for_each(|(y, row)| *y = dot(row, x));
            }
        }
        Ok(())
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks(16).zip(b.chunks(16)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}
