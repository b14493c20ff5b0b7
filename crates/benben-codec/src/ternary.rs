//! Codec `ternary`.
