//! The output matrix and its gradient, a few tokens at a time: all logits of 512 tokens and 49152 words would be
//! 100 MB, and a graph keeps several copies of them.

use super::values;
use benben_format::Result;
use benben_models::llm::graph::tensor;
use burn::tensor::Tensor;

/// Tokens whose logits are in memory together: 25 MB for 49152 words.
const TILE: usize = 128;

/// The gradient of a loss by the normed stream `[tokens, hidden]`, where `each` turns logits into the gradient of the
/// loss by them, in place: it gets the number of the first token and `[tokens of the tile, vocabulary]`.
pub(super) fn gradient(
    matrix: &Tensor<2>,
    normed: Tensor<2>,
    each: &mut dyn FnMut(usize, &mut [f32]) -> Result<()>,
) -> Result<Tensor<2>> {
    let device = normed.device();
    let mut parts = Vec::new();
    each_tile(normed, &mut |first, tile| {
        let logits = tile.matmul(matrix.clone().transpose());
        let shape = logits.dims();
        let mut logits = values(logits)?;
        each(first, &mut logits)?;
        parts.push(tensor(logits, shape, &device).matmul(matrix.clone()));
        Ok(())
    })?;
    Ok(Tensor::cat(parts, 0))
}

/// Hands out the normed stream `[tokens, hidden]` a few tokens at a time, with the number of the first.
pub(super) fn each_tile(
    normed: Tensor<2>,
    each: &mut dyn FnMut(usize, Tensor<2>) -> Result<()>,
) -> Result<()> {
    let [tokens, _] = normed.dims();
    for first in (0..tokens).step_by(TILE) {
        each(first, normed.clone().narrow(0, first, TILE.min(tokens - first)))?;
    }
    Ok(())
}

/// Turns logits into probabilities, in place.
pub(super) fn softmax(logits: &mut [f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0f64;
    for x in logits.iter_mut() {
        *x = (*x - largest).exp();
        sum += f64::from(*x);
    }
    #[allow(clippy::cast_possible_truncation, reason = "probabilities are single precision")]
    let part = sum.recip() as f32;
    logits.iter_mut().for_each(|x| *x *= part);
}
