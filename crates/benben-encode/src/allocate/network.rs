//! Trials on a network: how far its predictions move when tensors are replaced by levels.
//!
//! The loss is the Kullback-Leibler divergence from the predictions of the network as it is, in nats for each prediction:
//! `sum of p ln(p / q)`, of which the likeliest [`LIKELIEST`] classes are kept apart and all others taken together. So a
//! prediction costs 8 kB instead of a whole vocabulary, and the sum is a lower bound (Cover & Thomas, section 2.7) that
//! misses what moves among the unlikely; EvoPress does the same. What is before the first replaced layer is not run again:
//! measuring one tensor after the other takes half the time.

use super::levels::Levels;
use super::trial::{Replaced, Trial};
use benben_decode::{Resident, Weights};
use benben_format::{Error, Result, hex};
use benben_models::{Network, Overlay, Sample, State};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Classes of a prediction that are told apart: of a vocabulary of 49152, the rest has 1 to 2 % of the probability.
const LIKELIEST: usize = 1024;
/// Predictions whose logits are in memory together: 13 MB for 49152 classes.
const PIECE: usize = 64;
/// Bytes of levels that are kept besides those of the plan at hand.
const SPARE: usize = 1 << 30;

/// Runs a network on samples with levels in place of its tensors.
pub struct NetworkTrial<'a> {
    network: &'a mut dyn Network,
    weights: &'a dyn Weights,
    levels: &'a Levels<'a>,
    samples: Vec<Sample>,
    classes: usize,
    /// What the network as it is predicts on each sample.
    expected: Vec<Predictions>,
    /// Each sample on the network as it is, before some stage.
    reached: Vec<Option<(usize, State)>>,
    /// Levels in memory.
    held: BTreeMap<String, Arc<Resident>>,
    held_bytes: usize,
    /// Stage of each tensor.
    stage_of: BTreeMap<String, usize>,
    name: String,
}

/// Predictions of one sample, row by row.
struct Predictions {
    /// The likeliest classes of each row.
    classes: Vec<u32>,
    /// The logarithms of their probabilities.
    logs: Vec<f32>,
    /// Probability of all other classes.
    rest: Vec<f64>,
}

impl<'a> NetworkTrial<'a> {
    /// Runs the network as it is, `weights`, on all `samples`. `model` names the weights.
    ///
    /// # Errors
    /// Unsupported for a network that predicts no classes; InvalidArgument for no samples; otherwise as running it.
    pub fn new(
        network: &'a mut dyn Network,
        weights: &'a dyn Weights,
        levels: &'a Levels<'a>,
        model: &[u8; 32],
        samples: Vec<Sample>,
    ) -> Result<Self> {
        let Some(classes) = network.classes() else {
            return Err(Error::unsupported("this network predicts no classes: its loss is not measured"));
        };
        if samples.is_empty() {
            return Err(Error::invalid("no samples to measure a loss on"));
        }
        let mut name = blake3::Hasher::new();
        name.update(model);
        let mut stage_of = BTreeMap::new();
        for (i, stage) in network.stages().iter().enumerate() {
            stage_of.extend(stage.names.iter().map(|n| (n.clone(), i)));
        }
        if let Some((table, _)) = network.table() {
            stage_of.remove(table);
        }
        for sample in &samples {
            name.update(format!("{sample:?}\n").as_bytes());
        }
        let mut trial = Self {
            network,
            weights,
            levels,
            classes,
            expected: Vec::with_capacity(samples.len()),
            reached: samples.iter().map(|_| None).collect(),
            samples,
            held: BTreeMap::new(),
            held_bytes: 0,
            stage_of,
            name: hex(&name.finalize().as_bytes()[..16]),
        };
        for i in 0..trial.samples.len() {
            let rows = trial.before(i, trial.head())?.input;
            let mut predictions = Predictions { classes: Vec::new(), logs: Vec::new(), rest: Vec::new() };
            let mut failed = false;
            each_piece(&*trial.network, trial.weights, &rows, classes, &mut |logits| {
                let likeliest: Vec<_> = logits.par_chunks(classes).map(likeliest).collect();
                for (ids, logs, rest) in likeliest {
                    failed |= !rest.is_finite();
                    predictions.classes.extend(ids);
                    predictions.logs.extend(logs);
                    predictions.rest.push(rest);
                }
            })?;
            if failed {
                return Err(Error::corruption("a logit is no number: some weights are not"));
            }
            trial.expected.push(predictions);
            // What was reached is kept for measurements, which start at the front.
            trial.reached[i] = None;
        }
        Ok(trial)
    }

