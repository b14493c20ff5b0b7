//! Reader of one safetensors file.

use super::header;
use crate::detect::{MAX_SAFETENSORS_HEADER, hex};
use crate::model::{ModelSource, SideFile, TensorInfo, entry, memory};
use benben_format::{Error, ReadAt, Result, Source};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A safetensors file.
pub struct SafeTensors {
    source: Source,
    tensors: Vec<TensorInfo>,
    /// Offset in the file of each tensor.
    offsets: Vec<u64>,
    metadata: BTreeMap<String, String>,
}

impl SafeTensors {
    /// Reads and checks the header of `source`; no tensor is touched.
    ///
    /// # Errors
    /// [`InsufficientData`](benben_format::ErrorKind::InsufficientData) for a file that is cut short: bytes missing
    /// and the first tensor that is not complete; [`Corruption`](benben_format::ErrorKind::Corruption) where names
    /// repeat, sizes and shapes disagree, or tensors overlap or leave gaps;
    /// [`Unsupported`](benben_format::ErrorKind::Unsupported) for an element type that is not known;
    /// [`Limit`](benben_format::ErrorKind::Limit) for a header over 100 MB.
    pub fn new(source: Source) -> Result<Self> {
        let total = source.len();
        let length = length(&*source)?;
        let start = 8 + length;
        if length > total - 8 {
            return Err(Error::insufficient(format!(
                "the header takes {length} bytes, the file has {}: {} missing, and all of the tensors",
                total - 8,
                start - total
            ))
            .with_hint("the download was cut short: fetch the file again"));
        }
        let json = source.read_at(8, usize::try_from(length).unwrap_or(usize::MAX))?;
        let header = header::parse(&json, total - start)?;
        drop(json);
        let mut at = start;
        let mut offsets = Vec::with_capacity(header.tensors.len());
        for tensor in &header.tensors {
            offsets.push(at);
            at += tensor.source_bytes;
        }
        Ok(Self { source, tensors: header.tensors, offsets, metadata: header.metadata })
    }
}

/// The header's length, refused over the limit.
fn length(source: &dyn ReadAt) -> Result<u64> {
    let head = source.read_at(0, usize::try_from(source.len()).unwrap_or(9).min(9))?;
    let Some((length, json)) = head.split_first_chunk() else {
        return Err(Error::insufficient(format!(
            "a safetensors file starts with 8 bytes of header length, found {} bytes in all",
            head.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_SAFETENSORS_HEADER {
        return Err(Error::limit(format!(
            "the header is said to take {length} bytes, at most {MAX_SAFETENSORS_HEADER} are allowed; \
             the file starts with {}",
            hex(&head)
        ))
        .with_hint("this is probably not a safetensors file"));
    }
    if json.first().is_some_and(|&b| b != b'{') {
        return Err(Error::corruption(format!(
            "the header must start with {{ at offset 8, found byte {}",
            hex(json)
        )));
    }
    Ok(length)
}

impl ModelSource for SafeTensors {
    fn format(&self) -> &'static str {
        "safetensors"
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let (info, &at) = (entry(&self.tensors, index)?, entry(&self.offsets, index)?);
        let bytes = memory(info.source_bytes).and_then(|n| self.source.read_at(at, n));
        bytes.map_err(|e| e.in_tensor(&info.name))
    }

    fn release(&self, index: usize) {
        if let (Some(info), Some(&at)) = (self.tensors.get(index), self.offsets.get(index)) {
            self.source.release(at, info.source_bytes);
        }
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn files(&self) -> &[SideFile] {
        &[]
    }

    fn total_bytes(&self) -> u64 {
        self.source.len()
    }
}
