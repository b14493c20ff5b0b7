//! [`PackStore`]: what burn's own stores promise.

use crate::made;
use benben::{ErrorKind, Limits, Pack};
use benben_burn::PackStore;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::store::{IdentityAdapter, ModuleSnapshot, ModuleStore, PathFilter};
use burn::tensor::{DType, Device, Tensor};
use std::sync::Arc;

#[derive(Module, Debug)]
struct Net {
    up: Linear,
    square: Linear,
    norm: RmsNorm,
    table: Embedding,
}

fn net() -> Net {
    let device = Device::flex();
    Net {
        up: LinearConfig::new(32, 48).init(&device),
        square: LinearConfig::new(32, 32).with_bias(false).init(&device),
        norm: RmsNormConfig::new(32).init(&device),
        table: EmbeddingConfig::new(200, 32).init(&device),
    }
}

fn store() -> PackStore {
    PackStore::new(made::pack()).with_key_remapping("^net\\.", "").unwrap()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().as_slice::<f32>().unwrap().to_vec()
}

/// What the pack says of a tensor, transposed where it is a linear weight.
fn expected(name: &str, transposed: bool) -> Vec<f32> {
    let pack = made::pack();
    let tensor = pack.tensor(name).unwrap();
    let values = tensor.to_f32().unwrap();
    let columns = *tensor.shape().last().unwrap() as usize;
    if !transposed {
        return values;
    }
    (0..values.len())
        .map(|i| values[i % (values.len() / columns) * columns + i / (values.len() / columns)])
        .collect()
}

#[test]
fn every_parameter_gets_the_packs_values_linear_weights_transposed() {
    let mut net = net();
    let result = net.load_from(&mut store()).unwrap();
    assert_eq!(result.applied.len(), 5, "{result:?}");
    assert_eq!(values(net.up.weight.val()), expected("net.up.weight", true));
    assert_eq!(values(net.up.bias.unwrap().val()), expected("net.up.bias", false));
    assert_eq!(values(net.square.weight.val()), expected("net.square.weight", true));
    assert_eq!(values(net.norm.gamma.val()), expected("net.norm.weight", false));
    assert_eq!(values(net.table.weight.val()), expected("net.table.weight", false));
    assert!(result.unused.iter().any(|name| name == "down.weight"), "{result:?}");
}

#[test]
fn filters_leave_the_rest_as_it_is() {
    let (mut net, before) = (net(), values(net().norm.gamma.val()));
    for store in [store().with_regex("^up\\."), store().with_filter(PathFilter::new().with_regex("^up\\."))] {
        let result = net.load_from(&mut { store }).unwrap();
        assert_eq!(result.applied, ["up.weight", "up.bias"]);
        assert_eq!(values(net.norm.gamma.val()), before);
    }
    let result = net.load_from(&mut store().with_full_path("norm.gamma")).unwrap();
    assert_eq!(result.applied, ["norm.gamma"]);
    assert_eq!(values(net.norm.gamma.val()), expected("net.norm.weight", false));
}

#[test]
fn missing_tensors_are_an_error_that_names_one_unless_they_may_be() {
    let mut net = net();
    let error = net.load_from(&mut PackStore::new(made::pack())).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::InvalidArgument, Some("norm.gamma")));
    let result = net.load_from(&mut PackStore::new(made::pack()).allow_partial(true)).unwrap();
    assert_eq!((result.applied.len(), result.missing.len()), (0, 5));
}

#[test]
fn another_layout_is_an_error_that_names_the_tensor() {
    let error = net().load_from(&mut store().with_from_adapter(IdentityAdapter)).unwrap_err();
    assert_eq!((error.kind(), error.tensor()), (ErrorKind::InvalidArgument, Some("up.weight")));
    assert!(error.to_string().contains("[32, 48]"), "{error}");
}

#[test]
fn names_that_meet_are_refused() {
    let mut store = PackStore::new(made::pack()).with_key_remapping(r"^net\.\w+\.", "").unwrap();
    assert_eq!(store.keys().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(PackStore::new(made::pack()).with_key_remapping("(", "").is_err());
}

#[test]
fn tensors_are_there_by_name_in_f32_or_in_their_own_dtype() {
    let mut store = store();
    assert_eq!(store.keys().unwrap().len(), made::TENSORS.len());
    assert_eq!(store.get_tensor("up.weight").unwrap().unwrap().dtype, DType::F32);
    assert!(store.get_tensor("net.up.weight").unwrap().is_none());
    let mut own = store.own_dtypes(true);
    let tensor = own.get_tensor("up.weight").unwrap().unwrap();
    assert_eq!((tensor.dtype, tensor.shape.to_vec()), (DType::F16, vec![48, 32]));
    let stored = made::pack().tensor("net.up.weight").unwrap().to_bytes().unwrap();
    assert_eq!(&tensor.to_bytes().unwrap()[..], stored);
}

#[test]
fn writing_is_refused() {
    let error = net().save_into(&mut store()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("benben pack"));
}

#[test]
fn damage_is_corruption_and_names_the_tensor() {
    let good = made::bytes();
    let mut hits = 0;
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        // Damage outside of the tensors' own segments stops the pack from opening, or is in one that is not loaded.
        let Ok(pack) = Pack::from_source(Arc::new(bytes), Limits::default()) else { continue };
        let pack = Arc::new(pack);
        let mut net = net();
        let mut store = PackStore::new(Arc::clone(&pack)).with_key_remapping("^net\\.", "").unwrap();
        let loaded = net.load_from(&mut store);
        let names =
            ["net.up.weight", "net.up.bias", "net.square.weight", "net.norm.weight", "net.table.weight"];
        let broken: Vec<_> = names.iter().filter(|n| pack.tensor(n).unwrap().to_f32().is_err()).collect();
        match broken.as_slice() {
            [] => assert!(loaded.is_ok()),
            [name, ..] => {
                let error = loaded.unwrap_err();
                assert_eq!((error.kind(), error.tensor()), (ErrorKind::Corruption, Some(**name)));
                hits += 1;
            }
        }
    }
    assert!(hits >= 5, "{hits}");
}
