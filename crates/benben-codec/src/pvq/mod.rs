//! Codec `pvq`.
mod bands;
mod decode;
mod dial;
mod encode;
mod gain;
pub mod point;
pub mod pyramid;
mod side;
mod tail;

pub use decode::decode;
pub use encode::encode;

use crate::Target;
use serde::{Deserialize, Serialize};

/// Name of the codec.
pub const CODEC: &str = "pvq";
/// Its version.
pub const VERSION: u16 = 1;

/// What the encoder is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Most values of a group, 1 to 32.
    pub dim: u8,
    /// What to reach.
    pub target: Target,
    /// Groups of one chunk.
    pub chunk_groups: u32,
}

impl Settings {
    /// Groups of 16, in chunks of a million values.
    pub fn new(target: Target) -> Self {
        Self { dim: 16, target, chunk_groups: 1 << 16 }
    }
}

/// Parameters of a leaf, in its CBOR map.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Params {
    dim: u8,
}
