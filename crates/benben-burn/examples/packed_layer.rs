//! Calls a layer that stays packed.
//!
//! ```console
//! cargo run --release -- demo --keep kept
//! cargo run --release -p benben-burn --example packed_layer -- kept/demo-balanced.benben
//! ```
#![allow(clippy::print_stdout, reason = "an example that prints")]

use benben_burn::{PackedEmbedding, PackedLinear, PackedWeights};
use benben_decode::{LayerStore, Pack};
use benben_format::{Error, Result};
use burn::module::Module;
use burn::tensor::Device;
use std::sync::Arc;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| Error::invalid("expected a pack"))?;
    let device = Device::flex();
    let store = Arc::new(LayerStore::new(Arc::new(Pack::open(path.as_ref())?)));
    let weights = PackedWeights::from(store);
    let table = PackedEmbedding::new(&weights, "model.embed_tokens")?;
    let up = PackedLinear::new(&weights, "model.layers.0.mlp.up_proj", &device)?;
    let y = up.forward(table.rows(&[1, 2, 3], &device)?)?;
    println!("{} {:?}: {} dense parameters, output {:?}", up.name(), up.shape(), up.num_params(), y.dims());
    Ok(())
}
