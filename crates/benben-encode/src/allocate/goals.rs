//! Meeting a size, and meeting a loss.

use super::dynamic::{least_bytes, least_loss};
use super::evolution::{self, Fitness};
use super::levels::Level;
use super::offer::Offer;
use super::planner::{Allocation, Planner};
use super::trial::{Replaced, Trial};
use super::unit::Unit;
use crate::method::{Codec, Method};
use crate::pack::write_pack;
use crate::plan::Plan;
use crate::recipe::{Recipe, Rule};
use crate::sink::Sink;
use benben_format::{Error, ErrorKind, Result, ignore};

/// Bytes that are kept free for the directory, which another choice of levels can make a little longer.
const SPARE: u64 = 64;
/// What need not be filled: this part of the goal.
const CLOSE: f64 = 1e-3;
/// Tries of filling the bytes that are left, and of meeting a loss.
const TRIES: usize = 12;
/// A loss is met well enough at this part of what is asked for.
const MET: f64 = 0.95;

/// Plans on the way, with their losses over all samples.
struct Searched {
    /// What evolution came to; without a trial the programme's.
    plan: Vec<u32>,
    /// The programme's plan and one level for all: with them evolution began.
    starts: Vec<(Vec<u32>, f64)>,
    evaluations: usize,
}

impl Searched {
    fn losses(&self) -> Losses {
        let of = |at: usize| self.starts.get(at).map(|(_, loss)| *loss);
        Losses { programme: of(0), uniform: of(1), evaluations: self.evaluations }
    }
}

/// Losses over all samples that a plan is held against.
struct Losses {
    uniform: Option<f64>,
    programme: Option<f64>,
    evaluations: usize,
}

/// Plans as evolution judges them.
struct Plans<'a> {
    units: &'a [Unit],
    steps: &'a [Vec<u32>],
    trial: &'a mut (dyn Trial + 'a),
}

