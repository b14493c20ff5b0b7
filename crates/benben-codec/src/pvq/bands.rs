//! Bands: which runs of groups share a table of gains.
//!
//! Rows of a matrix differ in size, so their gains have different laws. Runs (whole rows) are sorted into up to 16
//! bands with a table each; on transformer matrices that takes 0.3 to 0.5 bits off each gain.

use crate::entropy::{CHUNK_ITEMS, Table, estimate_symbols_bytes};

/// Rounds of moving runs to the band that codes them shortest.
const ROUNDS: usize = 4;

/// Runs sorted into bands.
pub(super) struct Bands {
    /// Band of each run; empty where there is one band.
    pub(super) of: Vec<u8>,
    /// Table of each band.
    pub(super) tables: Vec<Table>,
}

/// Sorts runs of `run` symbols into the number of bands that costs the fewest bytes.
pub(super) fn sort(symbols: &[u8], run: usize) -> Bands {
    let runs: Vec<&[u8]> = symbols.chunks(run).collect();
    let (mut best, mut least) = split(&runs, 1);
    for count in [2, 4, 8, 16] {
        if count * 4 > runs.len() {
            break;
        }
        let (bands, cost) = split(&runs, count);
        if cost < least {
            (best, least) = (bands, cost);
        }
    }
    best
}

/// `count` bands, and the bits of gains, tables and bands.
fn split(runs: &[&[u8]], count: usize) -> (Bands, f64) {
    // Start from bands of equally many runs by mean gain.
    let mut order: Vec<(u64, usize)> = runs
        .iter()
        .enumerate()
        .map(|(i, r)| (r.iter().map(|&s| u64::from(s)).sum::<u64>() * 256 / r.len().max(1) as u64, i))
        .collect();
    order.sort_unstable();
    let mut of = vec![0u8; runs.len()];
    for (rank, &(_, i)) in order.iter().enumerate() {
        of[i] = (rank * count / runs.len().max(1)) as u8;
    }
    let rounds = if count > 1 { ROUNDS } else { 0 };
    for _ in 0..rounds {
        let lengths: Vec<[f32; 256]> = counts(runs, &of, count).iter().map(lengths).collect();
        for (band, run) in of.iter_mut().zip(runs) {
            let cost = |b: usize| run.iter().map(|&s| lengths[b][usize::from(s)]).sum::<f32>();
            let mut least = f32::INFINITY;
            for b in 0..count {
                let c = cost(b);
                if c < least {
                    (*band, least) = (b as u8, c);
                }
            }
        }
    }
    let counts = counts(runs, &of, count);
    let tables: Vec<Table> = counts.iter().map(|c| Table::from_counts(trim(c))).collect();
    let stored: usize = tables.iter().map(Table::stored_bytes).sum();
    let mut bits = 8.0 * (stored as f64 + estimate_symbols_bytes(&counts, &tables, CHUNK_ITEMS));
    if count > 1 {
        // A chunk of bit-packed bands and its entry.
        bits += 24.0 * 8.0 + runs.len() as f64 * f64::from(count.ilog2());
    } else {
        of.clear();
    }
    (Bands { of, tables }, bits)
}

fn counts(runs: &[&[u8]], of: &[u8], count: usize) -> Vec<[u64; 256]> {
    let mut counts = vec![[0u64; 256]; count];
    for (run, &band) in runs.iter().zip(of) {
        for &s in *run {
            counts[usize::from(band)][usize::from(s)] += 1;
        }
    }
    counts
}

/// Ideal code lengths of a band, with a little room for symbols that it has not seen.
fn lengths(counts: &[u64; 256]) -> [f32; 256] {
    let total = counts.iter().sum::<u64>() as f32 + 1.0;
    counts.map(|c| (total / (c as f32 + 1.0 / 64.0)).log2())
}

/// Counts up to the last symbol seen; at least one.
pub(super) fn trim(counts: &[u64]) -> &[u64] {
    let end = counts.iter().rposition(|&c| c > 0).map_or(1, |i| i + 1);
    &counts[..end.min(counts.len())]
}
