//! What a store did, as values and as events.

use benben_format::Error;
use std::sync::Arc;
use std::time::Duration;

/// Counts since the store was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Tensors that were in memory when they were asked for.
    pub hits: u64,
    /// Tensors that were not.
    pub misses: u64,
    /// Of the misses, those that were being decoded already, by prefetch or for another thread.
    pub late: u64,
    /// Tensors that were decoded ahead of being asked for.
    pub prefetched: u64,
    /// Of the prefetched, those that were evicted before anyone asked.
    pub wasted: u64,
    /// Tensors that left memory.
    pub evicted: u64,
    /// Rows of tables that were copied from memory.
    pub row_hits: u64,
    /// Rows of tables that were decoded by themselves.
    pub rows_decoded: u64,
    /// Stored bytes of the chunks that were read of the pack since the store was made, each time that they were read.
    pub bytes_read: u64,
    /// Bytes of what was decoded into memory, in the form in which it is kept.
    pub bytes_decoded: u64,
    /// Bytes held now: tensors in memory or being decoded, and rows.
    pub bytes_held: usize,
    /// Most bytes held at once.
    pub bytes_peak: usize,
    /// Time for which callers waited for decoding, summed over threads.
    pub stall: Duration,
}

impl Statistics {
    /// Part of the tensors asked for that were in memory; 0 before anyone asked.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

/// Something that happened in a store. Hits are only counted: they are too many to be told.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A tensor was decoded into memory.
    Loaded {
        /// Its name.
        tensor: &'a str,
        /// Bytes that it takes in memory.
        bytes: usize,
        /// Time that decoding took.
        took: Duration,
        /// Whether by prefetch.
        ahead: bool,
    },
    /// A tensor could not be decoded.
    Failed {
        /// Its name.
        tensor: &'a str,
        /// Why.
        error: &'a Error,
        /// Whether by prefetch: nobody has asked yet.
        ahead: bool,
    },
    /// A tensor left memory.
    Evicted {
        /// Its name.
        tensor: &'a str,
        /// Bytes that it took.
        bytes: usize,
        /// Whether it was prefetched and nobody asked for it.
        wasted: bool,
    },
    /// A caller waited for tensors to be decoded.
    Stalled {
        /// The first tensor asked for.
        tensor: &'a str,
        /// For how long.
        waited: Duration,
    },
}

/// Is told of what happens, on the thread where it happens, while no lock of the store is held. It must be quick and
/// must not panic.
pub type Watch = Arc<dyn Fn(&Event<'_>) + Send + Sync>;
