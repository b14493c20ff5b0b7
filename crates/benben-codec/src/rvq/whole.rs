//! Passes over the whole tensor: refit on all vectors, store the codebooks, meet the target.

use super::layout::Layout;
use super::mapped;
use super::random::Random;
use super::settings::Settings;
use super::stored::{self, Stage};
use super::train::{self, Data, Goal, Quantizer, Reached};
use super::trial::{self, Chosen};
use crate::Target;
use crate::entropy;
use benben_format::layout::{CHUNK_ENTRY, SEGMENT_ENTRY};
use benben_format::{Chunk, Error, Result, StreamSpec};

/// Most searches over the whole tensor; two or three are usual.
const PASSES: usize = 8;
/// Relative miss that ends them.
const CLOSE: f64 = 0.005;
/// Most octaves of lambda for each octave that the goal is missed by.
const MOST_GAIN: f64 = 16.0;

/// One tensor and what it is to become.
pub(super) struct Whole<'a> {
    pub(super) settings: &'a Settings<'a>,
    pub(super) layout: Layout,
    pub(super) data: &'a [Data],
    /// Mean square of the values.
    pub(super) power: f64,
    /// Bits for each element that codebooks are trained to spend above the goal.
    pub(super) spare: f64,
}

/// Codebooks as stored and their symbols, all stages of group 0 first.
pub(super) struct Draft {
    pub(super) stages: Vec<Stage>,
    pub(super) streams: Vec<(StreamSpec, Vec<Chunk<'static>>)>,
    /// Price of a bit that symbols were chosen at.
    pub(super) lambda: f64,
    reached: Reached,
    /// Bits beside those of the symbols.
    side_bits: f64,
}

impl Whole<'_> {
    /// Trains on a sample, then codes everything.
    pub(super) fn code(&self, chosen: Chosen) -> Result<Draft> {
        let Chosen { plan, trained, expected, .. } = chosen;
        let mut random = Random::new(self.settings.seed);
        let sample = trial::sample(self.data, self.settings.sample, &mut random);
        let goal = self.goal(plan.side_bits(&self.layout)).with_spare(self.spare);
        let (rounds, beam) = (self.settings.iterations.into(), self.settings.beam.into());
        let sampled: f64 = sample.iter().map(|d| d.values.len() as f64).sum();
        // Codebooks of a trial are a good start, unless they have seen much less than there is: 0.2 dB at dim 8.
        let (groups, lambda) = if sampled >= 2.0 * trained.reached.elements && !plan.is_grid() {
            (plan.start(self.data, &sample, expected, &mut random), train::HIGH_RATE_SLOPE * expected)
        } else {
            (trained.groups, trained.lambda)
        };
        // Every round has a batch of its own, as minibatch k-means has: together they see `rounds` times as much, for the
        // time of one sample. The exact pass over everything is that of `store`.
        let draw = || trial::sample(self.data, self.settings.sample, &mut random);
        let trained = train::jointly(draw, groups, goal, lambda, rounds, beam);
        let mut lambda = trained.lambda;
        let mut stages = Vec::new();
        for (data, mut quantizer) in self.data.iter().zip(trained.groups) {
            stages.extend(self.store(data, &mut quantizer, lambda));
        }
        let mut best: Option<(f64, Draft)> = None;
        let (mut gain, mut before) = (1.0f64, None::<f64>);
        for _ in 0..PASSES {
            let (draft, counts) = self.draft(stages, lambda)?;
            let correction = self.goal(draft.side_bits).correction(&draft.reached);
            // Uniform levels answer to lambda less than the high-rate law says: go farther where a step did little.
            gain = match before {
                Some(before) if correction * before > 0.25 * before * before => (2.0 * gain).min(MOST_GAIN),
                Some(before) if correction * before < 0.0 => (0.5 * gain).max(0.5),
                _ => gain,
            };
            before = Some(correction);
            lambda *= (gain * correction).clamp(-2.0, 2.0).exp2();
            let miss = self.miss(&draft);
            // The prices of the next pass are those of the tables of this one.
            stages = draft.stages.clone();
            for (stage, counts) in stages.iter_mut().zip(&counts) {
                stage.retain(counts);
            }
            if best.as_ref().is_none_or(|b| miss < b.0) {
                best = Some((miss, draft));
            }
            if miss < CLOSE {
                break;
            }
        }
        best.map(|b| b.1).ok_or_else(|| Error::invalid("rvq: no pass over the tensor"))
    }

