//! The parameters under their Hugging Face names and shapes, out of the network and back into it.

use crate::model::CausalLm;
use anyhow::{Context, Result, ensure};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use half::f16;
use std::collections::BTreeMap;

/// One tensor as the file holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its shape; a matrix is `[out, in]`.
    pub shape: Vec<usize>,
    /// Its values in row-major order.
    pub values: Vec<f16>,
}

/// All tensors by name.
pub type Weights = BTreeMap<String, Weight>;

/// Copies the parameters out of `model`.
///
/// # Errors
///
/// When a tensor cannot be read, or holds a number that half precision cannot.
pub fn collect(model: &CausalLm) -> Result<Weights> {
    let mut collector = Collector { place: Place::default(), found: Ok(Weights::new()) };
    model.visit(&mut collector);
    collector.found
}

/// Puts `weights` in place of the parameters of `model`.
///
/// # Errors
///
/// When a tensor is missing or has another shape.
pub fn restore(model: CausalLm, weights: &Weights) -> Result<CausalLm> {
    let mut restorer = Restorer { place: Place::default(), weights, outcome: Ok(()) };
    let model = model.map(&mut restorer);
    restorer.outcome.map(|()| model)
}

/// Where a walk through the modules stands.
#[derive(Default)]
struct Place {
    path: Vec<String>,
    containers: Vec<String>,
}

impl Place {
    fn enter(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.path.pop();
        self.containers.pop();
    }

    /// Burn calls the scale of a norm `gamma`; everything else is called alike.
    fn name(&self) -> String {
        let names: Vec<&str> =
            self.path.iter().map(|n| if n == "gamma" { "weight" } else { n.as_str() }).collect();
        names.join(".")
    }

    /// Burn stores a linear layer `[in, out]`, Hugging Face `[out, in]`.
    fn transposed(&self) -> bool {
        self.containers.last().is_some_and(|container| container == "Struct:Linear")
    }
}

struct Collector {
    place: Place,
    found: Result<Weights>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = if self.place.transposed() { param.val().transpose() } else { param.val() };
        let name = self.place.name();
        if let Ok(found) = &mut self.found {
            match half(&name, tensor) {
                Ok(weight) => drop(found.insert(name, weight)),
                Err(cause) => self.found = Err(cause),
            }
        }
    }
}

fn half<const D: usize>(name: &str, tensor: Tensor<D>) -> Result<Weight> {
    let shape = tensor.dims().to_vec();
    let values = tensor.try_into_data()?.convert::<f32>().try_into_vec::<f32>()?;
    let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
    ensure!(values.iter().all(|value| value.is_finite()), "{name} holds a number beyond half precision");
    Ok(Weight { shape, values })
}

struct Restorer<'a> {
    place: Place,
    weights: &'a Weights,
    outcome: Result<()>,
}

impl ModuleMapper for Restorer<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.place.name();
        let transposed = self.place.transposed();
        match tensor(&name, self.weights.get(&name), &param, transposed) {
            Ok(tensor) => param.map(|_| tensor),
            Err(cause) => {
                self.outcome = Err(cause);
                param
            }
        }
    }
}

fn tensor<const D: usize>(
    name: &str,
    weight: Option<&Weight>,
    param: &Param<Tensor<D>>,
    transposed: bool,
) -> Result<Tensor<D>> {
    let weight = weight.with_context(|| format!("{name} is missing"))?;
    let mut shape = weight.shape.clone();
    if transposed {
        shape.reverse();
    }
    let expected = param.val().dims();
    ensure!(shape == expected, "{name} is {shape:?}, expected {expected:?}");
    let values: Vec<f32> = weight.values.iter().map(|value| value.to_f32()).collect();
    let data = TensorData::new(values, weight.shape.clone());
    let tensor = Tensor::from_data(data, &param.val().device());
    Ok(if transposed { tensor.transpose() } else { tensor })
}
