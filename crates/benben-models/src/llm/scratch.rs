//! The arithmetic of a layer, step by step: from one group of matrices that share an input to the next.

use super::cache::KvCache;
use super::config::LlamaConfig;
use super::kernel::{add, rms_norm, swiglu};
use super::rope::rotate;
use super::skeleton::Layer;
use benben_decode::Weights;
use benben_format::Result;
use rayon::prelude::*;

/// Products of attention, or activations, that are worth handing to other threads; below, waking them takes longer.
const WORTH_THREADS: usize = 200_000;

/// Values of one block of tokens; allocated once, for the longest block so far.
#[derive(Default)]
pub(super) struct Scratch {
    /// Tokens, and where the first of them stands.
    count: usize,
    position: usize,
    pub(super) stream: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) queries: Vec<f32>,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) attended: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
    pub(super) added: Vec<f32>,
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
}

impl Scratch {
    /// Room for `count` tokens that stand from `position` on.
    pub(super) fn begin(&mut self, config: &LlamaConfig, position: usize, count: usize) {
        if (self.position, self.count) == (position, count) {
            return;
        }
        (self.position, self.count) = (position, count);
        config.rope.tables(position, count, &mut self.cos, &mut self.sin);
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

    /// `normed` from the stream.
    pub(super) fn normalize(&mut self, config: &LlamaConfig, weight: &[f32]) {
        let rows = self.stream.chunks_exact(config.hidden).zip(self.normed.chunks_exact_mut(config.hidden));
        rows.for_each(|(x, out)| rms_norm(x, weight, config.norm_epsilon, out));
    }

    /// Attention: from the normed stream to `attended`; keys and values go into layer `index` of `cache`.
    pub(super) fn attention(
        &mut self,
        config: &LlamaConfig,
        weights: &dyn Weights,
        layer: &Layer,
        cache: &mut KvCache,
        index: usize,
    ) -> Result<()> {
        self.project(weights, layer)?;
        self.rotate(config);
        cache.put(index, self.position, &self.keys, &self.values);
        self.attend(config, cache, index);
        Ok(())
    }

    /// Adds to the stream what the matrix behind attention makes of `attended`.
    pub(super) fn leave_attention(&mut self, weights: &dyn Weights, layer: &Layer) -> Result<()> {
        layer.output.apply(weights, &self.attended, self.count, &mut self.added)?;
        add(&mut self.stream, &self.added);
        Ok(())
    }

    /// Queries, keys and values of the normed stream.
    fn project(&mut self, weights: &dyn Weights, layer: &Layer) -> Result<()> {
        let names = [&layer.query.name, &layer.key.name, &layer.value.name].map(String::as_str);
        let out = &mut [&mut *self.queries, &mut *self.keys, &mut *self.values];
        weights.products(&names, &self.normed, self.count, out)?;
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
    fn attend(&mut self, config: &LlamaConfig, cache: &KvCache, layer: usize) {
        let position = self.position;
        let (dim, heads) = (config.head_dim, config.heads);
        let one = |scores: &mut Vec<f32>, (i, (out, query)): (usize, (&mut [f32], &[f32]))| {
            let (token, head) = (i / heads, i % heads);
            cache.attend(layer, head / config.group(), position + token + 1, query, scores, out);
        };
        let work = 2 * self.queries.len() * (position + self.count);
        if work < WORTH_THREADS {
            let mut scores = Vec::new();
            let heads = self.attended.chunks_exact_mut(dim).zip(self.queries.chunks_exact(dim));
            heads.enumerate().for_each(|item| one(&mut scores, item));
        } else {
            let heads = self.attended.par_chunks_exact_mut(dim).zip(self.queries.par_chunks_exact(dim));
            heads.enumerate().for_each_init(Vec::new, one);
        }
    }

    /// The first half of the feed-forward part: from the normed stream to `gate`.
    pub(super) fn feed(&mut self, config: &LlamaConfig, weights: &dyn Weights, layer: &Layer) -> Result<()> {
        let names = [layer.gate.name.as_str(), layer.up.name.as_str()];
        let out = &mut [&mut *self.gate, &mut *self.up];
        weights.products(&names, &self.normed, self.count, out)?;
        layer.gate.shift(&mut self.gate);
        layer.up.shift(&mut self.up);
        if self.gate.len() < WORTH_THREADS {
            swiglu(&mut self.gate, &self.up);
        } else {
            let rows = config.intermediate;
            let blocks = self.gate.par_chunks_mut(8 * rows).zip(self.up.par_chunks(8 * rows));
            blocks.for_each(|(gate, up)| swiglu(gate, up));
        }
        Ok(())
    }

    /// The second half: adds to the stream what the last matrix of the layer makes of `gate`.
    pub(super) fn leave_feed(&mut self, weights: &dyn Weights, layer: &Layer) -> Result<()> {
        layer.down.apply(weights, &self.gate, self.count, &mut self.added)?;
        add(&mut self.stream, &self.added);
        Ok(())
    }
}
