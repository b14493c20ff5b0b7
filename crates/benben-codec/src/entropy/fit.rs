//! The encoder's choice of a table: accuracy against the table's own size.

use super::table::{Grid, TOTAL, Table};
use super::table_code;

/// Tables for a list, each for symbols seen `counts[s]` times as [`Table::from_counts`] has it, and each stored by what
/// it differs from one before.
pub fn fit_tables<C: AsRef<[u64]>>(counts: &[C]) -> Vec<Table> {
    let mut tables = Vec::with_capacity(counts.len());
    for counts in counts {
        let table = fit(counts.as_ref(), &tables);
        tables.push(table);
    }
    tables
}

/// The table that [`Table::from_counts`] documents, for a list that has `before` already.
pub(super) fn fit(counts: &[u64], before: &[Table]) -> Table {
    let counts = &counts[..counts.len().min(256)];
    let first = counts.iter().position(|&c| c > 0).unwrap_or(0);
    let last = counts.iter().rposition(|&c| c > 0).unwrap_or(0);
    let counts = counts.get(first..=last).filter(|c| c[0] > 0).unwrap_or(&[1]);
    // Of many tables before, the two that are likeliest to be gone by: the one that codes the counts best, the last.
    let by_cost =
        |t: &&Table| counts.iter().enumerate().map(|(i, &n)| n as f64 * bits(t, first + i)).sum::<f64>();
    let nearest_before = before.iter().min_by(|a, b| by_cost(a).total_cmp(&by_cost(b)));
    let likely: Vec<Table> = nearest_before.into_iter().chain(before.last()).cloned().collect();
    let mut best: Option<(f64, Table)> = None;
    for pairs in 0..3 {
        let counts_of_pairs = paired(first, counts, pairs);
        let exact = ideal(&counts_of_pairs);
        for grid in Grid::ALL {
            let levels = exact.iter().zip(&counts_of_pairs).map(|(&f, &n)| nearest(grid, f, n)).collect();
            let Ok(table) = Table::from_levels(grid, first as u8, levels) else { continue };
            let mut bits = cost(&table, counts);
            // What the table itself takes is dearer to find out, and often need not be.
            if best.as_ref().is_none_or(|b| bits < b.0) {
                bits += table_code::table_bits(&table, &likely) as f64;
                if best.as_ref().is_none_or(|b| bits < b.0) {
                    best = Some((bits, table));
                }
            }
        }
    }
    best.map_or_else(single, |(_, table)| table)
}

/// Counts of which those of a pair are shared evenly.
fn paired(first: usize, counts: &[u64], pairs: u32) -> Vec<f64> {
    let groups = table_code::groups(first as u8, (first + counts.len() - 1) as u8, pairs);
    let mut shared = Vec::with_capacity(counts.len());
    for (i, &group) in groups.iter().enumerate() {
        let from = usize::from(group) - first;
        let own = &counts[from..groups.get(i + 1).map_or(counts.len(), |&g| usize::from(g) - first)];
        let mean = own.iter().map(|&n| n as f64).sum::<f64>() / own.len() as f64;
        shared.extend(own.iter().map(|_| mean));
    }
    shared
}

/// Bits of `symbol`; 16 where the table does not have it.
fn bits(table: &Table, symbol: usize) -> f64 {
    u8::try_from(symbol).map_or(16.0, |s| table.bits(s)).min(16.0)
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
fn nearest(grid: Grid, freq: u32, count: f64) -> u16 {
    if count == 0.0 {
        return 0;
    }
    let floor = grid.level(freq).max(1);
    let up = (floor + 1).min(grid.max_level());
    let (low, high) = (u64::from(grid.weight(floor)), u64::from(grid.weight(up)));
    if u64::from(freq).pow(2) > low * high { up } else { floor }
}

/// The frequencies of sum 4096 that cost least: rounded first, then corrected one by one where it costs least.
fn ideal(counts: &[f64]) -> Vec<u32> {
    let sum: f64 = counts.iter().sum();
    let rounded = |n: f64| (n * f64::from(TOTAL) / sum).round().max(1.0) as u32;
    let mut freqs: Vec<u32> = counts.iter().map(|&n| if n > 0.0 { rounded(n) } else { 0 }).collect();
    let mut total: u32 = freqs.iter().sum();
    // Bits that one more slot saves, and that one slot less costs.
    let gain = |n: f64, f: u32| n * (f64::from(f + 1) / f64::from(f)).log2();
    let loss = |n: f64, f: u32| n * (f64::from(f) / f64::from(f - 1)).log2();
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
