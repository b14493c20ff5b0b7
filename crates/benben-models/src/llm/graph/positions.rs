//! Rotary tables and the causal mask of whole sequences.

use super::tensor;
use crate::llm::config::LlamaConfig;
use burn::tensor::{Bool, Device, Tensor};

/// What all layers need to know of the tokens of a sequence.
#[derive(Debug, Clone)]
pub struct Positions {
    /// Cosines `[1, 1, length, head_dim / 2]`.
    cos: Tensor<4>,
    /// Sines, of the same shape.
    sin: Tensor<4>,
    /// True where a query must not look: `[1, 1, group * length, length]`, the same for each query of a group.
    pub(super) future: Tensor<4, Bool>,
}

impl Positions {
    /// Of `length` tokens from the first position on.
    #[must_use]
    pub fn new(config: &LlamaConfig, length: usize, device: &Device) -> Self {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        config.rope.tables(0, length, &mut cos, &mut sin);
        let shape = [1, 1, length, config.head_dim / 2];
        let future = Tensor::<2, Bool>::tril_mask([length, length], 0, device)
            .repeat_dim(0, config.group())
            .unsqueeze::<4>();
        Self { cos: tensor(cos, shape, device), sin: tensor(sin, shape, device), future }
    }

    /// Turns the pairs (element `i`, element `i + head_dim / 2`) of `[batch, heads, length, head_dim]`; burn's own
    /// `RotaryEncoding` pairs neighbours, and weights trained with the one give noise with the other.
    pub(super) fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
        let half = heads.dims()[3] / 2;
        let first = heads.clone().narrow(3, 0, half);
        let second = heads.narrow(3, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        Tensor::cat(
            vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin],
            3,
        )
    }
}
