//! Codec `pvq`.
