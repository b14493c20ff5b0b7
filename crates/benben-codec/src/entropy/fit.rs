//! The encoder's choice of a table: accuracy against the table's own size.

use super::table::{Grid, TOTAL, Table};
use super::table_code;

/// The table that [`Table::from_counts`] documents.
pub(super) fn fit(counts: &[u64]) -> Table {
    let counts = &counts[..counts.len().min(256)];
    let seen = |c: &&u64| **c > 0;
    let first = counts.iter().position(|c| seen(&c)).unwrap_or(0);
    let last = counts.iter().rposition(|c| seen(&c)).unwrap_or(0);
    let counts = counts.get(first..=last).filter(|c| c[0] > 0).unwrap_or(&[1]);
    let exact = ideal(counts);
    let candidates = Grid::ALL.iter().filter_map(|&grid| {
        let levels = exact.iter().zip(counts).map(|(&f, &n)| nearest(grid, f, n)).collect();
        let table = Table::from_levels(grid, first as u8, levels).ok()?;
        let bits = cost(&table, counts) + table_code::table_bits(&table, None) as f64;
        Some((bits, table))
    });
    let best = candidates.min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(single, |(_, table)| table)
}

/// A table of symbol 0 alone.
fn single() -> Table {
    // Level 1 of one symbol is always well formed; a table has no other way to come into being.
    Table::from_levels(Grid::ALL[0], 0, vec![1]).unwrap_or_else(|_| single())
}

/// Bits that `table` spends on `counts`, which begin at its first symbol.
fn cost(table: &Table, counts: &[u64]) -> f64 {
    let seen = counts.iter().enumerate().filter(|c| *c.1 > 0);
    seen.map(|(i, &n)| n as f64 * table.bits(table.first() + i as u8)).sum()
}

/// Level whose weight is nearest to `freq` by ratio; at least 1 where the symbol has been seen.
fn nearest(grid: Grid, freq: u32, count: u64) -> u16 {
    if count == 0 {
        return 0;
    }
    let floor = grid.level(freq).max(1);
    let up = (floor + 1).min(grid.max_level());
    let (low, high) = (u64::from(grid.weight(floor)), u64::from(grid.weight(up)));
    if u64::from(freq).pow(2) > low * high { up } else { floor }
}

/// The frequencies of sum 4096 that cost least: rounded first, then corrected one by one where it costs least.
fn ideal(counts: &[u64]) -> Vec<u32> {
    let sum = counts.iter().map(|&n| n as f64).sum::<f64>();
    let rounded = |n: u64| (n as f64 * f64::from(TOTAL) / sum).round().max(1.0) as u32;
    let mut freqs: Vec<u32> = counts.iter().map(|&n| if n > 0 { rounded(n) } else { 0 }).collect();
    let mut total: u32 = freqs.iter().sum();
    // Bits that one more slot saves, and that one slot less costs.
    let gain = |n: u64, f: u32| n as f64 * (f64::from(f + 1) / f64::from(f)).log2();
    let loss = |n: u64, f: u32| n as f64 * (f64::from(f) / f64::from(f - 1)).log2();
    while total < TOTAL {
        let seen = (0..freqs.len()).filter(|&i| freqs[i] > 0);
        let gains = seen.map(|i| (i, gain(counts[i], freqs[i])));
        let Some((i, _)) = gains.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        freqs[i] += 1;
        total += 1;
    }
    while total > TOTAL {
        let spare = (0..freqs.len()).filter(|&i| freqs[i] > 1);
        let losses = spare.map(|i| (i, loss(counts[i], freqs[i])));
        let Some((i, _)) = losses.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
        freqs[i] -= 1;
        total -= 1;
    }
    freqs
}
