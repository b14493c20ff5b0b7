//! Codec `pvq`, version 1: points of integers, by their number or pulse by pulse. No codebook.
//!
//! **Stores** groups of `N` consecutive values (flat, row-major) in one of two forms. *Numbered*: a gain and a
//! direction, an integer point of L1 norm `K` named by its number among all `V(N, K)` such points; `K` follows the
//! gain. *Pulses*: the integers themselves, entropy-coded by tables that follow the group's energy. There the point
//! tells the gain, step times length, and neither gain nor `K` is stored.
//!
//! **Source.** Fischer, *A Pyramid Vector Quantizer*, IEEE Trans. Inf. Theory 32 (1986), for points, their count
//! and gain times shape; van der Ouderaa et al., *Pyramid Vector Quantization for LLMs* (2024), for weights. Our own:
//! `K` follows the gain (worth 0.3 dB on Gaussian weights, up to 1 dB on rows of unequal size), indices
//! lose nothing to rounding `V` up to a power of two, and points are ordered by halves, so that tables of small points
//! decode them.
//!
//! **Layout** (`format-spec/codecs/pvq.md`). Parameters: `dim` (`N`, 1 to 32), `form`. Streams:
//!
//! | stream | numbered | pulses |
//! |---|---|---|
//! | 0 side | step, classes of gains with their `K`, tables | step, shifts of small magnitudes, tables |
//! | 1 | band of each run of groups | class of each run of groups |
//! | 2 | gain symbol of each group | zigzag code of each integer |
//! | 3 | head of each index | |
//! | 4 | word at which each chunk's tails begin | |
//! | 5 | tails: open bits of levels, low bits of indices | |
//!
//! **Cost.** dB above the Gaussian bound at 1, 2, 3, 4, 8 bits, all side information included: numbered 1.58, 1.73, 1.71,
//! 1.67, 1.67; pulses 1.46, 1.56, 1.56, 1.58, and no reach past 6 bits. The encoder stores the smaller, at 16 to 24 M
//! weights/s on a core; on MiniLM's matrices that is pulses, at 1 to 4 bits. Decoding, M weights/s on a core at
//! 1, 2, 3, 4, 8 bits: numbered 410, 240, 190, 110, 50; pulses 2600 and more, the speed of symbols. A range is decoded
//! by whole chunks of symbols; points only as asked for. (Example `pvq_speed`.)
//!
//! **Choose it** where nothing may be fitted or stored besides the weights and the rate must be exact; at 6 bits and
//! more, where a trellis ends. Not for tensors below a few thousand values, whose tables weigh more than they do.
//!
//! ```
//! use benben_codec::{Target, pvq};
//!
//! let weights: Vec<f32> = (0..64 * 256).map(|i| (i as f32 * 0.7).sin() * (i as f32 * 0.1).cos()).collect();
//! let settings = pvq::Settings::new(Target::BitsPerWeight(3.0));
//! let (leaf, fit) = pvq::encode(&weights, &[64, 256], &settings)?;
//! assert!(fit.bits_per_weight <= 3.0 && fit.relative_mse < 0.04);
//!
//! let mut row = [0.0; 256];
//! pvq::decode(&leaf, 5 * 256..6 * 256, &mut row)?;
//! # Ok::<(), benben_format::Error>(())
//! ```

mod chosen;
mod code;
mod decode;
mod encode;
mod gain;
mod order;
mod point;
mod pulse_decode;
mod pulse_encode;
mod pulse_plan;
mod pulse_side;
mod pyramid;
mod side;
mod tables;
mod tail;

pub use chosen::Chooser;
pub use decode::{decode, numbered, points};
pub(crate) use decode::{integers, lattice, reach};
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
    /// Most values of a group, 1 to 32. The encoder takes fewer where the points of so many would number 2^64 before
    /// the target is reached (above 3.25 bits for 16), or where slightly fewer divide the rows.
    pub dim: u8,
    /// What to reach. A rate is met from below, as near as 0.3 % where the tensor is large enough; an error is met
    /// with about the fewest bits.
    pub target: Target,
    /// How points are stored; where it is not said, as it takes fewer bytes.
    pub form: Option<Form>,
    /// Groups of one chunk, 1 to 2^20: what reading one value decodes at least.
    pub chunk_groups: u32,
}

impl Settings {
    /// Groups of 16 in chunks of 2^16 groups.
    pub fn new(target: Target) -> Self {
        Self { dim: 16, target, form: None, chunk_groups: 1 << 16 }
    }
}

/// How the points of a leaf are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A gain, and the number of a point among all that have as many pulses.
    Numbered,
    /// Pulse by pulse, entropy-coded; the points tell the gain.
    Pulses,
}

/// Parameters of a leaf.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    dim: u8,
    form: Form,
}
