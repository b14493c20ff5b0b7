//! Hit rates of walks, and what is decoded ahead.

use super::{dense, equal, log};
use benben_decode::LayerStore;
use benben_decode::store::Options;
use std::sync::Arc;

const N: usize = 64;
const SHAPE: [u64; 2] = [32, 32];
const BYTES: usize = 32 * 32 * 4;

/// Hit rate of `rounds` rounds after a first one.
fn hit_rate(store: &LayerStore, walk: &[&str], rounds: usize) -> f64 {
    let mut before = store.statistics();
    for round in 0..=rounds {
        walk.iter().for_each(|name| drop(store.get(name).unwrap()));
        if round == 0 {
            before = store.statistics();
        }
    }
    let after = store.statistics();
    (after.hits - before.hits) as f64 / (rounds * walk.len()) as f64
}

/// What the least recently used policy would hit.
fn least_recently_used(n: usize, room: usize, rounds: usize) -> f64 {
    let (mut kept, mut hits) = (Vec::new(), 0);
    for step in 0..n * (rounds + 1) {
        if let Some(at) = kept.iter().position(|&t| t == step % n) {
            kept.remove(at);
            hits += usize::from(step >= n);
        } else if kept.len() == room {
            kept.remove(0);
        }
        kept.push(step % n);
    }
    f64::from(hits as u32) / (n * rounds) as f64
}

#[test]
fn a_round_through_more_than_fits_hits_what_the_best_policy_hits() {
    let (pack, names) = equal(N, &SHAPE);
    // Another order than the stored one: it has to be learned, unless it is given.
    let walk: Vec<&str> = (0..N).map(|i| names[i * 29 % N].as_str()).collect();
    for room in [1, N / 4, N / 2, N - 1, N] {
        let budget = Some(room * BYTES);
        let best = (room - 1) as f64 / (N - 1) as f64;
        let given = Some(walk.iter().map(|name| (*name).to_owned()).collect());
        let mut found = Vec::new();
        for (order, prefetch) in [(given, 0), (None, 0), (None, 2)] {
            let options = Options { budget, order, prefetch, ..dense() };
            let store = LayerStore::with_options(Arc::clone(&pack), &options).unwrap();
            found.push(hit_rate(&store, &walk, 10));
            // What is on its way ahead, and turns out not to be next, is not waited for.
            let peak = (room + usize::from(prefetch > 0)) * BYTES;
            assert!(store.statistics().bytes_peak <= peak, "{:?}", store.statistics());
        }
        println!(
            "room for {room} of {N}: least recently used {:.3}, best possible {best:.3}, order given {:.3}, learned {:.3}, \
             and 2 decoded ahead {:.3}",
            least_recently_used(N, room, 10),
            found[0],
            found[1],
            found[2]
        );
        // The first round leaves behind what stays: all else is the best there is, to one tensor for each round.
        assert!((found[0] - best).abs() < 1.5 / N as f64, "given: {} instead of {best}", found[0]);
        assert!((found[1] - best).abs() < 1.5 / N as f64, "learned: {} instead of {best}", found[1]);
    }
}

#[test]
fn matrices_are_decoded_ahead_in_order_and_within_the_budget() {
    let (pack, names) = equal(6, &SHAPE);
    for (budget, expected) in [(None, 3), (Some(2 * BYTES), 1), (Some(BYTES), 0), (Some(0), 0)] {
        let (told, watch) = log();
        let options = Options { budget, prefetch: 3, threads: 1, watch: Some(watch), ..dense() };
        let store = LayerStore::with_options(Arc::clone(&pack), &options).unwrap();
        let held = store.get(&names[1]).unwrap();
        // Dropping waits for what is under way; the rest is refused a place while this is held.
        while store.statistics().prefetched < expected {
            std::thread::yield_now();
        }
        drop(held);
        drop(store);
        let told = told.lock().unwrap().clone();
        let ahead: Vec<&str> = told.iter().filter_map(|line| line.strip_suffix(" ahead")).collect();
        let all = ["loaded layer.2", "loaded layer.3", "loaded layer.4"];
        assert!(
            ahead.len() >= expected as usize && ahead.starts_with(&all[..expected as usize]),
            "{budget:?}: {told:?}"
        );
        if budget.is_some_and(|b| b < BYTES) {
            assert!(ahead.is_empty(), "{told:?}");
        }
    }
}

#[test]
fn what_is_decoded_ahead_is_a_hit() {
    let (pack, names) = equal(8, &SHAPE);
    let store = LayerStore::with_options(pack, &dense()).unwrap();
    for (i, name) in names.iter().enumerate() {
        drop(store.get(name).unwrap());
        while store.statistics().prefetched < (i as u64 + 2).min(7) {
            std::thread::yield_now();
        }
    }
    let counts = store.statistics();
    assert_eq!((counts.misses, counts.hits, counts.prefetched, counts.wasted), (1, 7, 7, 0), "{counts:?}");
    assert_eq!(counts.bytes_decoded as usize, 8 * BYTES);
    assert_eq!(counts.bytes_held, 8 * BYTES);
}
