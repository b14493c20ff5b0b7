//! The best levels where losses do not add up: evolution by the loss of the whole network.
//!
//! **Source**: EvoPress (Sieberling, Kuznedelev, Kurtic & Alistarh 2024). One parent; each generation makes offspring by
//! a few level switches that keep the bytes within the budget; survivors of a small sample meet a larger one, and the
//! last stage is judged on all samples beside the parent, which stays unless it is beaten: the loss on all samples never
//! rises. That stage is a race (Maron & Moore 1994): a child that has clearly lost to the parent on the samples so far
//! does not run the others. The order of tensors is that of the caller, all chance comes from one seed, and losses are
//! compared as they are: the same input gives the same plan.

use benben_format::{Error, Observer, Progress, Result};
use std::collections::HashSet;

/// Samples that a child runs at least beside the parent.
const RACED: usize = 4;
/// A child has lost where it is worse by so many standard errors of the mean difference.
const CLEARLY: f64 = 2.0;

/// How bad a plan is.
pub trait Fitness {
    /// Number of samples there are.
    fn samples(&self) -> usize;

    /// Mean loss over `samples` of the network whose tensors have `choices`: least is best.
    ///
    /// # Errors
    /// As running the network.
    fn loss(&mut self, choices: &[usize], samples: &[usize]) -> Result<f64>;
}

/// How long and how wide to search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Generations.
    pub generations: usize,
    /// Offspring of each.
    pub offspring: usize,
    /// Stages before the last, from small samples to large: how many samples, and how many survive. The last stage is
    /// all samples and one survivor.
    pub stages: Vec<Stage>,
    /// Where chance comes from.
    pub seed: u64,
}

/// One stage of the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Samples, drawn anew for each generation.
    pub samples: usize,
    /// How many go on.
    pub survivors: usize,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// A choice for each tensor.
    pub choices: Vec<usize>,
    /// Mean loss over all samples.
    pub loss: f64,
    /// Losses over all samples of the plans that it started from.
    pub starts: Vec<f64>,
    /// Samples that were run.
    pub evaluations: usize,
}

/// Searches from `starts`, each within `budget` bytes; `bytes[t]` are those of the levels of tensor t, ascending.
///
/// # Errors
/// InvalidArgument where there is no start, or one does not fit; Interrupted where `observer` says so; otherwise as
/// `fitness`.
pub fn search(
    bytes: &[Vec<u64>],
    budget: u64,
    starts: &[Vec<usize>],
    settings: &Settings,
    fitness: &mut dyn Fitness,
    observer: &mut Observer<'_>,
) -> Result<Found> {
    let all: Vec<usize> = (0..fitness.samples()).collect();
    let mut judge = Judge { fitness, evaluations: 0 };
    let mut seen = HashSet::new();
    let mut losses = Vec::with_capacity(starts.len());
    let mut parent: Option<Judged> = None;
    for start in starts {
        let fits = start.len() == bytes.len() && start.iter().zip(bytes).all(|(&c, list)| c < list.len());
        if !fits || sum(bytes, start) > budget {
            return Err(Error::invalid("a plan to start from does not fit the levels or the budget"));
        }
        let judged = judge.each(start)?;
        losses.push(judged.mean());
        seen.insert(start.clone());
        if parent.as_ref().is_none_or(|least| judged.mean() < least.mean()) {
            parent = Some(judged);
        }
    }
    let Some(mut parent) = parent else {
        return Err(Error::invalid("a search needs a plan to start from"));
    };
    let mut random = Random(settings.seed);
    for generation in 0..settings.generations {
        let item = format!("loss {:.5}", parent.mean());
        let (done, total) = (generation as u64, settings.generations as u64);
        if observer(Progress { item: &item, done, total }).is_break() {
            return Err(Error::interrupted());
        }
        let mut offspring = Vec::with_capacity(settings.offspring);
        // Where few switches are left to try, most children were seen before: an end to trying.
        for _ in 0..8 * settings.offspring {
            if offspring.len() == settings.offspring {
                break;
            }
            if let Some(child) = mutate(&mut random, &parent.choices, bytes, budget)
                && seen.insert(child.clone())
            {
                offspring.push(child);
            }
        }
        for stage in &settings.stages {
            if stage.samples >= all.len() || offspring.len() <= stage.survivors {
                continue;
            }
            let samples = random.subset(all.len(), stage.samples);
            let mut ranked = Vec::with_capacity(offspring.len());
            for child in offspring {
                ranked.push((judge.loss(&child, &samples)?, child));
            }
            // Stable: of equals the earlier goes on.
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
            offspring = ranked.into_iter().take(stage.survivors).map(|(_, child)| child).collect();
        }
        for child in offspring {
            if let Some(judged) = judge.race(&child, &parent)? {
                parent = judged;
            }
        }
    }
    let loss = parent.mean();
    Ok(Found { choices: parent.choices, loss, starts: losses, evaluations: judge.evaluations })
}

