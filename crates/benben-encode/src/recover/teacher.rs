//! What the dense network makes of the chunks.

use super::values;
use benben_format::Result;
use benben_models::llm::graph::{Head, Layer, Network};
use burn::tensor::Tensor;

/// Normed streams after the last block of the dense network, and its output matrix: its logits, a thousandth of
/// their size.
pub(super) struct Teacher {
    pub(super) head: Head,
    /// `[1, length, hidden]` for each chunk.
    pub(super) normed: Vec<Tensor<3>>,
}

impl Teacher {
    /// Sends `chunks` through `network`; `each` is told before every block.
    pub(super) fn new(
        network: &Network,
        layer: &Layer<'_>,
        chunks: &[&[u32]],
        each: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Self> {
        let mut stream = chunks.iter().map(|chunk| network.embed(chunk)).collect::<Result<Vec<_>>>()?;
        for index in 0..network.config().layers {
            each(index)?;
            let block = network.block(index)?;
            stream = stream.into_iter().map(|x| block.forward(layer, x)).collect();
        }
        let head = network.head()?;
        let normed = stream.into_iter().map(|x| head.normed(network.config(), x)).collect();
        Ok(Self { head, normed })
    }

    /// Logits `[count, vocabulary]` of chunk `chunk` from token `first` on.
    pub(super) fn logits(&self, chunk: usize, first: usize, count: usize) -> Result<Vec<f32>> {
        let normed = self.normed[chunk].clone().narrow(1, first, count);
        let [_, _, hidden] = normed.dims();
        values(normed.reshape([count, hidden]).matmul(self.head.matrix.clone().transpose()))
    }
}
