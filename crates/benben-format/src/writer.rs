//! Writes a pack front to back, one leaf at a time: nothing is held but tables.

use crate::directory::{Directory, Entry, FileEntry, Origin, check_file_name, check_name};
use crate::header::{Header, Trailer};
use crate::index::{ChunkEntry, IndexBuilder, Segment};
use crate::layout::{ALIGN, HEADER, TRAILER};
use crate::{Dtype, EncodedLeaf, Error, Expr, Limits, Mode, Result, StoredLeaf};
use std::io::{Seek, SeekFrom, Write};

/// Segments from this size on start at a multiple of 64 bytes; smaller ones at a multiple of 8, because
/// padding would otherwise be a visible part of a small pack.
const ALIGNED_FROM: u64 = 4096;

/// What a written pack came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the pack.
    pub bytes: u64,
    /// Bytes of the index, of the copy at the front if there is one, and of header and trailer.
    pub overhead: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// BLAKE3 of the index: the identity of the pack.
    pub root: [u8; 32],
}

/// Writer of one pack over any byte sink.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Bytes written after `segments_offset`.
    position: u64,
    segments_offset: u64,
    index: IndexBuilder,
    directory: Directory,
    names: std::collections::HashSet<String>,
    limits: Limits,
}

impl<W: Write> Writer<W> {
    /// Begins a pack. `front_index` bytes are kept free for a copy of the index, which
    /// [`Writer::finish_in_place`] fills; 0 keeps none.
    ///
    /// # Errors
    /// Io.
    pub fn new(mut out: W, generator: &str, front_index: u64) -> Result<Self> {
        let segments_offset = (HEADER as u64 + front_index).next_multiple_of(ALIGN);
        let header = Header { segments_offset, front_index_len: 0, file_len: 0, front_index_crc: 0 };
        out.write_all(&header.to_bytes())?;
        zeros(&mut out, segments_offset - HEADER as u64)?;
        Ok(Self {
            out,
            position: 0,
            segments_offset,
            index: IndexBuilder::default(),
            directory: Directory { generator: generator.into(), ..Directory::default() },
            names: std::collections::HashSet::new(),
            limits: Limits::default(),
        })
    }

    /// Adds a free text pair.
    pub fn metadata(&mut self, key: &str, value: &str) {
        self.directory.metadata.insert(key.into(), value.into());
    }

    /// Keeps the recipe that makes this pack.
    pub fn recipe(&mut self, toml: &str) {
        self.directory.recipe = Some(toml.into());
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.segments_offset + self.position
    }

    /// Bytes that the index would take if the pack ended here.
    ///
    /// # Errors
    /// InvalidArgument where the directory has no CBOR form.
    pub fn index_bytes(&self) -> Result<u64> {
        Ok(self.index.to_bytes(&self.directory)?.len() as u64)
    }

    /// Bytes of the segment and chunk tables so far.
    pub fn table_bytes(&self) -> u64 {
        self.index.table_bytes()
    }

    /// Writes a file that travels with the model; `leaf` holds its bytes as u8.
    ///
    /// # Errors
    /// InvalidArgument for a path that leaves its folder or stands twice; Io.
    pub fn file(&mut self, name: &str, leaf: EncodedLeaf) -> Result<()> {
        check_file_name(name, &self.limits).map_err(|e| Error::invalid(e.message()))?;
        if self.directory.files.iter().any(|f| f.name == name) {
            return Err(Error::invalid(format!("file {name} is added twice")));
        }
        let leaf = self.leaf(leaf)?;
        self.directory.files.push(FileEntry { name: name.into(), leaf });
        Ok(())
    }

    /// Writes a tensor.
    ///
    /// # Errors
    /// InvalidArgument for an empty name, one that stands twice, or an expression whose value has another
    /// shape than the tensor; Io.
    pub fn tensor(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[u64],
        origin: Origin,
        expr: Expr<EncodedLeaf>,
    ) -> Result<()> {
        let refused = |e: Error| Error::new(crate::ErrorKind::InvalidArgument, e.message()).in_tensor(name);
        check_name(name, &self.limits).map_err(refused)?;
        let limits = Limits { tensor_bytes: u64::MAX, ..self.limits };
        let signature = expr.signature(&limits).map_err(refused)?;
        check_entry(dtype, shape, &signature).map_err(refused)?;
        if !self.names.insert(name.into()) {
            return Err(Error::invalid("the name is added twice").in_tensor(name));
        }
        let expr = expr.try_map(&mut |leaf| self.leaf(leaf)).map_err(|e| e.in_tensor(name))?;
        self.directory.tensors.push(Entry { name: name.into(), dtype, shape: shape.into(), origin, expr });
        Ok(())
    }

