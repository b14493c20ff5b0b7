//! What the Llama family is made of: names of its matrices, values of its vectors.

use super::config::{EMBEDDING, FINAL_NORM, LlamaConfig};
use super::kernel::add;
use benben_decode::Weights;
use benben_format::{Error, Result};

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
        let load = Loader(weights);
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
