//! The forward pass of the Llama family in burn, on whatever device burn has.

use crate::matrix::tensor;
use crate::{PackedEmbedding, PackedLinear, PackedWeights};
use benben_format::{Error, Result};
use benben_models::llm::{
    EMBEDDING, FINAL_NORM, LanguageModel, LlamaConfig, Model, Part, Wanted, norms, require,
};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, Tensor};

/// Tokens that go through the layers together, at most; scores of attention take heads x this x context values.
const BLOCK: usize = 256;
/// What is added to scores of tokens that come later: its exponential is zero. Infinity is not for WGSL, which may
/// assume that there is none.
const FUTURE: f32 = -1e30;

/// A network of the Llama family on a device of burn: weights stay packed, the state of one sequence is here.
///
/// The same graph as [`benben_models::llm::Llama`], which is the faster one on a CPU; the two agree within the rounding
/// of f32 sums.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    device: Device,
    embedding: PackedEmbedding,
    layers: Vec<Layer>,
    norm: Tensor<1>,
    output: PackedLinear,
    position: usize,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Tensor<1>,
    query: PackedLinear,
    key: PackedLinear,
    value: PackedLinear,
    output: PackedLinear,
    feed_norm: Tensor<1>,
    gate: PackedLinear,
    up: PackedLinear,
    down: PackedLinear,
    /// Keys and values so far, `[key heads, tokens, head]` each.
    cache: Option<(Tensor<3>, Tensor<3>)>,
}

/// What all layers need to know of the tokens of a block.
struct Positions {
    /// `[1, tokens, head / 2]`
    cos: Tensor<3>,
    sin: Tensor<3>,
    /// `[1, tokens, tokens so far]`; none for one token, which sees all.
    future: Option<Tensor<3>>,
}

impl Llama {
    /// The network of an open model on `device`, at the start of a sequence.
    ///
    /// # Errors
    /// As [`Llama::new`].
    pub fn open(model: &Model, device: &Device) -> Result<Self> {
        let weights = match model.store() {
            Some(store) => PackedWeights::from(std::sync::Arc::clone(store)),
            None => PackedWeights::from_weights(model.weights()),
        };
        Self::new(model.config().clone(), &weights, device)
    }

