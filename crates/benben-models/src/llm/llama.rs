//! The forward pass of the Llama family over packed weights.

use super::cache::KvCache;
use super::config::{EMBEDDING, LlamaConfig};
use super::language_model::{LanguageModel, Wanted};
use super::scratch::Scratch;
use super::skeleton::Skeleton;
use benben_decode::Weights;
use benben_format::Result;
use std::sync::Arc;

/// Tokens that go through the matrices together, at most: a prompt of 512 needs one pass over the weights, which is
/// what counts where they are decoded as they pass.
const BLOCK: usize = 512;
/// Bytes that the values between matrices may take; wide networks get smaller blocks.
const SCRATCH: usize = 64 << 20;

/// A network of the Llama family on the CPU: weights where [`Weights`] keeps them, the state of one sequence here.
pub struct Llama {
    skeleton: Skeleton,
    weights: Arc<dyn Weights>,
    cache: KvCache,
    position: usize,
    block: usize,
    scratch: Scratch,
}

impl Llama {
    /// The network that `config` describes, on `weights`. Reads norms and biases; matrices are not touched.
    ///
    /// # Errors
    /// Corruption where a tensor is missing or has another shape than the configuration says; otherwise as decoding.
    pub fn new(config: LlamaConfig, weights: Arc<dyn Weights>) -> Result<Self> {
        let skeleton = Skeleton::new(config, &*weights)?;
        let config = &skeleton.config;
        let (hidden, inner) = (config.hidden, config.intermediate);
        let floats =
            3 * hidden + 2 * config.query_width() + 2 * config.key_width() + 2 * inner + config.head_dim;
        let block = (SCRATCH / 4 / floats).clamp(1, BLOCK);
        let (cache, scratch) = (KvCache::new(config, config.layers), Scratch::default());
        Ok(Self { skeleton, weights, cache, position: 0, block, scratch })
    }

    /// The shape of the network.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.skeleton.config
    }

    /// Sends `tokens`, at most a block, through all layers; the stream is left in `scratch.stream`.
    fn pass(&mut self, tokens: &[u32]) -> Result<()> {
        let Self { skeleton: Skeleton { config, layers, .. }, weights, cache, position, scratch, .. } = self;
        let weights = &**weights;
        scratch.begin(config, *position, tokens.len());
        weights.rows(EMBEDDING, tokens, &mut scratch.stream)?;
        for (i, layer) in layers.iter().enumerate() {
            scratch.normalize(config, &layer.attention_norm);
            scratch.attention(config, weights, layer, cache, i)?;
            scratch.leave_attention(weights, layer)?;
            scratch.normalize(config, &layer.feed_norm);
            scratch.feed(config, weights, layer)?;
            scratch.leave_feed(weights, layer)?;
        }
        *position += tokens.len();
        Ok(())
    }

    /// Logits of the last `count` tokens of the block that has passed.
    fn logits(&mut self, count: usize, out: &mut Vec<f32>) -> Result<()> {
        let hidden = self.skeleton.config.hidden;
        let from = self.scratch.stream.len() - count * hidden;
        self.scratch.normalize(&self.skeleton.config, &self.skeleton.norm);
        let start = out.len();
        out.resize(start + count * self.skeleton.config.vocabulary, 0.0);
        let normed = &self.scratch.normed[from..];
        self.weights.product(self.skeleton.config.output_name(), normed, count, &mut out[start..])
    }

    fn run(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        let mut left = tokens.len();
        for block in tokens.chunks(self.block) {
            self.pass(block)?;
            left -= block.len();
            match wanted {
                Wanted::Every => self.logits(block.len(), &mut out)?,
                Wanted::Last if left == 0 => self.logits(1, &mut out)?,
                Wanted::Last => {}
            }
        }
        Ok(out)
    }
}

impl LanguageModel for Llama {
    fn vocabulary(&self) -> usize {
        self.skeleton.config.vocabulary
    }

    fn context(&self) -> usize {
        self.skeleton.config.context
    }

    fn position(&self) -> usize {
        self.position
    }

    fn forward(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>> {
        self.check(tokens)?;
        let before = self.position;
        // Inside the pool from here on: handing each product over from outside would cost a wake-up each.
        let done = rayon::scope(|_| self.run(tokens, wanted));
        if done.is_err() {
            self.truncate(before);
        }
        done
    }

    fn truncate(&mut self, length: usize) {
        self.position = self.position.min(length);
        self.cache.truncate(self.position);
    }
}
