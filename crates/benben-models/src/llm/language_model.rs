//! What generating and evaluating need of a language model, whatever it runs on.

use benben_format::{Error, Result};

/// Which logits are wanted of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those after the last token: `[vocabulary]`.
    Last,
    /// Those after every token: `[tokens, vocabulary]`.
    Every,
}

/// A causal language model with the state of one sequence (its KV cache).
pub trait LanguageModel {
    /// Number of logits at each position.
    fn vocabulary(&self) -> usize;

    /// Most tokens that a sequence may have.
    fn context(&self) -> usize;

    /// Tokens in the state so far.
    fn position(&self) -> usize;

    /// Appends `tokens` to the sequence and gives logits, row-major f32.
    ///
    /// # Errors
    /// InvalidArgument for no tokens, for a token outside the vocabulary, or where the sequence would pass
    /// [`context`](Self::context); otherwise as the weights.
    fn forward(&mut self, tokens: &[u32], wanted: Wanted) -> Result<Vec<f32>>;

    /// Whether [`forward`](Self::forward) may be given `tokens`: what every implementation asks first.
    ///
    /// # Errors
    /// InvalidArgument for no tokens, for a token outside the vocabulary, or where the sequence would pass
    /// [`context`](Self::context).
    fn check(&self, tokens: &[u32]) -> Result<()> {
        let (vocabulary, context, position) = (self.vocabulary(), self.context(), self.position());
        check_tokens(tokens, vocabulary)?;
        if tokens.len() > context.saturating_sub(position) {
            let count = tokens.len();
            return Err(Error::invalid(format!(
                "{count} tokens after {position}, but the model's context is {context}"
            )));
        }
        Ok(())
    }

    /// Forgets all tokens from position `length` on.
    fn truncate(&mut self, length: usize);
}

/// Refuses tokens that are not in the vocabulary, and none at all.
pub(super) fn check_tokens(tokens: &[u32], vocabulary: usize) -> Result<()> {
    if tokens.is_empty() {
        return Err(Error::invalid("no tokens: expected one at least"));
    }
    match tokens.iter().find(|t| **t as usize >= vocabulary) {
        Some(token) => Err(Error::invalid(format!("token {token}, but the vocabulary has {vocabulary}"))),
        None => Ok(()),
    }
}
