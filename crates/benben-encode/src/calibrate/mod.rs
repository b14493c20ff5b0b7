//! What the inputs of a network's linear layers are like on calibration data.
//!
//! For each stage (linear layers that share an input x): the second moment E[x xᵀ], the means E\[x\] and E|x|; for each block how much
//! it turns the stream (1 - cosine, "block influence", ShortGPT, <https://arxiv.org/abs/2403.03853>); for the head how
//! much each output counts (E[p (1 - p)] of the network's own predictions, the diagonal of the Fisher matrix of the
//! logits) and how often each row of the table is looked up.
//!
//! [`Calibration::collect`] and [`write()`] walk the network block by block: memory is the weights and sums of one block
//! and the streams of all samples. A file of it is opened lazily and serves any number of packs. [`Walk`] is the
//! sequential mode: it stops at every stage, so that later layers see earlier ones as they were quantized.
//!
//! | file | owns |
//! |---|---|
//! | `gram` | sums of outer products: f32 over 256 vectors, f64 above |
//! | `moment` | a second moment, whole and as a triangle |
//! | `collect` | the pass over a network |
//! | `file` | the file: a safetensors of triangles, with a hash of each tensor |
//! | `calibration` | what is read of it |
//! | `walk` | the sequential mode |
//!
//! Families are known by [`Network`](benben_models::Network) alone.

mod calibration;
mod collect;
mod file;
mod gram;
mod moment;
mod walk;

pub use calibration::{Calibration, Layer};
pub use collect::write;
pub use file::About;
pub use moment::Moment;
pub use walk::{Visit, Walk};
