//! Loading a pack into a module holds the module and one tensor.

use benben::{Dtype, Limits, Pack};
use benben_burn::PackStore;
use benben_tests::alloc::{Counting, peak_of};
use benben_tests::model::{MadeModel, pack_to_memory, recipe_with};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::store::ModuleSnapshot;
use burn::tensor::Device;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LAYERS: usize = 24;
const SIDE: usize = 512;

#[derive(Module, Debug)]
struct Net {
    layers: Vec<Linear>,
}

#[test]
fn the_module_and_a_few_times_the_largest_tensor() {
    let names: Vec<String> = (0..LAYERS).map(|i| format!("layers.{i}.weight")).collect();
    let shape = [SIDE as u64, SIDE as u64];
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), Dtype::F32, &shape[..])).collect();
    let bytes = pack_to_memory(&MadeModel::new(&tensors), &recipe_with("scalar:4").unwrap()).unwrap();
    let pack = Arc::new(Pack::from_source(Arc::new(bytes), Limits::default()).unwrap());
    let tensor = SIDE * SIDE * 4;
    let linear = || LinearConfig::new(SIDE, SIDE).with_bias(false).init(&Device::flex());
    let (net, peak) = peak_of(|| {
        // Parameters of a new module take no memory before they are used.
        let mut net = Net { layers: (0..LAYERS).map(|_| linear()).collect() };
        net.load_from(&mut PackStore::new(pack)).unwrap();
        net
    });
    let extra = peak as f64 / tensor as f64 - LAYERS as f64;
    println!("{extra:.1} times the largest tensor beside a module of {LAYERS}");
    assert_eq!(net.num_params(), LAYERS * SIDE * SIDE);
    assert!(extra < 5.0, "{extra:.1} times the largest tensor beside a module of {LAYERS}, the bound is 5");
}
