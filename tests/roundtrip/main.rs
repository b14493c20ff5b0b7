//! Models through packs and back.

use benben::{Dtype, ModelSource, Recipe, compare};
use benben_tests::assets;
use benben_tests::model::{MadeModel, pack_to_memory, recipe_with, small_model};
use benben_tests::random::Random;
use std::sync::Arc;

fn open(bytes: Vec<u8>) -> benben::Pack {
    benben::Pack::from_source(Arc::new(bytes), benben::Limits::default()).unwrap()
}

#[test]
fn lossless_gives_back_every_bit_of_every_dtype() {
    let tensors: Vec<(String, Dtype)> = Dtype::ALL.iter().map(|d| (format!("t.{d}"), *d)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(n, d)| (n.as_str(), *d, &[33u64, 65][..])).collect();
    let model = MadeModel::new(&tensors);
    let pack = open(pack_to_memory(&model, &Recipe::preset("lossless").unwrap()).unwrap());
    for (i, info) in model.tensors().iter().enumerate() {
        assert_eq!(
            pack.tensor(&info.name).unwrap().to_bytes().unwrap(),
            model.read(i).unwrap().as_ref(),
            "{}",
            info.name
        );
    }
}

#[test]
fn every_codec_gives_rows_that_are_slices_of_the_whole() {
    let (model, recipe) = small_model().unwrap();
    let pack = open(pack_to_memory(&model, &recipe).unwrap());
    for tensor in pack.tensors().filter(|t| t.elements() > 0 && !t.shape().is_empty()) {
        let whole = tensor.to_f32().unwrap();
        let rows = tensor.shape()[0];
        let width = whole.len() / rows as usize;
        for (a, b) in [(0, 1), (rows / 2, rows), (rows - 1, rows), (1.min(rows), rows), (rows, rows)] {
            let part = tensor.rows(a..b).unwrap();
            assert_eq!(part, whole[a as usize * width..b as usize * width], "{} {a}..{b}", tensor.name());
        }
    }
}

/// Bits for each weight of the whole file, everything counted: within 1 % for scalar, 3 % for the others.
#[test]
fn the_whole_file_lands_on_its_target() {
    let model = MadeModel::new(&[
        ("embed.weight", Dtype::F32, &[1000, 256]),
        ("a.weight", Dtype::F32, &[512, 256]),
        ("b.weight", Dtype::F32, &[256, 512]),
        ("c.norm", Dtype::F32, &[512]),
    ]);
    for (method, tolerance) in [("scalar", 0.01), ("pvq", 0.03), ("rvq", 0.03), ("ternary", 0.03)] {
        for bits in [1.5, 2.25, 4.0, 8.0] {
            let mut recipe = recipe_with(method).unwrap();
            recipe.bits_per_weight = Some(bits);
            let bytes = pack_to_memory(&model, &recipe).unwrap().len();
            let weights: u64 = model.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum();
            let found = bytes as f64 * 8.0 / weights as f64;
            println!("{method} at {bits}: {found:.3} bits per weight");
            assert!((found / bits - 1.0).abs() <= tolerance, "{method}: asked for {bits}, found {found:.4}");
        }
    }
}

#[test]
fn a_target_that_nothing_is_left_for_says_what_is_the_least() {
    let model = MadeModel::new(&[("a.weight", Dtype::F32, &[64, 128]), ("big.bias", Dtype::F32, &[60_000])]);
    let mut recipe = recipe_with("scalar").unwrap();
    recipe.bits_per_weight = Some(2.0);
    let e = pack_to_memory(&model, &recipe).unwrap_err();
    assert_eq!(e.kind(), benben::ErrorKind::InvalidArgument);
    assert!(e.hint().unwrap().contains("bits per weight"), "{e}");
}

#[test]
fn tensors_that_are_the_same_are_stored_once() {
    let shape = &[64u64, 256][..];
    let tied = MadeModel::new(&[("embed.weight", Dtype::F32, shape), ("head.weight", Dtype::F32, shape)])
        .changed(|made, _| made(0));
    let pack = open(pack_to_memory(&tied, &recipe_with("scalar:4").unwrap()).unwrap());
    let (embed, head) = (pack.tensor("embed.weight").unwrap(), pack.tensor("head.weight").unwrap());
    assert_eq!(head.stored_bytes(), 0);
    assert_eq!(embed.to_f32().unwrap(), head.to_f32().unwrap());
    assert_eq!(embed.rows(3..5).unwrap(), head.rows(3..5).unwrap());
}

