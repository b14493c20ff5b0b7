//! Reads everything once: checksums, hashes, padding, and that every tensor decodes.

use crate::{Error, ErrorKind, Pack, Result};
use benben_format::{Observer, Progress};

/// Something that is wrong with one tensor, one file, or the space between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the tensor or file, `padding` for the space between.
    pub name: String,
    /// What is wrong.
    pub error: Error,
}

/// What a check of the whole pack found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Tensors that were decoded.
    pub tensors: usize,
    /// Files that were decoded.
    pub files: usize,
    /// Everything that is wrong, in stored order; empty for a good pack.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether all that is wrong is that a newer build is needed.
    pub fn is_only_incompatible(&self) -> bool {
        !self.is_good() && self.faults.iter().all(|f| f.error.kind() == ErrorKind::Compatibility)
    }
}

impl Pack {
    /// Checks every byte of the pack and decodes every tensor and file. Faults are collected, not returned
    /// as errors: a report names all of them.
    ///
    /// # Errors
    /// Interrupted, where `observer` says so.
    pub fn verify(&self, observer: &mut Observer<'_>) -> Result<Report> {
        let reader = self.reader();
        let mut report = Report { tensors: 0, files: 0, faults: Vec::new() };
        let total = reader.len();
        let mut done = 0;
        for file in reader.files() {
            advance(observer, &file.name, done, total)?;
            done += reader.segment(&file.leaf).len;
            let found = reader.verify_segment(&file.leaf).and_then(|()| self.file(&file.name));
            match found {
                Ok(_) => report.files += 1,
                Err(error) => report.faults.push(Fault { name: file.name.clone(), error }),
            }
        }
        for tensor in self.tensors() {
            advance(observer, tensor.name(), done, total)?;
            done += tensor.stored_bytes();
            let leaves = tensor.entry().expr.leaves();
            let found = leaves.into_iter().try_for_each(|leaf| reader.verify_segment(leaf));
            match found.and_then(|()| tensor.to_bytes()) {
                Ok(_) => report.tensors += 1,
                Err(error) => {
                    report
                        .faults
                        .push(Fault { name: tensor.name().into(), error: error.in_tensor(tensor.name()) });
                }
            }
        }
        if let Err(error) = reader.verify_gaps() {
            report.faults.push(Fault { name: "padding".into(), error });
        }
        advance(observer, "", total, total)?;
        Ok(report)
    }
}

fn advance(observer: &mut Observer<'_>, item: &str, done: u64, total: u64) -> Result<()> {
    if observer(Progress { item, done, total }).is_break() { Err(Error::interrupted()) } else { Ok(()) }
}
