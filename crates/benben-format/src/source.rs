//! Where bytes come from: memory, a file read by copies, or a mapped file.

use crate::{Error, Result};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// Random access to bytes. Readers of packs and of foreign model files are built on this alone, so a
/// remote object or a counting wrapper plugs in here.
pub trait ReadAt: Send + Sync {
    /// Total bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes `offset .. offset + len`, borrowed where the source can lend them.
    ///
    /// # Errors
    /// [`InsufficientData`](crate::ErrorKind::InsufficientData) past the end; [`Io`](crate::ErrorKind::Io) from
    /// the system.
    fn read_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>>;

    /// Says that bytes `offset .. offset + len` are not wanted again soon, so that a source that keeps bytes in this
    /// process's memory may let go of them. They can still be read; most sources keep nothing and do nothing.
    fn release(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
}

/// A byte source behind a pointer that clones cheaply.
pub type Source = Arc<dyn ReadAt>;

fn past_end(offset: u64, len: usize, total: u64) -> Error {
    let missing = (u128::from(offset) + len as u128).saturating_sub(u128::from(total));
    Error::insufficient(format!(
        "{len} bytes wanted at offset {offset}, but the input ends at {total}: {missing} missing"
    ))
}

/// Refuses a range that does not lie within `total` bytes.
///
/// # Errors
/// [`InsufficientData`](crate::ErrorKind::InsufficientData), saying how many bytes are missing.
pub fn check_range(offset: u64, len: usize, total: u64) -> Result<()> {
    if offset > total || len as u64 > total - offset { Err(past_end(offset, len, total)) } else { Ok(()) }
}

impl<T: AsRef<[u8]> + Send + Sync> ReadAt for T {
    fn len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        let bytes = self.as_ref();
        let start = usize::try_from(offset).ok();
        let slice = start.and_then(|s| bytes.get(s..)?.get(..len));
        slice.map(Cow::Borrowed).ok_or_else(|| past_end(offset, len, bytes.len() as u64))
    }
}

/// A file read by copies; nothing is mapped.
#[derive(Debug)]
pub struct FileSource {
    file: std::fs::File,
    len: u64,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io), naming the path.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, len) = open_file(path)?;
        Ok(Self { file, len })
    }
}

impl ReadAt for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        check_range(offset, len, self.len)?;
        let mut bytes = vec![0; len];
        read_exact_at(&self.file, &mut bytes, offset)?;
        Ok(Cow::Owned(bytes))
    }
}

#[cfg(unix)]
fn read_exact_at(file: &std::fs::File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &std::fs::File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

fn open_file(path: &Path) -> Result<(std::fs::File, u64)> {
    let named = |e: std::io::Error| Error::from(e).context(path.display());
    let file = std::fs::File::open(path).map_err(named)?;
    let meta = file.metadata().map_err(named)?;
    if meta.is_dir() {
        return Err(Error::invalid(format!("{} is a folder, expected a file", path.display())));
    }
    Ok((file, meta.len()))
}

/// The file at `path`: mapped where the `mmap` feature is on, read by copies elsewhere.
///
/// # Errors
/// [`Io`](crate::ErrorKind::Io), naming the path.
pub fn open(path: &Path) -> Result<Source> {
    #[cfg(feature = "mmap")]
    {
        let (file, len) = open_file(path)?;
        if len == 0 {
            return Ok(Arc::new(Vec::new()));
        }
        #[allow(unsafe_code, reason = "mapping a file is unsafe by nature")]
        // SAFETY: the map is read-only. Another process that shortens or rewrites the file while it is mapped
        // breaks this; every chunk is checksummed as it is read, and the documentation says not to do it.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::from(e).context(path.display()))?;
        Ok(Arc::new(MappedFile(map)))
    }
    #[cfg(not(feature = "mmap"))]
    Ok(Arc::new(FileSource::open(path)?))
}

/// A mapped file: read in place. What was read counts as memory of this process until it is released.
#[cfg(feature = "mmap")]
#[derive(Debug)]
struct MappedFile(memmap2::Mmap);

#[cfg(feature = "mmap")]
impl ReadAt for MappedFile {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        let start = usize::try_from(offset).ok();
        let slice = start.and_then(|s| self.0.get(s..)?.get(..len));
        slice.map(Cow::Borrowed).ok_or_else(|| past_end(offset, len, self.len()))
    }

    fn release(&self, offset: u64, len: u64) {
        #[cfg(unix)]
        if let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len))
            && check_range(offset as u64, len, self.0.len()).is_ok()
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            #[allow(
                unsafe_code,
                reason = "memmap2 guards the advice that would zero memory that has no file behind it"
            )]
            // SAFETY: the map is read-only and backed by a file: pages that are dropped come back from the file with
            // the same bytes at the next access, also for slices that are borrowed meanwhile.
            let advised = unsafe { self.0.unchecked_advise_range(advice, offset, len) };
            // Advice only: where the system refuses it, the pages stay, and nothing else changes.
            drop(advised);
        }
        #[cfg(not(unix))]
        let _ = (offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn ranges_past_the_end_say_how_much_is_missing() {
        let e = vec![0u8; 10].read_at(8, 4).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InsufficientData);
        assert!(e.message().contains("2 missing"), "{e}");
        assert!(vec![0u8; 10].read_at(u64::MAX, usize::MAX).is_err());
    }

    #[test]
    fn bytes_that_were_released_can_be_read_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let source = open(file.path()).unwrap();
        let lent = source.read_at(5000, 60_000).unwrap();
        for (offset, len) in
            [(0, 100_000), (4096, 8192), (99_999, 1), (100_000, 0), (99_999, 2), (u64::MAX, u64::MAX)]
        {
            source.release(offset, len);
            assert!(source.read_at(0, 100_000).unwrap() == bytes);
        }
        assert!(*lent == bytes[5000..65_000]);
    }
}
