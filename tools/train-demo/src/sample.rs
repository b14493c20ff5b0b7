//! Writes text with the network, to see what it has learnt.

use crate::config::LlamaConfig;
use crate::model::CausalLm;
use crate::rng::Rng;
use crate::tokenizer::Vocabulary;
use anyhow::{Result, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Stream of [`Rng`] that draws tokens.
const DRAW: u64 = 2;
/// Divides the logits: below 1 the likelier tokens gain.
const TEMPERATURE: f64 = 0.8;
/// Only that many of the likeliest tokens are drawn from.
const TOP: usize = 40;

/// Continues `prompt` by `count` tokens; returns prompt and continuation.
///
/// # Errors
///
/// When the prompt cannot be encoded or the logits cannot be read.
pub fn continue_text(
    model: &CausalLm,
    config: &LlamaConfig,
    vocabulary: &Vocabulary,
    prompt: &str,
    count: usize,
    seed: u64,
    device: &Device,
) -> Result<String> {
    let mut rng = Rng::new(seed, DRAW);
    let mut tokens = vec![vocabulary.end_of_text];
    tokens.extend(vocabulary.encode(prompt)?);
    for _ in 0..count {
        let context = &tokens[tokens.len().saturating_sub(config.max_position_embeddings)..];
        let ids: Vec<i64> = context.iter().map(|id| i64::from(*id)).collect();
        let input = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, context.len()]), device);
        let logits = model.forward(config, input).narrow(1, context.len() - 1, 1);
        let token = draw(&logits.into_data().convert::<f32>().try_into_vec::<f32>()?, &mut rng)?;
        if token == vocabulary.end_of_text {
            break;
        }
        tokens.push(token);
    }
    vocabulary.decode(&tokens)
}

fn draw(logits: &[f32], rng: &mut Rng) -> Result<u32> {
    let mut ranked: Vec<(usize, f64)> = logits.iter().map(|logit| f64::from(*logit)).enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(TOP);
    ensure!(ranked.iter().all(|(_, logit)| logit.is_finite()), "the logits are not finite");
    let best = ranked.first().map_or(0.0, |(_, logit)| *logit);
    let weights: Vec<f64> = ranked.iter().map(|(_, logit)| ((logit - best) / TEMPERATURE).exp()).collect();
    let mut left = rng.unit() * weights.iter().sum::<f64>();
    let chosen = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    Ok(u32::try_from(ranked[chosen.unwrap_or(0)].0)?)
}
