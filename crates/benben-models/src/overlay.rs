//! Weights some of which are replaced: a network that is quantized as far as the work has come.

use benben_decode::{Resident, Weights};
use benben_format::{Dtype, Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Weights over others: what was replaced is answered from here, everything else by the ones below.
pub struct Overlay<'a> {
    below: &'a dyn Weights,
    replaced: BTreeMap<String, Arc<Resident>>,
}

impl<'a> Overlay<'a> {
    /// Nothing replaced yet.
    #[must_use]
    pub fn new(below: &'a dyn Weights) -> Self {
        Self { below, replaced: BTreeMap::new() }
    }

    /// Puts `values`, row-major, in the place of the matrix `name`.
    ///
    /// # Errors
    /// InvalidArgument where there is no such tensor below, or it has another number of elements.
    pub fn replace(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let shape = self.below.shape(name)?;
        if values.len() != shape[0] * shape[1] {
            let message = format!("{} values for {} x {}", values.len(), shape[0], shape[1]);
            return Err(Error::invalid(message).in_tensor(name));
        }
        let resident = Resident::from_bytes(shape, Dtype::F32, &Dtype::F32.from_f32(values)?)?;
        self.put(name, Arc::new(resident))
    }

    /// Puts a tensor that is in memory already in the place of `name`.
    ///
    /// # Errors
    /// InvalidArgument where there is no such tensor below, or it has another shape.
    pub fn put(&mut self, name: &str, tensor: Arc<Resident>) -> Result<()> {
        let (expected, found) = (self.below.shape(name)?, tensor.shape());
        if expected != found {
            let [[a, b], [c, d]] = [expected, found];
            return Err(Error::invalid(format!("expected {a} x {b}, found {c} x {d}")).in_tensor(name));
        }
        self.replaced.insert(name.to_owned(), tensor);
        Ok(())
    }

    /// What is below is answered for `name` again.
    pub fn restore(&mut self, name: &str) {
        self.replaced.remove(name);
    }

    /// Whether `name` is replaced.
    #[must_use]
    pub fn is_replaced(&self, name: &str) -> bool {
        self.replaced.contains_key(name)
    }
}

impl Weights for Overlay<'_> {
    fn contains(&self, name: &str) -> bool {
        self.below.contains(name)
    }

    fn shape(&self, name: &str) -> Result<[usize; 2]> {
        self.below.shape(name)
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        self.replaced.get(name).map_or_else(|| self.below.vector(name), |tensor| Ok(tensor.to_f32()))
    }

    fn rows(&self, name: &str, ids: &[u32], out: &mut [f32]) -> Result<()> {
        match self.replaced.get(name) {
            Some(tensor) => tensor.rows(ids, out).map_err(|e| e.in_tensor(name)),
            None => self.below.rows(name, ids, out),
        }
    }

    fn products(&self, names: &[&str], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()> {
        if names.len() != out.len() {
            return Err(Error::invalid(format!("{} outputs for {} matrices", out.len(), names.len())));
        }
        let (mut own, mut own_out) = (Vec::new(), Vec::new());
        let (mut others, mut others_out) = (Vec::new(), Vec::new());
        for (name, out) in names.iter().zip(out.iter_mut()) {
            match self.replaced.get(*name) {
                Some(tensor) => {
                    own.push(&**tensor);
                    own_out.push(&mut **out);
                }
                None => {
                    others.push(*name);
                    others_out.push(&mut **out);
                }
            }
        }
        if !others.is_empty() {
            self.below.products(&others, x, vectors, &mut others_out)?;
        }
        Resident::products(&own, x, vectors, &mut own_out)
    }

    fn release(&self, name: &str) {
        self.below.release(name);
    }
}
