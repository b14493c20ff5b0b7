//! Candidates: dimensions, stages and codebook sizes that a target calls for.

use super::grid::grid;
use super::layout::Layout;
use super::random::Random;
use super::settings::{MAX_STAGES, Settings};
use super::train::{self, Data, Quantizer};
use benben_format::layout::{CHUNK_ENTRY, SEGMENT_ENTRY};

/// Dimension and codebook sizes, those of the first stage first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) dim: u8,
    /// Sizes for the staged training; empty for a uniform grid (dimension 1).
    sizes: Vec<usize>,
    /// Greatest size that groups may have which need other sizes; none where the caller has set them.
    cap: Option<usize>,
    /// What it should cost on a Gaussian source, codebooks included, in dB above the bound.
    pub(super) prior: f64,
}

/// Rounds of training of single stages.
const STAGE_ROUNDS: usize = 10;
/// dB of one bit.
pub(super) const DB: f64 = 6.0206;
/// dB above the bound that a quantizer is expected to leave.
pub(super) const LOSS: f64 = 1.5;
/// dB above the bound of an entropy-coded uniform quantizer.
const GRID: f64 = 1.53;

/// Bits of a codebook of `words` and of its table, roughly: 7.5 for each entry and 4 for each frequency, less what
/// sorting the words saves.
pub(super) fn book_bits(words: usize, dim: usize) -> f64 {
    let words = words as f64;
    words * (7.5 * dim as f64 + 4.0 - 0.8 * words.log2())
}

/// Bits for each element that should leave `distortion`.
pub(super) fn rate_for(variance: f64, distortion: f64) -> f64 {
    (0.5 * (variance / distortion).log2() + LOSS / DB).max(0.05)
}

impl Plan {
    /// The best plan of each dimension for `rate` bits per element, best prior first.
    pub(super) fn candidates(
        settings: &Settings<'_>,
        layout: impl Fn(u8) -> Option<Layout>,
        rate: f64,
    ) -> Vec<Self> {
        let dims = settings.dim.map_or(vec![1, 2, 4, 8], |d| vec![d]);
        let best = |dim: u8| {
            let plans = Self::of_dim(settings, &layout(dim)?, dim, rate);
            plans.into_iter().min_by(|a, b| a.prior.total_cmp(&b.prior))
        };
        let mut plans: Vec<Self> = dims.into_iter().filter_map(best).collect();
        plans.sort_by(|a, b| a.prior.total_cmp(&b.prior));
        plans
    }

    fn of_dim(settings: &Settings<'_>, layout: &Layout, dim: u8, rate: f64) -> Vec<Self> {
        let side = |sizes: &[usize]| {
            let bits: f64 = sizes.iter().map(|&s| book_bits(s, dim.into())).sum();
            DB * bits * layout.groups as f64 / layout.elements.max(1) as f64
        };
        if let Some(sizes) = settings.codebooks {
            return vec![Self {
                dim,
                sizes: sizes.iter().map(|&s| s.into()).collect(),
                cap: None,
                prior: 0.0,
            }];
        }
        if dim == 1 {
            let levels = (6.0 * rate.exp2()).min(256.0) as usize;
            return vec![Self { dim, sizes: vec![], cap: None, prior: GRID + side(&[levels]) }];
        }
        let plan = |cap: usize| {
            let sizes = Self::sizes(dim, cap, rate);
            // Seen on Gaussian sources. Halving all codebooks costs, unless one is enough.
            let halvings = if sizes.len() > 1 { 8.0 - (cap as f64).log2() } else { 0.0 };
            let prior = 1.5 + 0.4 * (rate - 2.0).max(-0.5) + 0.13 * halvings + side(&sizes);
            Self { dim, sizes, cap: Some(cap), prior }
        };
        [256, 128, 64, 32, 16, 8].map(plan).into()
    }

    /// Codebooks of at most `cap` words that can carry `rate` bits per element and leave prices a little to do.
    fn sizes(dim: u8, cap: usize, rate: f64) -> Vec<usize> {
        // Codewords to spare are made cheap by entropy coding; without them lambda would have to fall below the
        // slope to reach the rate.
        let spare = if dim <= 2 { 2.0 } else { 1.8 };
        let bits = rate * f64::from(dim) * 1.02 + spare;
        let full = (cap as f64).log2();
        let mut sizes = vec![cap; ((bits / full) as usize).min(MAX_STAGES - 1)];
        let rest = (bits - sizes.len() as f64 * full).exp2().ceil() as usize;
        if rest > 1 || sizes.is_empty() {
            sizes.push(rest.clamp(2, cap));
        }
        sizes
    }

    /// Codebook sizes of each group: all leave the same distortion, so those of greater variance spend more. Stages
    /// that a group does not need have one word.
    fn sizes_of(&self, groups: &[Data], distortion: f64) -> Vec<Vec<usize>> {
        let Some(cap) = self.cap.filter(|_| groups.len() > 1) else {
            return vec![self.sizes.clone(); groups.len()];
        };
        let sizes = |data: &Data| Self::sizes(self.dim, cap, rate_for(data.variance(), distortion));
        let mut sizes: Vec<Vec<usize>> = groups.iter().map(sizes).collect();
        let stages = sizes.iter().map(Vec::len).max().unwrap_or(1);
        sizes.iter_mut().for_each(|s| s.resize(stages, 1));
        sizes
    }

    /// Bits of codebooks, tables and what the file keeps of a leaf, roughly.
    pub(super) fn side_bits(&self, layout: &Layout) -> f64 {
        let fixed = SEGMENT_ENTRY + (1 + layout.groups * self.sizes.len().max(1)) * (CHUNK_ENTRY + 8);
        let books: f64 = self.sizes.iter().map(|&s| book_bits(s, self.dim.into())).sum();
        8.0 * fixed as f64 + layout.groups as f64 * books
    }

    /// Whether the codebook is a uniform grid.
    pub(super) fn is_grid(&self) -> bool {
        self.sizes.is_empty()
    }

    /// First codebooks of all groups from a sample of each, which leave about `distortion` for each element.
    pub(super) fn start(
        &self,
        all: &[Data],
        sample: &[Data],
        distortion: f64,
        random: &mut Random,
    ) -> Vec<Quantizer> {
        let mut groups: Vec<Quantizer> = if self.is_grid() {
            // Outliers need levels, and a sample does not hold them.
            grid(all, 0.98 * (12.0 * distortion).sqrt())
        } else {
            let sizes = self.sizes_of(sample, distortion);
            let mut staged = |(data, sizes): (&Data, &Vec<usize>)| {
                Quantizer::staged(data, sizes, distortion, STAGE_ROUNDS, random)
            };
            sample.iter().zip(&sizes).map(&mut staged).collect()
        };
        for (quantizer, sample) in groups.iter_mut().zip(sample) {
            // The prices so far are for single stages or a grid: begin with those of now.
            let coded = quantizer.search(sample, 0.0, 1);
            quantizer.bits = quantizer.counts(&coded).iter().map(|c| train::information(c)).collect();
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_the_rate() {
        for dim in [2, 4, 8] {
            for rate in [1.5, 2.0, 3.0, 5.5, 8.0] {
                for cap in [8, 64, 256] {
                    let sizes = Plan::sizes(dim, cap, rate);
                    let bits: f64 = sizes.iter().map(|&s| (s as f64).log2()).sum();
                    let enough = bits >= rate * f64::from(dim) || sizes.len() == MAX_STAGES;
                    assert!(enough && sizes.iter().all(|s| (2..=cap).contains(s)), "{dim} {rate} {sizes:?}");
                }
            }
        }
    }
}
