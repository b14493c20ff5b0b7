//! What errors of each tensor cost the network: its *influence*.
//!
//! Gradients tell it; where they were not measured, one tensor after the other is replaced by a level, and the loss of the
//! network measured. The loss of other levels follows in proportion to what the coder made small, which holds while errors
//! are small. It does not for tables, which samples are looked up in: what the coder makes small says nothing of that, and
//! a sample uses few of their rows. Each of their levels is measured, on all samples.

use super::planner::Planner;
use super::trial::Trial;
use super::unit::Unit;
use crate::coder::Coder;
use benben_format::Result;

/// With so many samples for each tensor, influence is measured even where gradients tell it.
const MEASURED_ANYWAY: usize = 8;

impl Planner<'_, '_, '_> {
    /// Finds the influence of every unit, and what levels of tables cost.
    pub(super) fn weigh(&mut self) -> Result<()> {
        self.expect();
        let samples = self.effort.influence_samples;
        if samples == 0 {
            return Ok(());
        }
        let Some(trial) = self.trial.take() else { return Ok(()) };
        let each = !self.in_nats || samples >= MEASURED_ANYWAY;
        let outcome =
            self.measure_tables(trial).and_then(|()| if each { self.measure(trial) } else { Ok(()) });
        self.trial = Some(trial);
        outcome?;
        self.in_nats = true;
        Ok(())
    }

    /// Influence by what the levels are expected to cost, where all of them say so.
    fn expect(&mut self) {
        let of = |unit: &Unit| {
            let near = unit.levels.iter().min_by_key(|(steps, _)| steps.abs_diff(self.middle));
            near.and_then(|(_, level)| Some(level.cost? / level.loss.max(1e-12)))
        };
        if let Some(influence) = self.units.iter().map(of).collect() {
            self.influence = influence;
            self.in_nats = true;
        }
    }

    /// Whether levels of `unit` are measured one by one.
    pub(super) fn measures_table(&self, unit: usize) -> bool {
        let trial = self.trial.as_deref().filter(|_| self.effort.influence_samples > 0);
        trial.is_some_and(|trial| is_table(&self.units[unit], trial))
    }

    /// The level of `steps`, which is a table's, measured on all samples.
    pub(super) fn measure_level(&mut self, unit: usize, steps: u32) -> Result<()> {
        let Some(trial) = self.trial.take() else { return Ok(()) };
        let outcome = self.measure_one(trial, unit, steps);
        self.trial = Some(trial);
        outcome.map(|_| ())
    }

    /// The loss of the network with a level of a table, which is noted.
    fn measure_one(&mut self, trial: &mut dyn Trial, unit: usize, steps: u32) -> Result<f64> {
        let samples: Vec<usize> = (0..trial.samples()).collect();
        let (loss, _) = self.alone(trial, unit, steps, &samples)?;
        let unit = &mut self.units[unit];
        let key = unit.levels[&steps].key.clone();
        unit.measured.insert(key, loss);
        Ok(loss)
    }

    /// Codes each table in the way that does least harm, with or without the statistics of the layer that it is too, in its
    /// own basis or a rotated one, and measures its levels.
    fn measure_tables(&mut self, trial: &mut dyn Trial) -> Result<()> {
        for i in 0..self.units.len() {
            if !is_table(&self.units[i], trial) {
                continue;
            }
            let Some(middle) = self.nearest(i) else { continue };
            let steps: Vec<u32> = self.units[i].levels.keys().copied().collect();
            let mut best: Option<(f64, Unit)> = None;
            for way in self.ways(i)? {
                self.units[i] = way;
                self.code(i, middle, "measuring")?;
                let loss = self.measure_one(trial, i, middle)?;
                if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                    best = Some((loss, self.units[i].clone()));
                }
            }
            let Some((loss, unit)) = best else { continue };
            self.units[i] = unit;
            for steps in steps {
                self.code(i, steps, "measuring")?;
                self.measure_one(trial, i, steps)?;
            }
            self.influence[i] = self.influence_of(i, loss, self.units[i].levels[&middle].loss);
        }
        Ok(())
    }

    /// The ways in which a unit can be coded, the first as it is; no levels of the others are known.
    fn ways(&self, unit: usize) -> Result<Vec<Unit>> {
        let unit = &self.units[unit];
        let mut ways = vec![unit.clone()];
        if let Some(plain) = self.plain(unit) {
            ways.push(plain);
        }
        if self.effort.both_bases {
            let rotated: Result<Vec<_>> = ways.iter().map(|way| way.rotated(self.model)).collect();
            ways.extend(rotated?.into_iter().flatten());
        }
        Ok(ways)
    }

    /// `unit` without the statistics of its layer, where there are some.
    fn plain(&self, unit: &Unit) -> Option<Unit> {
        let known = unit.can_be_plain() && self.levels.metric(&unit.names[0]).is_some();
        known.then(|| {
            let mut plain = unit.clone();
            plain.method.plain = true;
            plain.levels.clear();
            plain
        })
    }

    /// Replaces one unit at a time by its level in the middle.
    fn measure(&mut self, trial: &mut dyn Trial) -> Result<()> {
        let samples: Vec<usize> = (0..self.effort.influence_samples.min(trial.samples())).collect();
        for i in 0..self.units.len() {
            let total = self.units.len() as u64;
            self.show(&format!("measuring {}", self.units[i].names[0]), i as u64, total)?;
            let Some(steps) = self.nearest(i).filter(|_| self.units[i].measured.is_empty()) else { continue };
            let (mut loss, mut own) = self.alone(trial, i, steps, &samples)?;
            // The proxy may mislead for single layers, most of all where inputs have a few huge values.
            if let Some(plain) = self.plain(&self.units[i]).filter(|_| self.effort.both_ways) {
                let before = std::mem::replace(&mut self.units[i], plain);
                self.code(i, steps, "coding")?;
                let other = self.alone(trial, i, steps, &samples)?;
                if other.0 < loss {
                    (loss, own) = other;
                    for &steps in before.levels.keys() {
                        self.code(i, steps, "coding")?;
                    }
                } else {
                    self.units[i] = before;
                }
            }
            self.influence[i] = self.influence_of(i, loss, own);
        }
        Ok(())
    }

    /// Influence of a unit whose level loses `loss`, and `own` by what its coder made small.
    fn influence_of(&self, unit: usize, loss: f64, own: f64) -> f64 {
        // What breaks the network is worth every byte; what does not show is worth a little, by its size.
        let least = 1e-12 * self.units[unit].elements as f64;
        let loss = if loss.is_finite() { loss.max(least) } else { 1e6 };
        loss / own.max(1e-12)
    }

    /// Steps of the level that is nearest to the middle.
    fn nearest(&self, unit: usize) -> Option<u32> {
        self.units[unit].levels.keys().copied().min_by_key(|steps| steps.abs_diff(self.middle))
    }

    /// Loss of the network with one unit replaced, and what its level says of itself.
    fn alone(&self, trial: &mut dyn Trial, unit: usize, steps: u32, samples: &[usize]) -> Result<(f64, f64)> {
        let unit = &self.units[unit];
        let level = &unit.levels[&steps];
        let what = format!("{}:{}:{}", trial.name(), samples.len(), level.key);
        let loss = match self.levels.measured(&what) {
            Some(loss) => loss,
            None => {
                let loss = trial.loss(&[(&unit.names, level)], samples)?;
                self.levels.keep(&what, loss)?;
                loss
            }
        };
        Ok((loss, level.loss))
    }
}

fn is_table(unit: &Unit, trial: &dyn Trial) -> bool {
    unit.names.iter().any(|name| trial.is_table(name))
}
