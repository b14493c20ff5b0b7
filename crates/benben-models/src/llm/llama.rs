//! The forward pass of the Llama family over packed weights.

use super::cache::KvCache;
use super::config::{EMBEDDING, FINAL_NORM, LlamaConfig};
use super::kernel::{add, rms_norm, swiglu};
use super::language_model::{LanguageModel, Wanted};
use super::rope::rotate;
use benben_decode::Weights;
use benben_format::{Error, Result};
use rayon::prelude::*;
use std::sync::Arc;

/// Tokens that go through the matrices together, at most: a prompt of 512 needs one pass over the weights, which is
/// what counts where they are decoded as they pass.
const BLOCK: usize = 512;
/// Bytes that the values between matrices may take; wide networks get smaller blocks.
const SCRATCH: usize = 64 << 20;
/// Products of attention, or activations, that are worth handing to other threads; below, waking them takes longer.
const WORTH_THREADS: usize = 200_000;

/// A network of the Llama family on the CPU: weights where [`Weights`] keeps them, the state of one sequence here.
pub struct Llama {
    config: LlamaConfig,
    weights: Arc<dyn Weights>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    cache: KvCache,
    position: usize,
    block: usize,
    scratch: Scratch,
}

/// Names of a layer's matrices, and its vectors.
struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    feed_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

struct Matrix {
    name: String,
    bias: Option<Vec<f32>>,
}

