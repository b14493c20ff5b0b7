//! Measurements of Benben beside its peers and the machine's limits, as values: the command line draws them,
//! `cargo bench` and the figures example repeat them, tests look at their shape and never at the clock.
//!
//! ```
//! use benben_bench::{Matrix, Measure, coding};
//!
//! let mut measure = Measure::quick(1)?;
//! let data = [Matrix::gaussian(1 << 14, 7)];
//! let table = coding::measure(&data, 3.0, &mut measure)?;
//! for row in &table.rows {
//!     println!("{:<40} {:6.3} Gsym/s", row.coder, row.decode_per_second / 1e9);
//! }
//! # Ok::<(), benben::Error>(())
//! ```
//!
//! Everything that is compared is measured in one run, on the same data, by turns, so that a busy machine slows all
//! alike; a figure is the median of its turns. *Not for*: figures across machines. Compare ratios.
//!
//! | file | owns |
//! |---|---|
//! | [`coding`] | symbols to bits and back: rANS by every kernel, constriction, zstd, pco, memcpy |
//! | [`lossless`] | floats, bit for bit |
//! | [`quantizers`] | distance from the Gaussian bound, and speed |
//! | [`integers`] | integers that are given, by class tables |
//! | [`export`] | data for coders outside, with our figures on it |
//! | [`Matrix`], `sample` | what is measured on |
//! | [`Measure`], [`Machine`] | the clock, and where it ran |
//! | [`Goal`] | what the project promises, judged |
//! | [`Rans`], `peers`, `race` | the contestants, and what they must do |
#![allow(
    clippy::cast_possible_truncation,
    reason = "symbols, and integers whose range the line before has set"
)]

pub mod coding;
pub mod export;
mod goal;
pub mod integers;
pub mod lossless;
mod machine;
mod matrix;
mod measure;
mod ours;
mod peers;
pub mod quantizers;
mod race;
mod sample;

pub use goal::Goal;
pub use machine::Machine;
pub use matrix::Matrix;
pub use measure::Measure;
pub use ours::{Job, Rans};
pub use peers::Constriction;
pub use race::Scratch;
pub use sample::Sample;
