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
    /// Whether codebooks are maps of noise.
    mapped: bool,
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
/// dB that mapped noise is expected to lose to trained codewords: 0.15 to 0.65 on 2^16 independent elements, nothing on
/// dependent ones. Where plain codebooks take less than that, trying noise would double the time for little.
const MAPPED: f64 = 0.5;

/// Bits of a codebook of `words` and of its table, roughly: 7.5 for each entry and 4 for each frequency, less what
/// sorting the words saves. Of a mapped one: 9 for each entry of the map.
fn book_bits(words: usize, dim: usize, mapped: bool) -> f64 {
    let (size, dim) = (words as f64, dim as f64);
    if mapped { 9.0 * dim * dim + 16.0 + 4.0 * size } else { size * (7.5 * dim + 4.0 - 0.8 * size.log2()) }
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
        let best = |dim: u8, mapped: bool| {
            let plans = Self::of_dim(settings, &layout(dim)?, dim, mapped, rate);
            plans.into_iter().min_by(|a, b| a.prior.total_cmp(&b.prior))
        };
        let mut plans: Vec<Self> = Vec::new();
        for dim in dims {
            // One number has no direction to map.
            let mapped = best(dim, true).filter(|_| dim > 1 && settings.mapped != Some(false));
            let plain = best(dim, false).filter(|_| settings.mapped != Some(true));
            // Large tensors cannot win back what noise for codewords costs: it is not tried.
            let worth =
                |m: &Self| settings.mapped == Some(true) || plain.as_ref().is_none_or(|p| m.prior < p.prior);
            let mapped = mapped.filter(worth);
            plans.extend(plain.into_iter().chain(mapped));
        }
        plans.sort_by(|a, b| a.prior.total_cmp(&b.prior));
        plans
    }

    fn of_dim(settings: &Settings<'_>, layout: &Layout, dim: u8, mapped: bool, rate: f64) -> Vec<Self> {
        let side = |sizes: &[usize]| {
            let bits: f64 = sizes.iter().map(|&s| book_bits(s, dim.into(), mapped)).sum();
            DB * bits * layout.groups as f64 / layout.elements.max(1) as f64
        };
        let loss = if mapped { MAPPED } else { 0.0 };
        if let Some(sizes) = settings.codebooks {
            let sizes: Vec<usize> = sizes.iter().map(|&s| s.into()).collect();
            let prior = loss + side(&sizes);
            return vec![Self { dim, sizes, cap: None, mapped, prior }];
        }
        if dim == 1 {
            let levels = (6.0 * rate.exp2()).min(256.0) as usize;
            let prior = GRID + side(&[levels]);
            return vec![Self { dim, sizes: vec![], cap: None, mapped: false, prior }];
        }
        let plan = |cap: usize| {
            let sizes = Self::sizes(dim, cap, rate);
            // Seen on Gaussian sources. Halving all codebooks costs, unless one is enough.
            let halvings = if sizes.len() > 1 { 8.0 - (cap as f64).log2() } else { 0.0 };
            let prior = 1.5 + loss + 0.4 * (rate - 2.0).max(-0.5) + 0.13 * halvings + side(&sizes);
            Self { dim, sizes, cap: Some(cap), mapped, prior }
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
        let books: f64 = self.sizes.iter().map(|&s| self.book_bits(s)).sum();
        8.0 * fixed as f64 + layout.groups as f64 * books
    }

    /// Bits of a codebook of `words` and of its table, roughly.
    pub(super) fn book_bits(&self, words: usize) -> f64 {
        book_bits(words, self.dim.into(), self.mapped)
    }

    /// Whether codebooks are maps of noise.
    pub(super) fn is_mapped(&self) -> bool {
        self.mapped
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
                Quantizer::staged(data, (sizes, self.mapped), distortion, STAGE_ROUNDS, random)
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
