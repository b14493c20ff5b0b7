//! Packed weights in [burn](https://burn.dev): parameters of modules from a pack, and layers that hold no dense weight.
//!
//! A pack as a module store, decoded one tensor at a time:
//!
//! ```no_run
//! use benben_burn::PackStore;
//! use burn::{nn::LinearConfig, store::ModuleSnapshot, tensor::Device};
//!
//! let mut layer = LinearConfig::new(576, 1536).with_bias(false).init(&Device::flex());
//! let store = PackStore::open("model.benben")?;
//! let mut store = store.with_key_remapping(r"^model\.layers\.0\.mlp\.up_proj\.", "")?;
//! layer.load_from(&mut store)?;
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! A layer that stays packed and is multiplied where it lies:
//!
//! ```no_run
//! use benben_burn::{PackedLinear, PackedWeights};
//! use benben_decode::{LayerStore, Pack};
//! use burn::tensor::{Device, Tensor};
//! use std::sync::Arc;
//!
//! let pack = Arc::new(Pack::open("model.benben".as_ref())?);
//! let weights = PackedWeights::from(Arc::new(LayerStore::new(pack)));
//! let layer = PackedLinear::new(&weights, "model.layers.0.mlp.up_proj", &Device::flex())?;
//! let y = layer.forward(Tensor::<2>::ones([1, 576], &Device::flex()))?;
//! assert_eq!(y.dims(), [1, 1536]);
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! Choose the store where the dense model fits in memory and burn should own it (training, exporting); choose packed
//! layers where it does not fit, or where reading fewer bytes for each product is faster. Without burn, use
//! `benben-models`. This crate never writes packs: that is `benben pack`.

mod embedding;
#[cfg(feature = "wgpu")]
pub mod gpu;
mod linear;
mod llama;
mod matrix;
mod store;
mod weights;

pub use embedding::PackedEmbedding;
pub use linear::PackedLinear;
pub use llama::Llama;
pub use store::PackStore;
pub use weights::PackedWeights;
