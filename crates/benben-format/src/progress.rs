//! How long work says where it is, and is told to stop.

use std::ops::ControlFlow;

/// Where some work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being worked on: a tensor's name, most often.
    pub item: &'a str,
    /// Units done, in whatever unit `total` is.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// Told of progress, it answers whether to go on.
pub type Observer<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// An observer that never stops anything.
pub fn ignore(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
