//! Language models.

mod cache;
mod config;
mod kernel;
mod language_model;
mod llama;
mod rope;
mod source;

pub use config::{EMBEDDING, FINAL_NORM, LlamaConfig, OUTPUT};
pub use language_model::{LanguageModel, Wanted};
pub use llama::Llama;
pub use rope::Rope;
pub use source::SourceWeights;
