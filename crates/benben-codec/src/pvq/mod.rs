//! Codec `pvq`.
mod dial;
mod gain;
pub mod point;
pub mod pyramid;
mod tail;
