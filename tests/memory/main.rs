//! Memory of packing and of reading is bounded by the largest tensor, not by the model.

use benben::{Dtype, Pack, Plan, Recipe, pack};
use benben_tests::alloc::{Counting, peak_of};
use benben_tests::model::MadeModel;
use std::io::BufWriter;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Bytes of one tensor in the source, and how many there are.
const LARGEST: usize = 2 << 20;
const TENSORS: usize = 40;

fn model() -> (MadeModel, Vec<String>) {
    let names: Vec<String> = (0..TENSORS).map(|i| format!("layer.{i}.weight")).collect();
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), Dtype::F32, &[512u64, 1024][..])).collect();
    (MadeModel::new(&tensors), names)
}

/// Packs to a file and returns the peak in multiples of the largest tensor.
fn peak_of_packing(method: &str) -> (f64, tempfile::NamedTempFile) {
    let (model, _) = model();
    let mut recipe = Recipe::preset("balanced").unwrap();
    recipe.default = method.parse().unwrap();
    let plan = Plan::new(&model, &recipe).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = BufWriter::new(file.reopen().unwrap());
    let (report, peak) = peak_of(|| pack(&model, &plan, &mut out, &mut benben::ignore).unwrap());
    assert_eq!(report.tensors.len(), TENSORS);
    (peak as f64 / LARGEST as f64, file)
}

#[test]
fn packing_takes_a_few_times_the_largest_tensor_whatever_the_model_is() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The model is 40 times the largest tensor; the bounds below are far less.
    for (method, bound) in
        [("raw", 8.0), ("scalar:4", 10.0), ("pvq:3", 16.0), ("rvq:2", 16.0), ("ternary:3", 16.0)]
    {
        let (peak, _) = peak_of_packing(method);
        println!("{method}: {peak:.1} times the largest tensor, of a model of {TENSORS}");
        assert!(peak < bound, "{method}: {peak:.1} times the largest tensor, the bound is {bound}");
    }
}

#[test]
fn reading_a_tensor_takes_no_more_than_a_few_times_its_size() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, file) = peak_of_packing("scalar:4");
    let (pack, opened) = peak_of(|| Pack::open(file.path()).unwrap());
    assert!(opened < 1 << 20, "opening takes {opened} bytes");
    let (values, peak) = peak_of(|| pack.tensor("layer.7.weight").unwrap().to_f32().unwrap());
    assert_eq!(values.len() * 4, LARGEST);
    assert!(peak < 3 * LARGEST, "{peak} bytes for a tensor of {LARGEST}");
    let ((), peak) = peak_of(|| assert!(pack.verify(&mut benben::ignore).unwrap().is_good()));
    assert!(peak < 4 * LARGEST, "{peak} bytes to verify {TENSORS} tensors of {LARGEST}");
}
