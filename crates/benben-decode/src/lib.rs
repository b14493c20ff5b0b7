//! Opens Benben packs and evaluates their tensors: whole, or the rows that are asked for.
//!
//! ```no_run
//! let pack = benben_decode::Pack::open("model.benben".as_ref())?;
//! let table = pack.tensor("model.embed_tokens.weight")?;
//! let rows = table.rows(1000..1004)?; // reads and decodes just what covers these rows
//! assert_eq!(rows.len() as u64, 4 * table.shape()[1]);
//! # Ok::<(), benben_decode::Error>(())
//! ```
//!
//! Every value is an [`Expr`](benben_format::Expr) over coded leaves, evaluated in f32; the same rows give the
//! same bits however they are asked for. This crate is all that a device needs. To make packs, use `benben`.

mod evaluate;
mod hadamard;
mod pack;
mod product;
mod resident;
pub mod store;
mod verify;
mod weights;

pub use benben_format::{Dtype, Error, ErrorKind, Limits, Result};
pub use hadamard::{hadamard_rows, inverse_hadamard_rows};
pub use pack::{Pack, Tensor};
pub use resident::{Form, Resident};
pub use store::{LayerStore, Options};
pub use verify::{Fault, Report};
pub use weights::Weights;
