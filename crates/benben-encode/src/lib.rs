//! Makes Benben packs. A [`Recipe`] says which codec each tensor gets and what it must reach; [`Plan::new`] settles
//! it for one model; [`pack`] walks the model once, one tensor at a time, and writes.
//!
//! ```no_run
//! use benben_encode::{Plan, Recipe, pack};
//! let model = benben_io::open("model.safetensors".as_ref())?;
//! let plan = Plan::new(&*model, &Recipe::preset("balanced")?)?;
//! let mut file = benben_format::AtomicFile::create("model.benben".as_ref(), false)?;
//! let report = pack(&*model, &plan, &mut file, &mut benben_format::ignore)?;
//! file.commit()?;
//! println!("{} bytes", report.packed_bytes);
//! # Ok::<(), benben_format::Error>(())
//! ```
#![allow(clippy::cast_possible_truncation, reason = "predictions are rounded to whole bytes")]

pub mod allocate;
pub mod calibrate;
mod coder;
pub mod lowrank;
mod method;
mod order;
mod pack;
mod plan;
pub mod quantize;
mod recipe;
#[cfg(feature = "recover")]
pub mod recover;
mod report;
mod sink;

pub use coder::{Coded, Coder, DataFree, Task};
pub use method::{Codec, Method};
pub use pack::{GENERATOR, pack, pack_with};
pub use plan::{Plan, Planned, Treatment};
pub use recipe::{PRESETS, Preset, Recipe, Recovery, Rule};
pub use report::{PackReport, TensorReport};
