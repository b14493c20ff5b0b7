//! From a goal to a plan: which levels are coded, what they are worth, and which are taken.
//!
//! 1. Levels around the bits that are left for each weight are coded; more where a plan ends at the edge of them.
//! 2. Levels are weighed by what their errors cost the network: see [`super::influence`].
//! 3. The dynamic programme takes the best plan, were losses to add up; evolution goes on from it with the network itself.
//! 4. What is left of the bytes goes to single tensors in levels between those of the grid.
//!
//! Sizes are not predicted: levels are packed as they will be, into nothing, and the bytes counted.

use super::dynamic::Choice;
use super::effort::Effort;
use super::levels::{Level, Levels};
use super::offer::Offer;
use super::trial::Trial;
use super::unit::{Unit, score};
use crate::coder::Coder;
use crate::plan::{Plan, Treatment};
use crate::recipe::Recipe;
use benben_format::{Error, Observer, Progress, Result};
use benben_io::ModelSource;

/// Rounds of coding more levels where a plan ends at the edge.
const ROUNDS: usize = 24;
/// Bits for each weight that a rotated basis has to save, since it costs a transform of every input: 0.3 % of three bits.
const ROTATION: f64 = 0.01;

/// What a plan is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The least loss in a pack of at most these bytes, everything counted.
    Bytes(u64),
    /// The fewest bytes with at most this loss, in nats for each token.
    Loss(f64),
}

/// A plan, and what it was chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// The recipe that packs it: one rule for each tensor.
    pub recipe: Recipe,
    /// The plan of that recipe, its predictions those of the levels.
    pub plan: Plan,
    /// Bytes of the pack.
    pub bytes: u64,
    /// Loss over all samples; none where nothing was measured.
    pub loss: Option<f64>,
    /// Loss of one level for all tensors, in no more bytes. Where a size was asked for, what it leaves is filled as for all.
    pub uniform_loss: Option<f64>,
    /// Loss of the plan that is best where losses add up, filled likewise.
    pub programme_loss: Option<f64>,
    /// Samples that were run in the search.
    pub evaluations: usize,
}

/// Finds the plan that meets `goal`. Tensors that `recipe` gives a target of their own, or keeps lossless, stay as it
/// says; all others are planned, in the methods that it names. Where neither a `trial` nor gradients in the statistics of
/// `levels` tell what errors cost, what the coder made small is summed over all weights, all alike.
///
/// # Errors
/// InvalidArgument where the goal is out of reach or nothing is left to plan; Interrupted where `observer` says so;
/// otherwise as coding and running.
pub fn allocate(
    model: &dyn ModelSource,
    recipe: &Recipe,
    goal: Goal,
    effort: &Effort,
    levels: &Levels<'_>,
    trial: Option<&mut dyn Trial>,
    observer: &mut Observer<'_>,
) -> Result<Allocation> {
    let mut planner = Planner::new(model, recipe, goal, effort, levels, trial, observer)?;
    planner.begin()?;
    match goal {
        Goal::Bytes(bytes) => planner.meet_bytes(bytes),
        Goal::Loss(loss) => planner.meet_loss(loss),
    }
}

/// Picks a choice for each unit.
type Solver<'a> = dyn Fn(&[Vec<Choice>]) -> Result<Vec<usize>> + 'a;

pub(super) struct Planner<'a, 't, 'o> {
    pub(super) model: &'a dyn ModelSource,
    /// What is asked for: rules, default method, seed.
    pub(super) recipe: Recipe,
    pub(super) effort: &'a Effort,
    pub(super) levels: &'a Levels<'a>,
    pub(super) trial: Option<&'a mut (dyn Trial + 't)>,
    pub(super) observer: &'a mut Observer<'o>,
    pub(super) units: Vec<Unit>,
    /// Loss of each unit is this times that of its level.
    pub(super) influence: Vec<f64>,
    /// Whether that loss is one of the network, in nats for each prediction.
    pub(super) in_nats: bool,
    /// Steps of the grid that all units start from.
    pub(super) middle: u32,
}

