//! Layers that hold no weight, against products with the dense values.

use crate::made;
use benben::ErrorKind;
use benben_burn::{PackedEmbedding, PackedLinear, PackedWeights};
use benben_decode::LayerStore;
use benben_tests::random::Random;
use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use std::sync::Arc;

pub(crate) fn weights() -> PackedWeights {
    PackedWeights::from(Arc::new(LayerStore::new(made::pack())))
}

/// Inputs of `[vectors, columns]`.
pub(crate) fn inputs(vectors: usize, columns: usize) -> Vec<f32> {
    Random::new(7).gaussian(vectors * columns)
}

/// Products and the sums of magnitudes in them, in f64: `[vectors, rows]` each.
pub(crate) fn dense(name: &str, x: &[f32], columns: usize) -> (Vec<f64>, Vec<f64>) {
    let matrix = made::pack().tensor(name).unwrap().to_f32().unwrap();
    let terms = x.chunks(columns).flat_map(|x| {
        matrix.chunks(columns).map(move |row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)))
    });
    terms.map(|terms| terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))).unzip()
}

/// Holds products against [`dense`]: rounding grows with the terms, not with their sum.
pub(crate) fn hold(name: &str, found: &[f32], (expected, sizes): &(Vec<f64>, Vec<f64>)) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for ((found, expected), size) in found.iter().zip(expected).zip(sizes) {
        assert!((f64::from(*found) - expected).abs() <= 2e-6 * size, "{name}: {found} for {expected}");
    }
}

#[test]
fn products_are_those_of_the_dense_matrix() {
    let (weights, device) = (weights(), Device::flex());
    for (name, _, shape, _) in made::TENSORS.iter().filter(|t| t.2.len() == 2) {
        let columns = shape[1] as usize;
        let layer = PackedLinear::from_matrix(&weights, name).unwrap();
        for vectors in [1, 5] {
            let x = inputs(vectors, columns);
            let tensor = Tensor::<2>::from_data(TensorData::new(x.clone(), [vectors, columns]), &device);
            let y = layer.forward(tensor).unwrap();
            assert_eq!(y.dims(), [vectors, shape[0] as usize]);
            hold(name, y.into_data().as_slice().unwrap(), &dense(name, &x, columns));
        }
    }
}

#[test]
fn a_bias_is_added_and_shapes_of_any_rank_are_kept() {
    let (weights, device) = (weights(), Device::flex());
    let layer = PackedLinear::new(&weights, "net.up", &device).unwrap();
    assert_eq!((layer.shape(), layer.num_params()), ([48, 32], 48));
    let x = Tensor::<3>::random([2, 3, 32], Distribution::Default, &device);
    let y = layer.forward(x.clone()).unwrap();
    let matrix = PackedLinear::from_matrix(&weights, "net.up.weight").unwrap();
    let without = matrix.forward(x.reshape([6, 32])).unwrap().reshape([2, 3, 48]);
    let bias = made::pack().tensor("net.up.bias").unwrap().to_f32().unwrap();
    let bias = Tensor::<3>::from_data(TensorData::new(bias, [1, 1, 48]), &device);
    (without + bias).into_data().assert_eq(&y.into_data(), true);
}

#[test]
fn layers_asked_together_answer_as_each_alone() {
    let (weights, device) = (weights(), Device::flex());
    let layers = ["net.up", "net.square", "net.trellis"];
    let layers = layers.map(|path| PackedLinear::new(&weights, path, &device).unwrap());
    let x = Tensor::<2>::random([4, 32], Distribution::Default, &device);
    let together = PackedLinear::forward_all(&layers.each_ref(), x.clone()).unwrap();
    for (layer, y) in layers.iter().zip(together) {
        layer.forward(x.clone()).unwrap().into_data().assert_eq(&y.into_data(), true);
    }
}

#[test]
fn rows_of_a_table() {
    let device = Device::flex();
    let table = PackedEmbedding::new(&weights(), "net.table").unwrap();
    let ids = Tensor::<2, Int>::from_data([[0, 199, 7], [7, 7, 100]], &device);
    let rows = table.forward(ids).unwrap();
    assert_eq!(rows.dims(), [2, 3, 32]);
    let values = made::pack().tensor("net.table.weight").unwrap().to_f32().unwrap();
    let expected = [0, 199, 7, 7, 7, 100].map(|id: usize| values[id * 32..(id + 1) * 32].to_vec()).concat();
    assert_eq!(rows.into_data().as_slice::<f32>().unwrap(), expected);
    for ids in [[[200]], [[-1]]] {
        let error = table.forward(Tensor::<2, Int>::from_data(ids, &device)).unwrap_err();
        assert_eq!((error.kind(), error.tensor()), (ErrorKind::InvalidArgument, Some("net.table.weight")));
    }
}

#[test]
fn what_does_not_fit_is_an_error_with_the_name() {
    let (weights, device) = (weights(), Device::flex());
    let layer = PackedLinear::new(&weights, "net.down", &device).unwrap();
    let error = layer.forward(Tensor::<2>::zeros([1, 32], &device)).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::InvalidArgument, Some("net.down.weight")));
    let error = layer.forward(Tensor::<2>::zeros([1, 48], &device.clone().autodiff())).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::Unsupported, Some("net.down.weight")));
    assert!(PackedLinear::new(&weights, "net.nothing", &device).is_err());
}
