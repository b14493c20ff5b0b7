//! How the program ends: codes that scripts can rely on, and errors that a person can act on.

use crate::draw::complain;
use benben::{Error, ErrorKind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the command ends by itself when it is told to stop.
static LISTENS: AtomicBool = AtomicBool::new(false);
/// Whether it was told.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// From here on the first Ctrl-C is noted, for the command to ask [`stopped`]; the second ends the program.
pub(crate) fn listen() {
    LISTENS.store(true, Ordering::SeqCst);
}

/// Whether Ctrl-C was pressed.
pub(crate) fn stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Notes a Ctrl-C where the command listens and has not been told before.
pub(crate) fn told_to_stop() -> bool {
    LISTENS.load(Ordering::SeqCst) && !STOPPED.swap(true, Ordering::SeqCst)
}

/// Ended by Ctrl-C.
pub(crate) const INTERRUPTED: i32 = 130;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Did what was asked.
    Ok,
    /// Failed, or the input is corrupt.
    Failed,
    /// Asked for in a way that cannot be done.
    Usage,
    /// A check was not met: verify, compare, a target.
    NotMet,
    /// A version or codec that this build does not know.
    Unsupported,
    /// Stopped by the user.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotMet => 3,
            Exit::Unsupported => 4,
            Exit::Interrupted => 130,
        })
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Compatibility | ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::InvalidArgument => Self::Usage,
            ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Failed,
        }
    }
}

/// Says what went wrong on stderr, the hint after a blank line.
pub(crate) fn report(error: &Error) -> Exit {
    complain!("error: {error}");
    if let Some(hint) = error.hint() {
        complain!("\nhint: {hint}");
    }
    error.kind().into()
}
