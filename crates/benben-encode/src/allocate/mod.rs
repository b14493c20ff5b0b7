//! Which method and how many bits each tensor gets, so that a file has a size, or a loss.

pub mod dynamic;
pub mod evolution;
mod levels;

pub use levels::{Level, Levels};
