//! Packs made on the spot.

use benben::{Dtype, Limits, Pack, Recipe};
use benben_tests::model::{MadeModel, pack_to_memory};
use std::sync::Arc;

/// Tensors that a small network has, each matrix by another method.
pub(crate) const TENSORS: [(&str, Dtype, &[u64], &str); 9] = [
    ("net.up.weight", Dtype::F16, &[48, 32], "scalar:4"),
    ("net.up.bias", Dtype::F32, &[48], "raw"),
    ("net.down.weight", Dtype::F32, &[32, 48], "rvq:4"),
    ("net.square.weight", Dtype::BF16, &[32, 32], "pvq:4"),
    ("net.trellis.weight", Dtype::F32, &[64, 32], "trellis:3"),
    ("net.ternary.weight", Dtype::F32, &[40, 32], "ternary:3"),
    ("net.lossless.weight", Dtype::F16, &[24, 32], "raw"),
    ("net.norm.weight", Dtype::F32, &[32], "raw"),
    ("net.table.weight", Dtype::F32, &[200, 32], "scalar:5"),
];

/// The bytes of a pack of [`TENSORS`].
pub(crate) fn bytes() -> Vec<u8> {
    let tensors: Vec<_> = TENSORS.iter().map(|&(name, dtype, shape, _)| (name, dtype, shape)).collect();
    let mut recipe = Recipe::preset("lossless").unwrap();
    for (name, _, _, method) in TENSORS {
        recipe.set(&format!("{name}={method}")).unwrap();
    }
    pack_to_memory(&MadeModel::new(&tensors), &recipe).unwrap()
}

pub(crate) fn open(bytes: Vec<u8>) -> Arc<Pack> {
    Arc::new(Pack::from_source(Arc::new(bytes), Limits::default()).unwrap())
}

pub(crate) fn pack() -> Arc<Pack> {
    open(bytes())
}