/// A plan, and its loss on each sample.
struct Judged {
    choices: Vec<usize>,
    losses: Vec<f64>,
}

impl Judged {
    fn mean(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64
    }
}

struct Judge<'a> {
    fitness: &'a mut dyn Fitness,
    evaluations: usize,
}

impl Judge<'_> {
    fn loss(&mut self, choices: &[usize], samples: &[usize]) -> Result<f64> {
        self.evaluations += samples.len();
        let loss = self.fitness.loss(choices, samples)?;
        // A plan whose network breaks down loses to every other; one that is no number would win by accident.
        Ok(if loss.is_nan() { f64::INFINITY } else { loss })
    }

    /// Losses of `choices` on all samples.
    fn each(&mut self, choices: &[usize]) -> Result<Judged> {
        let losses = (0..self.fitness.samples()).map(|i| self.loss(choices, &[i])).collect::<Result<_>>()?;
        Ok(Judged { choices: choices.to_vec(), losses })
    }

    /// `child` on all samples, if it beats `parent`.
    fn race(&mut self, child: &[usize], parent: &Judged) -> Result<Option<Judged>> {
        let mut losses = Vec::with_capacity(parent.losses.len());
        for i in 0..parent.losses.len() {
            losses.push(self.loss(child, &[i])?);
            if losses.len() >= RACED && lost(&losses, &parent.losses) {
                return Ok(None);
            }
        }
        let judged = Judged { choices: child.to_vec(), losses };
        Ok((judged.mean() < parent.mean()).then_some(judged))
    }
}

/// Whether `child`, by its losses so far, is clearly worse than `parent` on the same samples.
fn lost(child: &[f64], parent: &[f64]) -> bool {
    let differences: Vec<f64> = child.iter().zip(parent).map(|(c, p)| c - p).collect();
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    mean > 0.0 && (mean > CLEARLY * error || !mean.is_finite())
}

fn sum(bytes: &[Vec<u64>], choices: &[usize]) -> u64 {
    bytes.iter().zip(choices).map(|(list, &c)| list[c]).sum()
}

/// A child of `parent`: one to three tensors a level up (one most often), others down until it fits, and up again where
/// bytes are left. None where nothing can be switched.
fn mutate(random: &mut Random, parent: &[usize], bytes: &[Vec<u64>], budget: u64) -> Option<Vec<usize>> {
    let mut child = parent.to_vec();
    let mut total = sum(bytes, parent);
    let mut touched = vec![false; child.len()];
    let switches = (1 + random.below(3)).min(1 + random.below(3));
    for _ in 0..switches {
        let up = |t: usize| child[t] + 1 < bytes[t].len() && !touched[t];
        let Some(t) = random.pick((0..child.len()).filter(|&t| up(t))) else { break };
        total = total - bytes[t][child[t]] + bytes[t][child[t] + 1];
        child[t] += 1;
        touched[t] = true;
    }
    let raised = touched;
    let mut lowered = vec![false; child.len()];
    while total > budget {
        let t = random.pick((0..child.len()).filter(|&t| child[t] > 0 && !raised[t]))?;
        total = total - bytes[t][child[t]] + bytes[t][child[t] - 1];
        child[t] -= 1;
        lowered[t] = true;
    }
    loop {
        let fits = |t: usize| {
            child[t] + 1 < bytes[t].len()
                && !lowered[t]
                && total - bytes[t][child[t]] + bytes[t][child[t] + 1] <= budget
        };
        let Some(t) = random.pick((0..child.len()).filter(|&t| fits(t))) else { break };
        total = total - bytes[t][child[t]] + bytes[t][child[t] + 1];
        child[t] += 1;
    }
    (child != parent).then_some(child)
}

/// SplitMix64 (Steele, Lea & Flood 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is small: the bias of the remainder is below 2^-40.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick(&mut self, from: impl Iterator<Item = usize>) -> Option<usize> {
        let list: Vec<usize> = from.collect();
        if list.is_empty() { None } else { Some(list[self.below(list.len())]) }
    }

    /// `count` of `0..from`, ascending.
    fn subset(&mut self, from: usize, count: usize) -> Vec<usize> {
        let mut list: Vec<usize> = (0..from).collect();
        for i in 0..count.min(from) {
            list.swap(i, i + self.below(from - i));
        }
        list.truncate(count);
        list.sort_unstable();
        list
    }
}

#[cfg(test)]
mod tests {
    use super::super::dynamic::{Choice, least_loss, total};
    use super::*;
    use benben_format::ignore;
    use proptest::prelude::*;