impl<'a, 't, 'o> Planner<'a, 't, 'o> {
    fn new(
        model: &'a dyn ModelSource,
        recipe: &Recipe,
        goal: Goal,
        effort: &'a Effort,
        levels: &'a Levels<'a>,
        trial: Option<&'a mut (dyn Trial + 't)>,
        observer: &'a mut Observer<'o>,
    ) -> Result<Self> {
        if matches!(goal, Goal::Loss(_)) && trial.is_none() {
            return Err(Error::invalid("a loss can be met only where it can be measured")
                .with_hint("give --calib with a text"));
        }
        let weights: u64 = model.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum();
        let whole = match goal {
            Goal::Bytes(bytes) => bytes as f64 * 8.0 / weights.max(1) as f64,
            Goal::Loss(_) => 4.0,
        };
        let mut recipe = recipe.clone();
        recipe.bits_per_weight = Some(whole.clamp(1e-3, 32.0));
        (recipe.default.bpw, recipe.default.mse) = (None, None);
        recipe.calibration = levels.calibration();
        let plan = Plan::new(model, &recipe)?;
        let units = Unit::gather(model, &plan)?;
        if units.is_empty() {
            return Err(Error::invalid(
                "no tensor is left to plan: all are lossless or have a target of their own",
            )
            .with_hint("leave out --set, or plan more with --set PATTERN=trellis"));
        }
        // What a tensor that shares the target is given, by the plan's own prediction.
        let shared = plan.tensors.iter().find(|t| matches!(t.treatment, Treatment::Share(_)));
        let bits = shared.map_or(whole, |t| t.predicted_bytes as f64 * 8.0 / t.elements.max(1) as f64);
        let middle = (bits * f64::from(effort.levels_per_bit)).round().clamp(1.0, 48.0) as u32;
        let influence = units.iter().map(|u| u.elements as f64).collect();
        Ok(Self { model, recipe, effort, levels, trial, observer, units, influence, in_nats: false, middle })
    }

    /// The first levels, and the influence of every unit.
    fn begin(&mut self) -> Result<()> {
        for unit in 0..self.units.len() {
            self.code(unit, self.middle, "coding")?;
            if self.effort.both_bases && !self.measures_table(unit) {
                self.choose_basis(unit)?;
            }
            for steps in [self.middle + 1, self.middle.saturating_sub(1)] {
                self.code(unit, steps, "coding")?;
            }
            if self.units[unit].levels.is_empty() {
                let bits = self.bits(self.middle);
                return Err(Error::invalid(format!("no level is near {bits:.2} bits for each weight"))
                    .with_hint("ask for another size"));
            }
        }
        self.weigh()
    }

    /// The basis in which the level in the middle is better, for all levels of `unit`. SmolLM2-135M at 54.7 MB, all layers
    /// rotated: divergence 0.172 in place of 0.181.
    fn choose_basis(&mut self, unit: usize) -> Result<()> {
        let Some(straight) = self.units[unit].levels.get(&self.middle).map(score) else { return Ok(()) };
        let Some(rotated) = self.units[unit].rotated(self.model)? else { return Ok(()) };
        let before = std::mem::replace(&mut self.units[unit], rotated);
        self.code(unit, self.middle, "rotating")?;
        let found = self.units[unit].levels.get(&self.middle).map_or(f64::INFINITY, score);
        if found > straight - ROTATION {
            self.units[unit] = before;
        }
        Ok(())
    }

    fn bits(&self, steps: u32) -> f64 {
        f64::from(steps) / f64::from(self.effort.levels_per_bit)
    }

    /// Codes a level; false where there is none of so many bits.
    pub(super) fn code(&mut self, unit: usize, steps: u32, verb: &str) -> Result<bool> {
        let bits = self.bits(steps);
        if !Unit::offers(bits) {
            return Ok(false);
        }
        if !self.units[unit].levels.contains_key(&steps) {
            let item = format!("{verb} {}", self.units[unit].names[0]);
            let total = self.units.len() as u64;
            self.show(&item, unit as u64, total)?;
            let level = self.coded(unit, bits)?;
            self.units[unit].levels.insert(steps, level);
            if !self.units[unit].measured.is_empty() {
                self.measure_level(unit, steps)?;
            }
        }
        Ok(true)
    }

    /// The level of `bits` for each weight of `unit`.
    pub(super) fn coded(&self, unit: usize, bits: f64) -> Result<Level> {
        let ranks = &self.effort.ranks;
        self.units[unit].code(self.model, self.levels, bits, self.recipe.seed, ranks)
    }

    pub(super) fn show(&mut self, item: &str, done: u64, total: u64) -> Result<()> {
        let stop = (self.observer)(Progress { item, done, total }).is_break();
        if stop { Err(Error::interrupted()) } else { Ok(()) }
    }

    /// The best plan by `solve`, in steps of the grid; levels are added until no unit stands at the edge of its own.
    pub(super) fn solve(&mut self, solve: &Solver<'_>) -> Result<Vec<u32>> {
        let mut plan = Vec::new();
        for _ in 0..ROUNDS {
            let offer = Offer::new(&self.units, &self.influence);
            let mut more = false;
            match solve(&offer.table) {
                Ok(choices) => {
                    plan = choices.iter().zip(&offer.steps).map(|(&c, steps)| steps[c]).collect();
                    for (unit, steps) in plan.iter().enumerate() {
                        more |= self.widen(unit, *steps)?;
                    }
                    if !more {
                        return Ok(plan);
                    }
                }
                Err(error) => {
                    // Out of reach: smaller levels of everything for fewer bytes, larger ones for less loss.
                    for unit in 0..self.units.len() {
                        let (low, high) = self.edges(unit);
                        more |= self.code(unit, low.saturating_sub(1), "coding")?;
                        more |= self.code(unit, high + 1, "coding")?;
                    }
                    if !more {
                        return Err(error);
                    }
                }
            }
        }
        if plan.is_empty() {
            Err(Error::invalid("no plan was found: the goal is out of reach"))
        } else {
            Ok(plan)
        }
    }

    fn edges(&self, unit: usize) -> (u32, u32) {
        let levels = &self.units[unit].levels;
        let low = levels.keys().next().copied().unwrap_or(self.middle);
        (low, levels.keys().next_back().copied().unwrap_or(self.middle))
    }

    /// Adds the neighbour of `steps` where it stands at the edge; whether there is one that was not there.
    fn widen(&mut self, unit: usize, steps: u32) -> Result<bool> {
        let before = self.units[unit].levels.len();
        let (low, high) = self.edges(unit);
        if steps == low {
            self.code(unit, low.saturating_sub(1), "coding")?;
        }
        if steps == high {
            self.code(unit, high + 1, "coding")?;
        }
        Ok(self.units[unit].levels.len() > before)
    }
}