    /// The network that `config` describes. Reads norms and biases; matrices are not touched.
    ///
    /// # Errors
    /// Corruption where a tensor is missing or has another shape than the configuration says; otherwise as decoding.
    pub fn new(config: LlamaConfig, weights: &PackedWeights, device: &Device) -> Result<Self> {
        let load = Loader { config: &config, weights, device };
        for name in [EMBEDDING, config.output_name()] {
            require(&**weights.weights(), name, [config.vocabulary, config.hidden])?;
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
                cache: None,
            });
        }
        Ok(Self {
            embedding: PackedEmbedding::from_table(weights, EMBEDDING)?,
            output: PackedLinear::from_matrix(weights, config.output_name())?,
            norm: load.vector(FINAL_NORM, config.hidden)?,
            device: device.clone(),
            config,
            layers,
            position: 0,
        })
    }

    /// Sends `tokens` through all layers: `[tokens, hidden]`.
    fn pass(&mut self, tokens: &[u32]) -> Result<Tensor<2>> {
        let Self { config, device, embedding, layers, position, .. } = self;
        let positions = Positions::new(config, *position, tokens.len(), device);
        let mut stream = embedding.rows(tokens, device)?;
        for layer in layers {
            stream = stream.clone()
                + layer.attend(config, &positions, normed(config, stream, &layer.attention_norm))?;
            let x = normed(config, stream.clone(), &layer.feed_norm);
            let [gate, up] = two(PackedLinear::forward_all(&[&layer.gate, &layer.up], x)?)?;
            stream = stream + layer.down.forward(silu(gate) * up)?;
        }
        *position += tokens.len();
        Ok(stream)
    }

    fn logits(&self, stream: Tensor<2>, out: &mut Vec<f32>) -> Result<()> {
        let logits = self.output.forward(normed(&self.config, stream, &self.norm))?;
        let data = logits.try_into_data().map_err(|e| Error::io(format!("the device: {e}")))?;
        out.extend_from_slice(
            data.as_slice::<f32>().map_err(|e| Error::unsupported(format!("logits: {e:?}")))?,
        );
        Ok(())
    }

    fn run(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        let mut left = tokens.len();
        for block in tokens.chunks(BLOCK) {
            let stream = self.pass(block)?;
            left -= block.len();
            match wanted {
                Wanted::Every => self.logits(stream, &mut out)?,
                Wanted::Last if left == 0 => {
                    self.logits(
                        stream.slice([block.len() - 1..block.len(), 0..self.config.hidden]),
                        &mut out,
                    )?;
                }
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
        let done = self.run(tokens, wanted);
        if done.is_err() {
            self.truncate(before);
        }
        done
    }

    fn truncate(&mut self, length: usize) {
        self.position = self.position.min(length);
        for layer in &mut self.layers {
            layer.truncate(self.position);
        }
    }
}

impl Layer {
    /// What attention adds to the stream, from the normed stream `x` of `[tokens, hidden]`.
    fn attend(&mut self, config: &LlamaConfig, positions: &Positions, x: Tensor<2>) -> Result<Tensor<2>> {
        let [tokens, _] = x.dims();
        let (heads, shared, dim) = (config.heads, config.key_value_heads, config.head_dim);
        let [q, k, v] = three(PackedLinear::forward_all(&[&self.query, &self.key, &self.value], x)?)?;
        let split = |x: Tensor<2>, heads| x.reshape([tokens, heads, dim]).swap_dims(0, 1);
        let q = positions.rotate(split(q, heads));
        let (k, v) = (positions.rotate(split(k, shared)), split(v, shared));
        let (k, v) = match self.cache.take() {
            Some((keys, values)) => (Tensor::cat(vec![keys, k], 1), Tensor::cat(vec![values, v], 1)),
            None => (k, v),
        };
        let length = k.dims()[1];
        self.cache = Some((k.clone(), v.clone()));
        // The query heads of a group are consecutive: one under the other they meet their key head in one product.
        let rows = [shared, heads / shared * tokens, dim];
        let scores = q.reshape(rows).matmul(k.swap_dims(1, 2)) * (dim as f32).sqrt().recip();
        let scores = scores.reshape([heads, tokens, length]);
        let scores = match &positions.future {
            Some(future) => scores + future.clone(),
            None => scores,
        };
        let weights = softmax(scores, 2).reshape([shared, heads / shared * tokens, length]);
        let mixed = weights.matmul(v).reshape([heads, tokens, dim]).swap_dims(0, 1);
        self.output.forward(mixed.reshape([tokens, heads * dim]))
    }

    fn truncate(&mut self, length: usize) {
        self.cache = self.cache.take().filter(|_| length > 0).map(|(keys, values)| {
            let [heads, tokens, dim] = keys.dims();
            let kept = [0..heads, 0..tokens.min(length), 0..dim];
            (keys.slice(kept.clone()), values.slice(kept))
        });
    }
}

impl Positions {
    /// Of `tokens` tokens after `first`.
    fn new(config: &LlamaConfig, first: usize, tokens: usize, device: &Device) -> Self {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        config.rope.tables(first, tokens, &mut cos, &mut sin);
        let half = config.head_dim / 2;
        let future = (tokens > 1).then(|| {
            let length = first + tokens;
            let row = |t: usize| (0..length).map(move |c| if c > first + t { FUTURE } else { 0.0 });
            tensor((0..tokens).flat_map(row).collect(), [1, tokens, length], device)
        });
        Self {
            cos: tensor(cos, [1, tokens, half], device),
            sin: tensor(sin, [1, tokens, half], device),
            future,
        }
    }

    /// Turns the pairs (element `i`, element `i + head / 2`) of `[heads, tokens, head]`.
    fn rotate(&self, x: Tensor<3>) -> Tensor<3> {
        let [heads, tokens, dim] = x.dims();
        let a = x.clone().slice([0..heads, 0..tokens, 0..dim / 2]);
        let b = x.slice([0..heads, 0..tokens, dim / 2..dim]);
        let first = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        let second = b * self.cos.clone() + a * self.sin.clone();
        Tensor::cat(vec![first, second], 2)
    }
}

/// RMSNorm of the rows of `x`.
fn normed(config: &LlamaConfig, x: Tensor<2>, weight: &Tensor<1>) -> Tensor<2> {
    let mean = (x.clone() * x.clone()).mean_dim(1) + config.norm_epsilon;
    x * mean.sqrt().recip() * weight.clone().unsqueeze()
}

fn two(outputs: Vec<Tensor<2>>) -> Result<[Tensor<2>; 2]> {
    outputs.try_into().map_err(|_| Error::invalid("expected two outputs"))
}

fn three(outputs: Vec<Tensor<2>>) -> Result<[Tensor<2>; 3]> {
    outputs.try_into().map_err(|_| Error::invalid("expected three outputs"))
}

/// Tensors that must be there with the shape that the configuration says.
struct Loader<'a> {
    config: &'a LlamaConfig,
    weights: &'a PackedWeights,
    device: &'a Device,
}

impl Loader<'_> {
    fn vector(&self, name: &str, length: usize) -> Result<Tensor<1>> {
        require(&**self.weights.weights(), name, [length, 1])?;
        Ok(tensor(self.weights.weights().vector(name)?, [length], self.device))
    }

    /// A matrix of layer `layer`, with a bias where the configuration has one.
    fn linear(&self, part: Part, layer: usize) -> Result<PackedLinear> {
        let (name, shape) = (part.name(layer), part.shape(self.config));
        require(&**self.weights.weights(), &name, shape)?;
        if part.biased(self.config) {
            require(&**self.weights.weights(), &part.bias(layer), [shape[0], 1])?;
            PackedLinear::new(self.weights, &part.layer(layer), self.device)
        } else {
            PackedLinear::from_matrix(self.weights, &name)
        }
    }
}
