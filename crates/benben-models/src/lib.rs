//! Networks that run on packed weights.
//!
//! A network asks [`Weights`](benben_decode::Weights) for products and rows and never sees how they are stored.
//! This crate knows the graph of each family; it does not need burn, but for
//! graphs with gradients (feature `burn`).

pub mod llm;
mod network;
mod overlay;

pub use network::{Network, Sample, Stage, State};
pub use overlay::Overlay;

pub use benben_format::{Error, ErrorKind, Result};
