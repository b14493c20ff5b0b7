//! What a reader accepts before it allocates anything.

use crate::{Error, Result};

/// `count` as a length in memory.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit) where this device cannot address as much.
pub fn in_memory(count: u64) -> Result<usize> {
    let addressable = isize::try_from(count).map(isize::unsigned_abs);
    addressable.map_err(|_| Error::limit(format!("{count} values do not fit the memory of this device")))
}

/// Bounds that are checked before memory is asked for. Raise one where an honest pack needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the index, stored and decompressed.
    pub index_bytes: u64,
    /// CBOR data items of the directory: a byte of it can take a hundred in memory.
    pub items: u64,
    /// Tensors and files together.
    pub entries: usize,
    /// Nesting of expression nodes, references included.
    pub depth: usize,
    /// Nodes of one expression: bounds the work that a few bytes of directory can ask for.
    pub nodes: usize,
    /// Dimensions of a tensor.
    pub rank: usize,
    /// Bytes of a name.
    pub name_bytes: usize,
    /// Bytes of one decoded tensor or file, and of each value on the way to it.
    pub tensor_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            index_bytes: 256 << 20,
            items: 1 << 24,
            entries: 1 << 20,
            depth: 16,
            nodes: 256,
            rank: 16,
            name_bytes: 1 << 16,
            tensor_bytes: 16 << 30,
        }
    }
}
