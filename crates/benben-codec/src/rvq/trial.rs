//! The choice between candidates, by training each briefly on a sample.

use super::layout::Layout;
use super::plan::{DB, LOSS, Plan, rate_for};
use super::random::Random;
use super::settings::Settings;
use super::train::{self, Data, Goal, HIGH_RATE_SLOPE, Reached, Trained};
use std::f64::consts::LOG2_10;

/// Elements that candidates are compared on, and rounds of training of all stages together.
const ELEMENTS: usize = 1 << 17;
const JOINT_ROUNDS: usize = 6;
/// Corrections of the step of a grid.
const GRID_STEPS: usize = 3;
/// Candidates whose prior is this much worse than the best one's are not tried. Twice what the correlations of
/// real matrices were seen to give back.
const MARGIN: f64 = 2.0;
/// dB that a trial may be wrong by between mapped and plain codebooks: both code the tensor where they are nearer.
const NEAR: f64 = 0.5;
/// Where the codebooks of the whole tensor will lie between what those of the sample reach on it and elsewhere.
const SEEN_LESS: f64 = 0.9;
/// The winner of the trial, and codebooks to go on with.
pub(super) struct Chosen {
    pub(super) plan: Plan,
    pub(super) layout: Layout,
    pub(super) trained: Trained,
    /// Squared error of an element at the goal, as the trial predicts it.
    pub(super) expected: f64,
    /// dB above the bound, codebooks included, as far as a trial can tell.
    score: f64,
}

/// The best plan for the goal; where mapped and plain codebooks come near each other, the best of either form.
pub(super) fn choose(
    settings: &Settings<'_>,
    layout: impl Fn(u8) -> Option<Layout>,
    gather: impl Fn(&Layout) -> Vec<Data>,
    goal: Goal,
) -> Vec<Chosen> {
    let rate = match goal {
        Goal::Bits(bits) => bits,
        Goal::Distortion(d) => {
            let any = settings.dim.unwrap_or(1);
            let Some(layout) = layout(any) else { return Vec::new() };
            rate_for(variance(&gather(&layout)), d)
        }
    };
    let candidates = Plan::candidates(settings, &layout, rate);
    let most = candidates.first().map_or(0.0, |c| c.prior) + MARGIN;
    let close = candidates.into_iter().filter(|c| c.prior <= most);
    let tried = close.filter_map(|plan| {
        let layout = layout(plan.dim)?;
        Some(attempt(plan, layout, &gather(&layout), settings, goal))
    });
    let mut tried: Vec<Chosen> = tried.collect();
    tried.sort_by(|a, b| a.score.total_cmp(&b.score));
    let other = |first: &Chosen| tried.iter().position(|c| c.plan.is_mapped() != first.plan.is_mapped());
    let other = tried.first().and_then(other).map(|i| tried.swap_remove(i));
    tried.truncate(1);
    let near = other.filter(|o| tried[0].score + NEAR > o.score);
    tried.extend(near);
    tried
}

fn attempt(plan: Plan, layout: Layout, data: &[Data], settings: &Settings<'_>, goal: Goal) -> Chosen {
    let mut random = Random::new(settings.seed);
    let sample = sample(data, ELEMENTS, &mut random);
    let elements = layout.elements.max(1) as f64;
    let goal = match goal {
        Goal::Bits(bits) => Goal::Bits((bits - plan.side_bits(&layout) / elements).max(0.5 * bits)),
        other => other,
    };
    let expected = match goal {
        Goal::Distortion(d) => d,
        Goal::Bits(rate) => variance(&sample) * ((LOSS - DB * rate) / 10.0 * LOG2_10).exp2(),
    };
    let mut expected = expected.max(f64::MIN_POSITIVE);
    let mut train = |expected: f64, rounds: usize| {
        let groups = plan.start(data, &sample, expected, &mut random);
        let lambda = HIGH_RATE_SLOPE * expected;
        train::jointly(|| &sample[..], groups, goal, lambda, rounds, settings.beam.into())
    };
    // The rate of a grid is set by its step, which lambda cannot make up for.
    let steps = if plan.is_grid() { GRID_STEPS } else { 0 };
    for _ in 0..steps {
        expected *= goal.correction(&train(expected, 1).reached).exp2();
    }
    let trained = train(expected, JOINT_ROUNDS);

    let books = trained.groups.iter().flat_map(|g| &g.books);
    let side = DB * books.map(|b| plan.book_bits(b.len())).sum::<f64>() / elements;
    let mut score = decibels(&trained.reached);
    let mut reached = trained.reached;
    if trained.reached.elements < elements {
        // Codebooks fit the sample too well, and other vectors a little worse than codebooks from more would.
        let others = trial_of(data, &trained, settings, &mut Random::new(!settings.seed));
        reached = others;
        score += SEEN_LESS * (decibels(&others) - score);
    }
    Chosen { plan, layout, trained, expected: goal.distortion_from(&reached), score: score + side }
}

/// Rate and distortion as one figure: dB above the bound of a Gaussian source of variance 1.
fn decibels(reached: &Reached) -> f64 {
    let elements = reached.elements.max(1.0);
    10.0 * (reached.distortion / elements).max(f64::MIN_POSITIVE).log10() + DB * reached.bits / elements
}

/// What codebooks reach on a sample that they have not seen.
fn trial_of(data: &[Data], trained: &Trained, settings: &Settings<'_>, random: &mut Random) -> Reached {
    let mut all = Reached::default();
    for (data, quantizer) in sample(data, ELEMENTS, random).iter().zip(&trained.groups) {
        let coded = quantizer.search(data, trained.lambda, settings.beam.into());
        let counts = quantizer.counts(&coded);
        let prices = quantizer.bits.iter().flatten().zip(counts.iter().flatten());
        all.bits += prices.map(|(&bits, &n)| f64::from(bits) * n as f64).sum::<f64>();
        all.distortion += train::measure(data, &coded, &counts).distortion;
        all.elements += data.values.len() as f64;
    }
    all
}

/// At most `elements` elements of all groups together.
pub(super) fn sample(data: &[Data], elements: usize, random: &mut Random) -> Vec<Data> {
    data.iter().map(|d| d.sample((elements / data.len() / d.dim).max(1), random)).collect()
}

/// Geometric mean over the groups of their variances.
fn variance(data: &[Data]) -> f64 {
    let logs = data.iter().map(|d| d.variance().log2());
    (logs.sum::<f64>() / data.len().max(1) as f64).exp2()
}
