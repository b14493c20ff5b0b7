//! Which rows and columns share a table.
//!
//! Rows and columns are first sorted finely by energy. Of all ways to cut the sorted rows into groups of neighbours, a
//! dynamic programme finds the one that costs least, symbols, tables and classes together; then the same for the
//! columns, and for the rows once more. Columns get classes where that is cheaper still: where whole columns are
//! nearly empty.

use super::survey::Cells;
use crate::entropy::Model;
use crate::estimate::{class_bits, table_bits};

/// Fine classes of rows, and of columns.
pub(super) const FINE_ROWS: usize = 32;
pub(super) const FINE_COLUMNS: usize = 16;

/// Numbers of classes of columns that are tried beside 1.
const COLUMNS: [usize; 3] = [2, 4, 8];

/// Which fine classes share a table: that of number `rows[r] * count + columns[c]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Class of each fine class of rows.
    pub(super) rows: [u8; FINE_ROWS],
    /// Class of each fine class of columns.
    pub(super) columns: [u8; FINE_COLUMNS],
    /// Classes of rows.
    pub(super) row_count: usize,
    /// Classes of columns.
    pub(super) column_count: usize,
}

/// What a tensor's classes cost and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) runs: usize,
    pub(super) columns: usize,
    pub(super) classes: usize,
}

impl Plan {
    /// One table for all.
    pub(super) fn single() -> Self {
        Self { rows: [0; FINE_ROWS], columns: [0; FINE_COLUMNS], row_count: 1, column_count: 1 }
    }

    /// The cheapest plan that the dynamic programmes find.
    pub(super) fn new(cells: &Cells, limits: Limits) -> Self {
        let most = limits.classes.clamp(1, Model::MAX_TABLES);
        let row_bits = |count| limits.runs as f64 * class_bits(count);
        let all = [0; FINE_COLUMNS];
        let rows = Cuts::new(&cells.rows_by(&all, 1), most);
        let (mut cost, groups, row_count) = rows.best(most, row_bits);
        let mut plan = Self { rows: fill(&groups), row_count, ..Self::single() };
        if cells.columns == 1 || most == 1 {
            return plan;
        }
        let columns = Cuts::new(&cells.columns_by(&plan.rows, plan.row_count), most);
        for count in COLUMNS.into_iter().filter(|&count| count <= most) {
            let Some((_, groups)) = columns.exactly(count) else { continue };
            let groups = fill(&groups);
            let most = most.min(Model::MAX_TABLES / count);
            let rows = Cuts::new(&cells.rows_by(&groups, count), most);
            let (own, rows, row_count) = rows.best(most, row_bits);
            // A chunk of its own, and its entry.
            let own = own + limits.columns as f64 * class_bits(count) + 160.0;
            if own >= cost {
                break;
            }
            cost = own;
            plan = Self { rows: fill(&rows), columns: groups, row_count, column_count: count };
        }
        plan
    }

    /// Number of tables.
    pub(super) fn tables(&self) -> usize {
        self.row_count * self.column_count
    }
}

fn fill<const N: usize>(groups: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| groups.get(i).copied().unwrap_or(0))
}

/// Histograms of a row of items, each of `tables` parts with `alphabet` symbols.
pub(super) struct Items {
    pub(super) counts: Vec<f32>,
    pub(super) tables: usize,
    pub(super) alphabet: usize,
    /// Weights of the tensor for each that was counted.
    pub(super) scale: f32,
}

/// The best cuts of items into 1, 2, .. groups of neighbours.
struct Cuts {
    items: usize,
    /// `cost[k][j]`: items before `j` in `k + 1` groups.
    cost: Vec<Vec<f64>>,
    /// Where the last of these groups begins.
    from: Vec<Vec<usize>>,
}

impl Cuts {
    fn new(of: &Items, most: usize) -> Self {
        let size = (of.tables * of.alphabet).max(1);
        let items = of.counts.len() / size;
        let mut groups = vec![0f64; items * (items + 1)];
        let mut sums = vec![0f32; size];
        for first in 0..items {
            sums.fill(0.0);
            for last in first..items {
                sums.iter_mut().zip(&of.counts[last * size..]).for_each(|(s, c)| *s += c);
                groups[first * (items + 1) + last + 1] =
                    sums.chunks(of.alphabet).map(|counts| bits(counts, of.scale)).sum();
            }
        }
        let one = |first: usize, end: usize| groups[first * (items + 1) + end];
        let mut cost =
            vec![(0..=items).map(|end| if end > 0 { one(0, end) } else { 0.0 }).collect::<Vec<_>>()];
        let mut from = vec![vec![0; items + 1]];
        for k in 1..most.min(items) {
            let (mut costs, mut starts) = (vec![f64::INFINITY; items + 1], vec![0; items + 1]);
            for end in k + 1..=items {
                for (start, before) in cost[k - 1].iter().enumerate().take(end).skip(k) {
                    let own = before + one(start, end);
                    if own < costs[end] {
                        (costs[end], starts[end]) = (own, start);
                    }
                }
            }
            cost.push(costs);
            from.push(starts);
        }
        Self { items, cost, from }
    }

