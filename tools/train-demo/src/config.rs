//! The shape of the network, under the names of Hugging Face's `LlamaConfig`.

use anyhow::{Result, ensure};
use benben_models::llm::Rope;
use serde::{Deserialize, Serialize};

/// Everything that `config.json` needs to rebuild the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads, each shared by a group of query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest context that training has seen.
    pub max_position_embeddings: usize,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
}

impl LlamaConfig {
    /// The demo: 1.94 million parameters.
    ///
    /// Every row of every matrix is 256 or 512 long, so that each method of the packer applies,
    /// also those that need a power of two or whole blocks of 256.
    #[must_use]
    pub fn demo(vocab_size: usize, context: usize) -> Self {
        Self {
            vocab_size,
            hidden_size: 256,
            intermediate_size: 512,
            num_hidden_layers: 3,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: 32,
            max_position_embeddings: context,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            initializer_range: 0.02,
        }
    }

    /// The same, as the graph of the network takes it.
    #[must_use]
    pub fn network(&self) -> benben_models::llm::LlamaConfig {
        #[expect(clippy::cast_possible_truncation, reason = "the network computes in single precision")]
        let norm_epsilon = self.rms_norm_eps as f32;
        benben_models::llm::LlamaConfig {
            vocabulary: self.vocab_size,
            hidden: self.hidden_size,
            intermediate: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            key_value_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            context: self.max_position_embeddings,
            norm_epsilon,
            rope: Rope::plain(self.rope_theta, self.head_dim),
            tied_embeddings: true,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            bos: None,
            eos: Vec::new(),
        }
    }

    /// Refuses shapes that the network cannot have.
    ///
    /// # Errors
    ///
    /// When heads do not divide into groups or a head cannot be split in halves.
    pub fn check(&self) -> Result<()> {
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        ensure!(groups > 0 && heads.is_multiple_of(groups), "{heads} heads cannot share {groups} key heads");
        ensure!(self.head_dim.is_multiple_of(2), "a head of {} has no halves to rotate", self.head_dim);
        ensure!(self.vocab_size > 0 && self.num_hidden_layers > 0, "the network is empty");
        Ok(())
    }
}
