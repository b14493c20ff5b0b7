//! Language models.

mod blocks;
mod cache;
mod chat;
mod config;
mod evaluate;
mod generate;
#[cfg(feature = "burn")]
pub mod graph;
mod kernel;
mod language_model;
mod llama;
mod model;
mod part;
mod rope;
mod sample;
mod scratch;
mod skeleton;
mod source;
mod tokenizer;

pub use blocks::{LlamaBlocks, samples};
pub use chat::{ChatTemplate, Message};
pub use config::{EMBEDDING, FINAL_NORM, LlamaConfig, OUTPUT};
pub use evaluate::{Against, Chunk, Distance, Estimate, Protocol, Score, distance, evaluate, perplexity};
pub use generate::{End, Generated, Settings, generate};
pub use language_model::{LanguageModel, Wanted};
pub use llama::Llama;
pub use model::Model;
pub use part::{Part, norms, require};
pub use rope::Rope;
pub use sample::{Sampler, Sampling};
pub use source::SourceWeights;
pub use tokenizer::{TextStream, Tokenizer};
