//! Codec `trellis`, version 1: entropy-coded trellis-coded quantization.
//!
//! **Stores** `value = (place(k) + shift) * step`, where which places the integer k may name depends on the integers
//! before it: a trellis of 8 states chooses between two codebooks, each twice as coarse as the step, and the encoder
//! finds the path through it that costs least in squared error and bits together. **Source**: Marcellin & Fischer
//! 1990 (trellis-coded quantization), Fischer & Wang 1992 (with entropy-coded union codebooks), Marcellin 1994 (0 in
//! both codebooks, for low rates), Ungerboeck 1982 (the trellis); the page has the whole provenance.
//!
//! **Layout** (`format-spec/codecs/trellis.md`). Parameters: `step` (f32), `run` (rows that share a class), `columns` (classes of
//! columns), `zero` (whether both codebooks have 0), `states` (whether each state has tables, or each codebook). Streams:
//!
//! | stream | kind | items |
//! |---|---|---|
//! | 0 side | bytes | for each codebook a count and that many shifts in 1/64 of a step; the tables |
//! | 1 classes | symbols | one for each run of rows, none where there is one class |
//! | 2 columns | symbols | one for each column, none where there is one class |
//! | 3 symbols | symbols | zigzag code of k for each weight |
//! | 4 positions | words | elements that the codebooks do not reach |
//! | 5 exceptions | words | the bits of their f32 values |
//!
//! **Cost**: 0.5 dB above the Gaussian bound at 0.5 to 5 bits, 1 dB less than [`scalar`](crate::scalar), which is 0.17
//! bit for each weight; encoding takes twice to five times as long, 3 to 15 M weights/s on a core with AVX-512. It
//! ends at about 6 bits: k goes to 127. **Choose it** for small packs, at 0.3 to 5 bits.
//!
//! ```
//! use benben_codec::{Target, trellis};
//! let weights: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.7).sin()).collect();
//! let settings = trellis::Settings::new(Target::RelativeMse(1e-2));
//! let (leaf, fit) = trellis::encode(&weights, &[64, 64], &settings)?;
//! assert!(fit.relative_mse <= 1e-2);
//! let mut row = [0.0; 64];
//! trellis::decode(&leaf, 128..192, &mut row)?;
//! # Ok::<(), benben_format::Error>(())
//! ```

mod cells;
mod chosen;
mod codebook;
mod decode;
mod encode;
mod fit;
mod plan;
mod survey;
mod viterbi;

pub use chosen::{Chooser, Part};
pub use decode::decode;
pub(crate) use decode::{integers, lattice, reach};
pub use encode::encode;
pub use fit::Form;

use crate::{Importance, Target, entropy::Trellis};
use serde::{Deserialize, Serialize};

/// Name in the file.
pub const CODEC: &str = "trellis";
/// Version in the file.
pub const VERSION: u16 = 1;
/// Most classes of rows and columns of one leaf.
pub const MAX_CLASSES: usize = 16;

const SIDE: usize = 0;
const CLASSES: usize = 1;
const COLUMNS: usize = 2;
const SYMBOLS: usize = 3;
const POSITIONS: usize = 4;
/// Steps up to this keep every value finite.
const MAX_STEP: f32 = 6.646_14e35; // 2^119

/// What the encoder is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings<'a> {
    /// Rate or distortion to reach; the distortion is the plain one, whatever the importance.
    pub target: Target,
    /// Most classes of rows, and of rows by columns, to try, 1 to 16; the encoder keeps fewer where they do not pay for themselves.
    pub max_classes: usize,
    /// Weights of the squared error; all 0 is the same as uniform.
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
    run: u64,
    columns: u8,
    zero: bool,
    states: bool,
}

impl Params {
    fn trellis(&self) -> Trellis {
        if self.states { Trellis::States } else { Trellis::Unions }
    }
}
