//! Names and shapes of a layer's tensors in the Llama family.

use super::config::LlamaConfig;
use benben_decode::Weights;
use benben_format::{Error, Result};

/// A matrix of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Stream to queries.
    Query,
    /// Stream to keys.
    Key,
    /// Stream to values.
    Value,
    /// What was attended to, back to the stream.
    Output,
    /// Stream to the gate of the feed-forward part.
    Gate,
    /// Stream to what the gate lets pass.
    Up,
    /// The feed-forward part back to the stream.
    Down,
}

impl Part {
    /// All, in the order in which a layer uses them.
    pub const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// The linear layer that it belongs to in layer `layer`, as Hugging Face names it: `model.layers.0.self_attn.q_proj`.
    #[must_use]
    pub fn layer(self, layer: usize) -> String {
        let path = match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        };
        format!("model.layers.{layer}.{path}")
    }

    /// The name of the matrix in layer `layer`: `model.layers.0.self_attn.q_proj.weight`.
    #[must_use]
    pub fn name(self, layer: usize) -> String {
        format!("{}.weight", self.layer(layer))
    }

    /// The name of its bias.
    #[must_use]
    pub fn bias(self, layer: usize) -> String {
        format!("{}.bias", self.layer(layer))
    }

    /// Rows and columns in a network of this shape.
    #[must_use]
    pub fn shape(self, config: &LlamaConfig) -> [usize; 2] {
        let (hidden, inner) = (config.hidden, config.intermediate);
        match self {
            Self::Query => [config.query_width(), hidden],
            Self::Key | Self::Value => [config.key_width(), hidden],
            Self::Output => [hidden, config.query_width()],
            Self::Gate | Self::Up => [inner, hidden],
            Self::Down => [hidden, inner],
        }
    }

    /// Whether it has a bias.
    #[must_use]
    pub fn biased(self, config: &LlamaConfig) -> bool {
        match self {
            Self::Query | Self::Key | Self::Value => config.qkv_bias,
            Self::Output => config.output_bias,
            Self::Gate | Self::Up | Self::Down => config.mlp_bias,
        }
    }
}

/// Names of the norms of layer `layer`: before attention, and before the feed-forward part.
#[must_use]
pub fn norms(layer: usize) -> [String; 2] {
    ["input", "post_attention"].map(|part| format!("model.layers.{layer}.{part}_layernorm.weight"))
}

/// Refuses weights where `name` is missing or has another shape than the configuration says. A vector has one column.
///
/// # Errors
/// Corruption, naming the tensor.
pub fn require(weights: &dyn Weights, name: &str, expected: [usize; 2]) -> Result<()> {
    if !weights.contains(name) {
        let message = "config.json asks for this tensor, the model has none of that name";
        return Err(Error::corruption(message).in_tensor(name));
    }
    let found = weights.shape(name)?;
    if found != expected {
        let ([rows, columns], [m, n]) = (expected, found);
        let message = format!("expected {rows} x {columns} by config.json, found {m} x {n}");
        return Err(Error::corruption(message).in_tensor(name));
    }
    Ok(())
}
