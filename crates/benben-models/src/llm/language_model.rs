//! What generating and evaluating need of a language model, whatever it runs on.

use benben_format::Result;

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

    /// Forgets all tokens from position `length` on.
    fn truncate(&mut self, length: usize);
}
