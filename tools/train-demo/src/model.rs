//! The network: Llama's decoder (RMSNorm, grouped-query attention, SwiGLU, tied embeddings, no biases).
//!
//! What a layer computes stands in [`benben_models::llm::graph`]; here are its parameters.
//! Fields are called what Hugging Face calls the tensors, so that the path of a parameter *is* its name
//! in the file: `model.layers.0.self_attn.q_proj.weight`.

use crate::config::LlamaConfig;
use benben_models::llm::Part;
use benben_models::llm::graph::{Layer, Positions};
use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig, RmsNorm,
    RmsNormConfig,
};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};

/// A decoder with its output layer, which is the embedding again.
#[derive(Module, Debug)]
pub struct CausalLm {
    model: Llama,
}

#[derive(Module, Debug)]
struct Llama {
    embed_tokens: Embedding,
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    dropout: Dropout,
}

#[derive(Module, Debug)]
struct DecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
    dropout: Dropout,
}

#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
}

#[derive(Module, Debug)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl CausalLm {
    /// A network with initial weights from the device's generator: seed the device first.
    ///
    /// `dropout` is applied to what each layer adds to the residual stream, while training only.
    #[must_use]
    pub fn new(config: &LlamaConfig, dropout: f64, device: &Device) -> Self {
        let std = config.initializer_range;
        let layers =
            (0..config.num_hidden_layers).map(|_| DecoderLayer::new(config, dropout, device)).collect();
        let model = Llama {
            embed_tokens: EmbeddingConfig::new(config.vocab_size, config.hidden_size)
                .with_initializer(Initializer::Normal { mean: 0.0, std })
                .init(device),
            layers,
            norm: norm(config, device),
            dropout: DropoutConfig::new(dropout).init(),
        };
        // Burn draws weights at their first use; drawn now, they do not depend on what is used first.
        Self { model }.materialize()
    }

    /// Logits `[batch, length, vocab]` for tokens `[batch, length]`.
    #[must_use]
    pub fn forward(&self, config: &LlamaConfig, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, length] = tokens.dims();
        let shape = config.network();
        let positions = Positions::new(&shape, length, &tokens.device());
        let graph = Layer { config: &shape, positions: &positions };
        let mut x = self.model.dropout.forward(self.model.embed_tokens.forward(tokens));
        for layer in &self.model.layers {
            x = layer.forward(&graph, x);
        }
        let x = self.model.norm.forward(x);
        x.matmul(self.model.embed_tokens.weight.val().transpose().unsqueeze::<3>())
    }

    /// Loss in nats of each target: `[batch * length]`.
    #[must_use]
    pub fn losses(&self, config: &LlamaConfig, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<1> {
        let [batch, length] = tokens.dims();
        let count = batch * length;
        let logits = self.forward(config, tokens).reshape([count, config.vocab_size]);
        log_softmax(logits, 1).gather(1, targets.reshape([count, 1])).reshape([count]).neg()
    }
}

impl DecoderLayer {
    fn new(config: &LlamaConfig, dropout: f64, device: &Device) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) =
            (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let std = config.initializer_range;
        // The two matrices that write to the residual stream start smaller, by the number of writes.
        let writes = std / (2.0 * config.num_hidden_layers as f64).sqrt();
        Self {
            input_layernorm: norm(config, device),
            self_attn: Attention {
                q_proj: linear(hidden, queries, std, device),
                k_proj: linear(hidden, keys, std, device),
                v_proj: linear(hidden, keys, std, device),
                o_proj: linear(queries, hidden, writes, device),
            },
            post_attention_layernorm: norm(config, device),
            mlp: Mlp {
                gate_proj: linear(hidden, inner, std, device),
                up_proj: linear(hidden, inner, std, device),
                down_proj: linear(inner, hidden, writes, device),
            },
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    fn forward(&self, graph: &Layer<'_>, x: Tensor<3>) -> Tensor<3> {
        let product = &mut |part, x| self.matrix(part).forward(x);
        let attended = graph.attend(self.input_layernorm.forward(x.clone()), product);
        let x = x + self.dropout.forward(attended);
        let fed = graph.feed(self.post_attention_layernorm.forward(x.clone()), product);
        x + self.dropout.forward(fed)
    }

    fn matrix(&self, part: Part) -> &Linear {
        match part {
            Part::Query => &self.self_attn.q_proj,
            Part::Key => &self.self_attn.k_proj,
            Part::Value => &self.self_attn.v_proj,
            Part::Output => &self.self_attn.o_proj,
            Part::Gate => &self.mlp.gate_proj,
            Part::Up => &self.mlp.up_proj,
            Part::Down => &self.mlp.down_proj,
        }
    }
}

fn linear(from: usize, to: usize, std: f64, device: &Device) -> Linear {
    LinearConfig::new(from, to)
        .with_bias(false)
        .with_initializer(Initializer::Normal { mean: 0.0, std })
        .init(device)
}

fn norm(config: &LlamaConfig, device: &Device) -> RmsNorm {
    RmsNormConfig::new(config.hidden_size).with_epsilon(config.rms_norm_eps).init(device)
}
