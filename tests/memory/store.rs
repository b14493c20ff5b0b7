//! A store of layers keeps its budget: the allocator is asked, not the store.

use super::ONE_AT_A_TIME;
use benben::{Dtype, Pack, Recipe, open_model};
use benben_decode::store::Options;
use benben_decode::{Form, LayerStore, Resident, Weights};
use benben_tests::alloc::peak_of;
use benben_tests::assets::demo_model;
use benben_tests::model::{MadeModel, pack_to_memory, recipe_with};
use std::sync::{Arc, PoisonError};

/// Bytes that are held besides weights and what decoding works with: slots, the walk, threads and their queues.
const BESIDES: usize = 150 << 10;

/// Threads that decode.
const THREADS: usize = 2;

/// Matrices of a pack and what each takes in memory.
fn matrices(pack: &Pack, options: &Options) -> Vec<(String, usize)> {
    let matrices = pack.tensors().filter(|t| t.shape().len() == 2);
    matrices.map(|t| (t.name().to_owned(), Resident::predicted_bytes(&t, options.form).unwrap())).collect()
}

/// Walks three rounds, each tensor in use while the next thing is decoded ahead; gives the most bytes allocated.
fn peak_of_walking(pack: &Arc<Pack>, names: &[(String, usize)], options: &Options) -> usize {
    let inputs: Vec<Vec<f32>> =
        names.iter().map(|(name, _)| vec![1.0; pack.tensor(name).unwrap().shape()[1] as usize]).collect();
    let rows = |name: &str| pack.tensor(name).unwrap().shape()[0] as usize;
    let mut outputs: Vec<Vec<f32>> = names.iter().map(|(name, _)| vec![0.0; rows(name)]).collect();
    let mut walk = || {
        let store = LayerStore::with_options(Arc::clone(pack), options).unwrap();
        for _ in 0..3 {
            for (((name, _), x), y) in names.iter().zip(&inputs).zip(&mut outputs) {
                store.product(name, x, 1, y).unwrap();
            }
        }
        let counts = store.statistics();
        assert!(counts.bytes_held <= options.budget.unwrap_or(usize::MAX), "{counts:?}");
    };
    walk(); // what the library keeps for ever is there by now
    peak_of(walk).1
}

#[test]
fn memory_is_the_budget_and_the_largest_tensor() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<String> = (0..40).map(|i| format!("layer.{i}.weight")).collect();
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), Dtype::F32, &[512, 512][..])).collect();
    let made = pack_to_memory(&MadeModel::new(&tensors), &recipe_with("scalar:4").unwrap()).unwrap();
    let demo = open_model(&demo_model()).unwrap();
    let small = pack_to_memory(&*demo, &Recipe::preset("small").unwrap()).unwrap();
    for (what, bytes) in [("40 equal layers", made), ("the demo model", small)] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), &bytes).unwrap();
        drop(bytes);
        let pack = Arc::new(Pack::open(file.path()).unwrap());
        for form in [Form::Dense, Form::Codes] {
            let plain = Options { form, ..Options::default() };
            let names = matrices(&pack, &plain);
            // What each takes, and what decoding takes besides: no matter of the store, measured by itself.
            let load = |name: &str| {
                let (resident, peak) = peak_of(|| Resident::load(&pack.tensor(name).unwrap(), form).unwrap());
                (resident.bytes(), peak - resident.bytes())
            };
            let loaded: Vec<_> = names.iter().map(|(name, _)| load(name)).collect();
            let all: usize = loaded.iter().map(|(bytes, _)| bytes).sum();
            let working = loaded.iter().map(|(_, working)| *working).max().unwrap();
            let largest = names.iter().map(|(_, bytes)| *bytes).max().unwrap();
            for budget in [0, largest / 2, largest, all / 4, all / 2, 2 * all] {
                for prefetch in [0, 2] {
                    let options =
                        Options { budget: Some(budget), prefetch, threads: THREADS, ..plain.clone() };
                    let peak = peak_of_walking(&pack, &names, &options);
                    let at_once = if prefetch > 0 { THREADS } else { 1 };
                    let bound = budget.min(all) + largest + at_once * working + BESIDES;
                    println!(
                        "{what}, {form:?}, {all} bytes, largest {largest}, decoding works with {working}: budget {budget}, {prefetch} \
                     ahead: peak {peak}, bound {bound}"
                    );
                    // The count is of something: what may stay does stay.
                    assert!(peak >= budget.min(all).saturating_sub(largest), "{peak}");
                    assert!(
                        peak <= bound,
                        "{what}: {peak} bytes under a budget of {budget}, the bound is {bound}"
                    );
                }
            }
        }
    }
}

/// Bytes of mapped files that count as memory of this process.
#[cfg(target_os = "linux")]
fn mapped() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A file that is read in place becomes memory of whoever reads it, until it is given back.
#[cfg(target_os = "linux")]
#[test]
fn pages_of_the_file_are_given_back() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let names: Vec<String> = (0..12).map(|i| format!("layer.{i}.weight")).collect();
    let tensors: Vec<_> = names.iter().map(|n| (n.as_str(), Dtype::F32, &[512, 1024][..])).collect();
    let bytes = pack_to_memory(&MadeModel::new(&tensors), &recipe_with("raw").unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), &bytes).unwrap();
    let before = mapped();
    let pack = Arc::new(Pack::open(file.path()).unwrap());
    let store = LayerStore::new(Arc::clone(&pack));
    names.iter().for_each(|name| drop(store.get(name).unwrap()));
    store.rows("layer.3.weight", &[7], &mut [0.0; 1024]).unwrap();
    drop(store);
    let by_store = mapped().saturating_sub(before);
    pack.tensors().for_each(|tensor| drop(tensor.to_f32().unwrap()));
    let by_hand = mapped().saturating_sub(before);
    println!("of {} bytes {by_store} stay mapped after a store, {by_hand} without one", bytes.len());
    assert!(by_hand > bytes.len() / 2, "the file is mapped: {by_hand}");
    assert!(by_store < bytes.len() / 8, "{by_store} of {}", bytes.len());
}
