//! Many threads at once.

use super::{dense, equal, log, within_a_minute};
use benben_decode::store::Options;
use benben_decode::{LayerStore, Weights};
use rayon::prelude::*;
use std::sync::{Arc, Barrier};

const SHAPE: [u64; 2] = [64, 256];
const BYTES: usize = 64 * 256 * 4;

#[test]
fn a_tensor_is_decoded_once_however_many_ask() {
    let (pack, names) = equal(5, &SHAPE);
    for prefetch in [0, 2] {
        let (told, watch) = log();
        let options = Options { prefetch, watch: Some(watch), ..dense() };
        let store = Arc::new(LayerStore::with_options(Arc::clone(&pack), &options).unwrap());
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let (store, barrier, names) = (Arc::clone(&store), Arc::clone(&barrier), names.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    // All together from the same place, or each from another.
                    (0..names.len())
                        .for_each(|k| drop(store.get(&names[(k + i % 2 * i) % names.len()]).unwrap()));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let counts = store.statistics();
        assert_eq!(counts.hits + counts.misses, 8 * 5);
        assert_eq!(counts.bytes_decoded as usize, 5 * BYTES, "{counts:?}");
        assert_eq!(counts.bytes_held, 5 * BYTES);
        let told = told.lock().unwrap();
        assert_eq!(told.iter().filter(|line| line.starts_with("loaded")).count(), 5, "{told:?}");
    }
}

/// Workers of rayon's that wait must not wait for themselves: neither for work that they hold up by waiting, nor for
/// work lower in their own stack.
#[test]
fn workers_of_a_pool_may_ask() {
    let (pack, names) = equal(4, &SHAPE);
    let expected: Vec<Vec<f32>> =
        names.iter().map(|name| pack.tensor(name).unwrap().to_f32().unwrap()).collect();
    for (pool_threads, own_threads, budget) in
        [(1, 1, Some(0)), (2, 1, Some(2 * BYTES)), (2, 2, None), (4, 2, Some(BYTES))]
    {
        let (pack, names, expected) = (Arc::clone(&pack), names.clone(), expected.clone());
        within_a_minute(move || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(pool_threads).build().unwrap();
            let options = Options { budget, threads: own_threads, ..dense() };
            let store = LayerStore::with_options(pack, &options).unwrap();
            let x = vec![1.0; 256];
            let go = || {
                (0..64usize).into_par_iter().for_each(|i| {
                    let (a, b) = (i % 4, (i * 7 + i / 4) % 4);
                    let mut out = [vec![0.0; 64], vec![0.0; 64]];
                    let [first, second] = &mut out;
                    store.products(&[&names[a], &names[b]], &x, 1, &mut [first, second]).unwrap();
                    let mut row = vec![0.0; 256];
                    store.rows(&names[b], &[i as u32], &mut row).unwrap();
                    assert_eq!(row, expected[b][i * 256..(i + 1) * 256]);
                });
            };
            pool.install(go);
            // And from the pool that everyone shares, beside the other.
            std::thread::scope(|scope| {
                scope.spawn(|| pool.install(go));
                go();
            });
        });
    }
}

#[test]
fn a_store_may_be_dropped_while_it_looks_ahead() {
    let (pack, names) = equal(12, &SHAPE);
    within_a_minute(move || {
        for i in 0..60 {
            let options = Options { prefetch: 8, threads: 1 + i % 3, ..dense() };
            let store = LayerStore::with_options(Arc::clone(&pack), &options).unwrap();
            drop(store.get(&names[i % 12]).unwrap());
            drop(store);
        }
        assert_eq!(Arc::strong_count(&pack), 1, "nobody is at work any more");
    });
}
