//! Codec `ternary`, version 1: each weight is negative, zero or positive.
//!
//! **Stores** a trit for each value (0 zero, 1 positive, 2 negative) and, for each run of whole rows, the magnitude of
//! the positive and of the negative value. One dial, the threshold below which a value is zero, moves the rate from
//! about 0.1 to 1.54 bits. Above that, planes are stacked: each codes what the sum of those before it left, at a third
//! of the threshold ([`encode_planes`]); the sum is the caller's, as an expression over leaves.
//!
//! **Source.** Frantar and Alistarh, *QMoE: Practical Sub-1-Bit Compression of Trillion-Parameter Models* (2023): rows
//! of {min, 0, max} and the fixed dictionary of 16-bit codewords, rebuilt here from integers (`dictionary.rs` states
//! how; a fingerprint is in its tests). Our own: levels shared by as many rows as pays, one threshold for all rows,
//! and rANS with tables by bands of rows, which takes 14 % less than the dictionary at 88.5 % zeros.
//!
//! # Value
//! A trit 1 or 2 is plus or minus the level of its run, in f32: level 0 is `0.0`; level code `c` from 1 to 255 is
//! `unit * f32((16 + c mod 16) << (c / 16))`, rounded once.
//!
//! # Layout
//! Parameters: map `{"coder": "symbols"}` or `{"coder": "dictionary"}`, whichever is smaller. Values are f32; `E`
//! elements, flat and row-major.
//!
//! | stream | items | what |
//! |---|---|---|
//! | 0 bytes of width 1 | any | side information, below |
//! | 1 symbols | `2 ceil(E / level_run)` | codes of the positive and the negative level of each run in turn |
//! | 2 symbols | `ceil(E / run)`; 0 with fewer than 2 tables | band (table of trits) of each run |
//! | 3 symbols | `E`; 0 with the dictionary | trits, by the table of their band |
//! | 4 words | with the dictionary `ceil(E / run) - 1` (0 for no elements), else 0 | index in stream 5 at which block 1, 2, ... of `run` elements begins; block 0 at 0 |
//! | 5 bytes of width 2 | with the dictionary any, else 0 | codewords, little-endian; each block is coded alone |
//!
//! Side information ([`SideWriter`](crate::entropy::SideWriter)): f32 `unit`; varints `level_run` and `run`, 1 to
//! 2^62; tables of level codes, 0 or 1; tables of trits, none with the dictionary.
//!
//! # Cost
//! One Gaussian plane is 0.9, 1.5 and 1.9 dB above the bound at 0.5, 1 and 1.5 bits; stacks 2.0 to 3.0 dB at 2 to 8
//! bits. Decoding is one rANS step for each value, or a look-up for each codeword of up to 28; a range takes the
//! chunks or blocks (4096 elements and up) that it touches.
//!
//! # When
//! Below 1.5 bits, above all for sparse experts. Above, where products in additions only are worth 1 dB.
//!
//! ```
//! use benben_codec::{Target, ternary};
//!
//! let weights: Vec<f32> = (0..64 * 256).map(|i| (i as f32 * 0.7).sin() * (i as f32 * 0.1).cos()).collect();
//! let settings = ternary::Settings::new(Target::BitsPerWeight(3.0));
//! let (planes, fit) = ternary::encode_planes(&weights, &[64, 256], &settings)?;
//!
//! let mut row = [0.0; 256];
//! for plane in &planes {
//!     let mut values = [0.0; 256];
//!     ternary::decode(plane, 5 * 256..6 * 256, &mut values)?;
//!     row.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
//! }
//! assert!(fit.bits_per_weight <= 3.0 && (row[0] - weights[5 * 256]).abs() < 0.5);
//! # Ok::<(), benben_format::Error>(())
//! ```

mod chosen;
mod decode;
mod dictionary;
mod encode;
mod level;
mod plane;
mod side;
mod stack;

pub use chosen::{Chooser, Part};
pub use decode::{decode, levels, trits};
pub use encode::encode;
pub use stack::{Stack, encode_planes};

use crate::Target;
use serde::{Deserialize, Serialize};

/// Name of the codec.
pub const CODEC: &str = "ternary";
/// Its version.
pub const VERSION: u16 = 1;

/// What the encoder is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What to reach. A rate is met from below, within 3 % where the tensor is large enough.
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
