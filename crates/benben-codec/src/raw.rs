//! Codec `raw`.