impl Fitness for Plans<'_> {
    fn samples(&self) -> usize {
        self.trial.samples()
    }

    fn loss(&mut self, choices: &[usize], samples: &[usize]) -> Result<f64> {
        let level = |((unit, steps), &c): ((&'_ Unit, &Vec<u32>), &usize)| unit.levels[&steps[c]].clone();
        let levels: Vec<Level> = self.units.iter().zip(self.steps).zip(choices).map(level).collect();
        let replaced: Vec<Replaced<'_>> =
            self.units.iter().zip(&levels).map(|(u, l)| (&u.names[..], l)).collect();
        self.trial.loss(&replaced, samples)
    }
}

impl Planner<'_, '_, '_> {
    /// The least loss in at most `goal` bytes.
    pub(super) fn meet_bytes(&mut self, goal: u64) -> Result<Allocation> {
        // What a pack takes besides the levels hardly depends on which they are: packed once, it is known.
        let first: Vec<u32> =
            self.units.iter().map(|u| u.levels.keys().next().copied().unwrap_or(0)).collect();
        let mut rest = self.rest(&self.taken(&first))?;
        let (plan, budget) = loop {
            let budget = goal.checked_sub(rest + SPARE).ok_or_else(|| {
                let message = format!("{rest} of the {goal} bytes are taken by what is not planned");
                Error::invalid(message).with_hint("ask for more bytes, or leave files out (--no-files)")
            })?;
            let plan = self.solve(&|table| least_loss(table, budget))?;
            let found = self.rest(&self.taken(&plan))?;
            if found <= rest + SPARE {
                break (plan, budget);
            }
            rest = found;
        };
        let found = self.evolve(plan, budget)?;
        let mut losses = found.losses();
        let (mut taken, mut least) = self.filled(&found.plan, goal)?;
        // As files of one size they are equals: filling can turn what was ahead by little.
        for (start, (plan, _)) in found.starts.iter().enumerate() {
            let (other, loss) = match self.filled(plan, goal) {
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(_) => continue,
                Ok(other) => other,
            };
            *(if start == 0 { &mut losses.programme } else { &mut losses.uniform }) = loss;
            losses.evaluations += self.trial.as_deref().map_or(0, |trial| trial.samples());
            if loss < least {
                (taken, least) = (other, loss);
            }
        }
        self.finish(&taken, least, &losses)
    }

    /// Levels of `plan`, made to fill `goal` bytes, and the loss over all samples.
    fn filled(&mut self, plan: &[u32], goal: u64) -> Result<(Vec<Level>, Option<f64>)> {
        let mut taken = self.taken(plan);
        self.fit(&mut taken, goal)?;
        let loss = self.fill(&mut taken, goal)?;
        Ok((taken, loss))
    }

    /// The fewest bytes with at most `goal` nats for each token.
    pub(super) fn meet_loss(&mut self, goal: f64) -> Result<Allocation> {
        // Predicted losses add up, real ones do not quite: the prediction that is asked for follows what is measured.
        let (mut asked, mut met, mut missed) = (goal, None, None);
        let mut best: Option<(u64, Vec<u32>)> = None;
        for _ in 0..TRIES {
            let plan = self.solve(&|table| least_bytes(table, asked))?;
            let taken = self.taken(&plan);
            let found = self.loss(&taken)?.unwrap_or(f64::INFINITY);
            let bytes = taken.iter().map(|l| l.bytes).sum();
            if found <= goal && best.as_ref().is_none_or(|(least, _)| bytes < *least) {
                best = Some((bytes, plan));
            }
            if (MET * goal..=goal).contains(&found) {
                break;
            }
            *(if found <= goal { &mut met } else { &mut missed }) = Some(asked);
            // Between what was met and what was missed; before both are known in proportion, a little below the goal.
            asked = match (met, missed) {
                (Some(low), Some(high)) => f64::sqrt(low * high),
                _ => asked * (0.98 * goal / found.max(1e-9)).clamp(0.25, 4.0),
            };
        }
        let Some((budget, plan)) = best else {
            return Err(Error::invalid(format!("a loss of {goal} nats was not reached in {TRIES} tries"))
                .with_hint("allow more loss"));
        };
        let found = self.evolve(plan, budget)?;
        let (mut plan, losses) = (found.plan.clone(), found.losses());
        // What was gained in loss is given for bytes: in steps that are halved where one is too far.
        let mut step = budget / 8;
        for _ in 0..2 * TRIES {
            let Some(smaller) = self.smaller(&plan, step) else { break };
            if self.loss(&self.taken(&smaller))?.is_some_and(|found| found <= goal) {
                plan = smaller;
            } else {
                step /= 2;
            }
        }
        let taken = self.taken(&plan);
        let loss = self.loss(&taken)?;
        self.finish(&taken, loss, &losses)
    }

    /// Levels of `plan`.
    fn taken(&self, plan: &[u32]) -> Vec<Level> {
        self.units.iter().zip(plan).map(|(u, steps)| u.levels[steps].clone()).collect()
    }

    /// Loss over all samples; none without a trial.
    fn loss(&mut self, taken: &[Level]) -> Result<Option<f64>> {
        let Some(trial) = self.trial.as_deref_mut() else { return Ok(None) };
        let replaced: Vec<Replaced<'_>> =
            self.units.iter().zip(taken).map(|(u, l)| (&u.names[..], l)).collect();
        let samples: Vec<usize> = (0..trial.samples()).collect();
        let loss = trial.loss(&replaced, &samples)?;
        // What is no number would win by accident.
        Ok(Some(if loss.is_nan() { f64::INFINITY } else { loss }))
    }

    /// Bytes of the pack of `taken` besides the levels.
    fn rest(&self, taken: &[Level]) -> Result<u64> {
        let levels: u64 = taken.iter().map(|l| l.bytes).sum();
        Ok(self.packed_bytes(taken)?.saturating_sub(levels))
    }

    /// Bytes of the pack of `taken`: it is packed, and only counted.
    fn packed_bytes(&self, taken: &[Level]) -> Result<u64> {
        let plan = Plan::new(self.model, &self.recipe_of(taken))?;
        Ok(write_pack(self.model, &plan, self.levels, Sink::default(), &mut ignore)?.packed_bytes)
    }

    /// Goes on from the programme's plan with the network itself.
    fn evolve(&mut self, plan: Vec<u32>, budget: u64) -> Result<Searched> {
        let Some(trial) = self.trial.as_deref_mut() else {
            return Ok(Searched { plan, starts: Vec::new(), evaluations: 0 });
        };
        let offer = Offer::new(&self.units, &self.influence);
        let mut starts = vec![offer.choices(&plan)];
        starts.extend(offer.uniform(budget));
        let settings = evolution::Settings {
            generations: self.effort.generations,
            offspring: self.effort.offspring,
            stages: self.effort.stages.clone(),
            seed: self.recipe.seed,
        };
        let mut fitness = Plans { units: &self.units, steps: &offer.steps, trial };
        let found =
            evolution::search(&offer.bytes(), budget, &starts, &settings, &mut fitness, &mut *self.observer)?;
        Ok(Searched {
            plan: offer.plan(&found.choices),
            starts: starts.iter().map(|choices| offer.plan(choices)).zip(found.starts).collect(),
            evaluations: found.evaluations,
        })
    }

    /// `plan` with single units a level down, those first that lose least for a byte, until `bytes` are gained. None
    /// where all are at the bottom.
    fn smaller(&self, plan: &[u32], bytes: u64) -> Option<Vec<u32>> {
        let offer = Offer::new(&self.units, &self.influence);
        let mut choices = offer.choices(plan);
        let mut gained = 0;
        while gained < bytes {
            let price = |t: usize| {
                let (high, low) = (offer.table[t][choices[t]], offer.table[t][choices[t] - 1]);
                (low.loss - high.loss) / (high.bytes - low.bytes).max(1) as f64
            };
            let can = (0..choices.len()).filter(|&t| choices[t] > 0);
            let t = can.min_by(|&a, &b| price(a).total_cmp(&price(b)))?;
            gained += offer.table[t][choices[t]].bytes - offer.table[t][choices[t] - 1].bytes;
            choices[t] -= 1;
        }
        Some(offer.plan(&choices))
    }

    /// Takes bytes off where the directory of another plan came out longer than expected.
    fn fit(&self, taken: &mut Vec<Level>, goal: u64) -> Result<()> {
        for _ in 0..TRIES {
            let bytes = self.packed_bytes(taken)?;
            if bytes <= goal {
                return Ok(());
            }
            let offer = Offer::new(&self.units, &self.influence);
            let step = |(unit, level): (&Unit, &Level)| {
                unit.levels.iter().find(|(_, l)| *l == level).map_or(0, |(k, _)| *k)
            };
            let plan: Vec<u32> = self.units.iter().zip(&*taken).map(step).collect();
            let Some(plan) = self.smaller(&offer.plan(&offer.choices(&plan)), bytes - goal) else { break };
            *taken = self.taken(&plan);
        }
        Err(Error::invalid(format!("no plan of {goal} bytes was found")).with_hint("ask for another size"))
    }

    /// Gives the bytes that are left to single units, in levels between those of the grid, where the network's loss does
    /// not rise by it. That loss.
    fn fill(&mut self, taken: &mut [Level], goal: u64) -> Result<Option<f64>> {
        let mut least = self.loss(taken)?;
        let mut left = goal.saturating_sub(self.packed_bytes(taken)?);
        let mut tried = vec![false; taken.len()];
        for _ in 0..TRIES {
            if left as f64 <= CLOSE * goal as f64 {
                break;
            }
            let more = |u: usize| left as f64 * 8.0 / self.units[u].elements as f64;
            // Less than a hundredth of a bit is finer than encoders aim; more than a bit is for the grid.
            let can = |&u: &usize| {
                let bits = taken[u].bits_per_weight + more(u);
                !tried[u] && (0.01..=1.0).contains(&more(u)) && Unit::offers(bits)
            };
            let gain =
                |u: usize| self.units[u].loss(&taken[u], self.influence[u]) * (1.0 - (-2.0 * more(u)).exp2());
            let best = (0..taken.len()).filter(can).max_by(|&a, &b| gain(a).total_cmp(&gain(b)));
            let Some(u) = best else { break };
            tried[u] = true;
            // Rounded, so that recipes are readable; a little less than there is, since encoders miss by as much.
            let bits = ((taken[u].bits_per_weight + 0.97 * more(u)) * 1000.0).floor() / 1000.0;
            self.show(&format!("filling {}", self.units[u].names[0]), u as u64, taken.len() as u64)?;
            let level = self.coded(u, bits)?;
            if level.bytes > taken[u].bytes
                && level.bytes - taken[u].bytes <= left
                && level.loss < taken[u].loss
            {
                let before = std::mem::replace(&mut taken[u], level);
                let bytes = self.packed_bytes(taken)?;
                let loss = if bytes <= goal { self.loss(taken)? } else { None };
                if bytes <= goal && loss <= least {
                    (left, least) = (goal - bytes, loss);
                } else {
                    taken[u] = before;
                }
            }
        }
        Ok(least)
    }

    /// One rule for each tensor; what is not planned stays as was asked.
    fn recipe_of(&self, taken: &[Level]) -> Recipe {
        // A rule without a target was for tensors that are planned: they have rules of their own now.
        let own = |r: &&Rule| r.method.target().is_some() || r.method.codec == Codec::Raw;
        let mut rules: Vec<Rule> = self.recipe.rules.iter().filter(own).cloned().collect();
        for (unit, level) in self.units.iter().zip(taken) {
            let rule = |name: &String| Rule { tensors: globset::escape(name), method: level.method };
            rules.extend(unit.names.iter().map(rule));
        }
        Recipe { bits_per_weight: None, default: Method::new(Codec::Raw), rules, ..self.recipe.clone() }
    }

    fn finish(&self, taken: &[Level], loss: Option<f64>, losses: &Losses) -> Result<Allocation> {
        let recipe = self.recipe_of(taken);
        let mut plan = Plan::new(self.model, &recipe)?;
        let bytes = write_pack(self.model, &plan, self.levels, Sink::default(), &mut ignore)?.packed_bytes;
        for ((unit, level), influence) in self.units.iter().zip(taken).zip(&self.influence) {
            for t in plan.tensors.iter_mut().filter(|t| unit.names.contains(&t.name)) {
                // Twins are stored once, with the first.
                let first = t.name == unit.names[0];
                t.predicted_bytes = if first { level.bytes } else { 0 };
                t.predicted_relative_mse = level.relative_mse;
                t.predicted_loss = (self.in_nats && first).then_some(unit.loss(level, *influence));
            }
        }
        plan.predicted_bytes = bytes;
        plan.predicted_bits_per_weight = bytes as f64 * 8.0 / plan.weights().max(1) as f64;
        plan.predicted_loss = loss;
        plan.predicted_seconds = taken.iter().map(|l| l.seconds).sum();
        let (uniform_loss, programme_loss) = (losses.uniform, losses.programme);
        Ok(Allocation {
            recipe,
            plan,
            bytes,
            loss,
            uniform_loss,
            programme_loss,
            evaluations: losses.evaluations,
        })
    }
}
