//! Codec `pvq`, version 1: gain times a point of the pyramid. No codebook, and any rate.
//!
//! **Stores** groups of `N` consecutive values (flat, row-major; the last group padded with zeros) as a gain and a
//! direction. The direction is an integer point of L1 norm `K`, named by its number among all `V(N, K)` such points.
//!
//! **Source.** Fischer, *A Pyramid Vector Quantizer*, IEEE Trans. Inf. Theory 32 (1986), for points, their count
//! and gain times shape; van der Ouderaa et al., *Pyramid Vector Quantization for LLMs* (2024), for weights. Our own:
//! `K` follows the gain (worth 0.3 dB on Gaussian weights, up to 1 dB on rows of unequal size), and indices
//! lose nothing to rounding `V` up to a power of two.
//!
//! # Value
//! Value `i` of a group of level `L` and point `p` is `s * p[i]` in f32, where
//! `s = f32(f64(L) * f64(step) / sqrt(f64(p[0]^2 + ... + p[N-1]^2)))`: each operation is rounded once, to nearest
//! even, as IEEE 754 has it. Zero groups hold `0.0`. (`pyramid.rs` states which index names which point.)
//!
//! # Layout
//! Parameters: map `{"dim": N}`, 1 to 32. Values are f32; `G = ceil(elements / N)` groups.
//!
//! | stream | items | what |
//! |---|---|---|
//! | 0 bytes of width 1 | any | side information, below |
//! | 1 symbols | `ceil(G / run)`; 0 with one table of gains | band (table of gains) of each run of groups |
//! | 2 symbols | `G` | gain symbol of each group, by the table of its band |
//! | 3 symbols, chunks as stream 2 | `G` | head of each index, by the table of its class; 0 for zero groups |
//! | 4 words | chunks of stream 2, less one | word of stream 5 at which chunk 1, 2, ... begins; chunk 0 at word 0 |
//! | 5 words of 64 bits | any | tails |
//!
//! Side information ([`SideWriter`](crate::entropy::SideWriter)): f32 `step`; u8 `head_bits`, 0 to 8; varint `run`;
//! u8 number of classes, 0 to 15; for each class u8 `first` (1 or more, rising) and varint `K` (1 to 4096, with
//! `V(N, K) < 2^64`); the tables of gains, 1 to 16; the tables of heads, none where `head_bits` is 0, else one for
//! each class from class 0 on.
//!
//! - **Level.** Symbol `s < 64` is level `s`. Any other has `e = floor(s / 16) - 2` open bits and means level
//!   `(16 + s mod 16) * 2^e + open bits`.
//! - **Class.** The last class whose `first` is at most `s`; class 0, zero groups, where there is none. A class has
//!   `w = bit length of (V(N, K) - 1)` bits of index, of which the lower `t = max(0, w - head_bits)` are its tail and
//!   the rest its head: `index = head * 2^t + tail`. Class 0 has neither.
//! - **Tails.** For each group of a chunk of stream 2 in turn: the open bits of its level, then its tail. Fields
//!   follow each other from the low bit of a word up, across words; each chunk begins a word.
//!
//! # Cost
//! 1.74, 1.76 and 1.78 dB above the Gaussian bound at 2, 3 and 4 bits, all side information included. Encoding
//! searches each group a dozen times, about half a microsecond each; decoding takes `O(N)` steps for each group. A
//! range is decoded by whole chunks of symbols; points only as asked for.
//!
//! # When
//! Where nothing may be fitted or stored besides the weights and the rate must be exact; at 4 bits and more, where
//! a trellis leads by little. Not for tensors below a few thousand values, whose tables weigh more than they do.
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

mod code;
mod decode;
mod encode;
mod gain;
mod point;
mod pyramid;
mod side;
mod tables;
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
    /// Most values of a group, 1 to 32. The encoder takes fewer where the points of so many would number 2^64 before
    /// the target is reached (above 3.25 bits for 16), or where slightly fewer divide the rows.
    pub dim: u8,
    /// What to reach. A rate is met from below, as near as 0.3 % where the tensor is large enough; an error is met
    /// with about the fewest bits.
    pub target: Target,
    /// Groups of one chunk, 1 to 2^20: what reading one value decodes at least.
    pub chunk_groups: u32,
}

impl Settings {
    /// Groups of 16 in chunks of 2^16 groups.
    pub fn new(target: Target) -> Self {
        Self { dim: 16, target, chunk_groups: 1 << 16 }
    }
}

/// Parameters of a leaf.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    dim: u8,
}
