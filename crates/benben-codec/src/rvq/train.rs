//! Training: stage by stage on residuals, then all stages together.
//!
//! Sources: residual VQ (Juang and Gray 1982); entropy-constrained VQ (Chou, Lookabaugh and Gray 1989): every choice
//! minimizes squared error + lambda x bits, so that lambda is a continuous dial of the rate at any codebook size;
//! joint codebook design by alternating search and least squares (additive quantization, Babenko and Lempitsky
//! 2014). The joint part is worth 1.2 dB at 2 bits and 3.5 dB at 4 bits over plain residual VQ of dimension 8.

use super::codebook::Codebook;
use super::kmeans;
use super::mapped::Map;
use super::random::Random;
use super::search::{Vectors, search};
use std::f64::consts::LN_2;

/// Vectors of one group, with their weights.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) dim: usize,
    pub(super) values: Vec<f32>,
    pub(super) weights: Vec<f32>,
}

impl Data {
    pub(super) fn vectors(&self) -> Vectors<'_> {
        Vectors { dim: self.dim, values: &self.values, weights: &self.weights }
    }

    /// Variance of the elements, above 0.
    pub(super) fn variance(&self) -> f64 {
        let n = self.values.len().max(1) as f64;
        let mean = self.values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let square = self.values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        square.max(1e-30)
    }

    /// At most `most` vectors, one at random out of each of as many equal parts.
    pub(super) fn sample(&self, most: usize, random: &mut Random) -> Self {
        let (dim, n) = (self.dim, self.values.len() / self.dim);
        if n <= most {
            return self.clone();
        }
        let mut sample = Self { dim, values: Vec::new(), weights: Vec::new() };
        for i in 0..most {
            let (from, to) = (i * n / most, (i + 1) * n / most);
            let at = (from + random.below(to - from)) * dim;
            sample.values.extend_from_slice(&self.values[at..][..dim]);
            sample.weights.extend_from_slice(self.vectors().weights_from(at, dim));
        }
        sample
    }
}

/// What the codebooks shall reach on the data at hand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// Bits of symbols for each element.
    Bits(f64),
    /// Unweighted squared error for each element.
    Distortion(f64),
}

/// What they do reach, in all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reached {
    pub(super) elements: f64,
    pub(super) bits: f64,
    pub(super) distortion: f64,
}

impl Goal {
    /// The goal with `bits` more for each element.
    pub(super) fn with_spare(self, bits: f64) -> Self {
        match self {
            Self::Bits(b) => Self::Bits(b + bits),
            Self::Distortion(d) => Self::Distortion(d * (-2.0 * bits).exp2()),
        }
    }

    /// Squared error of an element to expect at the goal, from what was reached near it.
    pub(super) fn distortion_from(&self, reached: &Reached) -> f64 {
        match *self {
            Self::Bits(_) => {
                let distortion = reached.distortion / reached.elements.max(1.0);
                (distortion * self.correction(reached).exp2()).max(f64::MIN_POSITIVE)
            }
            Self::Distortion(d) => d.max(f64::MIN_POSITIVE),
        }
    }

    /// Octaves by which to change lambda: at high rate D = lambda / (2 ln 2) and 6.02 dB cost one bit.
    pub(super) fn correction(&self, reached: &Reached) -> f64 {
        let octaves = match *self {
            Self::Bits(bits) => 2.0 * (reached.bits / reached.elements - bits),
            Self::Distortion(d) => (d * reached.elements / reached.distortion.max(f64::MIN_POSITIVE)).log2(),
        };
        octaves.clamp(-2.0, 2.0)
    }
}

/// Codebooks of one group, and the bits of each symbol.
#[derive(Debug, Clone, Default)]
pub(super) struct Quantizer {
    pub(super) books: Vec<Codebook>,
    pub(super) bits: Vec<Vec<f32>>,
    /// One for each codebook where all are mapped noise, none elsewhere.
    pub(super) maps: Vec<Map>,
}

/// Symbols (stage after stage for each vector) and what they leave.
pub(super) struct Coded {
    pub(super) codes: Vec<u8>,
    pub(super) residuals: Vec<f32>,
}

/// Share of its greatest rate that a stage before the last is planned to spend.
const FILL: f64 = 0.85;
/// Rounds of Gauss-Seidel after each search; they cost little beside it.
const SWEEPS: usize = 2;

