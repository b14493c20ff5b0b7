//! The best levels where losses add up: exact by dynamic programme over bytes.
//!
//! Each tensor has a few levels, each with bytes and a loss; wanted is one level for each tensor so that the sum of
//! losses is least under a budget of bytes, or the sum of bytes under a budget of loss. That is the knapsack problem
//! with choices (Kellerer, Pferschy & Pisinger 2004, chapter 11); L-GreCo (Alimohammadi et al. 2023) solves its dual on
//! a grid of errors. Here the grid is of bytes, and each cell keeps the *exact* bytes of the best combination that ends
//! in it: no rounding adds up over tensors, a plan never passes its budget, and where a cell is one byte wide the
//! answer is exact. Otherwise two combinations less than a cell apart compete (1/65536 of the budget).

use benben_format::{Error, Result};

/// One way to store one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Bytes in the pack.
    pub bytes: u64,
    /// What it costs in loss, in whatever unit adds up over tensors.
    pub loss: f64,
}

/// Cells of the grid: 2^16 of them leave 0.0015 % of the budget between neighbours.
const CELLS: u64 = 1 << 16;
/// Most entries of the table of decisions, 256 MB; above (4000 tensors) cells get wider.
const DECISIONS: u64 = 1 << 27;

/// The choices with the least sum of losses whose bytes are at most `budget`.
///
/// # Errors
/// InvalidArgument where a tensor has no choice, a loss is no number, or the smallest choices exceed the budget.
pub fn least_loss(table: &[Vec<Choice>], budget: u64) -> Result<Vec<usize>> {
    let grid = Grid::new(table, Some(budget))?;
    let cells = grid.last.iter().flatten();
    let best = cells.min_by(|a, b| a.loss.total_cmp(&b.loss).then(a.bytes.cmp(&b.bytes)));
    let best = *best.ok_or_else(|| out_of_reach(grid.least, budget))?;
    let mut choices = grid.back(table, best.bytes);
    improve(table, budget, &mut choices);
    Ok(choices)
}

/// The choices with the least sum of bytes whose losses sum up to at most `budget`.
///
/// # Errors
/// InvalidArgument where a tensor has no choice, a loss is no number, or even the least losses exceed the budget.
pub fn least_bytes(table: &[Vec<Choice>], budget: f64) -> Result<Vec<usize>> {
    let grid = Grid::new(table, None)?;
    let within = grid.last.iter().flatten().filter(|s| s.loss <= budget).min_by_key(|s| s.bytes);
    match within {
        Some(state) => Ok(grid.back(table, state.bytes)),
        None => {
            let least = grid.last.iter().flatten().map(|s| s.loss).fold(f64::INFINITY, f64::min);
            Err(Error::invalid(format!("the least loss in reach is {least:.4e}, asked for {budget:.4e}"))
                .with_hint("allow more loss, or a higher effort, which offers finer levels"))
        }
    }
}

/// Bytes and loss of `choices`, added in the order of the tensors.
#[must_use]
pub fn total(table: &[Vec<Choice>], choices: &[usize]) -> Choice {
    table.iter().zip(choices).fold(Choice { bytes: 0, loss: 0.0 }, |sum, (list, &c)| Choice {
        bytes: sum.bytes + list[c].bytes,
        loss: sum.loss + list[c].loss,
    })
}

/// The error of a budget below the smallest plan.
pub(crate) fn out_of_reach(least: u64, budget: u64) -> Error {
    Error::invalid(format!(
        "the smallest plan takes {least} bytes, more than the {budget} that are asked for"
    ))
    .with_hint("ask for more bytes, or quantize further tensors with --set PATTERN=trellis")
}

/// The combinations that are still in the race.
struct Grid {
    /// Bytes of one cell.
    width: u64,
    /// Bytes of the smallest choices.
    least: u64,
    /// The best combination of all tensors in each cell.
    last: Vec<Option<Choice>>,
    /// For each tensor and cell the choice of that tensor in the best combination of the tensors up to it.
    decisions: Vec<Vec<u16>>,
}

