//! Reading forward through the header, in windows, so that no source is asked for each number.

use benben_format::{Error, ReadAt, Result};
use std::borrow::Cow;

/// Bytes asked for at once; sources that lend their memory copy nothing.
const WINDOW: u64 = 64 * 1024;

/// A position in a source. Every take is checked against the bytes that are left before anything is allocated.
pub(super) struct Cursor<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    window: Cow<'a, [u8]>,
    /// Offset of the window in the source.
    start: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, at: 0, window: Cow::Borrowed(&[]), start: 0 }
    }

    /// Offset of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes behind the position.
    pub(super) fn left(&self) -> u64 {
        self.source.len().saturating_sub(self.at)
    }

    /// Refuses `n` bytes of `what` unless they are left.
    pub(super) fn expect(&self, n: u64, what: &str) -> Result<()> {
        let left = self.left();
        if n > left {
            return Err(Error::insufficient(format!(
                "{what} at offset {} takes {n} bytes, {left} are left: {} missing",
                self.at,
                n - left
            ))
            .with_hint("the download may have been cut short: fetch the file again"));
        }
        Ok(())
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64, what: &str) -> Result<&[u8]> {
        self.expect(n, what)?;
        if self.at + n > self.start + self.window[..].len() as u64 {
            let len = n.max(WINDOW).min(self.left());
            let len = usize::try_from(len).map_err(|_| Error::limit(format!("{what}: {len} bytes")))?;
            self.window = self.source.read_at(self.at, len)?;
            self.start = self.at;
        }
        let from = self.at - self.start;
        self.at += n;
        let range = usize::try_from(from).ok().zip(usize::try_from(from + n).ok());
        range
            .and_then(|(a, b)| self.window.get(a..b))
            .ok_or_else(|| Error::insufficient(format!("{what}: the source gave fewer bytes than it has")))
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// The bytes of a string.
    pub(super) fn bytes(&mut self, what: &str) -> Result<&[u8]> {
        let n = self.u64(what)?;
        self.take(n, what)
    }

    /// A string that must be UTF-8: a name or a key.
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        let at = self.at;
        let bytes = self.bytes(what)?;
        std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|e| Error::corruption(format!("{what} at offset {at} is not UTF-8: {e}")))
    }
}
