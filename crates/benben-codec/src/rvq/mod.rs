//! Codec `rvq`: residual vector quantization.
//!
//! **What it stores.** Vectors of `dim` consecutive elements (flat, row-major, the last one padded with zeros), each as
//! the sum of one codeword from the codebook of each stage. With several groups the vectors of a row are split by
//! their position and each group has codebooks of its own.
//!
//! **Sources.** Residual vector quantization (Juang and Gray, ICASSP 1982); grouped RVQ (HiFi-Codec, Yang et al.,
//! arXiv:2305.02765); entropy-constrained choice of codewords, error + lambda x bits (Chou, Lookabaugh and Gray 1989);
//! joint refinement of all stages by alternating beam search and least squares (additive quantization, Babenko and
//! Lempitsky 2014; AQLM, Egiazarian et al., arXiv:2401.06118); minibatches (Sculley, WWW 2010); linear-mapped codebooks
//! (SimVQ, Zhu et al., arXiv:2411.02038).
//!
//! **Bit layout.** Parameters: [`Params`]. With P = (elements of the last axis) / dim vectors in a row and G groups,
//! group g holds positions `floor(g P / G) .. floor((g + 1) P / G)` of each row; with G = 1 vectors may cross rows. The
//! streams are 1 + G S:
//!
//! | stream | kind | what |
//! |---|---|---|
//! | 0 | bytes of width 1 | codebooks and tables, the stages of group 0 first |
//! | 1 + g S + s | symbols | codewords of stage s of the vectors of group g, row-major |
//!
//! Stream 0 has for each stage: u8 codewords - 1; f32 step; u8 Rice parameter `a`; u8 Rice parameter `b`; the entries of
//! all codewords, one codeword after the other, in Rice codes filled up to a byte; a list of at most one table
//! ([`entropy::write_tables`](crate::entropy::write_tables)) for the symbols of the stage. Entries are integers of at
//! most 2^23 in magnitude. Codewords are sorted by their first entries: the first entry of a codeword but the first is
//! coded as the difference from that of the codeword before, with parameter `a`; all others as 2 x or -2 x - 1 with
//! parameter `b`. The Rice code of z with parameter r: `z >> r` one-bits, a zero-bit, the r low bits of z; where
//! `z >> r` is 24 or more, 24 one-bits and z in 32 bits. Bits fill bytes from the lowest.
//!
//! Where codebooks are [`mapped`](Params::mapped), a stage has the varint seed of a basis of bell-shaped integers (sums of
//! eight bytes of SplitMix64) in place of `a`, and its entries are the rows of a `dim` x `dim` map, all coded with `b`; the
//! entries of a codeword are the exact integer products of map and basis.
//!
//! A value is `entry as f32 * step` of stage 0, plus that of stage 1, and so on, each operation rounded to f32.
//!
//! **Cost.** Decoding adds S table rows of `dim` floats for each vector, and reads a few kilobytes of codebooks for each
//! range. Encoding takes time in proportion to elements x sum of codebook sizes x beam: 1 to 1.6 M weights for each second
//! of a core with AVX-512 where the dimension is chosen by trial, 0.3 to 0.4 M with dimension 8 and beam 4 (2.2 and 1.8
//! times what the loops took before they were compiled for the instruction set). Distance from the Gaussian bound at 2 /
//! 3 / 4 bits, all side information included, on 4 M Gaussian samples: 1.58 / 1.57 / 1.58 dB with the dimension chosen by
//! trial; 1.69 / 2.30 / 2.99 dB with dimension 8 forced, where plain residual quantization has 2.60 / 4.18 / 6.05. With
//! dimension 8 at 2 bits of 1 M samples, beams of 1 / 4 / 8 leave 2.13 / 1.65 / 1.55 dB
//! (`examples/rvq_rate_distortion.rs`). Codebooks of two stages of 256 words from 10^7 vectors of dimension 8 take 3.8
//! seconds of a core (`examples/rvq_training.rs`).
//!
//! **When to choose it.** For vectors whose elements depend on each other (splat attributes, latents, position tables),
//! for weights at 2 bits or fewer, and where codebooks are to be tuned afterwards. Mapped codebooks are for small tensors
//! of such vectors: 16 Ki elements of correlation 0.9 at 2 bits are 0.76 dB nearer with them. Elsewhere `scalar` is as
//! good and faster.
//!
//! ```
//! use benben_codec::{Target, rvq};
//! let values: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.37).sin()).collect();
//! let settings = rvq::Settings::new(Target::RelativeMse(1e-3));
//! let (leaf, fit) = rvq::encode(&values, &[64, 64], &settings)?;
//! assert!(fit.relative_mse <= 1e-3 && fit.bits_per_weight < 8.0);
//!
//! let mut row = [0.0; 64];
//! rvq::decode(&leaf, 128..192, &mut row)?;
//! assert!(row.iter().zip(&values[128..]).all(|(a, b)| (a - b).abs() < 0.2));
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `encode`, `decode` | the twins |
//! | `stored` | codebooks and tables as bytes, both ways |
//! | `layout` | vectors, rows and groups |
//! | `mapped` | codebooks from a seed and a map |
//! | `settings`, `plan`, `trial` | what the caller sets; candidates; the choice between them |
//! | `train`, `kmeans`, `grid` | codebooks from vectors |
//! | `minibatch` | codebooks without a leaf, from tens of millions of vectors |
//! | `whole` | passes over the whole tensor that meet the target |
//! | `chosen` | codewords chosen vector by vector, for error feedback |
//! | `revised` | a leaf again, with other codewords and codes |
//! | `search`, `codebook` | the beam search and its layout |
//! | `kernel`, `envelope` | its loops for each instruction set; nearest levels of dimension 1 |

mod chosen;
mod codebook;
mod decode;
mod encode;
mod envelope;
mod grid;
mod kernel;
mod kmeans;
mod layout;
mod mapped;
mod minibatch;
mod plan;
mod random;
mod revised;
mod search;
mod settings;
mod stored;
mod train;
mod trial;
mod whole;

pub use chosen::Chooser;
pub use decode::{Part, decode, extent, parts};
pub use encode::encode;
pub use minibatch::{Codebooks, Training, train_codebooks};
pub use revised::revise;
pub use settings::Settings;

use serde::{Deserialize, Serialize};

/// Name of the codec.
pub const CODEC: &str = "rvq";
/// Version of its layout.
pub const VERSION: u16 = 1;

/// Parameters of the leaf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Elements of a vector, at least 1.
    pub dim: u8,
    /// Groups of vectors with codebooks of their own, at least 1.
    pub groups: u16,
    /// Stages of each group, at least 1.
    pub stages: u8,
    /// Whether all codebooks are stored as a seed and a linear map.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mapped: bool,
}