    /// What symbols have to reach where everything else takes `side_bits`.
    fn goal(&self, side_bits: f64) -> Goal {
        match self.settings.target {
            // At least half of the bits, lest a small tensor pays for its tables and says nothing.
            Target::BitsPerWeight(bits) => {
                Goal::Bits((bits - side_bits / self.layout.elements.max(1) as f64).max(0.5 * bits))
            }
            // A little below what is asked for, since only that counts as reached.
            Target::RelativeMse(y) => Goal::Distortion(0.996 * y * self.power),
        }
    }

    /// How far a draft is off: relative, and above 1 where an error is larger than asked for.
    fn miss(&self, draft: &Draft) -> f64 {
        let elements = self.layout.elements.max(1) as f64;
        match self.settings.target {
            Target::BitsPerWeight(bits) => {
                ((draft.reached.bits + draft.side_bits) / elements / bits - 1.0).abs()
            }
            Target::RelativeMse(y) => {
                let ratio = draft.reached.distortion / elements / (y * self.power).max(f64::MIN_POSITIVE);
                if ratio > 1.0 { ratio } else { (1.0 - ratio - CLOSE).max(0.0) }
            }
        }
    }

    /// Codebooks of one group, fitted once more to all of its vectors, as they will be stored.
    fn store(&self, data: &Data, quantizer: &mut Quantizer, lambda: f64) -> Vec<Stage> {
        let mut coded = quantizer.search(data, lambda, self.settings.beam.into());
        let counts = quantizer.counts(&coded);
        quantizer.refit(data, &mut coded);
        let elements = data.values.len().max(1) as f64;
        let distortion = (train::slope(data, &coded) / train::HIGH_RATE_SLOPE).max(f64::MIN_POSITIVE);
        let stage = |(index, counts): (usize, &Vec<u64>)| {
            let (book, map) = (&quantizer.books[index], quantizer.maps.get(index));
            // The noise of the entries adds f D, f = (step^2 / 12) / D, and a doubled step saves as many bits as
            // there are entries: the sum of both is least where f is the number of entries per element. A coordinate
            // of a mapped codeword has the noise of `dim` entries, each times a coordinate of the basis.
            let entries = map.map_or(book.words.len(), |m| m.matrix.len());
            let fraction = (entries as f64 / elements).clamp(1e-5, 0.05);
            let gain = map.map_or(1.0, |m| mapped::SPREAD * mapped::SPREAD * m.dim as f64);
            let greatest = match map {
                Some(map) => map.matrix.iter().fold(0.0f64, |g, m| g.max(m.abs())),
                None => f64::from(book.words.iter().fold(0.0f32, |g, w| g.max(w.abs()))),
            };
            let step = (12.0 * fraction * distortion / gain).sqrt().max(greatest / stored::MAX_ENTRY as f64);
            let step = (step as f32).max(f32::MIN_POSITIVE);
            match map {
                Some(map) => Stage::mapped(map, counts, step),
                None => Stage::quantize(book, counts, step),
            }
        };
        counts.iter().enumerate().map(stage).collect()
    }

    /// Symbols for these codebooks at this lambda, tables made for them, and their counts.
    pub(super) fn draft(&self, mut stages: Vec<Stage>, lambda: f64) -> Result<(Draft, Vec<Vec<u64>>)> {
        let per_group = (stages.len() / self.data.len()).max(1);
        let (mut streams, mut all_counts) = (Vec::new(), Vec::new());
        let mut reached = Reached { elements: self.layout.elements.max(1) as f64, ..Reached::default() };
        for (data, stages) in self.data.iter().zip(stages.chunks_mut(per_group)) {
            let quantizer = Quantizer {
                books: stages.iter().map(Stage::book).collect(),
                bits: stages.iter().map(Stage::prices).collect(),
                maps: Vec::new(),
            };
            let coded = quantizer.search(data, lambda, self.settings.beam.into());
            let counts = quantizer.counts(&coded);
            reached.distortion += train::measure(data, &coded, &counts).distortion;
            for (index, (stage, counts)) in stages.iter_mut().zip(&counts).enumerate() {
                stage.choose_table(counts, self.settings.chunk_items);
                let symbols: Vec<u8> = coded.codes.iter().skip(index).step_by(per_group).copied().collect();
                streams.push(entropy::encode_symbols(&symbols, &stage.model(), self.settings.chunk_items)?);
            }
            all_counts.extend(counts);
        }
        let chunks = streams.iter().flat_map(|s| &s.1);
        reached.bits = 8.0 * chunks.clone().map(|c| c.bytes.len() as f64).sum::<f64>();
        let side = stored::write(&stages)?.len() + (1 + chunks.count()) * CHUNK_ENTRY + SEGMENT_ENTRY;
        Ok((Draft { stages, streams, lambda, reached, side_bits: 8.0 * side as f64 }, all_counts))
    }
}
