//! Keys and values of the tokens so far.

use super::config::LlamaConfig;
use super::kernel::{PAGE, page_mix, page_scores, softmax};

/// Keys and values of every layer in f32, in pages of [`PAGE`] positions: a longer sequence adds pages and moves
/// nothing, and memory is what the tokens take, within a page. Single precision, so that a token is attended to the
/// same way now and later; for SmolLM2-135M that is 46 kB for each token.
#[derive(Debug)]
pub(super) struct KvCache {
    layers: Vec<Pages>,
    key_value_heads: usize,
    head_dim: usize,
}

/// One layer's pages.
#[derive(Debug, Default)]
struct Pages {
    /// Each `[key head][dimension][position]`: scores of neighbouring positions fill a register.
    keys: Vec<Box<[f32]>>,
    /// Each `[key head][position][dimension]`.
    values: Vec<Box<[f32]>>,
}

impl KvCache {
    /// Room for so many `layers` of a network of `config`'s shape.
    pub(super) fn new(config: &LlamaConfig, layers: usize) -> Self {
        let layers = std::iter::repeat_with(Pages::default).take(layers).collect();
        Self { layers, key_value_heads: config.key_value_heads, head_dim: config.head_dim }
    }

    /// Puts the keys and values of consecutive positions from `first` on, each token `[key head][dimension]`.
    pub(super) fn put(&mut self, layer: usize, first: usize, keys: &[f32], values: &[f32]) {
        let (dim, width) = (self.head_dim, self.key_value_heads * self.head_dim);
        let pages = &mut self.layers[layer];
        for (i, (keys, values)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            let (page, at) = ((first + i) / PAGE, (first + i) % PAGE);
            while pages.keys.len() <= page {
                pages.keys.push(vec![0.0; width * PAGE].into());
                pages.values.push(vec![0.0; width * PAGE].into());
            }
            for (slot, key) in pages.keys[page][at..].iter_mut().step_by(PAGE).zip(keys) {
                *slot = *key;
            }
            let heads = pages.values[page].chunks_exact_mut(dim * PAGE);
            for (head, value) in heads.zip(values.chunks_exact(dim)) {
                head[at * dim..(at + 1) * dim].copy_from_slice(value);
            }
        }
    }

    /// What `query` finds among the first `count` positions of key head `head`; `scores` is room to work in.
    pub(super) fn attend(
        &self,
        layer: usize,
        head: usize,
        count: usize,
        query: &[f32],
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let (pages, each) = (&self.layers[layer], self.head_dim * PAGE);
        let part = head * each..(head + 1) * each;
        scores.resize(count, 0.0);
        for (scores, page) in scores.chunks_mut(PAGE).zip(&pages.keys) {
            page_scores(query, &page[part.clone()], scores);
        }
        softmax(scores, 1.0 / (self.head_dim as f32).sqrt());
        out.fill(0.0);
        for (weights, page) in scores.chunks(PAGE).zip(&pages.values) {
            page_mix(weights, &page[part.clone()], out);
        }
    }

    /// Gives back the memory of positions from `length` on.
    pub(super) fn truncate(&mut self, length: usize) {
        for pages in &mut self.layers {
            pages.keys.truncate(length.div_ceil(PAGE));
            pages.values.truncate(length.div_ceil(PAGE));
        }
    }
}