impl Grid {
    /// Fills the grid up to `budget` bytes; without one, up to the largest choices.
    fn new(table: &[Vec<Choice>], budget: Option<u64>) -> Result<Self> {
        let (mut least, mut most) = (0u64, 0u64);
        for (i, list) in table.iter().enumerate() {
            let (Some(low), Some(high)) =
                (list.iter().map(|c| c.bytes).min(), list.iter().map(|c| c.bytes).max())
            else {
                return Err(Error::invalid(format!("tensor {i} of the plan has no level")));
            };
            if list.len() > usize::from(u16::MAX) || list.iter().any(|c| c.loss.is_nan()) {
                return Err(Error::invalid(format!(
                    "tensor {i} of the plan: a loss is no number, or too many levels"
                )));
            }
            (least, most) = (least.saturating_add(low), most.saturating_add(high));
        }
        let budget = budget.unwrap_or(most).min(most);
        if budget < least {
            return Err(out_of_reach(least, budget));
        }
        // Everything is counted from the smallest choices: the grid is spent on what can differ.
        let span = budget - least;
        let cells = CELLS.min(DECISIONS / (table.len() as u64).max(1)).max(256);
        let width = (span / cells + 1).max(1);
        let count = (span / width + 1) as usize;
        let mut last: Vec<Option<Choice>> = vec![None; count];
        last[0] = Some(Choice { bytes: 0, loss: 0.0 });
        let mut decisions = Vec::with_capacity(table.len());
        for list in table {
            let low = list.iter().map(|c| c.bytes).min().unwrap_or(0);
            let mut next: Vec<Option<Choice>> = vec![None; count];
            let mut decided = vec![0u16; count];
            for state in last.iter().flatten() {
                for (i, choice) in list.iter().enumerate() {
                    let bytes = state.bytes + (choice.bytes - low);
                    if bytes > span {
                        continue;
                    }
                    let (cell, loss) = ((bytes / width) as usize, state.loss + choice.loss);
                    let better = next[cell].is_none_or(|held| (loss, bytes) < (held.loss, held.bytes));
                    if better {
                        next[cell] = Some(Choice { bytes, loss });
                        decided[cell] = i as u16;
                    }
                }
            }
            last = next;
            decisions.push(decided);
        }
        Ok(Self { width, least, last, decisions })
    }

    /// The choices of the combination that ends with `bytes` over the smallest.
    fn back(&self, table: &[Vec<Choice>], mut bytes: u64) -> Vec<usize> {
        let mut choices = vec![0; table.len()];
        for ((choice, decided), list) in choices.iter_mut().zip(&self.decisions).zip(table).rev() {
            *choice = usize::from(decided[(bytes / self.width) as usize]);
            let low = list.iter().map(|c| c.bytes).min().unwrap_or(0);
            bytes -= list[*choice].bytes - low;
        }
        choices
    }
}

