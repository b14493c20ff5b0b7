//! Where results go: checked before the work starts.

use crate::{AtomicFile, Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Refuses an input that does not exist, with the names beside it that are near.
pub(crate) fn require(path: &Path) -> Result<()> {
    if !matches!(path.try_exists(), Ok(false)) {
        return Ok(());
    }
    let error = Error::io(format!("{}: no such file or folder", path.display()));
    if path == Path::new("-") {
        return Err(error.with_hint("models and packs are not read from stdin: save it to a file first"));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Err(error.with_hint(format!("{} does not exist either", folder.display())));
    };
    let mut near: Vec<String> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| changes(name, &wanted) <= 3.min(wanted.chars().count() / 2))
        .collect();
    near.sort_by_key(|name| (changes(name, &wanted), name.clone()));
    Err(match near.first() {
        Some(name) => error.with_hint(format!("there is {}", path.with_file_name(name).display())),
        None => error,
    })
}

/// Letters to insert, delete or replace to turn one name into the other (Levenshtein).
fn changes(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Folders that are in [`NewFolders`], for [`discard_unfinished`].
static NEW_FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn new_folders() -> MutexGuard<'static, Vec<PathBuf>> {
    NEW_FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes every file that is not whole yet, and the folders made for them. For a program that is about to end on a
/// signal: writes that follow are lost.
pub fn discard_unfinished() {
    AtomicFile::discard_all();
    remove_empty(&std::mem::take(&mut *new_folders()));
}

fn remove_empty(folders: &[PathBuf]) {
    for folder in folders.iter().rev() {
        // Refuses where there is something in it: then it is wanted.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Folders that were made for files; those that stay empty vanish again.
#[derive(Default)]
pub(crate) struct NewFolders(Vec<PathBuf>);

impl NewFolders {
    /// Makes `folder` and the folders above it, where they do not exist.
    ///
    /// # Errors
    /// InvalidArgument where a file is in the way; Io.
    pub(crate) fn make(&mut self, folder: &Path) -> Result<()> {
        if folder.is_dir() || folder.as_os_str().is_empty() {
            return Ok(());
        }
        if folder.exists() {
            return Err(Error::invalid(format!("{} is a file, expected a folder", folder.display()))
                .with_hint("-o names another, or a file whose name ends in .safetensors"));
        }
        if let Some(above) = folder.parent() {
            self.make(above)?;
        }
        std::fs::create_dir(folder).map_err(|e| Error::from(e).context(folder.display()))?;
        self.0.push(folder.into());
        new_folders().push(folder.into());
        Ok(())
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        remove_empty(&self.0);
        new_folders().retain(|folder| !self.0.contains(folder));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_letter_by_letter() {
        assert_eq!(changes("model.safetensors", "model.safetensor"), 1);
        assert_eq!(changes("", "abc"), 3);
        assert_eq!(changes("kitten", "sitting"), 3);
    }

    #[test]
    fn folders_that_stay_empty_vanish() {
        let root = tempfile::tempdir().unwrap();
        let (empty, used) = (root.path().join("a/b"), root.path().join("c/d"));
        let mut folders = NewFolders::default();
        folders.make(&empty).unwrap();
        folders.make(&used).unwrap();
        AtomicFile::create(&used.join("f"), false).unwrap().commit().unwrap();
        drop(folders);
        assert!(!root.path().join("a").exists());
        assert!(used.join("f").exists());
    }
}
