//! A pack that is open, and its tensors.

use crate::evaluate::Evaluator;
use benben_format::{Dtype, Entry, Error, Limits, Reader, Result, Source};
use std::ops::Range;
use std::path::Path;

/// An open pack: its index is in memory, everything else is read when it is asked for.
#[derive(Debug)]
pub struct Pack {
    reader: Reader,
}

impl Pack {
    /// Opens the file at `path` with the usual limits; mapped where the `mmap` feature is on. The file must not
    /// be changed while it is open.
    ///
    /// # Errors
    /// Io, and as [`Pack::from_source`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_source(benben_format::open(path)?, Limits::default())
    }

    /// Opens the pack in `source`.
    ///
    /// # Errors
    /// Every kind: header, trailer and index must be whole and agree with each other.
    pub fn from_source(source: Source, limits: Limits) -> Result<Self> {
        Ok(Self { reader: Reader::open(source, limits)? })
    }

    /// Opens what is left of a pack that was cut short; see [`Reader::open_truncated`].
    ///
    /// # Errors
    /// As [`Reader::open_truncated`].
    pub fn from_truncated(source: Source, limits: Limits) -> Result<Self> {
        Ok(Self { reader: Reader::open_truncated(source, limits)? })
    }

    /// The container under the pack.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Tensors in stored order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.reader.tensors().iter().map(|entry| Tensor { pack: self, entry })
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// InvalidArgument, with the nearest name there is, where the pack has no such tensor.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        let entry = self.reader.tensor(name);
        let entry = entry.ok_or_else(|| {
            let error = Error::invalid(format!(
                "no tensor {name:?} among the {} of this pack",
                self.reader.tensors().len()
            ));
            match self.tensors().map(|t| (distance(t.name(), name), t.name())).min() {
                Some((_, nearest)) => error.with_hint(format!("the nearest name is {nearest:?}")),
                None => error,
            }
        })?;
        Ok(Tensor { pack: self, entry })
    }

    /// The value of an expression of this pack as f32, row-major: of a tensor's, or of a part of it.
    ///
    /// # Errors
    /// Corruption, Compatibility, Limit, Io.
    pub fn evaluate(&self, expr: &benben_format::Expr<benben_format::StoredLeaf>) -> Result<Vec<f32>> {
        let evaluator = Evaluator { reader: &self.reader };
        let (rows, _) = evaluator.signature(expr)?.matrix()?;
        evaluator.rows(expr, 0..rows)
    }

    /// Names of the files that travel with the model, in stored order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &str> {
        self.reader.files().iter().map(|f| f.name.as_str())
    }

    /// Bytes of the file called `name`.
    ///
    /// # Errors
    /// InvalidArgument where there is none; Corruption, Limit.
    pub fn file(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.reader.files().iter().find(|f| f.name == name);
        let file = file.ok_or_else(|| Error::invalid(format!("no file {name:?} in this pack")))?;
        let expr = benben_format::Expr::Leaf(file.leaf.clone());
        Evaluator { reader: &self.reader }.bytes(&expr).map_err(|e| e.context(format!("file {name}")))
    }
}

/// Number of positions at which two names differ, end to end.
fn distance(a: &str, b: &str) -> usize {
    let differing = a.bytes().zip(b.bytes()).filter(|(a, b)| a != b).count();
    differing + a.len().abs_diff(b.len())
}

/// One tensor of an open pack; nothing of it has been read yet.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    pack: &'a Pack,
    entry: &'a Entry,
}

impl<'a> Tensor<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.entry.name
    }

    /// The element type in which the pack hands it out.
    pub fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    /// Outermost dimension first.
    pub fn shape(&self) -> &'a [u64] {
        &self.entry.shape
    }

    /// All that the index says of it.
    pub fn entry(&self) -> &'a Entry {
        self.entry
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        // The writer and the reader have refused shapes that do not fit 63 bits.
        benben_format::element_count(&self.entry.shape).unwrap_or(u64::MAX)
    }

    /// Bytes that it takes in the file, without its share of the index.
    pub fn stored_bytes(&self) -> u64 {
        self.pack.reader.stored_bytes(self.entry)
    }

    pub(crate) fn evaluator(&self) -> Evaluator<'a> {
        Evaluator { reader: &self.pack.reader }
    }

    fn named(&self, e: Error) -> Error {
        e.in_tensor(&self.entry.name)
    }

    /// The whole tensor as f32.
    ///
    /// # Errors
    /// Corruption, Compatibility, Limit, Io; always with the tensor's name.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let (rows, _) = benben_format::matrix(&self.entry.shape)?;
        self.rows(0..rows)
    }

    /// Rows `range` of the first dimension as f32; the rest of the tensor is read no more than chunks demand.
    ///
    /// # Errors
    /// InvalidArgument where there are no such rows; otherwise as [`Tensor::to_f32`].
    pub fn rows(&self, range: Range<u64>) -> Result<Vec<f32>> {
        self.pack.reader.signature(self.entry)?;
        self.evaluator().rows(&self.entry.expr, range).map_err(|e| self.named(e))
    }

    /// The whole tensor as little-endian bytes of its own dtype; bit-exact where it was stored losslessly.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.evaluator().entry_bytes(self.entry).map_err(|e| self.named(e))
    }

    /// The whole tensor as little-endian bytes of `dtype`, rounded to nearest where it is narrower.
    ///
    /// # Errors
    /// Unsupported for conversions from or to integers; otherwise as [`Tensor::to_f32`].
    pub fn to_bytes_as(&self, dtype: Dtype) -> Result<Vec<u8>> {
        if dtype == self.entry.dtype {
            return self.to_bytes();
        }
        if !self.entry.dtype.is_float() {
            let message = format!("{} values are not converted to {dtype}", self.entry.dtype);
            return Err(self.named(Error::unsupported(message)));
        }
        dtype.from_f32(&self.to_f32()?).map_err(|e| self.named(e))
    }
}