    fn head(&self) -> usize {
        self.network.stages().len().saturating_sub(1)
    }

    /// Brings sample `i` on the network as it is before `stage`, from where it was if that is no later.
    fn before(&mut self, i: usize, stage: usize) -> Result<State> {
        let (mut at, mut state) = match self.reached[i].take() {
            Some((at, state)) if at <= stage => (at, state),
            _ => (0, self.network.begin(self.weights, &self.samples[i])?),
        };
        while at < stage {
            self.network.step(self.weights, at, &mut state)?;
            at += 1;
        }
        self.reached[i] = Some((at, state.clone()));
        Ok(state)
    }

    /// The levels of `replaced`, in memory.
    fn load(&mut self, replaced: &[Replaced<'_>]) -> Result<()> {
        for (_, level) in replaced {
            if !self.held.contains_key(&level.key) {
                let resident = self.levels.resident(level)?;
                self.held_bytes += resident.bytes();
                self.held.insert(level.key.clone(), Arc::new(resident));
            }
        }
        if self.held_bytes > SPARE {
            let wanted: BTreeSet<&str> = replaced.iter().map(|(_, l)| &l.key[..]).collect();
            let needed: usize = wanted.iter().filter_map(|k| self.held.get(*k)).map(|r| r.bytes()).sum();
            let mut excess = self.held_bytes.saturating_sub(SPARE.max(needed));
            let held_bytes = &mut self.held_bytes;
            self.held.retain(|key, resident| {
                let keep = excess == 0 || wanted.contains(&key[..]);
                if !keep {
                    excess = excess.saturating_sub(resident.bytes());
                    *held_bytes -= resident.bytes();
                }
                keep
            });
        }
        Ok(())
    }
}

impl Trial for NetworkTrial<'_> {
    fn samples(&self) -> usize {
        self.samples.len()
    }

