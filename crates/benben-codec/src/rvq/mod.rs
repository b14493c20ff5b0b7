//! Codec `rvq`.
mod codebook;
mod kmeans;
mod random;
mod search;
pub mod train;
