//! The same input, recipe and seed give the same bytes, whatever the number of threads.

use benben_tests::model::{MadeModel, pack_to_memory, recipe_with};

fn with_threads(threads: usize, f: impl FnOnce() -> Vec<u8> + Send) -> Vec<u8> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn threads_and_repetition_do_not_change_a_byte() {
    let model = MadeModel::new(&[
        ("a.weight", benben::Dtype::F32, &[300, 512]),
        ("b.weight", benben::Dtype::F16, &[128, 384]),
        ("c.bias", benben::Dtype::F32, &[512]),
    ]);
    for method in ["raw", "scalar:3", "pvq:3", "rvq:2.5", "ternary:2.5", "scalar:bpw=3,rotate=true"] {
        let recipe = recipe_with(method).unwrap();
        let one = with_threads(1, || pack_to_memory(&model, &recipe).unwrap());
        let again = with_threads(1, || pack_to_memory(&model, &recipe).unwrap());
        let many = with_threads(5, || pack_to_memory(&model, &recipe).unwrap());
        assert!(one == again, "{method}: a second run differs");
        assert!(one == many, "{method}: five threads differ from one");
    }
}

#[test]
fn the_seed_matters_where_something_is_random() {
    let model = MadeModel::new(&[("a.weight", benben::Dtype::F32, &[128, 256])]);
    let mut recipe = recipe_with("scalar:bpw=3,rotate=true").unwrap();
    let first = pack_to_memory(&model, &recipe).unwrap();
    recipe.seed = 1;
    assert!(first != pack_to_memory(&model, &recipe).unwrap());
}
