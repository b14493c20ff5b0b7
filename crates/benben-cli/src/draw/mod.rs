//! Everything that a person sees: tables, sizes, progress.

mod number;
mod progress;
mod table;

pub(crate) use number::{bytes, count, error, shape};
pub(crate) use progress::Bar;
pub(crate) use table::{Align, Table};

use benben::{Error, Result};
use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// `println!` that gives back an error where that one panics.
macro_rules! say {
    ($($text:tt)*) => { $crate::draw::line(format_args!($($text)*)) };
}
/// `eprintln!` that does not panic: where stderr is closed, there is nobody left to tell.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{}", $crate::draw::visible(&format!($($text)*)));
    }};
}
pub(crate) use {complain, say};

/// Prints a line on stdout; what [`say!`] does.
pub(crate) fn line(text: Arguments<'_>) -> Result<()> {
    delivered(writeln!(std::io::stdout(), "{}", visible(&text.to_string())))
}

/// `text` with control characters but the line feed spelled out: names come from files, and must not steer a terminal.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let steers = |c: char| c.is_control() && c != '\n';
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if steers(c) { c.escape_default().to_string() } else { c.into() }).collect()
}

/// Prints `text` on stdout as it is.
pub(crate) fn text(text: &[u8]) -> Result<()> {
    delivered(std::io::stdout().write_all(text).and_then(|()| std::io::stdout().flush()))
}

/// Prints `value` as JSON on stdout.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::io(format!("JSON: {e}")))?;
    say!("{text}")
}

/// A closed pipe is no failure: `benben inspect m.benben | head -1` has read what it wanted.
fn delivered(written: std::io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::from(e).context("stdout")),
        _ => Ok(()),
    }
}
