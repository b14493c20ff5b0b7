//! Leaf codecs as encoder/decoder twins, and the entropy coders under them.
#![allow(
    clippy::cast_possible_truncation,
    reason = "kernels narrow values whose range the line before has set"
)]

mod checks;
mod dispatch;
pub mod entropy;
pub mod pvq;
pub mod raw;
pub mod rvq;
pub mod scalar;
mod target;
pub mod ternary;

pub use checks::{check_codec, check_finite, check_range};
pub use dispatch::{CODECS, decode};
pub use target::{Fit, Target, squared_error};