impl Quantizer {
    /// Symbols of all vectors at `lambda`.
    pub(super) fn search(&self, data: &Data, lambda: f64, beam: usize) -> Coded {
        let price = |bits: &Vec<f32>| bits.iter().map(|b| (f64::from(*b) * lambda) as f32).collect();
        let prices: Vec<Vec<f32>> = self.bits.iter().map(price).collect();
        let (codes, residuals) = search(&data.vectors(), &self.books, &prices, beam);
        Coded { codes, residuals }
    }

    /// How often each symbol of each stage is used.
    pub(super) fn counts(&self, coded: &Coded) -> Vec<Vec<u64>> {
        let stages = self.books.len();
        let sizes = self.books.iter().map(Codebook::len).enumerate();
        sizes.map(|(s, size)| kmeans::count(&coded.codes, stages, s, size)).collect()
    }

    /// Moves all codewords to where the error of these symbols is least, as far as a few sweeps go.
    pub(super) fn refit(&mut self, data: &Data, coded: &mut Coded) {
        let stages = self.books.len();
        for _ in 0..SWEEPS {
            for (s, book) in self.books.iter_mut().enumerate() {
                let book = (book, self.maps.get_mut(s));
                kmeans::recentre(&data.vectors(), &coded.codes, stages, s, book, &mut coded.residuals);
            }
        }
    }

    /// Stage by stage: codebooks of `sizes` that together leave about `distortion` for each element. The first stages
    /// are filled, the last one has the rest. `mapped` ones are maps of noise.
    pub(super) fn staged(
        data: &Data,
        (sizes, mapped): (&[usize], bool),
        distortion: f64,
        rounds: usize,
        random: &mut Random,
    ) -> Self {
        let mut quantizer = Self::default();
        let power = kmeans::distortion(&data.values, &data.weights) / (data.values.len().max(1) as f64);
        let mut left = power;
        let mut rest = data.clone();
        for (stage, &size) in sizes.iter().enumerate() {
            let filled = FILL * (size as f64).log2() / data.dim as f64;
            left = (left * (-2.0 * filled).exp2()).max(distortion);
            let planned = if stage + 1 == sizes.len() { distortion } else { left };
            // Prices of the planned slope from the first stage on: cells of equal size are what the next stage can
            // refine best, and worth 0.15 dB against unpriced k-means.
            let lambda = HIGH_RATE_SLOPE * planned;
            let (mut stage, residuals) = if mapped {
                Self::mapped(&rest, size, lambda, rounds, (SEEDS * stage) as u64)
            } else {
                Self::single(&rest, size, lambda, rounds, random)
            };
            rest.values = residuals;
            quantizer.books.append(&mut stage.books);
            quantizer.bits.append(&mut stage.bits);
            quantizer.maps.append(&mut stage.maps);
        }
        quantizer
    }

    /// One stage: k-means (two rounds), then with prices, and what it leaves.
    fn single(data: &Data, size: usize, lambda: f64, rounds: usize, random: &mut Random) -> (Self, Vec<f32>) {
        let vectors = data.vectors();
        let mut one = Self {
            books: vec![kmeans::seed(&vectors, size, random)],
            bits: vec![vec![(size as f32).log2(); size]],
            maps: Vec::new(),
        };
        for round in 0..rounds.max(1) {
            let mut coded = one.search(data, if round < KMEANS_ROUNDS { 0.0 } else { lambda }, 1);
            let counts = one.counts(&coded);
            one.refit(data, &mut coded);
            one.bits[0] = information(&counts[0]);
            if round < KMEANS_ROUNDS {
                kmeans::reseed(&vectors, &counts[0], &mut one.books[0], &coded.residuals);
            }
        }
        let residuals = one.search(data, lambda, 1).residuals;
        (one, residuals)
    }

    /// One stage of mapped noise: the best of a few seeds from `seed` on, and what it leaves.
    fn mapped(data: &Data, size: usize, lambda: f64, rounds: usize, seed: u64) -> (Self, Vec<f32>) {
        let train = |data: &Data, seed: u64| {
            let map = Map::new(seed, size, data.dim, &data.values);
            let mut one = Self {
                books: vec![Codebook { dim: data.dim, words: map.words() }],
                bits: vec![vec![(size as f32).log2(); size]],
                maps: vec![map],
            };
            for _ in 0..rounds.max(1) {
                let mut coded = one.search(data, lambda, 1);
                let counts = one.counts(&coded);
                one.refit(data, &mut coded);
                one.bits[0] = information(&counts[0]);
            }
            let coded = one.search(data, lambda, 1);
            let bits: f64 = one.counts(&coded).iter().map(|c| entropy(c)).sum();
            (kmeans::distortion(&coded.residuals, &data.weights) + lambda * bits, one, coded.residuals)
        };
        // Seeds are told apart by a few vectors for each codeword.
        let few = data.sample(SEEN * size, &mut Random::new(seed));
        let costs = (seed..seed + SEEDS as u64).map(|seed| (seed, train(&few, seed).0));
        let seed = costs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(seed, |best| best.0);
        let (_, one, residuals) = train(data, seed);
        (one, residuals)
    }
}

