//! Quantizing with feedback: a matrix is coded so that the *outputs* of its layer change little, by what calibration
//! says of the layer's inputs.
//!
//! ```
//! use benben_encode::{Method, quantize::{Aim, Metric, feedback}};
//! let weights: Vec<f32> = (0..64 * 48).map(|i| (i as f32 * 0.7).sin()).collect();
//! // E[x x^T] of the layer's inputs: here neighbours are alike.
//! let moment: Vec<f32> = (0..48 * 48i32).map(|i| 0.9f32.powi((i / 48 - i % 48).abs())).collect();
//! let metric = Metric { second_moment: &moment, rows: None };
//! let method: Method = "scalar".parse()?;
//! let (expr, outcome) = feedback(&method, &weights, &[64, 48], &metric, Aim::BitsPerWeight(4.0), 0)?;
//! println!("{} is {:.2} bits, loss {:.1e}", expr.describe(), outcome.bits_per_weight, outcome.loss);
//! # Ok::<(), benben_format::Error>(())
//! ```
//!
//! What is stored is `scale(rows?, columns, integers)`: integers of one step, chosen column by column so that later
//! columns make good what earlier ones err by (`factor`), with a factor for each column by water-filling (`steps`)
//! and, by `rotate`, in a rotated basis. Integers are chosen by error and bits together. In place of integers there may be
//! vectors along the outputs, or a sum of planes of trits.
//!
//! | file | owns |
//! |---|---|
//! | `factor` | second moment to feedback: damping, Cholesky |
//! | `steps` | factors of columns and rows |
//! | `pass`, `kernel` | one pass over the columns |
//! | `integers` | passes of scalar and trellis until the dial is met |
//! | `vectors` | the same for rvq and pvq |
//! | `planes` | the same for ternary |
//! | `dial` | what is asked for |
//! | `coder` | tensors of a model by what calibration knows of them |
//! | `sequential` | the same in the order in which the network runs, each by what is stored of those before it |
//! | `loss` | what came out, by the decoded matrix |

mod coder;
mod dial;
mod factor;
mod integers;
mod kernel;
mod loss;
mod pass;
mod planes;
mod problem;
mod sequential;
mod steps;
mod vectors;

pub use coder::{Calibrated, has_feedback};
pub use dial::Aim;
pub use loss::loss;
pub use problem::{Metric, Options, Outcome, Problem};
pub use sequential::Sequential;

use crate::Method;
use benben_format::{EncodedLeaf, Expr, Result};

/// Codes the matrix `weights` of `shape` so that its loss under `metric` is small at what `aim` asks. For several aims
/// of one matrix, keep a [`Problem`].
///
/// # Errors
/// InvalidArgument where weights, shape and metric do not fit each other or hold values that are not finite; Unsupported
/// where the method has no form with feedback.
pub fn feedback(
    method: &Method,
    weights: &[f32],
    shape: &[u64],
    metric: &Metric<'_>,
    aim: Aim,
    seed: u64,
) -> Result<(Expr<EncodedLeaf>, Outcome)> {
    let options = Options::of(method, seed);
    Problem::new(weights, shape, metric, options)?.code(method, aim)
}