    fn loss(&mut self, replaced: &[Replaced<'_>], samples: &[usize]) -> Result<f64> {
        self.load(replaced)?;
        let weights = self.weights;
        let mut overlay = Overlay::new(weights);
        // The first stage that can notice; none: before all stages, where samples are looked up.
        let mut first = Some(self.head());
        for (names, level) in replaced {
            for name in *names {
                overlay.put(name, Arc::clone(&self.held[&level.key]))?;
                let stage = self.stage_of.get(name).copied();
                first = first.zip(stage).map(|(a, b)| a.min(b));
            }
        }
        let (mut sum, mut count) = (0.0, 0);
        for &i in samples {
            let mut state = match first {
                Some(stage) => self.before(i, stage)?,
                None => self.network.begin(&overlay, &self.samples[i])?,
            };
            for stage in first.unwrap_or(0)..self.head() {
                self.network.step(&overlay, stage, &mut state)?;
            }
            let (expected, classes) = (&self.expected[i], self.classes);
            let mut row = 0;
            each_piece(&*self.network, &overlay, &state.input, classes, &mut |logits| {
                let found: Vec<f64> = logits
                    .par_chunks(classes)
                    .enumerate()
                    .map(|(r, logits)| expected.divergence(row + r, logits))
                    .collect();
                row += found.len();
                sum += found.iter().sum::<f64>();
            })?;
            count += row;
        }
        // Where a logit is no number, the network is broken.
        let mean = sum / count.max(1) as f64;
        Ok(if mean.is_finite() { mean } else { f64::INFINITY })
    }

    fn is_table(&self, name: &str) -> bool {
        self.network.table().is_some_and(|(table, _)| table == name)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Hands the logits of `rows` of the head's input to `take`, some rows at a time.
fn each_piece(
    network: &dyn Network,
    weights: &dyn Weights,
    rows: &[f32],
    classes: usize,
    take: &mut dyn FnMut(&[f32]),
) -> Result<()> {
    let columns = network.stages().last().map_or(1, |head| head.columns).max(1);
    let mut logits = Vec::new();
    for piece in rows.chunks(PIECE * columns) {
        logits.resize(piece.len() / columns * classes, 0.0);
        network.predict(weights, piece, &mut logits)?;
        take(&logits);
    }
    Ok(())
}

/// The largest logit, and the sum of e to all of them less it.
fn normalizer(logits: &[f32]) -> (f32, f64) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Short sums in f32, the whole in f64.
    let sum = logits.chunks(64).map(|part| f64::from(part.iter().map(|x| (x - largest).exp()).sum::<f32>()));
    (largest, sum.sum())
}

/// The likeliest classes of one prediction, the logarithms of their probabilities, and the probability of the others.
fn likeliest(logits: &[f32]) -> (Vec<u32>, Vec<f32>, f64) {
    let (largest, sum) = normalizer(logits);
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if ids.len() > LIKELIEST {
        let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        ids.select_nth_unstable_by(LIKELIEST, order);
        ids.truncate(LIKELIEST);
    }
    let log = sum.ln();
    let logs: Vec<f32> =
        ids.iter().map(|&i| (f64::from(logits[i as usize] - largest) - log) as f32).collect();
    let known: f64 = logs.iter().map(|l| f64::from(*l).exp()).sum();
    let rest = if ids.len() == logits.len() { 0.0 } else { (1.0 - known).max(0.0) };
    (ids, logs, if sum.is_finite() { rest } else { f64::NAN })
}

impl Predictions {
    /// Divergence of the prediction `logits` from row `row`, in nats.
    fn divergence(&self, row: usize, logits: &[f32]) -> f64 {
        let count = self.classes.len() / self.rest.len().max(1);
        let range = row * count..(row + 1) * count;
        let (largest, sum) = normalizer(logits);
        let log = sum.ln();
        let (mut divergence, mut known) = (0.0, 0.0);
        for (&class, &p) in self.classes[range.clone()].iter().zip(&self.logs[range]) {
            let (p, q) = (f64::from(p), f64::from(logits[class as usize] - largest) - log);
            divergence += p.exp() * (p - q);
            known += q.exp();
        }
        let rest = self.rest[row];
        if rest > 0.0 {
            // Sums in f32 leave 1e-7 of the probability uncertain.
            divergence += rest * (rest / (1.0 - known).max(1e-7)).ln();
        }
        // Rounding can leave a sum a little below zero, which a divergence never is; no number stays none.
        if divergence < 0.0 { 0.0 } else { divergence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_is_that_of_the_distributions() {
        let dense: Vec<f32> = (0..3000).map(|i| ((i * 37 % 101) as f32 * 0.17).sin() * 6.0).collect();
        let other: Vec<f32> =
            dense.iter().enumerate().map(|(i, x)| x + ((i % 7) as f32 - 3.0) * 0.1).collect();
        let normed = |logits: &[f32]| {
            let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
            logits.iter().map(|x| f64::from(*x) - sum.ln()).collect::<Vec<f64>>()
        };
        let whole = |p: &[f32], q: &[f32]| {
            let (p, q) = (normed(p), normed(q));
            p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
        };
        let predictions = |logits: &[f32]| {
            let (classes, logs, rest) = likeliest(logits);
            Predictions { classes, logs, rest: vec![rest] }
        };
        // All classes are told apart: the divergence itself.
        let (p, q) = (&dense[..1000], &other[..1000]);
        let found = predictions(p).divergence(0, q);
        assert!((found - whole(p, q)).abs() < 1e-5, "{found} {}", whole(p, q));
        assert!(predictions(p).divergence(0, p) < 1e-6);
        // Others together: never more, and close where they are unlikely.
        let found = predictions(&dense).divergence(0, &other);
        let whole = whole(&dense, &other);
        assert!(found <= whole && found > 0.7 * whole, "{found} {whole}");
        assert!(predictions(&dense).divergence(0, &vec![f32::NAN; 3000]).is_nan());
    }
}