/// Takes what one cell hid: single switches that lower the loss and fit.
fn improve(table: &[Vec<Choice>], budget: u64, choices: &mut [usize]) {
    let mut left = budget.saturating_sub(total(table, choices).bytes);
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (t, (list, &now)) in table.iter().zip(&*choices).enumerate() {
            for (c, choice) in list.iter().enumerate() {
                let gain = list[now].loss - choice.loss;
                let fits = choice.bytes <= list[now].bytes + left;
                if fits && gain > 0.0 && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, t, c));
                }
            }
        }
        let Some((_, t, c)) = best else { return };
        left = left + table[t][choices[t]].bytes - table[t][c].bytes;
        choices[t] = c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tables() -> impl Strategy<Value = Vec<Vec<Choice>>> {
        let choice =
            (0u64..2000, 0u32..1000).prop_map(|(bytes, loss)| Choice { bytes, loss: f64::from(loss) / 64.0 });
        prop::collection::vec(prop::collection::vec(choice, 1..5), 1..6)
    }

    /// Every combination there is.
    fn all(table: &[Vec<Choice>]) -> Vec<Choice> {
        table.iter().fold(vec![Choice { bytes: 0, loss: 0.0 }], |sums, list| {
            let one = |sum: Choice| {
                list.iter().map(move |c| Choice { bytes: sum.bytes + c.bytes, loss: sum.loss + c.loss })
            };
            sums.into_iter().flat_map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn small_plans_are_the_best_there_are(table in tables(), part in 0.0f64..1.1) {
            let sums = all(&table);
            let most = sums.iter().map(|s| s.bytes).max().unwrap();
            let budget = (most as f64 * part) as u64;
            let best = sums.iter().filter(|s| s.bytes <= budget).map(|s| s.loss).min_by(f64::total_cmp);
            match (least_loss(&table, budget), best) {
                (Ok(choices), Some(best)) => {
                    let found = total(&table, &choices);
                    prop_assert!(found.bytes <= budget);
                    prop_assert_eq!(found.loss, best);
                }
                (Err(_), None) => {}
                (found, best) => prop_assert!(false, "{:?} where {:?} is possible", found, best),
            }
            let limit = sums.iter().map(|s| s.loss).fold(0.0, f64::max) * part;
            let best = sums.iter().filter(|s| s.loss <= limit).map(|s| s.bytes).min();
            match (least_bytes(&table, limit), best) {
                (Ok(choices), Some(best)) => {
                    let found = total(&table, &choices);
                    prop_assert!(found.loss <= limit);
                    prop_assert_eq!(found.bytes, best);
                }
                (Err(_), None) => {}
                (found, best) => prop_assert!(false, "{:?} where {:?} is possible", found, best),
            }
        }
    }

    /// As large as a model: within a hair of the bound that Lagrange's multiplier gives, and never over the budget.
    #[test]
    fn large_plans_are_close_to_the_bound() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        let table: Vec<Vec<Choice>> = (0..200)
            .map(|_| {
                let (elements, weight) = (1e5 + 1e6 * random(), random() + 0.01);
                let level = |bits: f64| Choice {
                    bytes: (elements * bits / 8.0) as u64,
                    loss: weight * (-2.0 * bits).exp2(),
                };
                (2..14).map(|i| level(f64::from(i) / 2.0)).collect()
            })
            .collect();
        let budget = 40_000_000;
        let found = total(&table, &least_loss(&table, budget).unwrap());
        assert!(found.bytes <= budget);
        // Any multiplier bounds the loss from below; the best of many is close to tight.
        let bound = (-600..0).map(|i| {
            let price = (f64::from(i) / 20.0).exp2();
            let least = |list: &Vec<Choice>| {
                list.iter().map(|c| c.loss + price * c.bytes as f64).fold(f64::INFINITY, f64::min)
            };
            table.iter().map(least).sum::<f64>() - price * budget as f64
        });
        let bound = bound.fold(0.0, f64::max);
        assert!(found.loss >= bound && found.loss < bound * 1.01, "{} beside {bound}", found.loss);
        let same = total(&table, &least_bytes(&table, found.loss).unwrap());
        assert!(same.loss <= found.loss && same.bytes <= found.bytes + found.bytes / 10_000);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(least_loss(&[vec![]], 10).is_err());
        assert!(least_loss(&[vec![Choice { bytes: 1, loss: f64::NAN }]], 10).is_err());
        assert!(least_loss(&[vec![Choice { bytes: 11, loss: 0.0 }]], 10).is_err());
        assert!(least_bytes(&[vec![Choice { bytes: 11, loss: 2.0 }]], 1.0).is_err());
        assert!(least_loss(&[], 0).unwrap().is_empty());
    }
}