    /// Losses that add up, and a term for neighbours that are both low: what a dynamic programme cannot see.
    struct Coupled {
        table: Vec<Vec<Choice>>,
        coupling: f64,
    }

    impl Fitness for Coupled {
        fn samples(&self) -> usize {
            4
        }

        fn loss(&mut self, choices: &[usize], samples: &[usize]) -> Result<f64> {
            let pair = |p: &[(usize, &Vec<Choice>)]| p[0].1[p[0].0].loss * p[1].1[p[1].0].loss;
            let all: Vec<_> = choices.iter().copied().zip(&self.table).collect();
            let coupled: f64 = all.windows(2).map(pair).sum();
            // Samples differ a little, as texts do.
            let tilt: f64 =
                samples.iter().map(|s| 1.0 + 0.01 * *s as f64).sum::<f64>() / samples.len() as f64;
            Ok(tilt * (total(&self.table, choices).loss + self.coupling * coupled))
        }
    }

    fn settings(seed: u64) -> Settings {
        Settings { generations: 60, offspring: 12, stages: vec![Stage { samples: 1, survivors: 3 }], seed }
    }

    fn tables() -> impl Strategy<Value = Vec<Vec<Choice>>> {
        let tensor = (1u64..40, 0.01f64..1.0).prop_map(|(size, weight)| {
            let level = |b: u64| Choice { bytes: size * b, loss: weight * (-2.0 * b as f64).exp2() };
            (1..5).map(level).collect::<Vec<_>>()
        });
        prop::collection::vec(tensor, 2..6)
    }

    fn every(table: &[Vec<Choice>]) -> Vec<Vec<usize>> {
        table.iter().fold(vec![vec![]], |plans, list| {
            let longer = |plan: Vec<usize>| (0..list.len()).map(move |c| [&plan[..], &[c]].concat());
            plans.into_iter().flat_map(longer).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn never_worse_than_its_starts_nor_over_the_budget(
            table in tables(), part in 0.4f64..1.0, coupling in 0.0f64..50.0, seed: u64,
        ) {
            let most: u64 = table.iter().map(|l| l[3].bytes).sum();
            let least: u64 = table.iter().map(|l| l[0].bytes).sum();
            let budget = ((most as f64 * part) as u64).max(least);
            let bytes: Vec<Vec<u64>> = table.iter().map(|l| l.iter().map(|c| c.bytes).collect()).collect();
            let programme = least_loss(&table, budget).unwrap();
            let starts = [vec![0; table.len()], programme];
            let mut fitness = Coupled { table: table.clone(), coupling };
            let found = search(&bytes, budget, &starts, &settings(seed), &mut fitness, &mut ignore).unwrap();
            prop_assert!(sum(&bytes, &found.choices) <= budget);
            prop_assert!(found.starts.iter().all(|s| found.loss <= *s));
            let again = search(&bytes, budget, &starts, &settings(seed), &mut fitness, &mut ignore).unwrap();
            prop_assert_eq!(&again, &found);
            // Beside every plan there is: the search sees a few hundred of at most 1024.
            let all = [0, 1, 2, 3];
            let best = every(&table).into_iter().filter(|p| sum(&bytes, p) <= budget);
            let best = best.map(|p| fitness.loss(&p, &all).unwrap()).fold(f64::INFINITY, f64::min);
            prop_assert!(found.loss <= best * 1.25, "{} beside {}", found.loss, best);
        }
    }

    #[test]
    fn finds_what_the_programme_cannot() {
        let level = |b: i32| Choice { bytes: 10 * b as u64, loss: (-2.0 * f64::from(b)).exp2() };
        let table: Vec<Vec<Choice>> = vec![(1..6).map(level).collect(); 12];
        let bytes: Vec<Vec<u64>> = table.iter().map(|l| l.iter().map(|c| c.bytes).collect()).collect();
        let start = least_loss(&table, 300).unwrap();
        let mut fitness = Coupled { table, coupling: 1000.0 };
        let found = search(&bytes, 300, &[start], &settings(1), &mut fitness, &mut ignore).unwrap();
        assert!(found.loss < 0.9 * found.starts[0], "{found:?}");
    }

    #[test]
    fn a_start_that_does_not_fit_is_refused() {
        let mut fitness = Coupled { table: vec![vec![Choice { bytes: 9, loss: 1.0 }]], coupling: 0.0 };
        let mut run = |start: Vec<usize>, budget| {
            search(&[vec![9]], budget, &[start], &settings(0), &mut fitness, &mut ignore)
        };
        assert!(run(vec![0], 8).is_err() && run(vec![1], 9).is_err() && run(vec![], 9).is_err());
        assert_eq!(run(vec![0], 9).unwrap().choices, [0]);
    }
}