/// Seeds that a mapped stage tries, and vectors for each codeword that it tries them on.
const SEEDS: usize = 4;
const SEEN: usize = 16;

/// Rounds of a stage before prices count.
const KMEANS_ROUNDS: usize = 2;

/// -dD/dR in units of D, for bits and squared errors of one element: D = c 2^(-2R).
pub(super) const HIGH_RATE_SLOPE: f64 = 2.0 * LN_2;

/// -dD/dR of a vector at high rate, from the (weighted) error that is left.
pub(super) fn slope(data: &Data, coded: &Coded) -> f64 {
    HIGH_RATE_SLOPE * kmeans::distortion(&coded.residuals, &data.weights)
        / (coded.residuals.len().max(1) as f64)
}

/// Bits of each symbol by how often it was used; half a use for those that were not: they may come back.
pub(super) fn information(counts: &[u64]) -> Vec<f32> {
    let all = counts.iter().sum::<u64>() as f64 + 0.5 * counts.len() as f64;
    counts.iter().map(|&c| (all / (c as f64 + 0.5)).log2() as f32).collect()
}

/// Bits that symbols with these counts need by an ideal coder.
pub(super) fn entropy(counts: &[u64]) -> f64 {
    let all = counts.iter().sum::<u64>() as f64;
    counts.iter().filter(|&&c| c > 0).map(|&c| c as f64 * (all / c as f64).log2()).sum()
}

/// What one group reaches.
pub(super) fn measure(data: &Data, coded: &Coded, counts: &[Vec<u64>]) -> Reached {
    Reached {
        elements: data.values.len() as f64,
        bits: counts.iter().map(|c| entropy(c)).sum(),
        distortion: kmeans::distortion(&coded.residuals, &[]),
    }
}

/// Quantizers of all groups and the lambda that they share: equal slopes are the best split of bits.
#[derive(Debug, Clone)]
pub(super) struct Trained {
    pub(super) groups: Vec<Quantizer>,
    pub(super) lambda: f64,
    pub(super) reached: Reached,
}

/// Share of a miss that one round corrects, and rounds that the rate is thought to go on as it goes: codewords follow
/// prices slowly, and those that die do not come back.
const GAIN: f64 = 0.25;
const AHEAD: f64 = 4.0;

/// All stages together: search, refit, prices, and `lambda` steered to the goal, `rounds` times, each on the vectors that
/// `draw` gives: the same, or a batch of many.
pub(super) fn jointly<D: AsRef<[Data]>>(
    mut draw: impl FnMut() -> D,
    mut groups: Vec<Quantizer>,
    goal: Goal,
    mut lambda: f64,
    rounds: usize,
    beam: usize,
) -> Trained {
    let mut reached = Reached::default();
    let mut before: Option<Reached> = None;
    for _ in 0..rounds.max(1) {
        reached = Reached::default();
        let data = draw();
        for (data, quantizer) in data.as_ref().iter().zip(&mut groups) {
            let mut coded = quantizer.search(data, lambda, beam);
            let counts = quantizer.counts(&coded);
            quantizer.refit(data, &mut coded);
            quantizer.bits = counts.iter().map(|c| information(c)).collect();
            let group = measure(data, &coded, &counts);
            reached.elements += group.elements;
            reached.bits += group.bits;
            reached.distortion += group.distortion;
        }
        if let Some(before) = before {
            let ahead = |now: f64, before: f64| (now + AHEAD * (now - before)).max(0.5 * now);
            let then = Reached {
                bits: ahead(reached.bits, before.bits),
                distortion: ahead(reached.distortion, before.distortion),
                ..reached
            };
            lambda *= (GAIN * goal.correction(&then)).exp2();
        }
        before = Some(reached);
    }
    Trained { groups, lambda, reached }
}
