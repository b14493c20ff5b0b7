//! Gradients of the whole network, in burn: what they say of importance, and what they can repair.
//!
//! A network is walked block by block in both directions: forward with the stream before each block kept, backward
//! with one block's graph at a time. Memory is the matrices of one block, the output matrix, and the kept streams.

mod blocks;
mod checkpoint;
mod codes;
mod columns;
mod distill;
mod fisher;
mod form;
mod head;
#[cfg(test)]
mod made;
mod parameter;
mod run;
mod settings;
mod student;
mod table;
mod teacher;

pub use columns::column_fisher;
pub use fisher::{Fisher, Rows, fisher};
pub use run::{Recovered, recover};
pub use settings::Settings;

use benben_format::{Error, Result};
use benben_models::llm::Model;
use benben_models::llm::graph::Network;
use burn::tensor::{Device, Tensor};

/// The network of `model` as a graph on the processor.
#[must_use]
pub fn graph(model: &Model) -> Network {
    Network::new(model.config().clone(), model.weights(), Device::flex())
}

/// Values of `x` in row-major order.
fn values<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    let data = x.try_into_data().map_err(|e| Error::io(format!("the device: {e}")))?;
    data.try_into_vec().map_err(|e| Error::unsupported(format!("values of a tensor: {e:?}")))
}
