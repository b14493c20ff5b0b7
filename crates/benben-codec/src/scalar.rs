//! Codec `scalar`.