    /// Cost and group of each item for so many groups, if there are as many items.
    fn exactly(&self, groups: usize) -> Option<(f64, Vec<u8>)> {
        let cost = *self.cost.get(groups.checked_sub(1)?)?.last()?;
        let mut of = vec![0; self.items];
        let mut end = self.items;
        for group in (0..groups).rev() {
            let start = self.from.get(group)?.get(end).copied()?;
            of.get_mut(start..end)?.fill(group as u8);
            end = start;
        }
        Some((cost, of))
    }

    /// Cost, group of each item and number of groups of the cheapest, `extra(groups)` bits included.
    fn best(&self, most: usize, extra: impl Fn(usize) -> f64) -> (f64, Vec<u8>, usize) {
        let all = (1..=most).filter_map(|groups| {
            let (cost, of) = self.exactly(groups)?;
            Some((cost + extra(groups), of, groups))
        });
        all.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, vec![0; self.items], 1))
    }
}

/// Bits of symbols with `counts` and of their table, where `scale` times fewer were counted.
///
/// Each symbol costs what the others of the sample say of it (with half a count more): what is counted fits its own
/// entropy better than the rest will, and by the plain entropy noise gets classes, 0.06 dB lost on Gaussian weights.
fn bits(counts: &[f32], scale: f32) -> f64 {
    let mut sums = [0f32; 8];
    let mut totals = [0f32; 8];
    let (eights, rest) = counts.as_chunks::<8>();
    let mut last = [0f32; 8];
    last[..rest.len()].copy_from_slice(rest);
    for eight in eights.iter().chain([&last]) {
        for lane in 0..8 {
            sums[lane] += eight[lane] * log2(eight[lane] - 0.5);
            totals[lane] += eight[lane];
        }
    }
    let (sum, total): (f32, f32) = (sums.iter().sum(), totals.iter().sum());
    let different = counts.iter().filter(|c| **c > 0.0).count() as f32;
    let symbols = counts.iter().rposition(|&c| c > 0.0).map_or(0, |last| last + 1);
    let bits = total * log2(total - 1.0 + 0.5 * different) - sum;
    f64::from(bits * scale).max(0.0) + table_bits(symbols)
}

/// Binary logarithm to 1e-5, of anything below 1/2 that of 1/2: straight code, since plans ask for a hundred thousand.
#[inline(always)]
fn log2(x: f32) -> f32 {
    let bits = x.max(0.5).to_bits();
    let exponent = (bits >> 23) as f32 - 127.0;
    let m = f32::from_bits((bits & 0x7f_ffff) | 0x3f80_0000) - 1.0;
    let inner = 0.468_658_9 + m * (-0.301_638 + m * (0.144_471_1 - m * 0.033_822));
    exponent + m * (1.442_681_5 + m * (-0.720_358_8 + m * inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(counts: &[&[f32]]) -> Items {
        Items { counts: counts.concat(), tables: 1, alphabet: counts[0].len(), scale: 1.0 }
    }

    #[test]
    fn logarithms_are_within_1e_5() {
        for i in 1..10_000u16 {
            let x = f32::from(i) * 0.5;
            assert!((log2(x) - x.log2()).abs() < 2e-5, "{x}");
        }
        assert_eq!((log2(0.0), log2(-1.0)), (-1.0, -1.0));
    }

    /// Every way to cut six items: none is cheaper than what the dynamic programme finds.
    #[test]
    fn no_cut_is_cheaper() {
        let counts: [&[f32]; 6] = [
            &[900.0, 90.0, 3.0],
            &[700.0, 200.0, 10.0],
            &[400.0, 400.0, 90.0],
            &[0.0, 0.0, 0.0],
            &[300.0, 350.0, 400.0],
            &[10.0, 20.0, 900.0],
        ];
        let cuts = Cuts::new(&items(&counts), 6);
        for groups in 1..=6usize {
            let (found, of) = cuts.exactly(groups).unwrap();
            let least = (0u32..32)
                .filter(|cut| cut.count_ones() as usize + 1 == groups)
                .map(|cut| {
                    let (mut cost, mut sums) = (0.0, [0f32; 3]);
                    for (i, counts) in counts.iter().enumerate() {
                        sums.iter_mut().zip(*counts).for_each(|(s, c)| *s += c);
                        if i == 5 || cut >> i & 1 == 1 {
                            cost += bits(&sums, 1.0);
                            sums = [0.0; 3];
                        }
                    }
                    cost
                })
                .fold(f64::INFINITY, f64::min);
            assert!((found - least).abs() < 1e-6, "{groups}: {found}, {least}");
            assert!(of.windows(2).all(|w| w[1] == w[0] || w[1] == w[0] + 1));
            assert_eq!(usize::from(of[5]) + 1, groups);
        }
        assert!(cuts.exactly(7).is_none() && cuts.exactly(0).is_none());
    }

    /// Classes must pay for themselves.
    #[test]
    fn items_of_one_law_share_a_table() {
        let counts: [&[f32]; 4] = [&[90.0, 31.0], &[87.0, 30.0], &[92.0, 29.0], &[88.0, 31.0]];
        let cuts = Cuts::new(&items(&counts), 4);
        assert_eq!(cuts.best(4, |_| 0.0).2, 1);
        let differ: [&[f32]; 2] = [&[9000.0, 31.0], &[31.0, 9000.0]];
        assert_eq!(Cuts::new(&items(&differ), 4).best(4, |_| 0.0).2, 2);
    }
}
