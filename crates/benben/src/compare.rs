//! How far two models are apart, tensor by tensor.

use crate::{Error, ModelSource, Observer, Progress, Result};
use benben_format::{Dtype, element_count, in_memory};
use benben_io::TensorInfo;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// One tensor that both models have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorComparison {
    /// Its name.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Element type in the first model.
    pub dtype: String,
    /// Squared difference relative to the squared norm in the first model.
    pub relative_mse: f64,
    /// Largest absolute difference.
    pub max_error: f64,
    /// Whether bytes and types are the same.
    pub identical: bool,
}

/// Two models side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Tensors of both, in the order of the first.
    pub tensors: Vec<TensorComparison>,
    /// Names that only the first model has.
    pub only_in_first: Vec<String>,
    /// Names that only the second model has.
    pub only_in_second: Vec<String>,
    /// Tensors whose shapes differ: name, first shape, second shape.
    pub shapes_differ: Vec<(String, Vec<u64>, Vec<u64>)>,
    /// Squared difference of all compared tensors relative to their squared norm in the first model.
    pub relative_mse: f64,
    /// Largest of the tensors' relative errors.
    pub worst_relative_mse: f64,
    /// Largest absolute difference.
    pub max_error: f64,
}

impl Comparison {
    /// Whether both models have the same tensors, of the same types and bits.
    pub fn is_identical(&self) -> bool {
        self.same_tensors() && self.tensors.iter().all(|t| t.identical)
    }

    /// Whether both models have tensors of the same names and shapes.
    pub fn same_tensors(&self) -> bool {
        self.only_in_first.is_empty() && self.only_in_second.is_empty() && self.shapes_differ.is_empty()
    }
}

/// Compares the tensors of two models whose names `wanted` accepts. Holds one tensor of each at a time.
///
/// # Errors
/// What the readers report, with the tensor's name; Interrupted, where `observer` says so.
pub fn compare(
    first: &dyn ModelSource,
    second: &dyn ModelSource,
    wanted: impl Fn(&str) -> bool,
    observer: &mut Observer<'_>,
) -> Result<Comparison> {
    let theirs: HashMap<&str, usize> =
        second.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    let ours: HashSet<&str> = first.tensors().iter().map(|t| t.name.as_str()).collect();
    let mut found = Comparison {
        tensors: Vec::new(),
        only_in_first: Vec::new(),
        only_in_second: second
            .tensors()
            .iter()
            .filter(|t| wanted(&t.name) && !ours.contains(t.name.as_str()))
            .map(|t| t.name.clone())
            .collect(),
        shapes_differ: Vec::new(),
        relative_mse: 0.0,
        worst_relative_mse: 0.0,
        max_error: 0.0,
    };
    let (mut error, mut energy) = (0.0, 0.0);
    let total = first.tensors().len() as u64;
    for (i, a) in first.tensors().iter().enumerate().filter(|(_, a)| wanted(&a.name)) {
        if observer(Progress { item: &a.name, done: i as u64, total }).is_break() {
            return Err(Error::interrupted());
        }
        let Some(&j) = theirs.get(a.name.as_str()) else {
            found.only_in_first.push(a.name.clone());
            continue;
        };
        let b = &second.tensors()[j];
        if a.shape != b.shape {
            found.shapes_differ.push((a.name.clone(), a.shape.clone(), b.shape.clone()));
            continue;
        }
        let (bytes_a, bytes_b) = (first.read(i)?, second.read(j)?);
        let identical = a.dtype == b.dtype && bytes_a == bytes_b;
        let difference = if identical {
            Difference { error: 0.0, energy: norm(a, &bytes_a)?, largest: 0.0 }
        } else {
            Difference::new(a, &bytes_a, b.dtype, &bytes_b)?
        };
        error += difference.error;
        energy += difference.energy;
        let relative_mse = relative(difference.error, difference.energy);
        found.worst_relative_mse = found.worst_relative_mse.max(relative_mse);
        found.max_error = found.max_error.max(difference.largest);
        found.tensors.push(TensorComparison {
            name: a.name.clone(),
            shape: a.shape.clone(),
            dtype: a.dtype.to_string(),
            relative_mse,
            max_error: difference.largest,
            identical,
        });
    }
    found.relative_mse = relative(error, energy);
    let _ = observer(Progress { item: "", done: total, total });
    Ok(found)
}

fn relative(error: f64, energy: f64) -> f64 {
    match (error > 0.0, energy > 0.0) {
        (false, _) => 0.0,
        (true, true) => error / energy,
        (true, false) => f64::INFINITY,
    }
}

struct Difference {
    error: f64,
    energy: f64,
    largest: f64,
}

impl Difference {
    fn new(a: &TensorInfo, bytes_a: &[u8], dtype_b: Dtype, bytes_b: &[u8]) -> Result<Self> {
        let (a, b) = (values(a, a.dtype, bytes_a)?, values(a, dtype_b, bytes_b)?);
        let mut d = Self { error: 0.0, energy: 0.0, largest: 0.0 };
        for (&a, &b) in a.iter().zip(&b) {
            // Equal infinities, and two values that are not numbers, do not differ.
            let difference = if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
                0.0
            } else {
                let d = (f64::from(a) - f64::from(b)).abs();
                if d.is_nan() { f64::INFINITY } else { d }
            };
            d.error += difference * difference;
            d.largest = d.largest.max(difference);
            if a.is_finite() {
                d.energy += f64::from(a) * f64::from(a);
            }
        }
        Ok(d)
    }
}

fn norm(info: &TensorInfo, bytes: &[u8]) -> Result<f64> {
    let values = values(info, info.dtype, bytes)?;
    Ok(values.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x) * f64::from(x)).sum())
}

fn values(info: &TensorInfo, dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    let count = element_count(&info.shape)?;
    let mut out = vec![0.0; in_memory(count)?];
    dtype.to_f32(bytes, &mut out).map_err(|e| e.in_tensor(&info.name))?;
    Ok(out)
}
