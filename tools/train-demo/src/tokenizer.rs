//! The byte-level BPE (Sennrich et al., 2016, <https://arxiv.org/abs/1508.07909>) in Hugging Face's format.

use crate::text::Book;
use anyhow::{Context, Result, anyhow, ensure};
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer};

/// The token that starts every book; also the first and last token of a text.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The tokenizer and its special token.
#[derive(Debug)]
pub struct Vocabulary {
    inner: Tokenizer,
    /// Number of [`END_OF_TEXT`].
    pub end_of_text: u32,
}

/// The text as tokens.
#[derive(Debug)]
pub struct Tokens {
    /// What the network learns from.
    pub training: Vec<u32>,
    /// What it is measured on.
    pub held_out: Vec<u32>,
}

impl Vocabulary {
    /// Learns `size` tokens from the training part of `books`.
    ///
    /// # Errors
    ///
    /// When the text is too short for that many tokens.
    pub fn train(books: &[Book], size: usize) -> Result<Self> {
        let mut inner = Tokenizer::new(ModelWrapper::BPE(BPE::default()));
        inner
            .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
            .with_decoder(Some(ByteLevel::default()));
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .build()
            .into();
        inner
            .train(&mut trainer, books.iter().map(|book| book.training.as_str()))
            .map_err(|cause| anyhow!("cannot train the vocabulary: {cause}"))?;
        let found = inner.get_vocab_size(true);
        ensure!(found == size, "the text gave {found} tokens, not {size}: give more text or ask for fewer");
        let end_of_text = inner.token_to_id(END_OF_TEXT).context("the special token is missing")?;
        Ok(Self { inner, end_of_text })
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether there is no token at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of one text.
    ///
    /// # Errors
    ///
    /// When the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|cause| anyhow!("cannot encode: {cause}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of some tokens.
    ///
    /// # Errors
    ///
    /// When a token is unknown.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, true).map_err(|cause| anyhow!("cannot decode: {cause}"))
    }

    /// The tokens of all books, each after an [`END_OF_TEXT`].
    ///
    /// # Errors
    ///
    /// When the tokenizer refuses a book.
    pub fn encode_books(&self, books: &[Book]) -> Result<Tokens> {
        let join = |part: fn(&Book) -> &str| -> Result<Vec<u32>> {
            let mut tokens = Vec::new();
            for book in books {
                tokens.push(self.end_of_text);
                tokens.extend(self.encode(part(book))?);
            }
            Ok(tokens)
        };
        Ok(Tokens { training: join(|book| &book.training)?, held_out: join(|book| &book.held_out)? })
    }

    /// How many bytes of text a token stands for.
    #[must_use]
    pub fn bytes(&self, token: u32) -> usize {
        if token == self.end_of_text {
            return 0;
        }
        // A byte-level token is spelled with one character for each byte.
        self.inner.id_to_token(token).map_or(0, |spelling| spelling.chars().count())
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json =
            self.inner.to_string(false).map_err(|cause| anyhow!("cannot write the tokenizer: {cause}"))?;
        crate::export::write(path, json.as_bytes())
    }
}
