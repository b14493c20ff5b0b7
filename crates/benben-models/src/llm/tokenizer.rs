//! Text to tokens and back, by the `tokenizer.json` that travels with a model.

use benben_format::{Error, Result};

/// Tokens that a character may be spread over: its bytes in UTF-8.
const MOST_PENDING: usize = 4;

/// A model's tokenizer.
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// The tokenizer in the bytes of `tokenizer.json`.
    ///
    /// # Errors
    /// Corruption where it is none.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let read = tokenizers::Tokenizer::from_bytes(bytes);
        let mut inner = read.map_err(|e| Error::corruption(format!("tokenizer.json: {e}")))?;
        // A whole text is wanted, whatever lengths the tokenizer was saved with.
        inner.with_padding(None);
        let unbounded = inner.with_truncation(None);
        unbounded.map_err(|e| Error::corruption(format!("tokenizer.json: {e}")))?;
        Ok(Self(inner))
    }

    /// Number of tokens, added ones included.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// The tokens of `text`; with `special`, between those that the tokenizer puts around a text by itself.
    ///
    /// # Errors
    /// Corruption where the tokenizer cannot spell the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoded = self.0.encode_fast(text, special);
        let encoded = encoded.map_err(|e| Error::corruption(format!("tokenizer.json: {e}")))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The text of `tokens`, without special ones.
    ///
    /// # Errors
    /// Corruption where the tokenizer's own rules fail.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.0.decode(tokens, true).map_err(|e| Error::corruption(format!("tokenizer.json: {e}")))
    }

    /// The token that is spelled `text`.
    #[must_use]
    pub fn token(&self, text: &str) -> Option<u32> {
        self.0.token_to_id(text)
    }

    /// Turns tokens into text as they come.
    #[must_use]
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, tokens: Vec::new(), said: 0 }
    }
}

/// Text of tokens that come one by one: what is said is never taken back, so a character whose bytes are spread over
/// several tokens waits for the last of them.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The tokens of the last piece that was said, then those that were not said yet. The former stay, since some
    /// tokenizers drop a space at the start of a text.
    tokens: Vec<u32>,
    said: usize,
}

impl TextStream<'_> {
    /// The text that `token` completes; often empty.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        self.take(self.tokens.len() - self.said > MOST_PENDING)
    }

    /// What is left at the end: incomplete characters as U+FFFD.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(mut self) -> Result<String> {
        self.take(true)
    }

    fn take(&mut self, whatever: bool) -> Result<String> {
        let before = self.tokenizer.decode(&self.tokens[..self.said])?;
        let text = self.tokenizer.decode(&self.tokens)?;
        if text.ends_with('\u{fffd}') && !whatever {
            return Ok(String::new());
        }
        // Where the last piece ended within a character, or a tokenizer spells words by what follows, what was said is
        // no longer how the text begins: then the new tokens speak for themselves.
        let new = match text.strip_prefix(&before) {
            Some(new) => new.to_owned(),
            None => self.tokenizer.decode(&self.tokens[self.said..])?,
        };
        if !new.is_empty() || whatever {
            self.tokens.drain(..self.said);
            self.said = self.tokens.len();
        }
        Ok(new)
    }
}
