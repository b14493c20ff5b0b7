//! One decoder layer: grouped-query attention and SwiGLU, each after RMSNorm and added to the stream.

use super::positions::Positions;
use crate::llm::config::LlamaConfig;
use crate::llm::part::Part;
use burn::tensor::Tensor;
use burn::tensor::activation::{silu, softmax};

/// The graph of a layer on sequences of one length.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Its shape.
    pub config: &'a LlamaConfig,
    /// Where the tokens stand.
    pub positions: &'a Positions,
}

impl Layer<'_> {
    /// The stream after the layer, from the stream `x` of `[batch, length, hidden]` before it. `norms` are the weights
    /// before attention and before the feed-forward part; `product` gives the product of a matrix, bias included, with
    /// `[batch, length, columns]`.
    pub fn forward(
        &self,
        x: Tensor<3>,
        norms: [Tensor<1>; 2],
        product: &mut dyn FnMut(Part, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let [before_attention, before_feed] = norms;
        let epsilon = self.config.norm_epsilon;
        let x = x.clone() + self.attend(rms_norm(x, before_attention, epsilon), product);
        x.clone() + self.feed(rms_norm(x, before_feed, epsilon), product)
    }

    /// What attention adds to the stream, from the normed stream.
    pub fn attend(&self, x: Tensor<3>, product: &mut dyn FnMut(Part, Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let (heads, shared, dim) = (self.config.heads, self.config.key_value_heads, self.config.head_dim);
        let split = |x: Tensor<3>, heads| x.reshape([batch, length, heads, dim]).swap_dims(1, 2);
        let q = self.positions.rotate(split(product(Part::Query, x.clone()), heads));
        let k = self.positions.rotate(split(product(Part::Key, x.clone()), shared));
        let v = split(product(Part::Value, x), shared);

        // The query heads of a group are consecutive: laid one under the other they meet their one key head in a
        // single product, and keys and values need not be repeated.
        let q = q.reshape([batch, shared, self.config.group() * length, dim]);
        let scores = q.matmul(k.swap_dims(2, 3)) * (dim as f64).powf(-0.5);
        let mask = self.positions.future.clone().expand(scores.dims());
        let weights = softmax(scores.mask_fill(mask, f32::NEG_INFINITY), 3);
        let mixed = weights.matmul(v).reshape([batch, heads, length, dim]);
        product(Part::Output, mixed.swap_dims(1, 2).reshape([batch, length, heads * dim]))
    }

    /// What the feed-forward part adds to the stream, from the normed stream.
    pub fn feed(&self, x: Tensor<3>, product: &mut dyn FnMut(Part, Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let gate = silu(product(Part::Gate, x.clone()));
        let up = product(Part::Up, x);
        product(Part::Down, gate * up)
    }
}

/// RMSNorm (Zhang and Sennrich, 2019, <https://arxiv.org/abs/1910.07467>) of the vectors of `x`.
#[must_use]
pub fn rms_norm(x: Tensor<3>, weight: Tensor<1>, epsilon: f32) -> Tensor<3> {
    let mean = (x.clone() * x.clone()).mean_dim(2) + epsilon;
    x * mean.sqrt().recip() * weight.unsqueeze()
}
