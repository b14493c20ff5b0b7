//! How well a model predicts a text, and how far it is from the model that it was made from.
//!
//! The tokens of a text, without special ones, are cut into chunks of exactly `context` tokens; what is left over is
//! not used. The model reads each chunk from an empty state, and every token from the second on is scored by the
//! logits before it, or with [`Score::Half`] those of the second half, which is llama.cpp's protocol: there the mean is
//! lower, since every scored token has at least half a context before it. Perplexity is e to the mean loss in nats.
//!
//! Standard errors are over chunks: tokens of one chunk share their subject and do not count as independent.

use super::language_model::{LanguageModel, Wanted};
use benben_format::{Error, ErrorKind, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Tokens whose logits are in memory together: 13 MB for 49152 of them.
const PIECE: usize = 64;

/// Which tokens of a chunk are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// From the second on.
    All,
    /// Those of the second half but its first, as llama.cpp does.
    Half,
}

/// How a text is scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Tokens of a chunk.
    pub context: usize,
    /// Which of them are scored.
    pub score: Score,
    /// Most chunks, from the start of the text; none takes all.
    pub chunks: Option<usize>,
}

/// Sums over the scored tokens of one chunk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// How many were scored.
    pub scored: u64,
    /// Their loss in nats.
    pub loss: f64,
    /// The same text on the reference.
    pub against: Option<Against>,
}

/// Sums over the scored tokens of one chunk, beside a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// The reference's loss in nats.
    pub loss: f64,
    /// Kullback-Leibler divergence of the model from the reference over the whole vocabulary, in nats:
    /// `sum of p_reference * ln(p_reference / p_model)`.
    pub divergence: f64,
    /// At how many tokens both find the same token likeliest.
    pub same: u64,
}

/// A mean and its standard error over chunks; none where there is one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean, or what was made of it.
    pub value: f64,
    /// Its standard error.
    pub error: Option<f64>,
}

impl Protocol {
    /// The chunks of `tokens` that are to be scored.
    ///
    /// # Errors
    /// InvalidArgument for a context that is too short to score anything, or a text shorter than one chunk.
    pub fn cut<'a>(&self, tokens: &'a [u32]) -> Result<Vec<&'a [u32]>> {
        let least = match self.score {
            Score::All => 2,
            Score::Half => 3,
        };
        if self.context < least {
            return Err(Error::invalid(format!(
                "a context of {} tokens: expected {least} at least",
                self.context
            )));
        }
        let chunks = tokens.chunks_exact(self.context).take(self.chunks.unwrap_or(usize::MAX));
        let chunks: Vec<_> = chunks.collect();
        if chunks.is_empty() {
            let message = format!("the text has {} tokens, one chunk takes {}", tokens.len(), self.context);
            return Err(Error::invalid(message).with_hint("give more text, or a smaller --context"));
        }
        Ok(chunks)
    }
}

/// Scores the chunks of `tokens` that `done` does not hold yet, and appends them. `each` is told after every chunk and
/// answers whether to go on.
///
/// # Errors
/// InvalidArgument for a model whose context is shorter than a chunk, or a reference with another vocabulary;
/// Interrupted where `each` wanted no more; otherwise as the models.
pub fn evaluate(
    model: &mut dyn LanguageModel,
    mut reference: Option<&mut dyn LanguageModel>,
    tokens: &[u32],
    protocol: &Protocol,
    done: &mut Vec<Chunk>,
    each: &mut dyn FnMut(&[Chunk]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    if let Some(other) = reference.as_deref().filter(|r| r.vocabulary() != model.vocabulary()) {
        return Err(Error::invalid(format!(
            "the reference has {} tokens, the model {}",
            other.vocabulary(),
            model.vocabulary()
        )));
    }
    for network in [Some(&*model), reference.as_deref()].into_iter().flatten() {
        if network.context() < protocol.context {
            let message =
                format!("chunks of {}, the model's context is {}", protocol.context, network.context());
            return Err(Error::invalid(message).with_hint(format!("give --context {}", network.context())));
        }
    }
    for chunk in protocol.cut(tokens)?.into_iter().skip(done.len()) {
        done.push(score(model, reference.as_deref_mut(), chunk, protocol.score)?);
        if each(done)?.is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "stopped before all chunks were scored"));
        }
    }
    Ok(())
}

