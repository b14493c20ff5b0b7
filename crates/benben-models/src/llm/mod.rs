//! Language models.

mod config;
mod language_model;
mod rope;

pub use config::{EMBEDDING, FINAL_NORM, LlamaConfig, OUTPUT};
pub use language_model::{LanguageModel, Wanted};
pub use rope::Rope;