/// Values of one block of tokens; allocated once, for the longest block so far.
#[derive(Default)]
struct Scratch {
    stream: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    added: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Llama {
    /// The network that `config` describes, on `weights`. Reads norms and biases; matrices are not touched.
    ///
    /// # Errors
    /// Corruption where a tensor is missing or has another shape than the configuration says; otherwise as decoding.
    pub fn new(config: LlamaConfig, weights: Arc<dyn Weights>) -> Result<Self> {
        let load = Loader(&*weights);
        let (hidden, inner) = (config.hidden, config.intermediate);
        let (queries, keys) = (config.query_width(), config.key_width());
        load.matrix(EMBEDDING, config.vocabulary, hidden)?;
        load.matrix(config.output_name(), config.vocabulary, hidden)?;
        let mut layers = Vec::new();
        for i in 0..config.layers {
            let name = |part: &str| format!("model.layers.{i}.{part}");
            let linear = |part: &str, rows, columns, bias| load.linear(&name(part), rows, columns, bias);
            layers.push(Layer {
                attention_norm: load.vector(&name("input_layernorm.weight"), hidden)?,
                query: linear("self_attn.q_proj", queries, hidden, config.qkv_bias)?,
                key: linear("self_attn.k_proj", keys, hidden, config.qkv_bias)?,
                value: linear("self_attn.v_proj", keys, hidden, config.qkv_bias)?,
                output: linear("self_attn.o_proj", hidden, queries, config.output_bias)?,
                feed_norm: load.vector(&name("post_attention_layernorm.weight"), hidden)?,
                gate: linear("mlp.gate_proj", inner, hidden, config.mlp_bias)?,
                up: linear("mlp.up_proj", inner, hidden, config.mlp_bias)?,
                down: linear("mlp.down_proj", hidden, inner, config.mlp_bias)?,
            });
        }
        let norm = load.vector(FINAL_NORM, hidden)?;
        let floats = 3 * hidden + 2 * queries + 2 * keys + 2 * inner + config.head_dim;
        let block = (SCRATCH / 4 / floats).clamp(1, BLOCK);
        let (cache, scratch) = (KvCache::new(&config), Scratch::default());
        Ok(Self { config, weights, layers, norm, cache, position: 0, block, scratch })
    }

    /// The shape of the network.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Sends `tokens`, at most a block, through all layers; the stream is left in `scratch.stream`.
    fn pass(&mut self, tokens: &[u32]) -> Result<()> {
        let Self { config, weights, layers, cache, position, scratch, .. } = self;
        let count = tokens.len();
        scratch.resize(config, count);
        config.rope.tables(*position, count, &mut scratch.cos, &mut scratch.sin);
        weights.rows(EMBEDDING, tokens, &mut scratch.stream)?;
        for (i, layer) in layers.iter().enumerate() {
            scratch.normalize(config, &layer.attention_norm);
            scratch.project(&**weights, layer, count)?;
            scratch.rotate(config);
            cache.put(i, *position, &scratch.keys, &scratch.values);
            scratch.attend(config, cache, i, *position);
            layer.output.apply(&**weights, &scratch.attended, count, &mut scratch.added)?;
            add(&mut scratch.stream, &scratch.added);

            scratch.normalize(config, &layer.feed_norm);
            scratch.feed(config, &**weights, layer, count)?;
            add(&mut scratch.stream, &scratch.added);
        }
        *position += count;
        Ok(())
    }

    /// Logits of the last `count` tokens of the block that has passed.
    fn logits(&mut self, count: usize, out: &mut Vec<f32>) -> Result<()> {
        let hidden = self.config.hidden;
        let from = self.scratch.stream.len() - count * hidden;
        self.scratch.normalize(&self.config, &self.norm);
        let start = out.len();
        out.resize(start + count * self.config.vocabulary, 0.0);
        let normed = &self.scratch.normed[from..];
        self.weights.product(self.config.output_name(), normed, count, &mut out[start..])
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
        self.config.vocabulary
    }

    fn context(&self) -> usize {
        self.config.context
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

impl Matrix {
    fn apply(&self, weights: &dyn Weights, x: &[f32], count: usize, out: &mut [f32]) -> Result<()> {
        weights.product(&self.name, x, count, out)?;
        self.shift(out);
        Ok(())
    }

    /// Adds the bias, if there is one.
    fn shift(&self, out: &mut [f32]) {
        if let Some(bias) = &self.bias {
            out.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
        }
    }
}

impl Scratch {
    fn resize(&mut self, config: &LlamaConfig, count: usize) {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let widths = [
            (&mut self.stream, hidden),
            (&mut self.normed, hidden),
            (&mut self.added, hidden),
            (&mut self.queries, config.query_width()),
            (&mut self.attended, config.query_width()),
            (&mut self.keys, config.key_width()),
            (&mut self.values, config.key_width()),
            (&mut self.gate, inner),
            (&mut self.up, inner),
        ];
        for (values, width) in widths {
            values.resize(count * width, 0.0);
        }
    }

    fn normalize(&mut self, config: &LlamaConfig, weight: &[f32]) {
        let rows = self.stream.chunks_exact(config.hidden).zip(self.normed.chunks_exact_mut(config.hidden));
        rows.for_each(|(x, out)| rms_norm(x, weight, config.norm_epsilon, out));
    }

    /// Queries, keys and values of the normed stream.
    fn project(&mut self, weights: &dyn Weights, layer: &Layer, count: usize) -> Result<()> {
        let names = [&layer.query.name, &layer.key.name, &layer.value.name].map(String::as_str);
        let out = &mut [&mut *self.queries, &mut *self.keys, &mut *self.values];
        weights.products(&names, &self.normed, count, out)?;
        layer.query.shift(&mut self.queries);
        layer.key.shift(&mut self.keys);
        layer.value.shift(&mut self.values);
        Ok(())
    }

    fn rotate(&mut self, config: &LlamaConfig) {
        let half = config.head_dim / 2;
        let tables = || self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
        let queries = self.queries.chunks_exact_mut(config.query_width()).zip(tables());
        queries.for_each(|(row, (cos, sin))| rotate(row, cos, sin));
        let keys = self.keys.chunks_exact_mut(config.key_width()).zip(tables());
        keys.for_each(|(row, (cos, sin))| rotate(row, cos, sin));
    }

    /// Every query head of every token, each by itself: who computes it does not show.
    fn attend(&mut self, config: &LlamaConfig, cache: &KvCache, layer: usize, position: usize) {
        let (dim, heads) = (config.head_dim, config.heads);
        let one = |scores: &mut Vec<f32>, (i, (out, query)): (usize, (&mut [f32], &[f32]))| {
            let (token, head) = (i / heads, i % heads);
            cache.attend(layer, head / config.group(), position + token + 1, query, scores, out);
        };
        let count = self.queries.len() / config.query_width();
        let work = 2 * self.queries.len() * (position + count);
        if work < WORTH_THREADS {
            let mut scores = Vec::new();
            let heads = self.attended.chunks_exact_mut(dim).zip(self.queries.chunks_exact(dim));
            heads.enumerate().for_each(|item| one(&mut scores, item));
        } else {
            let heads = self.attended.par_chunks_exact_mut(dim).zip(self.queries.par_chunks_exact(dim));
            heads.enumerate().for_each_init(Vec::new, one);
        }
    }

    /// What the feed-forward part adds to the stream.
    fn feed(
        &mut self,
        config: &LlamaConfig,
        weights: &dyn Weights,
        layer: &Layer,
        count: usize,
    ) -> Result<()> {
        let names = [layer.gate.name.as_str(), layer.up.name.as_str()];
        weights.products(&names, &self.normed, count, &mut [&mut *self.gate, &mut *self.up])?;
        layer.gate.shift(&mut self.gate);
        layer.up.shift(&mut self.up);
        if self.gate.len() < WORTH_THREADS {
            swiglu(&mut self.gate, &self.up);
        } else {
            let rows = config.intermediate;
            let blocks = self.gate.par_chunks_mut(8 * rows).zip(self.up.par_chunks(8 * rows));
            blocks.for_each(|(gate, up)| swiglu(gate, up));
        }
        layer.down.apply(weights, &self.gate, count, &mut self.added)
    }
}

/// Tensors that must be there with the shape that the configuration says.
struct Loader<'a>(&'a dyn Weights);

impl Loader<'_> {
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<()> {
        if !self.0.contains(name) {
            return Err(Error::corruption(
                "config.json asks for this tensor, the model has none of that name",
            )
            .in_tensor(name));
        }
        let found = self.0.shape(name)?;
        if found != [rows, columns] {
            let message =
                format!("expected {rows} x {columns} by config.json, found {} x {}", found[0], found[1]);
            return Err(Error::corruption(message).in_tensor(name));
        }
        Ok(())
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        // A vector is a matrix of one column.
        self.matrix(name, length, 1)?;
        self.0.vector(name)
    }

    fn linear(&self, name: &str, rows: usize, columns: usize, bias: bool) -> Result<Matrix> {
        let weight = format!("{name}.weight");
        self.matrix(&weight, rows, columns)?;
        let bias = bias.then(|| self.vector(&format!("{name}.bias"), rows)).transpose()?;
        Ok(Matrix { name: weight, bias })
    }
}
