//! Codec `ternary`.
mod decode;
mod dictionary;
mod encode;
mod level;
mod plane;
mod side;
mod stack;

pub use decode::decode;
pub use encode::encode;
pub use stack::encode_planes;

use crate::Target;
use serde::{Deserialize, Serialize};

/// Name of the codec.
pub const CODEC: &str = "ternary";
/// Its version.
pub const VERSION: u16 = 1;

/// What the encoder is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What to reach. A rate is met from below.
    pub target: Target,
}

impl Settings {
    /// Settings for a target.
    pub fn new(target: Target) -> Self {
        Self { target }
    }
}

/// Parameters of a leaf.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    coder: Coder,
}

/// How trits are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Coder {
    /// By rANS, with a table for each band of rows.
    Symbols,
    /// By 16-bit codewords of the fixed dictionary.
    Dictionary,
}

/// Sum of squares, added in a fixed order.
fn energy(values: &[f32]) -> f64 {
    crate::squared_error(values, values).1
}
