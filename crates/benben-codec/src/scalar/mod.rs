//! Codec `scalar`, version 1: one step for the tensor times entropy-coded integers.
//!
//! **Stores** `value = (q + centroid(q)) * step`. The integers q are coded with up to 32 static tables, chosen for each
//! run of rows by the energy of the run, and for each column by that of the column where that pays. **Source**:
//! entropy-coded scalar quantization with centroid reconstruction (Farvardin & Modestino 1984); one step for the tensor
//! with a table for each energy class beats a scale for each row, because the step that is best for squared error does
//! not depend on the variance of the row (reverse water-filling, Cover & Thomas, section 10.3.3), and a class costs
//! fewer bits than a scale. Integers are chosen for the least of error + lambda * bits (Sullivan 1996).
//!
//! **Layout** (`format-spec/codecs/scalar.md`). Parameters: `step` (f32), `low_bits` (0 to 16), `run` (rows that share a
//! class), `column_classes` (their number). The symbol of q is the zigzag code of `q >> low_bits`. Streams:
//!
//! | stream | kind | items |
//! |---|---|---|
//! | 0 side | bytes | centroid count m, m signed bytes in 1/256 of a step for q = 1 .. m, the tables |
//! | 1 classes | symbols | one for each run of rows, none where rows share a class |
//! | 2 column classes | symbols | one for each column, none where columns share a class |
//! | 3 symbols | symbols | one for each weight |
//! | 4 low bits | words | one for each weight, none where `low_bits` is 0 |
//! | 5 positions | words | elements that the symbols do not reach |
//! | 6 exceptions | words | the bits of their f32 values |
//!
//! **Cost**: 1.46 to 1.64 dB above the Gaussian bound at 1 to 8 bits, 0.25 bit; decoding is one table look-up for each
//! weight, up to 6 bits. Encoding: 30 to 60 M weights for each second of one core with AVX-512. **Choose it** by
//! default, and where packing must be quick.
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

mod chosen;
mod coding;
mod decode;
mod encode;
mod fit;
mod plan;
mod quantize;
mod survey;
mod tensor;

pub use chosen::{Chooser, Part};
pub use decode::decode;
pub(crate) use decode::{integers, lattice, reach};
pub use encode::encode;

use crate::{Importance, Target};
use benben_format::{Error, Result};
use serde::{Deserialize, Serialize};

/// Name in the file.
pub const CODEC: &str = "scalar";
/// Version in the file.
pub const VERSION: u16 = 1;
/// Most classes of rows, and of columns, of one leaf.
pub const MAX_CLASSES: usize = 16;

const SIDE: usize = 0;
const CLASSES: usize = 1;
const COLUMN_CLASSES: usize = 2;
const SYMBOLS: usize = 3;
const LOW_BITS: usize = 4;
const POSITIONS: usize = 5;
/// Integers up to this size have a centroid of their own.
const MAX_CENTROIDS: usize = 15;
/// Centroids are in this part of a step.
const CENTROID_UNIT: f32 = 256.0;
/// Most low bits that are written: integers stay below 2^22, where f32 rounds exactly.
const MAX_LOW_BITS: u8 = 14;

/// What the encoder is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings<'a> {
    /// Rate or distortion to reach; the distortion is the plain one, whatever the importance.
    pub target: Target,
    /// Most classes of rows, and of columns, to try, 1 to 16; the encoder keeps fewer where they do not pay for
    /// themselves.
    pub max_classes: usize,
    /// Weights of the squared error; all 0 is the same as uniform. Without effect above 6.5 bits.
    pub importance: Importance<'a>,
}

impl Settings<'_> {
    /// The usual settings for `target`.
    pub fn new(target: Target) -> Self {
        Self { target, max_classes: MAX_CLASSES, importance: Importance::Uniform }
    }
}

/// Parameters in the file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Params {
    step: f32,
    low_bits: u8,
    run: u64,
    column_classes: u8,
}

impl Params {
    fn check(&self) -> Result<()> {
        let Self { step, low_bits, run, column_classes } = *self;
        let fits = step > 0.0 && low_bits <= 16 && run > 0 && column_classes > 0;
        if fits && largest(step, low_bits).is_finite() {
            return Ok(());
        }
        Err(Error::corruption(format!("scalar parameters out of range: {self:?}")))
    }
}

/// No value of a leaf is larger.
fn largest(step: f32, low_bits: u8) -> f32 {
    ((1u32 << (low_bits + 7)) + 1) as f32 * step
}

fn unzigzag(z: u32) -> i32 {
    (z >> 1).cast_signed() ^ -(z & 1).cast_signed()
}

/// Value of q: the only arithmetic that an independent decoder must repeat.
fn reconstruct(q: i32, centroids: &[i8], step: f32) -> f32 {
    let magnitude = q.unsigned_abs() as usize;
    let shift = match centroids.get(magnitude.wrapping_sub(1)) {
        Some(&c) => f32::from(c) / CENTROID_UNIT,
        None => 0.0,
    };
    let value = (magnitude as f32 + shift) * step;
    if q < 0 { -value } else { value }
}
