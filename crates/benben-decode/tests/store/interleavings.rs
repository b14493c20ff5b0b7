//! Whatever several threads ask for in whatever order, under any budget: the same bits, and the budget is kept.

use super::{open, packed, within_a_minute};
use benben_decode::store::Options;
use benben_decode::{Form, LayerStore, Pack, Resident, Weights};
use proptest::prelude::*;
use std::sync::{Arc, Barrier};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "norm", "table", "tall"];
const SHAPES: [&[u64]; 7] = [&[16, 24], &[24, 24], &[8, 24], &[30, 24], &[24], &[600, 24], &[40, 24]];

/// Most bytes that a tensor may take.
fn bytes(tensor: usize, form: Form) -> usize {
    Resident::predicted_bytes(&pack().tensor(NAMES[tensor]).unwrap(), form).unwrap()
}

fn rows(tensor: usize) -> usize {
    SHAPES[tensor][0] as usize
}

#[derive(Debug, Clone)]
enum Step {
    Products(Vec<usize>),
    Vector(usize),
    Rows(usize, Vec<u32>),
    /// Held while the next step runs.
    Hold(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let matrix = prop::sample::select(vec![0usize, 1, 2, 3, 5, 6]);
    prop_oneof![
        4 => prop::collection::vec(matrix.clone(), 1..4).prop_map(Step::Products),
        1 => (0..7usize).prop_map(Step::Vector),
        2 => (matrix, prop::collection::vec(0..8u32, 0..5)).prop_map(|(t, ids)| Step::Rows(t, ids)),
        1 => (0..7usize).prop_map(Step::Hold),
    ]
}

/// Bits of what a step gives.
fn run(store: &LayerStore, step: &Step) -> Vec<u32> {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    match step {
        Step::Products(tensors) => {
            let names: Vec<&str> = tensors.iter().map(|&t| NAMES[t]).collect();
            let x: Vec<f32> = (0..48).map(|i| (i as f32 * 0.3).cos()).collect();
            let mut out: Vec<Vec<f32>> = tensors.iter().map(|&t| vec![0.0; 2 * rows(t)]).collect();
            let mut of: Vec<&mut [f32]> = out.iter_mut().map(|o| &mut o[..]).collect();
            store.products(&names, &x, 2, &mut of).unwrap();
            bits(&out.concat())
        }
        Step::Vector(tensor) => bits(&store.vector(NAMES[*tensor]).unwrap()),
        Step::Rows(tensor, ids) => {
            let mut out = vec![0.0; ids.len() * 24];
            store.rows(NAMES[*tensor], ids, &mut out).unwrap();
            bits(&out)
        }
        Step::Hold(tensor) => bits(&store.get(NAMES[*tensor]).unwrap().to_f32()),
    }
}

/// Most bytes that a step holds at once.
fn needs(step: &Step, form: Form) -> usize {
    match step {
        Step::Products(tensors) => tensors.iter().map(|&t| bytes(t, form)).sum(),
        Step::Vector(tensor) | Step::Hold(tensor) => bytes(*tensor, form),
        Step::Rows(..) => 0,
    }
}

fn check(pack: &Arc<Pack>, options: &Options, threads: &[Vec<Step>]) {
    let plain =
        LayerStore::with_options(Arc::clone(pack), &Options { form: options.form, ..Options::default() })
            .unwrap();
    let store = Arc::new(LayerStore::with_options(Arc::clone(pack), options).unwrap());
    let barrier = Arc::new(Barrier::new(threads.len()));
    let running: Vec<_> = threads
        .iter()
        .map(|steps| {
            let (store, barrier, steps) = (Arc::clone(&store), Arc::clone(&barrier), steps.clone());
            std::thread::spawn(move || {
                barrier.wait();
                let mut held = None;
                let mut found = Vec::new();
                for step in &steps {
                    found.push(run(&store, step));
                    held = if let Step::Hold(tensor) = step {
                        Some(store.get(NAMES[*tensor]).unwrap())
                    } else {
                        None
                    };
                }
                drop(held);
                found
            })
        })
        .collect();
    let mut most = 0;
    for (thread, steps) in running.into_iter().zip(threads) {
        for (found, step) in thread.join().unwrap().into_iter().zip(steps) {
            assert!(found == run(&plain, step), "{step:?} under {options:?}");
        }
        let pairs = steps.windows(2).map(|pair| {
            needs(&pair[1], options.form)
                + if let Step::Hold(t) = pair[0] { bytes(t, options.form) } else { 0 }
        });
        most += pairs.chain(steps.first().map(|step| needs(step, options.form))).max().unwrap_or(0);
    }
    let counts = store.statistics();
    let budget = options.budget.unwrap_or(usize::MAX);
    assert!(counts.bytes_peak <= budget.saturating_add(most), "{counts:?}: {budget} and {most}");
    assert!(counts.bytes_held <= budget, "{counts:?}: {budget}");
    assert!(counts.late <= counts.misses && counts.wasted <= counts.prefetched);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn same_bits_within_the_budget(
        budget in prop_oneof![Just(None), Just(Some(0)), (0usize..80_000).prop_map(Some)],
        prefetch in 0usize..5,
        workers in 1usize..4,
        form in prop::sample::select(vec![Form::Codes, Form::Dense]),
        order in prop::option::of(prop::collection::vec(0..7usize, 0..12)),
        threads in prop::collection::vec(prop::collection::vec(step(), 1..12), 1..4),
    ) {
        let pack = pack();
        let order = order.map(|walk| walk.into_iter().map(|t| NAMES[t].to_owned()).collect());
        let options = Options { budget, form, prefetch, threads: workers, order, ..Options::default() };
        within_a_minute(move || check(&pack, &options, &threads));
    }
}

fn pack() -> Arc<Pack> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let specs: Vec<_> = (0..7).map(|i| (NAMES[i], SHAPES[i], i % 2 == 0)).collect();
        packed(&specs)
    });
    open(bytes.as_slice())
}
