//! Walks through all matrices of a pack under several budgets, as a network does for each token, and prints what that
//! takes: `cargo run --release -p benben-decode --example store -- model.benben [rounds]
//! [prefetch] [budget in KiB, instead of several]`.
#![allow(clippy::print_stdout, reason = "an example shows what it measured")]

use benben_decode::store::Options;
use benben_decode::{LayerStore, Pack, Resident, Result, Weights};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or_else(|| benben_decode::Error::invalid("which pack?"))?;
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let prefetch = args.next().and_then(|n| n.parse().ok()).unwrap_or(Options::default().prefetch);
    let only: Option<usize> = args.next().and_then(|n| n.parse().ok());
    let pack = Arc::new(Pack::open(path.as_ref())?);
    // One vector through every matrix, in stored order, as the network's walk would be.
    let walk: Vec<&str> = pack.tensors().filter(|t| t.shape().len() == 2).map(|t| t.name()).collect();

    println!("{prefetch} matrices ahead");
    println!(
        "  budget  first walk  later walks  hit rate  late/walk  stall/walk  decoded/walk  read/walk      peak"
    );
    if let Some(budget) = only {
        // Nothing else runs, so that the peak of the process belongs to it.
        measure(&pack, &walk, Some(budget << 10), rounds, prefetch)?;
    } else {
        let whole = measure(&pack, &walk, None, rounds, prefetch)?;
        for budget in [whole / 2, whole / 4, 64 << 10] {
            measure(&pack, &walk, Some(budget), rounds, prefetch)?;
        }
        let started = Instant::now();
        for name in &walk {
            Resident::load(&pack.tensor(name)?, Options::default().form)?;
        }
        println!("each tensor decoded once, without a store: {:.1?}", started.elapsed());
        hits(&pack, walk[walk.len() / 2])?;
        rows(&pack, walk[0])?;
    }
    println!("peak of the process: {}", peak_memory());
    Ok(())
}

/// Walks and prints a line; gives the most bytes held.
fn measure(
    pack: &Arc<Pack>,
    walk: &[&str],
    budget: Option<usize>,
    rounds: u32,
    prefetch: usize,
) -> Result<usize> {
    let store =
        LayerStore::with_options(Arc::clone(pack), &Options { budget, prefetch, ..Options::default() })?;
    let mut first = Duration::ZERO;
    let mut before = store.statistics();
    let mut started = Instant::now();
    for round in 0..=rounds {
        for name in walk {
            let [rows, columns] = store.shape(name)?;
            let mut y = vec![0.0; rows];
            store.product(name, &vec![1.0; columns], 1, &mut y)?;
        }
        if round == 0 {
            first = started.elapsed();
            before = store.statistics();
            started = Instant::now();
        }
    }
    let (later, after) = (started.elapsed() / rounds, store.statistics());
    let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
    println!(
        "{:>8}  {:>10.1?}  {:>11.1?}  {:>7.1}%  {:>9}  {:>10.1?}  {:>12}  {:>9}  {:>8}",
        budget.map_or("none".into(), |b| mib(b as u64)),
        first,
        later,
        100.0 * hits as f64 / (hits + misses) as f64,
        (after.late - before.late) / u64::from(rounds),
        (after.stall - before.stall) / rounds,
        mib((after.bytes_decoded - before.bytes_decoded) / u64::from(rounds)),
        mib((after.bytes_read - before.bytes_read) / u64::from(rounds)),
        mib(after.bytes_peak as u64),
    );
    Ok(after.bytes_peak)
}

/// What it costs to be handed a tensor that is in memory.
fn hits(pack: &Arc<Pack>, name: &str) -> Result<()> {
    for budget in [None, Some(1 << 30)] {
        let store = LayerStore::with_options(
            Arc::clone(pack),
            &Options { budget, prefetch: 0, ..Options::default() },
        )?;
        store.get(name)?;
        let started = Instant::now();
        for _ in 0..100_000 {
            std::hint::black_box(&*store.get(name)?);
        }
        let budget = if budget.is_some() { "a budget" } else { "none" };
        println!("a hit costs {:.0} ns, budget: {budget}", started.elapsed().as_secs_f64() * 1e4);
    }
    Ok(())
}

/// What rows of a table cost that is not in memory: one by one, 512 at once, and the same again.
fn rows(pack: &Arc<Pack>, name: &str) -> Result<()> {
    let store = LayerStore::with_options(Arc::clone(pack), &Options { prefetch: 0, ..Options::default() })?;
    let [rows, columns] = store.shape(name)?;
    let ids: Vec<u32> = (0..512u64).map(|i| u32::try_from(i * 7919 % rows as u64).unwrap_or(0)).collect();
    let mut out = vec![0.0; ids.len() * columns];
    let started = Instant::now();
    for (id, out) in ids[..32].iter().zip(out.chunks_mut(columns)) {
        store.rows(name, &[*id], out)?;
    }
    println!("rows of {name}: one by itself takes {:.0?}", started.elapsed() / 32);
    for what in ["512 at once", "again"] {
        let started = Instant::now();
        store.rows(name, &ids, &mut out)?;
        println!("{what}: {:.1?}", started.elapsed());
    }
    Ok(())
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What Linux counts; elsewhere a word.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.map_or("unknown here".into(), |l| l.trim().to_owned())
}
