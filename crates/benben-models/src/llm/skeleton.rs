//! What the Llama family is made of: names of its matrices, values of its vectors.

use super::config::{EMBEDDING, FINAL_NORM, LlamaConfig};
use super::kernel::add;
use super::part::{Part, norms, require};
use benben_decode::Weights;
use benben_format::Result;

/// A network without its matrices.
pub(super) struct Skeleton {
    pub(super) config: LlamaConfig,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
}

/// Names of a layer's matrices, and its vectors.
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Matrix,
    pub(super) key: Matrix,
    pub(super) value: Matrix,
    pub(super) output: Matrix,
    pub(super) feed_norm: Vec<f32>,
    pub(super) gate: Matrix,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
}

pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) bias: Option<Vec<f32>>,
}

impl Skeleton {
    /// The network that `config` describes, its norms and biases read from `weights`; matrices are not touched.
    pub(super) fn new(config: LlamaConfig, weights: &dyn Weights) -> Result<Self> {
        let load = Loader { config: &config, weights };
        for name in [EMBEDDING, config.output_name()] {
            require(weights, name, [config.vocabulary, config.hidden])?;
        }
        let mut layers = Vec::new();
        for i in 0..config.layers {
            let [attention_norm, feed_norm] = norms(i);
            layers.push(Layer {
                attention_norm: load.vector(&attention_norm, config.hidden)?,
                query: load.linear(Part::Query, i)?,
                key: load.linear(Part::Key, i)?,
                value: load.linear(Part::Value, i)?,
                output: load.linear(Part::Output, i)?,
                feed_norm: load.vector(&feed_norm, config.hidden)?,
                gate: load.linear(Part::Gate, i)?,
                up: load.linear(Part::Up, i)?,
                down: load.linear(Part::Down, i)?,
            });
        }
        let norm = load.vector(FINAL_NORM, config.hidden)?;
        Ok(Self { config, layers, norm })
    }
}

impl Matrix {
    pub(super) fn apply(
        &self,
        weights: &dyn Weights,
        x: &[f32],
        count: usize,
        out: &mut [f32],
    ) -> Result<()> {
        weights.product(&self.name, x, count, out)?;
        self.shift(out);
        Ok(())
    }

    /// Adds the bias, if there is one.
    pub(super) fn shift(&self, out: &mut [f32]) {
        if let Some(bias) = &self.bias {
            out.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
        }
    }
}

/// Tensors that must be there with the shape that the configuration says.
struct Loader<'a> {
    config: &'a LlamaConfig,
    weights: &'a dyn Weights,
}

impl Loader<'_> {
    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>> {
        require(self.weights, name, [length, 1])?;
        self.weights.vector(name)
    }

    fn linear(&self, part: Part, layer: usize) -> Result<Matrix> {
        let (name, shape) = (part.name(layer), part.shape(self.config));
        require(self.weights, &name, shape)?;
        let bias = part.biased(self.config).then(|| self.vector(&part.bias(layer), shape[0]));
        Ok(Matrix { name, bias: bias.transpose()? })
    }
}
