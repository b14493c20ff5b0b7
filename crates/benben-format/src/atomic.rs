//! Outputs that appear whole or not at all.

use crate::{Error, Result};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files that are being written, for [`AtomicFile::discard_all`].
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is written next to its destination and takes its place when it is committed. Dropped before
/// that, it vanishes and whatever was at the destination stays.
#[derive(Debug)]
pub struct AtomicFile {
    /// None once it is committed.
    file: Option<BufWriter<tempfile::NamedTempFile>>,
    /// Where it is written, until it takes its place.
    temporary: PathBuf,
    path: PathBuf,
    replace: bool,
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        unfinished().retain(|p| *p != self.temporary);
    }
}

impl AtomicFile {
    /// Starts a file that will be at `path`. With `replace`, it may take the place of another.
    ///
    /// # Errors
    /// InvalidArgument where `path` exists and `replace` is false, where it is a folder or a device, and where its
    /// folder does not exist; Io where the folder cannot be written.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Error::invalid(format!("{} is a folder, expected a file name", path.display())));
            }
            // A device or a pipe would be replaced, not written to.
            Ok(found) if !found.is_file() => {
                return Err(Error::invalid(format!(
                    "{} is a device or a pipe, expected a file name",
                    path.display()
                )));
            }
            Ok(_) if !replace => return Err(exists(path)),
            _ => {}
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let (path, folder) = (path.display(), folder.display());
            return Err(Error::invalid(format!("{path}: the folder {folder} does not exist"))
                .with_hint("create it first, or check the path for a slip"));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{name}.");
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        // Only the kind: the system's message would name the temporary file, which nobody asked for.
        let named = |e: std::io::Error| Error::from(std::io::Error::from(e.kind())).context(folder.display());
        let file = builder.tempfile_in(folder).map_err(named)?;
        let temporary = file.path().to_path_buf();
        unfinished().push(temporary.clone());
        Ok(Self {
            file: Some(BufWriter::with_capacity(1 << 18, file)),
            temporary,
            path: path.into(),
            replace,
        })
    }

    /// Removes every file that was created and not committed. For a program that is about to end on a signal:
    /// writes that follow are lost.
    pub fn discard_all() {
        for path in unfinished().drain(..) {
            // It may be gone already; there is nobody left to tell.
            let _ = std::fs::remove_file(path);
        }
    }

    fn buffer(&mut self) -> std::io::Result<&mut BufWriter<tempfile::NamedTempFile>> {
        self.file.as_mut().ok_or_else(|| std::io::ErrorKind::BrokenPipe.into())
    }

    /// Puts the file in place.
    ///
    /// # Errors
    /// Io; the destination is then as it was.
    pub fn commit(mut self) -> Result<()> {
        let Some(buffer) = self.file.take() else { return Ok(()) };
        let named = |e: std::io::Error| Error::from(e).context(self.path.display());
        let file = buffer.into_inner().map_err(|e| named(e.into_error()))?;
        file.as_file().sync_all().map_err(named)?;
        let done = if self.replace { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        done.map(drop).map_err(|e| match e.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(&self.path),
            _ => named(e.error),
        })
    }
}

fn exists(path: &Path) -> Error {
    Error::invalid(format!("{} already exists", path.display())).with_hint("--force replaces it")
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer()?.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.buffer()?.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.buffer()?.seek(to)
    }
}
