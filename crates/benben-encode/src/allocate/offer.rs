//! The levels of all units as the dynamic programme and the search see them.

use super::dynamic::Choice;
use super::unit::Unit;

/// For each unit its levels in ascending order of bytes and descending order of loss.
pub(super) struct Offer {
    pub(super) table: Vec<Vec<Choice>>,
    /// Steps of the grid of each entry.
    pub(super) steps: Vec<Vec<u32>>,
}

impl Offer {
    /// The levels that are known of `units`, without those that cost more bytes for no less loss.
    pub(super) fn new(units: &[Unit], influence: &[f64]) -> Self {
        let (mut table, mut steps) = (Vec::new(), Vec::new());
        for (unit, influence) in units.iter().zip(influence) {
            let choice = |l: &super::Level| Choice { bytes: l.bytes, loss: unit.loss(l, *influence) };
            let mut all: Vec<(u32, Choice)> = unit.levels.iter().map(|(&k, l)| (k, choice(l))).collect();
            all.sort_by(|a, b| a.1.bytes.cmp(&b.1.bytes).then(a.1.loss.total_cmp(&b.1.loss)));
            let mut least = f64::INFINITY;
            all.retain(|(_, c)| {
                let better = c.loss < least;
                least = least.min(c.loss);
                better
            });
            steps.push(all.iter().map(|(k, _)| *k).collect());
            table.push(all.into_iter().map(|(_, c)| c).collect());
        }
        Self { table, steps }
    }

    /// Steps of the grid of `choices`.
    pub(super) fn plan(&self, choices: &[usize]) -> Vec<u32> {
        choices.iter().zip(&self.steps).map(|(&c, steps)| steps[c]).collect()
    }

    /// The choices of `plan`; of a level that is not offered, the one below.
    pub(super) fn choices(&self, plan: &[u32]) -> Vec<usize> {
        let place = |(steps, k): (&Vec<u32>, &u32)| steps.iter().rposition(|s| s <= k).unwrap_or(0);
        self.steps.iter().zip(plan).map(place).collect()
    }

    /// Bytes of each entry.
    pub(super) fn bytes(&self) -> Vec<Vec<u64>> {
        self.table.iter().map(|list| list.iter().map(|c| c.bytes).collect()).collect()
    }

    /// The same level for all units: the highest that fits `budget`, if one does.
    pub(super) fn uniform(&self, budget: u64) -> Option<Vec<usize>> {
        let most = self.steps.iter().flatten().copied().max()?;
        let plans = (0..=most).rev().map(|k| self.choices(&vec![k; self.steps.len()]));
        plans.into_iter().find(|plan| {
            let bytes = plan.iter().zip(&self.table).map(|(&c, list)| list[c].bytes);
            bytes.sum::<u64>() <= budget
        })
    }
}
