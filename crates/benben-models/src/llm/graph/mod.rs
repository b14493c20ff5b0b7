//! The Llama family as a graph in burn: for gradients, where [`Llama`](super::Llama) is for running.
//!
//! [`Layer`] is the one place where the graph of a layer stands. What its seven matrices are is the caller's
//! business: parameters to be trained, constants whose outputs are watched, packed integers with trainable factors.
//! It is asked for [`Part`](super::Part)s one at a time and answers with their products.
//!
//! All tensors are f32. Whole sequences only, `[batch, length, ..]`; there is no cache of keys and values.

mod layer;
mod network;
mod positions;
mod rotation;

pub use layer::{Layer, rms_norm};
pub use network::{Block, Head, Matrix, Network};
pub use positions::Positions;
pub use rotation::Rotation;

use burn::tensor::{DType, Device, Tensor, TensorData};

/// `values` in row-major order as a tensor on `device`.
///
/// # Panics
/// Where there are not as many values as `shape` says.
#[must_use]
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}