/// Scores one chunk.
fn score(
    model: &mut dyn LanguageModel,
    mut reference: Option<&mut (dyn LanguageModel + '_)>,
    chunk: &[u32],
    score: Score,
) -> Result<Chunk> {
    let first = match score {
        Score::All => 0,
        Score::Half => chunk.len() / 2,
    };
    // The last token has nothing after it to predict.
    let read = &chunk[..chunk.len() - 1];
    let skip = |network: &mut dyn LanguageModel| -> Result<()> {
        network.truncate(0);
        if first > 0 {
            network.forward(&read[..first], Wanted::Last)?;
        }
        Ok(())
    };
    skip(model)?;
    if let Some(network) = reference.as_deref_mut() {
        skip(network)?;
    }
    let mut sums = Chunk { scored: 0, loss: 0.0, against: None };
    if reference.is_some() {
        sums.against = Some(Against { loss: 0.0, divergence: 0.0, same: 0 });
    }
    let vocabulary = model.vocabulary();
    for (piece, targets) in read[first..].chunks(PIECE).zip(chunk[first + 1..].chunks(PIECE)) {
        let logits = model.forward(piece, Wanted::Every)?;
        let expected = match reference.as_deref_mut() {
            Some(network) => Some(network.forward(piece, Wanted::Every)?),
            None => None,
        };
        let row = |i: usize| i * vocabulary..(i + 1) * vocabulary;
        let found: Vec<_> = targets
            .par_iter()
            .enumerate()
            .map(|(i, target)| {
                let expected = expected.as_ref().map(|e| &e[row(i)]);
                token(&logits[row(i)], expected, *target as usize)
            })
            .collect();
        for (loss, against) in found {
            if !loss.is_finite() {
                return Err(Error::corruption("a logit is no number: some weights are not"));
            }
            sums.scored += 1;
            sums.loss += loss;
            if let (Some(sums), Some(one)) = (&mut sums.against, against) {
                sums.loss += one.loss;
                sums.divergence += one.divergence;
                sums.same += one.same;
            }
        }
    }
    Ok(sums)
}

/// Loss of one token, and what the reference makes of it.
fn token(logits: &[f32], expected: Option<&[f32]>, target: usize) -> (f64, Option<Against>) {
    let (whole, top) = normalizer(logits);
    let against = expected.map(|expected| {
        let (other, other_top) = normalizer(expected);
        let divergence = logits.iter().zip(expected).map(|(q, p)| {
            let (p, q) = (f64::from(*p) - other, f64::from(*q) - whole);
            p.exp() * (p - q)
        });
        // Rounding can leave a sum a little below zero, which a divergence never is.
        let divergence = divergence.sum::<f64>().max(0.0);
        let loss = other - f64::from(expected[target]);
        Against { loss, divergence, same: u64::from(top == other_top) }
    });
    (whole - f64::from(logits[target]), against)
}

/// The logarithm of the sum of e to the logits, and the first of the largest.
fn normalizer(logits: &[f32]) -> (f64, usize) {
    let mut top = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[top] {
            top = i;
        }
    }
    let largest = f64::from(logits[top]);
    let sum: f64 = logits.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
    (largest + sum.ln(), top)
}

/// The mean of `sum` over all scored tokens, with its standard error over chunks.
fn mean(chunks: &[Chunk], sum: impl Fn(&Chunk) -> f64) -> Estimate {
    let scored: u64 = chunks.iter().map(|c| c.scored).sum();
    let value = chunks.iter().map(&sum).sum::<f64>() / scored.max(1) as f64;
    let n = chunks.len() as f64;
    // Chunks are of one length: the mean of their means is the mean over all.
    let squares: f64 = chunks.iter().map(|c| (sum(c) / c.scored.max(1) as f64 - value).powi(2)).sum();
    Estimate { value, error: (chunks.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()) }
}

/// Perplexity of the model on `chunks`; the error is that of the mean loss, times the perplexity.
#[must_use]
pub fn perplexity(chunks: &[Chunk]) -> Estimate {
    exponential(mean(chunks, |c| c.loss))
}

/// What `chunks` say of the model beside its reference; none where there was no reference.
#[must_use]
pub fn distance(chunks: &[Chunk]) -> Option<Distance> {
    let all: Option<Vec<&Against>> = chunks.iter().map(|c| c.against.as_ref()).collect();
    all.filter(|list| !list.is_empty())?;
    let of = |sum: fn(&Against) -> f64| mean(chunks, |c| c.against.as_ref().map_or(0.0, sum));
    Some(Distance {
        reference_perplexity: exponential(of(|a| a.loss)),
        perplexity_ratio: exponential(mean(chunks, |c| c.loss - c.against.as_ref().map_or(0.0, |a| a.loss))),
        divergence: of(|a| a.divergence),
        same_top: of(|a| a.same as f64),
    })
}

/// A model beside its reference, on one text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Distance {
    /// Perplexity of the reference.
    pub reference_perplexity: Estimate,
    /// Perplexity of the model over that of the reference; the error is that of the difference of losses.
    pub perplexity_ratio: Estimate,
    /// Mean Kullback-Leibler divergence of the model from the reference, in nats for each token.
    pub divergence: Estimate,
    /// Part of the tokens at which both find the same token likeliest.
    pub same_top: Estimate,
}

fn exponential(mean: Estimate) -> Estimate {
    let value = mean.value.exp();
    Estimate { value, error: mean.error.map(|e| e * value) }
}