    fn leaf(&mut self, leaf: EncodedLeaf) -> Result<StoredLeaf> {
        let len = leaf.payload_bytes();
        let whole_raw = leaf.chunks.iter().flatten().all(|c| c.mode == Mode::Raw);
        let align = match len {
            l if l < ALIGNED_FROM => 8,
            _ if whole_raw => ALIGN,
            _ => 64,
        };
        let offset = self.position.next_multiple_of(align);
        zeros(&mut self.out, offset - self.position)?;
        let first_chunk = self.index.chunk_count();
        let mut hash = blake3::Hasher::new();
        let mut within = 0u64;
        for (spec, chunks) in leaf.spec.streams.iter().zip(&leaf.chunks) {
            if spec.chunks() != chunks.len() as u64 {
                return Err(Error::invalid(format!(
                    "a stream of {} chunks came with {}",
                    spec.chunks(),
                    chunks.len()
                )));
            }
            for chunk in chunks {
                let len =
                    u32::try_from(chunk.bytes.len()).map_err(|_| Error::limit("a chunk of 4 GiB or more"))?;
                let crc = crc32c::crc32c(&chunk.bytes);
                if within >> 48 != 0 {
                    return Err(Error::limit("a segment of 2^48 bytes or more"));
                }
                self.index.push_chunk(ChunkEntry { offset: within, mode: chunk.mode as u8, len, crc });
                hash.update(&chunk.bytes);
                self.out.write_all(&chunk.bytes)?;
                within += u64::from(len);
            }
        }
        let segment = self.index.push_segment(Segment { offset, len, hash: hash.finalize().into() })?;
        self.position = offset + len;
        Ok(StoredLeaf { spec: leaf.spec, segment, first_chunk })
    }

    /// Writes index and trailer and returns the sink. Every byte went out in order: this is the way to
    /// write to a pipe.
    ///
    /// # Errors
    /// Io.
    pub fn finish(self) -> Result<(W, Written)> {
        let (out, written, _) = self.finish_with_index()?;
        Ok((out, written))
    }

    fn finish_with_index(mut self) -> Result<(W, Written, Vec<u8>)> {
        let index = self.index.to_bytes(&self.directory)?;
        let offset = self.position.next_multiple_of(8);
        zeros(&mut self.out, offset - self.position)?;
        let index_offset = self.segments_offset + offset;
        let root: [u8; 32] = blake3::hash(&index).into();
        let bytes = index_offset + index.len() as u64 + TRAILER as u64;
        self.out.write_all(&index)?;
        let trailer = Trailer { index_offset, index_len: index.len() as u64, root, file_len: bytes };
        self.out.write_all(&trailer.to_bytes())?;
        self.out.flush()?;
        let index_bytes = index.len() as u64;
        let overhead = self.segments_offset + index_bytes + TRAILER as u64;
        Ok((self.out, Written { bytes, overhead, index_bytes, root }, index))
    }
}

impl<W: Write + Seek> Writer<W> {
    /// Like [`Writer::finish`], then goes back to write the length into the header, and the copy of the
    /// index where it fits the room that was kept: a pack cut short can then say what is missing.
    ///
    /// # Errors
    /// Io.
    pub fn finish_in_place(self) -> Result<(W, Written)> {
        let segments_offset = self.segments_offset;
        let (mut out, written, index) = self.finish_with_index()?;
        let fits = index.len() as u64 <= segments_offset - HEADER as u64;
        let copy: &[u8] = if fits { &index } else { &[] };
        let header = Header {
            segments_offset,
            front_index_len: copy.len() as u64,
            file_len: written.bytes,
            front_index_crc: if fits { crc32c::crc32c(copy) } else { 0 },
        };
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&header.to_bytes())?;
        out.write_all(copy)?;
        out.flush()?;
        Ok((out, written))
    }
}

/// A tensor is handed out in its own dtype, which its expression must be able to give.
pub(crate) fn check_entry(dtype: Dtype, shape: &[u64], found: &crate::Signature) -> Result<()> {
    if found.shape != shape {
        return Err(Error::corruption(format!(
            "expected shape {shape:?}, its expression has {:?}",
            found.shape
        )));
    }
    let converts =
        found.dtype.is_float() && matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
    if found.dtype != dtype && !converts {
        return Err(Error::corruption(format!("expected {dtype}, its expression gives {}", found.dtype)));
    }
    Ok(())
}

fn zeros(out: &mut impl Write, mut count: u64) -> Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while count > 0 {
        let n = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        out.write_all(&ZEROS[..n])?;
        count -= n as u64;
    }
    Ok(())
}
