//! Codec `rvq`.
mod codebook;
mod decode;
mod encode;
mod kmeans;
mod layout;
mod plan;
mod random;
mod search;
mod settings;
mod stored;
mod train;
mod trial;
mod whole;

pub use decode::decode;
pub use encode::encode;
pub use settings::Settings;

use serde::{Deserialize, Serialize};

/// Name of the codec.
pub const NAME: &str = "rvq";
/// Version of its layout.
pub const VERSION: u16 = 1;

/// Parameters of the leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Elements of a vector.
    pub dim: u8,
    /// Groups of vectors with codebooks of their own.
    pub groups: u16,
    /// Stages of each group.
    pub stages: u8,
}
