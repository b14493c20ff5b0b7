//! Language models.

mod language_model;

pub use language_model::{LanguageModel, Wanted};
