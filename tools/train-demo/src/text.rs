//! Reads the books of a folder and holds out the end of each.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One `.txt` file.
#[derive(Debug)]
pub struct Book {
    /// What the record says about it.
    pub source: Source,
    /// The part to train on.
    pub training: String,
    /// The last part, which training never sees.
    pub held_out: String,
}

/// Identity of a file of text.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// File name without its folder.
    pub file: String,
    /// Length of the file.
    pub bytes: usize,
    /// Digest of the file's bytes, in hexadecimal.
    pub sha256: String,
}

/// Reads every `.txt` file of `folder`, in the order of their names, and holds out the last
/// `held_out` (0.05 is 5 %) of each, so that every style is measured; a cut falls on the start of a line.
///
/// # Errors
///
/// When the folder or a file cannot be read as UTF-8, or when there is no such file.
pub fn read(folder: &Path, held_out: f64) -> Result<Vec<Book>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no .txt file", folder.display());
    paths.iter().map(|path| read_book(path, held_out)).collect()
}

fn read_book(path: &Path, held_out: f64) -> Result<Book> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let source = Source {
        file: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        bytes: text.len(),
        sha256: sha256(text.as_bytes()),
    };
    let (training, end) = text.split_at(cut(&text, held_out));
    Ok(Book { source, training: training.to_owned(), held_out: end.to_owned() })
}

/// Where the held-out part starts: the first line that begins in the last `held_out` of the text.
#[expect(clippy::cast_possible_truncation, reason = "a fraction of a length is a length")]
fn cut(text: &str, held_out: f64) -> usize {
    let target = (text.len() as f64 * (1.0 - held_out)) as usize;
    let target = text.floor_char_boundary(target);
    text[target..].find('\n').map_or(text.len(), |line| target + line + 1)
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::{cut, sha256};

    #[test]
    fn held_out_part_starts_on_a_line() {
        let text = "one\ntwo\nthree\nfour\n";
        assert_eq!(&text[cut(text, 0.5)..], "four\n");
        assert_eq!(cut("no line end", 0.5), 11);
    }

    #[test]
    fn digest_is_the_published_one() {
        assert!(sha256(b"abc").starts_with("ba7816bf8f01cfea"));
    }
}
