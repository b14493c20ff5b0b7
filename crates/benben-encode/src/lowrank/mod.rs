//! Matrices of low rank: the best one under a metric, in place of a matrix or on top of a coded one.
//!
//! ```
//! use benben_encode::lowrank::{Metric, factorize};
//! let weights: Vec<f32> = (0..48 * 32).map(|i| (i as f32 * 0.37).sin() + (i % 32) as f32).collect();
//! let found = factorize(&weights, 48, 32, 4, &Metric::plain())?;
//! println!("rank {} leaves {:.1e} of the norm", found.rank, found.error / found.energy);
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `algebra` | products and eigenvectors in f64 |
//! | `metric` | what errors cost: plain, Fisher, inputs, outputs |
//! | `factors` | the solver |
//! | `norm` | names of metrics in methods, and what is known of a layer |
//! | `stored` | factors as expressions |
//! | `coder` | methods with a rank: on top of a codec, or alone |

mod algebra;
mod coder;
mod factors;
mod metric;
mod norm;
mod stored;

pub use factors::{Factors, Spectrum, factorize};
pub use metric::{Metric, Side};
pub use norm::{Known, Norm};

pub(crate) use coder::{compensate, has_rank, promising};
