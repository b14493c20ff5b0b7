//! The choice of dimension, stages and codebook sizes.
//!
//! Candidates are ranked by what they cost a Gaussian tensor of this size, codebooks included; the best of each
//! dimension that is close enough is then trained briefly on a small sample, and the winner there is taken.

use super::layout::Layout;
use super::random::Random;
use super::settings::{MAX_STAGES, Settings};
use super::train::{self, Data, Goal, Quantizer, Trained};
use crate::Target;

/// Dimension and codebook sizes, those of the first stage first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) dim: u8,
    /// Sizes for the staged training; empty for a uniform grid (dimension 1).
    pub(super) sizes: Vec<usize>,
    /// What it should cost on a Gaussian source, in dB above the bound.
    prior: f64,
}

/// Bits that one entry of a codebook and one symbol of a table take, roughly.
const ENTRY_BITS: f64 = 7.5;
const SYMBOL_BITS: f64 = 6.0;
/// dB of one bit.
const DB: f64 = 6.0206;

impl Plan {
    /// All candidates for `rate` bits per element, best prior first.
    fn candidates(settings: &Settings<'_>, layout: impl Fn(u8) -> Option<Layout>, rate: f64) -> Vec<Self> {
        let mut all = Vec::new();
        for dim in [1, 2, 4, 8] {
            let dim = settings.dim.unwrap_or(dim);
            if layout(dim).is_none() || all.iter().any(|p: &Self| p.dim == dim) {
                continue;
            }
            let elements = layout(dim).map_or(1.0, |l| l.elements as f64).max(1.0);
            let groups = f64::from(settings.groups);
            let caps: &[u16] = if settings.codebook.is_some() { &[0] } else { &[256, 128, 64, 32, 16, 8] };
            let mut plans: Vec<Self> = Vec::new();
            for &cap in caps {
                let cap = settings.codebook.unwrap_or(cap);
                let sizes = Self::sizes(settings, dim, cap.into(), rate);
                let words: f64 = sizes.iter().map(|&s| s as f64).sum();
                let side = groups * words * (f64::from(dim) * ENTRY_BITS + SYMBOL_BITS) / elements;
                // Seen on Gaussian sources: 1.4 dB for one stage, half a dB for each further one; small first
                // stages cost more.
                let shape = 0.5 * (sizes.len() as f64 - 1.0) - 0.05 * f64::from(dim).log2();
                plans.push(Self { dim, prior: 1.4 + shape + DB * side, sizes });
            }
            if dim == 1 && settings.codebook.is_none() && settings.stages.is_none() {
                // Entries of a grid are coded as differences, of a few bits each.
                let side = groups * 6.0 * rate.exp2() * (4.0 + SYMBOL_BITS) / elements;
                plans.push(Self { dim, sizes: vec![], prior: 1.53 + DB * side });
            }
            plans.sort_by(|a, b| a.prior.total_cmp(&b.prior));
            plans.truncate(1);
            all.append(&mut plans);
        }
        all.sort_by(|a, b| a.prior.total_cmp(&b.prior));
        all
    }

    /// Codebooks of at most `cap` words that can carry `rate` bits per element and leave prices a little to do.
    fn sizes(settings: &Settings<'_>, dim: u8, cap: usize, rate: f64) -> Vec<usize> {
        // Small dimensions gain from codewords to spare: entropy coding makes them cheap.
        let spare = if dim <= 2 { 1.3 } else { 0.5 };
        let bits = rate * f64::from(dim) * 1.02 + spare;
        if let Some(stages) = settings.stages {
            let size = (bits / f64::from(stages)).exp2().ceil() as usize;
            return vec![settings.codebook.map_or(size.clamp(2, 256), usize::from); stages.into()];
        }
        let full = (cap as f64).log2();
        let mut sizes = vec![cap; ((bits / full) as usize).min(MAX_STAGES - 1)];
        let rest = (bits - sizes.len() as f64 * full).exp2().ceil() as usize;
        if rest > 1 || sizes.is_empty() {
            sizes.push(rest.clamp(2, cap));
        }
        sizes
    }

