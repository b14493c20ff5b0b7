//! The one error type of the format, shared by every crate above it.

use std::fmt;

/// What went wrong, in the terms a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Written by a newer version, or holding a critical node or codec this build does not know.
    Compatibility,
    /// The bytes contradict themselves: a checksum, a bound or a state does not hold.
    Corruption,
    /// The input ends before what it promises.
    InsufficientData,
    /// The caller asked for something that does not exist or does not fit.
    InvalidArgument,
    /// Honest but larger than the limit that the caller set.
    Limit,
    /// Valid, and outside of what Benben does.
    Unsupported,
    /// The caller asked for the work to stop.
    Interrupted,
    /// The operating system said no.
    Io,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compatibility => "incompatible",
            Self::Corruption => "corrupt",
            Self::InsufficientData => "incomplete",
            Self::InvalidArgument => "invalid argument",
            Self::Limit => "over the limit",
            Self::Unsupported => "unsupported",
            Self::Interrupted => "interrupted",
            Self::Io => "input/output",
        })
    }
}

/// An error: its kind, a message with the offset, the expected and the found, the tensor it
/// concerns where there is one, and a hint at what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    tensor: Option<String>,
    hint: Option<String>,
}

/// Shorthand for results of this crate and the crates above it.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

constructors! {
    /// [`ErrorKind::Compatibility`]
    compatibility => Compatibility,
    /// [`ErrorKind::Corruption`]
    corruption => Corruption,
    /// [`ErrorKind::InsufficientData`]
    insufficient => InsufficientData,
    /// [`ErrorKind::InvalidArgument`]
    invalid => InvalidArgument,
    /// [`ErrorKind::Limit`]
    limit => Limit,
    /// [`ErrorKind::Unsupported`]
    unsupported => Unsupported,
    /// [`ErrorKind::Io`]
    io => Io,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), tensor: None, hint: None }
    }

    /// The error of work that was cancelled.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "stopped before it was finished; nothing was written")
    }

    /// Names the tensor; the innermost name, set first, wins.
    #[must_use]
    pub fn in_tensor(mut self, name: &str) -> Self {
        self.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Says what to try; the first hint wins.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What went wrong, in the terms a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without tensor and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The tensor that the error concerns.
    pub fn tensor(&self) -> Option<&str> {
        self.tensor.as_deref()
    }

    /// What to try.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        if let Some(tensor) = &self.tensor {
            write!(f, "tensor {tensor}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let kind = match e.kind() {
            std::io::ErrorKind::UnexpectedEof => ErrorKind::InsufficientData,
            _ => ErrorKind::Io,
        };
        Self::new(kind, e.to_string())
    }
}
