//! Loads a layer of a pack into a module of burn.
//!
//! ```console
//! cargo run --release -- demo --keep kept
//! cargo run --release -p benben-burn --example load_pack -- kept/demo-balanced.benben
//! ```
#![allow(clippy::print_stdout, reason = "an example that prints")]

use benben_burn::PackStore;
use benben_format::{Error, Result};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::store::ModuleSnapshot;
use burn::tensor::Device;

#[derive(Module, Debug)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| Error::invalid("expected a pack"))?;
    let store = PackStore::open(path)?;
    let shape = store.pack().tensor("model.layers.0.mlp.up_proj.weight")?.shape().to_vec();
    let [inner, hidden] = [0, 1].map(|i| shape.get(i).map_or(0, |&n| usize::try_from(n).unwrap_or(0)));
    let linear = |from, to| LinearConfig::new(from, to).with_bias(false).init(&Device::flex());
    let mut mlp = Mlp {
        gate_proj: linear(hidden, inner),
        up_proj: linear(hidden, inner),
        down_proj: linear(inner, hidden),
    };
    let result = mlp.load_from(&mut store.with_key_remapping(r"^model\.layers\.0\.mlp\.", "")?)?;
    println!(
        "{} parameters from {} tensors: {}",
        mlp.num_params(),
        result.applied.len(),
        result.applied.join(", ")
    );
    Ok(())
}
