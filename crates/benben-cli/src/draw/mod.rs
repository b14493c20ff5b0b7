//! Everything that a person sees: tables, sizes, progress.

mod number;
mod progress;
mod table;

pub(crate) use number::{bytes, count, error, shape};
pub(crate) use progress::Bar;
pub(crate) use table::{Align, Table};

/// Prints `value` as JSON on stdout.
pub(crate) fn json(value: &impl serde::Serialize) -> benben::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| benben::Error::io(format!("JSON: {e}")))?;
    println!("{text}");
    Ok(())
}
