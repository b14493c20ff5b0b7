//! The loss on text that training has not seen.

use crate::config::LlamaConfig;
use crate::data;
use crate::model::CausalLm;
use crate::tokenizer::Vocabulary;
use anyhow::{Result, ensure};
use burn::tensor::Device;
use serde::Serialize;

/// How well the network predicts a text, read in windows that do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HeldOut {
    /// Number of tokens predicted.
    pub tokens: usize,
    /// Number of bytes that they stand for.
    pub bytes: usize,
    /// Mean loss of a token, in nats.
    pub nats_per_token: f64,
    /// The same loss, in bits of a byte of text: comparable between vocabularies.
    pub bits_per_byte: f64,
}

/// Measures `model`, which must be free of dropout (`Module::valid`).
///
/// # Errors
///
/// When the text is shorter than one window or the losses cannot be read.
pub fn held_out(
    model: &CausalLm,
    config: &LlamaConfig,
    vocabulary: &Vocabulary,
    text: &[u32],
    batch: usize,
    device: &Device,
) -> Result<HeldOut> {
    let length = config.max_position_embeddings;
    let starts = data::in_order(text.len(), length, 0);
    ensure!(!starts.is_empty(), "{} held-out tokens do not fill a window of {length}", text.len());
    let mut nats = 0.0;
    for some in starts.chunks(batch) {
        let batch = data::batch(text, some, length, device);
        nats += f64::from(model.losses(config, batch.tokens, batch.targets).sum().try_into_scalar::<f32>()?);
    }
    let tokens = starts.len() * length;
    let bytes = text[1..=tokens].iter().map(|token| vocabulary.bytes(*token)).sum();
    Ok(HeldOut {
        tokens,
        bytes,
        nats_per_token: nats / tokens as f64,
        bits_per_byte: nats / std::f64::consts::LN_2 / bytes as f64,
    })
}
