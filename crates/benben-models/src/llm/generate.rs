//! Text from a prompt, token by token.

use super::language_model::{LanguageModel, Wanted};
use super::sample::{Sampler, Sampling};
use super::tokenizer::Tokenizer;
use benben_format::{Error, Result};
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Tokens of a prompt between two looks at whether to go on.
const PIECE: usize = 512;

/// What is to be generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Most tokens to generate.
    pub tokens: usize,
    /// How each is drawn.
    pub sampling: Sampling,
    /// Tokens that end the text; they are not part of it.
    pub end: Vec<u32>,
}

/// Why the text ends where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The model ended it.
    Text,
    /// As many tokens as were asked for.
    Length,
    /// The model's context is full.
    Context,
    /// The caller wanted no more.
    Stopped,
}

/// What was generated, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The text, without the prompt.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Why it ends.
    pub end: End,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the call to the logits after the prompt.
    pub prompt_time: Duration,
    /// Passes of one token after that.
    pub steps: usize,
    /// What they took, drawing and decoding of text included.
    pub step_time: Duration,
}

/// Continues `prompt` on `model`, whose state it appends to. `each` is given text as it comes and answers whether to
/// go on; between the pieces of a long prompt it is given none.
///
/// # Errors
/// InvalidArgument for an empty prompt, one that does not fit the model's context, or impossible sampling; otherwise
/// as the model and the tokenizer.
pub fn generate(
    model: &mut dyn LanguageModel,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    settings: &Settings,
    each: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generated> {
    let room = model.context() - model.position();
    if prompt.len() > room {
        return Err(Error::invalid(format!(
            "the prompt has {} tokens, there is room for {room}",
            prompt.len()
        ))
        .with_hint("shorten the prompt"));
    }
    let mut sampler = Sampler::new(settings.sampling)?;
    let mut stream = tokenizer.stream();
    let mut made = Generated {
        text: String::new(),
        tokens: Vec::new(),
        end: End::Length,
        prompt_tokens: prompt.len(),
        prompt_time: Duration::ZERO,
        steps: 0,
        step_time: Duration::ZERO,
    };
    let started = Instant::now();
    let mut logits = Vec::new();
    let mut pieces = prompt.chunks(PIECE).peekable();
    if pieces.peek().is_none() {
        return Err(Error::invalid("the prompt has no tokens").with_hint("give some text to continue"));
    }
    while let Some(piece) = pieces.next() {
        logits = model.forward(piece, Wanted::Last)?;
        if pieces.peek().is_some() && each("").is_break() {
            made.end = End::Stopped;
            return Ok(made);
        }
    }
    made.prompt_time = started.elapsed();
    let started = Instant::now();
    while made.tokens.len() < settings.tokens {
        let token = sampler.draw(&logits)?;
        if settings.end.contains(&token) {
            made.end = End::Text;
            break;
        }
        made.tokens.push(token);
        let new = stream.push(token)?;
        made.text.push_str(&new);
        if each(&new).is_break() {
            made.end = End::Stopped;
            break;
        }
        if made.tokens.len() == settings.tokens {
            break;
        }
        if model.position() == model.context() {
            made.end = End::Context;
            break;
        }
        logits = model.forward(&[token], Wanted::Last)?;
        made.steps += 1;
    }
    let rest = stream.finish()?;
    if !rest.is_empty() {
        made.text.push_str(&rest);
        // There is nothing left to stop.
        let _ = each(&rest);
    }
    made.step_time = started.elapsed();
    Ok(made)
}