    /// Codebooks for `goal` on `data`, in `rounds` rounds.
    pub(super) fn train(&self, data: &[Data], goal: Goal, settings: &Settings<'_>, rounds: usize) -> Trained {
        let mut random = Random::new(settings.seed ^ 0x5eed);
        let expected = expected_distortion(data, goal);
        let first = |data: &Data| {
            if self.sizes.is_empty() {
                return Quantizer::grid(data, 0.95 * (12.0 * expected).sqrt());
            }
            let rate = rate_for(variance(std::slice::from_ref(data)), expected).max(0.2);
            Quantizer::staged(data, &self.sizes, rate, rounds / 2, &mut random)
        };
        let groups = data.iter().map(first).collect();
        train::jointly(data, groups, goal, rounds.div_ceil(2), settings.beam.into())
    }
}

/// Squared error of an element that a quantizer 1.5 dB above the bound leaves.
fn expected_distortion(data: &[Data], goal: Goal) -> f64 {
    match goal {
        Goal::Distortion(d) => d,
        Goal::Bits(rate) => (variance(data) * (-2.0 * rate).exp2() * 1.41).max(f64::MIN_POSITIVE),
    }
}

/// Bits that such a quantizer spends on an element.
pub(super) fn rate_for(variance: f64, distortion: f64) -> f64 {
    (0.5 * (variance / distortion).log2() + 0.25).max(0.05)
}

/// Geometric mean over the groups of their variances.
pub(super) fn variance(data: &[Data]) -> f64 {
    let log = |d: &Data| {
        let n = d.values.len().max(1) as f64;
        let mean = d.values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = d.values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        square.max(1e-30).log2()
    };
    (data.iter().map(log).sum::<f64>() / data.len().max(1) as f64).exp2()
}

/// Elements that candidates are compared on, and rounds of training.
const TRIAL: usize = 1 << 17;
const TRIAL_ROUNDS: usize = 10;
/// Candidates whose prior is this much worse than the best one's are not tried. Twice what correlated elements of
/// real matrices were seen to give back.
const MARGIN: f64 = 1.2;

/// The best plan for the target, by trial where several are close.
pub(super) fn choose(
    settings: &Settings<'_>,
    layout: impl Fn(u8) -> Option<Layout>,
    gather: impl Fn(&Layout) -> Vec<Data>,
    goal: Goal,
) -> Option<Plan> {
    let rate = match (goal, settings.target) {
        (Goal::Bits(bits), _) => bits,
        (Goal::Distortion(d), _) => rate_for(variance(&gather(&layout(1)?)), d),
    };
    let _ = Target::BitsPerWeight;
    let mut candidates = Plan::candidates(settings, &layout, rate);
    let most = candidates.first()?.prior + MARGIN;
    candidates.retain(|c| c.prior <= most);
    if candidates.len() == 1 {
        return candidates.pop();
    }
    let score = |plan: &Plan| {
        let Some(layout) = layout(plan.dim) else { return f64::INFINITY };
        let mut random = Random::new(settings.seed);
        let all = gather(&layout);
        let most = (TRIAL / all.len() / layout.dim).max(1);
        let data: Vec<Data> = all.iter().map(|d| d.sample(most, &mut random)).collect();
        let trained = plan.train(&data, goal, settings, TRIAL_ROUNDS);
        let words: usize = trained.groups.iter().flat_map(|g| &g.books).map(|b| b.len()).sum();
        let reached = &trained.reached;
        let side = words as f64 * (layout.dim as f64 * ENTRY_BITS + SYMBOL_BITS) / layout.elements as f64;
        // Codebooks fit the sample better than the rest: final prediction error (Akaike 1970), whose number of
        // parameters per observation is that of codewords per vector.
        let overfit = words as f64 * layout.dim as f64 / reached.elements;
        let sampled = reached.elements < layout.elements as f64;
        let factor = if sampled { (1.0 + overfit) / (1.0 - overfit).max(0.1) } else { 1.0 };
        10.0 * (reached.distortion / reached.elements * factor).log10()
            + DB * (reached.bits / reached.elements + side)
    };
    let scored = candidates.into_iter().map(|c| (score(&c), c));
    scored.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, plan)| plan)
}
