//! What stands in for `recover.rs` in builds without burn: errors that say how to get it.

use crate::args::{Global, Recover};
use crate::exit::Exit;
use benben::calibrate::Calibration;
use benben::llm::Model;
use benben::{Error, Recovery, Result};
use std::path::Path;

/// Whether this build has gradients.
pub(crate) const BUILT: bool = false;

fn missing(what: &str) -> Error {
    Error::unsupported(format!("{what}: this build of benben has no gradients"))
        .with_hint("build it with them: cargo install --path crates/benben-cli --features recover")
}

/// Refuses what needs gradients, before any work.
pub(crate) fn require(what: &str) -> Result<()> {
    Err(missing(what))
}

pub(crate) fn run(_: &Recover, _: &Global) -> Result<Exit> {
    Err(missing("recover"))
}

/// Importance of rows, as [`Calibration::set_rows`] takes it.
pub(crate) fn gradients(_: &Model, _: &mut Calibration, _: &[Vec<u32>], _: u64, _: &Global) -> Result<()> {
    Err(missing("gradients"))
}

/// A recovery of `steps` on `text`.
pub(crate) fn about(_: &Model, _: &str, _: usize) -> Result<Recovery> {
    Err(missing("--recover"))
}

/// Tunes the pack at `output` in its place.
pub(crate) fn after_packing(_: &Model, _: &str, _: &[Recovery], _: &Path, _: &Global) -> Result<Exit> {
    Err(missing("the recipe's recovery"))
}
