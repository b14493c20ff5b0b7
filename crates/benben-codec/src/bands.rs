//! Bands: which runs of symbols share a table.
//!
//! Rows of a matrix differ in size, so their gains (or trits) have different laws. Runs of whole rows are sorted into
//! up to 16 bands with a table each; on transformer matrices that takes 0.3 to 0.5 bits off each gain.

use crate::entropy::{CHUNK_ITEMS, Table, estimate_symbols_bytes, fit_tables, tables_bytes};
use rayon::prelude::*;

/// Rounds of moving runs to the band that codes them shortest.
const ROUNDS: usize = 4;

/// What more bands must bring the bytes down to: each table takes 16 kB of cache to decode with, and a 0.2 % larger
/// stream of four in place of sixteen is decoded a tenth faster.
const WORTH: f64 = 0.998;

/// Runs sorted into bands.
#[derive(Debug, Clone)]
pub struct Bands {
    /// Band of each run; empty where there is one band.
    pub of: Vec<u8>,
    /// Table of each band.
    pub tables: Vec<Table>,
    /// Bytes that symbols, tables and bands are expected to take.
    pub bytes: f64,
}

/// Symbols of one run and how often each is there, by rising symbol.
type Histogram = Vec<(u8, u32)>;

/// Sorts runs of `run` symbols into the number of bands that costs the fewest bytes.
pub fn sort(symbols: &[u8], run: usize) -> Bands {
    let runs: Vec<Histogram> = symbols.par_chunks(run).map(histogram).collect();
    let mut best = split(&runs, 1);
    for count in [2, 4, 8, 16] {
        if count * 4 > runs.len() {
            break;
        }
        let bands = split(&runs, count);
        if bands.bytes < best.bytes * WORTH {
            best = bands;
        }
    }
    best
}

/// Sorts into `count` bands.
fn split(runs: &[Histogram], count: usize) -> Bands {
    // Start from bands of equally many runs by mean symbol.
    let mut order: Vec<(u64, usize)> = runs.iter().enumerate().map(|(i, r)| (mean(r), i)).collect();
    order.sort_unstable();
    let mut of = vec![0u8; runs.len()];
    for (rank, &(_, i)) in order.iter().enumerate() {
        of[i] = (rank * count / runs.len().max(1)) as u8;
    }
    let rounds = if count > 1 { ROUNDS } else { 0 };
    for _ in 0..rounds {
        let lengths: Vec<[f32; 256]> = counts(runs, &of, count).iter().map(lengths).collect();
        of.par_iter_mut().zip(runs).for_each(|(band, run)| {
            let mut least = f32::INFINITY;
            for (b, lengths) in lengths.iter().enumerate() {
                let cost = run.iter().map(|&(s, n)| n as f32 * lengths[usize::from(s)]).sum();
                if cost < least {
                    (*band, least) = (b as u8, cost);
                }
            }
        });
    }
    let counts = counts(runs, &of, count);
    let tables = fit_tables(&counts);
    let mut bytes = tables_bytes(&tables) as f64 + estimate_symbols_bytes(&counts, &tables, CHUNK_ITEMS);
    if count > 1 {
        // A chunk of bit-packed bands and its entry.
        bytes += 24.0 + runs.len() as f64 * f64::from(count.ilog2()) / 8.0;
    } else {
        of.clear();
    }
    Bands { of, tables, bytes }
}

fn histogram(run: &[u8]) -> Histogram {
    let mut counts = [0u32; 256];
    run.iter().for_each(|&s| counts[usize::from(s)] += 1);
    (0..=255).zip(counts).filter(|c| c.1 > 0).collect()
}

/// Mean symbol of a run, in 256ths.
fn mean(run: &Histogram) -> u64 {
    let (sum, count) = run
        .iter()
        .fold((0, 0), |(sum, count), &(s, n)| (sum + u64::from(s) * u64::from(n), count + u64::from(n)));
    sum * 256 / count.max(1)
}

fn counts(runs: &[Histogram], of: &[u8], count: usize) -> Vec<[u64; 256]> {
    let mut counts = vec![[0u64; 256]; count];
    for (run, &band) in runs.iter().zip(of) {
        for &(s, n) in run {
            counts[usize::from(band)][usize::from(s)] += u64::from(n);
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
pub(crate) fn trim(counts: &[u64]) -> &[u64] {
    let end = counts.iter().rposition(|&c| c > 0).map_or(1, |i| i + 1);
    &counts[..end.min(counts.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_two_laws_get_two_bands() {
        let symbols: Vec<u8> =
            (0..64_000u32).map(|i| if i / 1000 % 2 == 0 { (i * i % 7 % 3) as u8 } else { 9 }).collect();
        let bands = sort(&symbols, 1000);
        assert_eq!(bands.tables.len(), 2);
        assert_eq!(bands.of.len(), 64);
        assert!(bands.of.iter().enumerate().all(|(i, &b)| b == bands.of[i % 2]));
        let one = sort(&symbols[..1000], 1000);
        assert!(one.of.is_empty() && one.tables.len() == 1);
    }
}
