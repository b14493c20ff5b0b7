//! Memory of packing and of reading is bounded by the largest tensor, not by the model.

mod calibrate;
mod store;

use benben::{Dtype, Pack, Plan, Recipe, pack};
use benben_tests::alloc::{Counting, peak_of};
use benben_tests::model::MadeModel;
use std::io::BufWriter;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tests of one process are counted by one allocator.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const TENSORS: usize = 40;

/// Packs a model of tensors of `rows` x 1024 to a file, and returns the peak in multiples of one tensor.
fn peak_of_packing(method: &str, rows: u64) -> (f64, tempfile::NamedTempFile) {
    let names: Vec<String> = (0..TENSORS).map(|i| format!("layer.{i}.weight")).collect();
    let shape = [rows, 1024];
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), Dtype::F32, &shape[..])).collect();
    let model = MadeModel::new(&tensors);
    let mut recipe = Recipe::preset("balanced").unwrap();
    recipe.default = method.parse().unwrap();
    let plan = Plan::new(&model, &recipe).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = BufWriter::new(file.reopen().unwrap());
    let (report, peak) = peak_of(|| pack(&model, &plan, &mut out, &mut benben::ignore).unwrap());
    assert_eq!(report.tensors.len(), TENSORS);
    (peak as f64 / (rows * 1024 * 4) as f64, file)
}

#[test]
fn packing_takes_a_few_times_the_largest_tensor_whatever_the_model_is() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The model is 40 times the largest tensor; the bounds are well below. The slower codecs get smaller tensors,
    // of which the tables and samples that they keep are a larger part.
    for (method, rows, bound) in [
        ("raw", 512, 6.0),
        ("scalar:4", 512, 6.0),
        ("pvq:3", 128, 25.0),
        ("rvq:2", 128, 25.0),
        ("ternary:3", 512, 24.0),
    ] {
        let (peak, _) = peak_of_packing(method, rows);
        println!("{method}: {peak:.1} times the largest tensor, of a model of {TENSORS}");
        assert!(peak < bound, "{method}: {peak:.1} times the largest tensor, the bound is {bound}");
    }
}

#[test]
fn reading_a_tensor_takes_no_more_than_a_few_times_its_size() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    const LARGEST: usize = 2 << 20;
    let (_, file) = peak_of_packing("scalar:4", 512);
    let (pack, opened) = peak_of(|| Pack::open(file.path()).unwrap());
    assert!(opened < 1 << 20, "opening takes {opened} bytes");
    let (values, peak) = peak_of(|| pack.tensor("layer.7.weight").unwrap().to_f32().unwrap());
    assert_eq!(values.len() * 4, LARGEST);
    assert!(peak < 3 * LARGEST, "{peak} bytes for a tensor of {LARGEST}");
    let ((), peak) = peak_of(|| assert!(pack.verify(&mut benben::ignore).unwrap().is_good()));
    assert!(peak < 4 * LARGEST, "{peak} bytes to verify {TENSORS} tensors of {LARGEST}");
}