#[test]
fn a_tensor_that_a_rule_names_is_not_shared_with_its_twin() {
    let shape: &[u64] = &[64, 128];
    let model = MadeModel::new(&[("a.weight", Dtype::F32, shape), ("b.weight", Dtype::F32, shape)])
        .changed(|made, _| made(0));
    let mut recipe = Recipe::preset("small").unwrap();
    recipe.set("b.weight=raw").unwrap();
    let pack = open(pack_to_memory(&model, &recipe).unwrap());
    let bytes = |name: &str| pack.tensor(name).unwrap().to_bytes().unwrap();
    assert_ne!(bytes("a.weight"), model.read(0).unwrap().as_ref());
    assert_eq!(bytes("b.weight"), model.read(0).unwrap().as_ref());
}

#[test]
fn long_metadata_is_counted_once_against_the_target() {
    let names: Vec<String> = (0..40).map(|i| format!("layer.{i}.weight")).collect();
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), Dtype::F32, &[64u64, 64][..])).collect();
    // Text that hardly compresses: an eighth of what the file may take.
    let text: String = Random::new(1).gaussian(2500).iter().map(|x| format!("{:08x}", x.to_bits())).collect();
    let model = MadeModel::new(&tensors).with_metadata("text", &text);
    let mut recipe = recipe_with("scalar").unwrap();
    recipe.bits_per_weight = Some(4.0);
    let bytes = pack_to_memory(&model, &recipe).unwrap().len();
    let found = bytes as f64 * 8.0 / (40.0 * 4096.0);
    assert!((found / 4.0 - 1.0).abs() <= 0.01, "asked for 4 bits, found {found:.4}");
}

#[test]
fn values_near_the_largest_of_their_type_do_not_become_infinite() {
    let model = MadeModel::new(&[("bias", Dtype::F16, &[64, 128])]).changed(|_, _| {
        let ramp: Vec<f32> = (0..64 * 128).map(|i| 65504.0 * (i as f32 / 4095.5 - 1.0)).collect();
        Dtype::F16.from_f32(&ramp).unwrap()
    });
    for mse in ["0.001", "0.003", "0.005", "0.01", "0.02", "0.03"] {
        let recipe = recipe_with(&format!("scalar:mse={mse}")).unwrap();
        let pack = open(pack_to_memory(&model, &recipe).unwrap());
        let mut back = vec![0.0; 64 * 128];
        Dtype::F16.to_f32(&pack.tensor("bias").unwrap().to_bytes().unwrap(), &mut back).unwrap();
        assert!(back.iter().all(|x| x.is_finite()), "{mse}");
    }
}

#[test]
fn a_tensor_that_is_not_finite_is_kept_and_said_to_be() {
    let model = MadeModel::new(&[("mask", Dtype::F32, &[100, 100])]).changed(|made, index| {
        let mut bytes = made(index);
        bytes[..4].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        bytes
    });
    let plan = benben::Plan::new(&model, &Recipe::preset("balanced").unwrap()).unwrap();
    let mut out = std::io::Cursor::new(Vec::new());
    let report = benben::pack(&model, &plan, &mut out, &mut benben::ignore).unwrap();
    assert!(report.tensors[0].note.as_ref().unwrap().contains("1 values are not finite"));
    assert_eq!(
        open(out.into_inner()).tensor("mask").unwrap().to_bytes().unwrap(),
        model.read(0).unwrap().as_ref()
    );
}

/// all-MiniLM-L6-v2, f32: the figures that packs of it must meet.
#[test]
fn minilm_meets_its_figures() {
    let folder = match assets::find("minilm") {
        Ok(folder) => folder,
        Err(skipped) => return println!("{skipped}"),
    };
    let model = benben::open_model(&folder).unwrap();
    let source = model.total_bytes() as f64;

    let lossless = pack_to_memory(&*model, &Recipe::preset("lossless").unwrap()).unwrap();
    let share = lossless.len() as f64 / source;
    println!("MiniLM lossless: {:.2} % of the source", 100.0 * share);
    assert!(share <= 0.825);
    let packed = benben::PackedModel::new(open(lossless)).unwrap();
    assert!(compare(&*model, &packed, |_| true, &mut benben::ignore).unwrap().is_identical());

    let balanced = pack_to_memory(&*model, &Recipe::preset("balanced").unwrap()).unwrap();
    let weights: u64 = model.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum();
    let bits = balanced.len() as f64 * 8.0 / weights as f64;
    let packed = benben::PackedModel::new(open(balanced)).unwrap();
    let found = compare(&*model, &packed, |_| true, &mut benben::ignore).unwrap();
    println!(
        "MiniLM balanced: {bits:.3} bits per weight, relative MSE {:.2e} at worst",
        found.worst_relative_mse
    );
    assert!(bits < 6.0 && found.worst_relative_mse < 1e-3);
}
