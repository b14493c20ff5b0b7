//! Codec `scalar`, version 1: one step for the tensor times entropy-coded integers.
//!
//! **Stores** `value = (q + centroid(q)) * step`. The integers q are coded with up to 16 static tables, chosen
//! for each run of rows by the energy of the run. **Source**: entropy-coded scalar quantization with centroid
//! reconstruction (Farvardin & Modestino 1984); one step for the tensor with a table for each energy class
//! beats a scale for each row, because the step that is best for squared error does not depend on the
//! variance of the row (reverse water-filling, Cover & Thomas, section 10.3.3), and a class costs fewer bits
//! than a scale.
//!
//! **Layout** (`format-spec/codecs/scalar.md`). Parameters: `step` (f32), `low_bits` (0 to 16), `run` (rows that
//! share a class). With q floored to `hi = q >> low_bits`, the symbol of q is the zigzag code of `hi`, 255 for an
//! escape. Streams:
//!
//! | stream | kind | items |
//! |---|---|---|
//! | 0 side | bytes | centroid count m, m signed bytes in 1/256 of a step for q = 1 .. m, the tables |
//! | 1 classes | symbols | one for each run of rows, none where there is one table |
//! | 2 symbols | symbols | one for each weight |
//! | 3 low bits | words | one for each weight, none where `low_bits` is 0 |
//! | 4 escapes | words | zigzag code of q, in order, for symbols 255 |
//! | 5 ranks | words | escapes before each chunk of stream 2, none where nothing escapes |
//!
//! **Cost**: 1.45 to 1.53 dB above the Gaussian bound, 0.25 bit; decoding is one table look-up and one
//! multiplication for each weight. **Choose it** by default, and where packing must be quick.
//!
//! ```
//! use benben_codec::{Target, scalar};
//! let weights: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.7).sin()).collect();
//! let settings = scalar::Settings::new(Target::RelativeMse(1e-3));
//! let (leaf, fit) = scalar::encode(&weights, &[64, 64], &settings)?;
//! assert!(fit.relative_mse <= 1e-3);
//! let mut row = [0.0; 64];
//! scalar::decode(&leaf, 128..192, &mut row)?;
//! # Ok::<(), benben_format::Error>(())
//! ```

mod decode;
mod encode;
mod fit;
mod survey;

pub use decode::decode;
pub use encode::encode;

use crate::Target;
use serde::{Deserialize, Serialize};

/// Name in the file.
pub const CODEC: &str = "scalar";
/// Version in the file.
pub const VERSION: u16 = 1;
/// Most tables of one leaf.
pub const MAX_CLASSES: usize = 16;

const SIDE: usize = 0;
const CLASSES: usize = 1;
const SYMBOLS: usize = 2;
const LOW_BITS: usize = 3;
const ESCAPES: usize = 4;
const RANKS: usize = 5;
/// The symbol whose q stands in the escapes.
const ESCAPE: u8 = 255;
/// Integers up to this size have a centroid of their own.
const MAX_CENTROIDS: usize = 15;

/// What the encoder is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Rate or distortion to reach.
    pub target: Target,
    /// Most tables to try, 1 to 16; the encoder keeps fewer where they do not pay for themselves.
    pub max_classes: usize,
}

impl Settings {
    /// The usual settings for `target`.
    pub fn new(target: Target) -> Self {
        Self { target, max_classes: MAX_CLASSES }
    }
}

/// Parameters in the file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Params {
    step: f32,
    low_bits: u8,
    run: u64,
}

/// Rows and columns as this codec sees them: a one-dimensional tensor is a single row.
fn rows_and_columns(shape: &[u64]) -> benben_format::Result<(u64, u64)> {
    match shape {
        [n] => Ok((1, *n)),
        other => benben_format::matrix(other),
    }
}

fn zigzag(q: i32) -> u32 {
    ((q << 1) ^ (q >> 31)).cast_unsigned()
}

fn unzigzag(z: u32) -> i32 {
    (z >> 1).cast_signed() ^ -(z & 1).cast_signed()
}

/// Value of q: the only arithmetic that an independent decoder must repeat.
fn reconstruct(q: i32, centroids: &[i8], step: f32) -> f32 {
    let magnitude = q.unsigned_abs() as usize;
    let shift = match centroids.get(magnitude.wrapping_sub(1)) {
        Some(&c) => f32::from(c) / 256.0,
        None => 0.0,
    };
    let value = (magnitude as f32 + shift) * step;
    if q < 0 { -value } else { value }
}
