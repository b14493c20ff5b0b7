//! Leaf codecs as encoder/decoder twins, and the entropy coders under them.
//!
//! ```
//! use benben_codec::{Target, scalar};
//! let weights: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.7).sin()).collect();
//! let settings = scalar::Settings::new(Target::BitsPerWeight(4.0));
//! let (leaf, fit) = scalar::encode(&weights, &[64, 64], &settings)?;
//! println!("{:.2} bits, relative error {:.1e}", fit.bits_per_weight, fit.relative_mse);
//!
//! let mut row = [0.0; 64];
//! benben_codec::decode(&leaf, 128..192, &mut row)?; // row 2 alone
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! | codec | stores | choose it |
//! |---|---|---|
//! | [`raw`] | any dtype, bit-exact | where nothing may be lost |
//! | [`scalar`] | one step, entropy-coded integers | by default |
//! | [`trellis`] | one step, integers on the best path of a trellis | for the least error from 0.3 to 5 bits |
//! | [`pvq`] | gain and pyramid point | for the least error without a codebook to learn |
//! | [`rvq`] | sums of learned codewords | where elements of a vector depend on each other |
//! | [`ternary`] | -, 0, + and levels by row | below 1.5 bits, or in planes |
//!
//! This crate knows leaves, not files: whole packs are opened by `benben-decode` and made by `benben`.
#![allow(
    clippy::cast_possible_truncation,
    reason = "kernels narrow values whose range the line before has set"
)]

pub mod bands;
mod checks;
mod dial;
mod dispatch;
pub mod entropy;
mod estimate;
mod exceptions;
mod importance;
pub mod lattice;
pub mod pvq;
pub mod raw;
mod runs;
pub mod rvq;
pub mod scalar;
mod target;
pub mod ternary;
pub mod trellis;

pub use checks::{check_codec, check_finite, check_range};
pub use dispatch::{CODECS, decode};
pub use importance::Importance;
pub use target::{Fit, Target, squared_error};
