//! Rotary position embedding (Su et al., 2021, <https://arxiv.org/abs/2104.09864>) and the causal mask.
//!
//! Element `i` of a head is paired with element `i + head_dim / 2`, the convention of Hugging Face's
//! `rotate_half`; burn's own `RotaryEncoding` pairs neighbours, and weights trained with the one give
//! noise with the other.

use crate::config::LlamaConfig;
use burn::tensor::{Bool, Device, Tensor, TensorData};

/// Tables for one length of context.
#[derive(Debug, Clone)]
pub struct Positions {
    /// Cosines `[1, 1, length, head_dim / 2]`.
    cos: Tensor<4>,
    /// Sines, of the same shape.
    sin: Tensor<4>,
    /// True where a query must not look: `[1, 1, group * length, length]`, the same for each query of a group.
    pub future: Tensor<4, Bool>,
}

impl Positions {
    /// The tables for `length` tokens.
    #[must_use]
    pub fn new(config: &LlamaConfig, length: usize, device: &Device) -> Self {
        let half = config.head_dim / 2;
        let angle = |position: usize, pair: usize| {
            position as f64 / config.rope_theta.powf(2.0 * pair as f64 / config.head_dim as f64)
        };
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = (0..length)
                .flat_map(|p| (0..half).map(move |i| (p, i)))
                .map(|(p, i)| f32_of(f(angle(p, i))))
                .collect();
            Tensor::<4>::from_data(TensorData::new(values, [1, 1, length, half]), device)
        };
        let future = Tensor::<2, Bool>::tril_mask([length, length], 0, device)
            .repeat_dim(0, config.group())
            .unsqueeze::<4>();
        Self { cos: table(f64::cos), sin: table(f64::sin), future }
    }

    /// Turns each pair of `[batch, heads, length, head_dim]` by the angle of its position.
    #[must_use]
    pub fn rotate(&self, heads: Tensor<4>) -> Tensor<4> {
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

#[expect(clippy::cast_possible_truncation, reason = "the tables are single precision")]
fn f32_of(value: f64) -> f32 {
    value as f32
}
