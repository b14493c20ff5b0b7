//! Codec `rvq`.
