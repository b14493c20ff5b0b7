//! How the program ends: codes that scripts can rely on, and errors that a person can act on.

use crate::draw::complain;
use benben::{Error, ErrorKind};
use std::process::ExitCode;

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
