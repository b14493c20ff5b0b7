//! The Llama family as a chain of stages.

use super::cache::KvCache;
use super::config::{EMBEDDING, LlamaConfig};
use super::evaluate::{Protocol, Score};
use super::language_model::check_tokens;
use super::scratch::Scratch;
use super::skeleton::Skeleton;
use crate::network::{Network, Sample, Stage, State};
use benben_decode::Weights;
use benben_format::{Error, Result};
use std::mem::swap;

/// Stages of a layer: query, key and value; the matrix behind attention; gate and up; down.
const STAGES: usize = 4;

/// A network of the Llama family whose layers run one after the other, for calibration. The same arithmetic as
/// [`Llama`](super::Llama), which reads a sample in one block: the same bits.
pub struct LlamaBlocks {
    skeleton: Skeleton,
    stages: Vec<Stage>,
    scratch: Scratch,
    /// Of one layer, written anew by each sample.
    cache: KvCache,
}

impl LlamaBlocks {
    /// The network that `config` describes, with the norms and biases of `weights`; matrices are not touched.
    ///
    /// # Errors
    /// Corruption where a tensor is missing or has another shape than the configuration says; otherwise as decoding.
    pub fn new(config: LlamaConfig, weights: &dyn Weights) -> Result<Self> {
        let skeleton = Skeleton::new(config, weights)?;
        let config = &skeleton.config;
        let mut stages = Vec::with_capacity(STAGES * config.layers + 1);
        for (block, layer) in skeleton.layers.iter().enumerate() {
            let mut stage = |matrices: &[&super::skeleton::Matrix], columns| {
                let names = matrices.iter().map(|m| m.name.clone()).collect();
                stages.push(Stage { block, names, columns });
            };
            stage(&[&layer.query, &layer.key, &layer.value], config.hidden);
            stage(&[&layer.output], config.query_width());
            stage(&[&layer.gate, &layer.up], config.hidden);
            stage(&[&layer.down], config.intermediate);
        }
        let head = vec![config.output_name().to_owned()];
        stages.push(Stage { block: config.layers, names: head, columns: config.hidden });
        let cache = KvCache::new(config, 1);
        Ok(Self { skeleton, stages, scratch: Scratch::default(), cache })
    }

    fn tokens<'a>(&self, sample: &'a Sample) -> Result<&'a [u32]> {
        let Sample::Tokens(tokens) = sample;
        check_tokens(tokens, self.skeleton.config.vocabulary)?;
        let (count, context) = (tokens.len(), self.skeleton.config.context);
        if count > context {
            return Err(Error::invalid(format!("{count} tokens, but the model's context is {context}"))
                .with_hint(format!("--context {context} is the most")));
        }
        Ok(tokens)
    }

    /// The buffer that a stage of a layer reads its input from.
    fn input(scratch: &mut Scratch, stage: usize) -> &mut Vec<f32> {
        match stage % STAGES {
            1 => &mut scratch.attended,
            3 => &mut scratch.gate,
            _ => &mut scratch.normed,
        }
    }
}

impl Network for LlamaBlocks {
    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn width(&self) -> usize {
        self.skeleton.config.hidden
    }

    fn begin(&mut self, weights: &dyn Weights, sample: &Sample) -> Result<State> {
        let tokens = self.tokens(sample)?;
        let config = &self.skeleton.config;
        self.scratch.begin(config, 0, tokens.len());
        weights.rows(EMBEDDING, tokens, &mut self.scratch.stream)?;
        let norm = self.skeleton.layers.first().map_or(&self.skeleton.norm, |layer| &layer.attention_norm);
        self.scratch.normalize(config, norm);
        Ok(State { stream: self.scratch.stream.clone(), input: self.scratch.normed.clone() })
    }

    fn step(&mut self, weights: &dyn Weights, stage: usize, state: &mut State) -> Result<()> {
        let Self { skeleton: Skeleton { config, layers, norm }, scratch, cache, stages } = self;
        let Some(layer) = layers.get(stage / STAGES) else {
            return Err(Error::invalid(format!(
                "stage {stage} is no step: the last is {}",
                stages.len() - 2
            )));
        };
        let count = state.stream.len() / config.hidden;
        if count == 0 || count > config.context || state.input.len() != count * stages[stage].columns {
            return Err(Error::invalid(format!("a state that does not stand before stage {stage}")));
        }
        scratch.begin(config, 0, count);
        // Buffers change places with the state's, so that nothing is copied; what the state lent comes back below, with
        // the length that the buffer of the next input has.
        swap(&mut scratch.stream, &mut state.stream);
        swap(Self::input(scratch, stage), &mut state.input);
        let done = match stage % STAGES {
            0 => scratch.attention(config, weights, layer, cache, 0),
            1 => {
                scratch.leave_attention(weights, layer).map(|()| scratch.normalize(config, &layer.feed_norm))
            }
            2 => scratch.feed(config, weights, layer),
            _ => scratch.leave_feed(weights, layer).map(|()| {
                let next = layers.get(stage / STAGES + 1);
                scratch.normalize(config, next.map_or(norm, |layer| &layer.attention_norm));
            }),
        };
        swap(&mut scratch.stream, &mut state.stream);
        swap(Self::input(scratch, stage), &mut state.input);
        // What is at hand now is the used input and the next one; the state takes a copy of the latter.
        state.input.clone_from(Self::input(scratch, stage + 1));
        done
    }

    fn classes(&self) -> Option<usize> {
        Some(self.skeleton.config.vocabulary)
    }

    fn predict(&self, weights: &dyn Weights, rows: &[f32], out: &mut [f32]) -> Result<()> {
        let config = &self.skeleton.config;
        weights.product(config.output_name(), rows, rows.len() / config.hidden, out)
    }

    fn table(&self) -> Option<(&str, usize)> {
        Some((EMBEDDING, self.skeleton.config.vocabulary))
    }

    fn count_rows(&self, sample: &Sample, counts: &mut [u64]) -> Result<()> {
        if counts.len() != self.skeleton.config.vocabulary {
            let (found, expected) = (counts.len(), self.skeleton.config.vocabulary);
            return Err(Error::invalid(format!("{found} counts for a vocabulary of {expected}")));
        }
        self.tokens(sample)?.iter().for_each(|t| counts[*t as usize] += 1);
        Ok(())
    }
}

/// Chunks of exactly `context` of the tokens of a text: at most `chunks` of them, the first ones, or with a `seed`
/// others, in the order of the text.
///
/// # Errors
/// InvalidArgument for a text shorter than one chunk.
pub fn samples(
    tokens: &[u32],
    context: usize,
    chunks: Option<usize>,
    seed: Option<u64>,
) -> Result<Vec<Sample>> {
    let cut = Protocol { context, score: Score::All, chunks: None }.cut(tokens)?;
    let wanted = chunks.unwrap_or(cut.len()).min(cut.len());
    let mut chosen: Vec<usize> = (0..cut.len()).collect();
    if let Some(seed) = seed {
        // The smallest hashes: more chunks of the same seed hold the fewer.
        chosen.sort_by_key(|i| {
            let mut hash = blake3::Hasher::new();
            hash.update(&seed.to_le_bytes()).update(&(*i as u64).to_le_bytes());
            *hash.finalize().as_bytes()
        });
    }
    chosen.truncate(wanted);
    chosen.sort_unstable();
    Ok(chosen.into_iter().map(|i| Sample::Tokens(cut[i].to_vec())).collect())
}
