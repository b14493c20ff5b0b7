//! A byte source that remembers what was read of it.

use benben::{ReadAt, Result, Source};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes in memory, with a list of the ranges that were asked for.
#[derive(Debug)]
pub struct CountingSource {
    bytes: Vec<u8>,
    reads: Mutex<Vec<Range<u64>>>,
}

impl CountingSource {
    /// Counts reads of `bytes`.
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes, reads: Mutex::new(Vec::new()) })
    }

    /// The same as a source for packs.
    pub fn source(self: &Arc<Self>) -> Source {
        Arc::clone(self) as Source
    }

    /// Ranges read since the last call.
    pub fn take(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut *self.reads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReadAt for CountingSource {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push(offset..offset + len as u64);
        self.bytes.read_at(offset, len)
    }
}

/// Bytes of all ranges together.
pub fn total(reads: &[Range<u64>]) -> u64 {
    reads.iter().map(|r| r.end - r.start).sum()
}
