//! Opens a pack: header, one look at its end, and the index. No segment is read until a chunk is asked for.

use crate::directory::{Directory, Entry, FileEntry};
use crate::header::{Header, Trailer};
use crate::index::{Index, Segment};
use crate::layout::{HEADER, TAIL_READ, TRAILER};
use crate::source::check_range;
use crate::writer::check_entry;
use crate::{Chunk, Error, Expr, LeafSource, LeafSpec, Limits, Result, Signature, Source, StoredLeaf};
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// An open pack. Cheap to keep: the index and nothing else is in memory.
pub struct Reader {
    source: Source,
    header: Header,
    index: Index,
    index_bytes: u64,
    root: [u8; 32],
    limits: Limits,
    /// Bytes at the end that the pack should have and the source has not.
    missing: u64,
    /// Bytes of chunks that were read.
    bytes_read: AtomicU64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("bytes", &self.source.len())
            .field("tensors", &self.index.directory.tensors.len())
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens the pack in `source`. Reads at most [`TAIL_READ`] bytes besides the index.
    ///
    /// # Errors
    /// Every kind of error: a pack is refused unless header, trailer and index are whole and agree.
    pub fn open(source: Source, limits: Limits) -> Result<Self> {
        let header = read_header(&source)?;
        let len = source.len();
        if header.file_len > len {
            return Err(truncated(&source, header, limits));
        }
        if header.file_len != 0 && header.file_len < len {
            return Err(Error::corruption(format!(
                "{} bytes follow the end of the pack at {}",
                len - header.file_len,
                header.file_len
            )));
        }
        let room = len.saturating_sub(HEADER as u64);
        let tail_len = room.min(TAIL_READ - HEADER as u64);
        if tail_len < TRAILER as u64 {
            return Err(Error::insufficient(format!("{len} bytes are too few for header and trailer")));
        }
        let tail_start = len - tail_len;
        let tail = read(&source, tail_start, tail_len)?;
        let trailer = Trailer::parse(&tail[tail.len() - TRAILER..], len)?;
        if trailer.index_len > limits.index_bytes {
            let (found, limit) = (trailer.index_len, limits.index_bytes);
            return Err(Error::limit(format!("index of {found} bytes, the limit is {limit}")));
        }
        let index_room = trailer.index_offset.checked_sub(header.segments_offset).ok_or_else(|| {
            Error::corruption(format!(
                "the index begins at {}, before the segments at {}",
                trailer.index_offset, header.segments_offset
            ))
        })?;
        let (index, index_bytes) = {
            let bytes: Cow<'_, [u8]> = match trailer.index_offset.checked_sub(tail_start) {
                // Trailer::parse has checked that the index ends where the trailer begins.
                Some(at) => {
                    let at = usize::try_from(at).unwrap_or(usize::MAX).min(tail.len());
                    Cow::Borrowed(&tail[at..tail.len() - TRAILER])
                }
                None => read(&source, trailer.index_offset, trailer.index_len)?,
            };
            let found: [u8; 32] = blake3::hash(&bytes).into();
            if found != trailer.root {
                return Err(Error::corruption(format!(
                    "index at {}: expected BLAKE3 {}, found {}",
                    trailer.index_offset,
                    hex(&trailer.root),
                    hex(&found)
                )));
            }
            (Index::parse(&bytes, index_room, &limits)?, bytes.len() as u64)
        };
        drop(tail);
        Ok(Self {
            source,
            header,
            index,
            index_bytes,
            root: trailer.root,
            limits,
            missing: 0,
            bytes_read: AtomicU64::new(0),
        })
    }

    /// Opens what is left of a pack that was cut short, by the copy of the index at its front.
    ///
    /// # Errors
    /// InsufficientData where there is no such copy, or it is cut too; otherwise as [`Reader::open`].
    pub fn open_truncated(source: Source, limits: Limits) -> Result<Self> {
        let header = read_header(&source)?;
        let len = source.len();
        let missing = header.file_len.saturating_sub(len);
        if header.front_index_len == 0 || missing == 0 {
            return Err(Error::insufficient("there is no copy of the index at the front")
                .with_hint("fetch the pack again"));
        }
        if header.front_index_len > limits.index_bytes {
            return Err(Error::limit(format!(
                "index of {} bytes, the limit is {}",
                header.front_index_len, limits.index_bytes
            )));
        }
        let bytes = read(&source, HEADER as u64, header.front_index_len)?;
        let found = crc32c::crc32c(&bytes);
        if found != header.front_index_crc {
            return Err(Error::corruption(format!(
                "copy of the index at offset {HEADER}: expected checksum {:08x}, found {found:08x}",
                header.front_index_crc
            )));
        }
        let index_bytes = bytes.len() as u64;
        let tables_end = header.file_len.checked_sub(TRAILER as u64 + index_bytes);
        let room = tables_end.and_then(|e| e.checked_sub(header.segments_offset));
        let room =
            room.ok_or_else(|| Error::corruption("the header's length leaves no room for segments"))?;
        let index = Index::parse(&bytes, room, &limits)?;
        let root = blake3::hash(&bytes).into();
        drop(bytes);
        Ok(Self { source, header, index, index_bytes, root, limits, missing, bytes_read: AtomicU64::new(0) })
    }

    /// Everything that the index says.
    pub fn directory(&self) -> &Directory {
        &self.index.directory
    }

    /// Tensors in stored order.
    pub fn tensors(&self) -> &[Entry] {
        &self.index.directory.tensors
    }

    /// Files that travel with the model.
    pub fn files(&self) -> &[FileEntry] {
        &self.index.directory.files
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&Entry> {
        self.index.position(name).map(|i| &self.index.directory.tensors[i])
    }

    /// Where the tensor called `name` stands among [`tensors`](Self::tensors).
    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.position(name)
    }

    /// Bytes of chunks that have been read since the pack was opened, counted each time that they are read.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Relaxed)
    }

    /// Says that the stored bytes of a leaf are not wanted again soon; see [`ReadAt::release`](crate::ReadAt::release).
    pub fn release(&self, leaf: &StoredLeaf) {
        let segment = self.segment(leaf);
        self.source.release(self.header.segments_offset.saturating_add(segment.offset), segment.len);
    }

    /// Shape and dtype of the value of a tensor's expression, checked against the entry and the limits.
    ///
    /// # Errors
    /// Compatibility for an unknown node, Limit, Corruption where shapes do not fit.
    pub fn signature(&self, entry: &Entry) -> Result<Signature> {
        let named = |e: Error| e.in_tensor(&entry.name);
        let signature = entry.expr.signature(&self.limits).map_err(named)?;
        check_entry(entry.dtype, &entry.shape, &signature).map_err(named)?;
        Ok(signature)
    }

    /// Bytes that the segments of a tensor take in the file.
    pub fn stored_bytes(&self, entry: &Entry) -> u64 {
        entry.expr.leaves().iter().map(|l| self.segment(l).len).sum()
    }

    /// The segment of a leaf.
    pub fn segment(&self, leaf: &StoredLeaf) -> Segment {
        // Index::parse has checked every leaf of this pack; a leaf of another one finds an empty segment.
        let none = Segment { offset: 0, len: 0, hash: [0; 32] };
        self.index.segments.get(leaf.segment as usize).copied().unwrap_or(none)
    }

    /// Where the segment of a leaf ends, counted from the start of the file.
    pub fn segment_end(&self, leaf: &StoredLeaf) -> u64 {
        let segment = self.segment(leaf);
        self.header.segments_offset.saturating_add(segment.offset).saturating_add(segment.len)
    }

    /// The chunks of a leaf.
    pub fn leaf<'a>(&'a self, leaf: &'a StoredLeaf) -> LeafReader<'a> {
        let firsts = leaf.spec.streams.iter().scan(leaf.first_chunk, |next, stream| {
            let first = *next;
            *next = first.saturating_add(stream.chunks());
            Some(first)
        });
        let firsts = firsts.collect();
        LeafReader { reader: self, leaf, firsts }
    }

    /// Identity of the pack: BLAKE3 of its index, which holds the BLAKE3 of every segment.
    pub fn root(&self) -> [u8; 32] {
        self.root
    }

    /// Bytes of the file as it is.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    /// Whether the file is empty; an open pack never is.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }

    /// Bytes of the index.
    pub fn index_bytes(&self) -> u64 {
        self.index_bytes
    }

    /// Bytes of the copy of the index at the front, 0 where there is none.
    pub fn front_index_bytes(&self) -> u64 {
        self.header.front_index_len
    }

    /// Bytes that are missing at the end; 0 unless opened by [`Reader::open_truncated`].
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// What this reader accepts.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether every byte of the leaf lies before the end of the file.
    pub fn is_complete(&self, leaf: &StoredLeaf) -> bool {
        self.segment_end(leaf) <= self.source.len()
    }

    /// Checks the bytes of one segment against its BLAKE3. Holds 1 MiB at a time.
    ///
    /// # Errors
    /// Corruption, InsufficientData, Io.
    pub fn verify_segment(&self, leaf: &StoredLeaf) -> Result<()> {
        const STEP: u64 = 1 << 20;
        let segment = self.segment(leaf);
        let start = self.header.segments_offset.saturating_add(segment.offset);
        let mut hash = blake3::Hasher::new();
        let mut done = 0;
        while done < segment.len {
            let n = STEP.min(segment.len - done);
            hash.update(&read(&self.source, start + done, n)?);
            done += n;
        }
        let found: [u8; 32] = hash.finalize().into();
        if found != segment.hash {
            return Err(Error::corruption(format!(
                "segment {} of {} bytes at offset {start}: expected BLAKE3 {}, found {}",
                leaf.segment,
                segment.len,
                hex(&segment.hash),
                hex(&found)
            )));
        }
        Ok(())
    }

    /// Checks the bytes that belong to no segment: gaps are zero, the copy of the index is a copy.
    ///
    /// # Errors
    /// Corruption, InsufficientData, Io.
    pub fn verify_gaps(&self) -> Result<()> {
        let base = self.header.segments_offset;
        let mut position = HEADER as u64;
        if self.header.front_index_len != 0 {
            let copy = read(&self.source, position, self.header.front_index_len)?;
            let found: [u8; 32] = blake3::hash(&copy).into();
            if found != self.root {
                return Err(Error::corruption(format!(
                    "copy of the index at offset {HEADER}: expected BLAKE3 {}, found {}",
                    hex(&self.root),
                    hex(&found)
                )));
            }
            position += self.header.front_index_len;
        }
        let end = self.source.len().saturating_sub(TRAILER as u64 + self.index_bytes);
        let starts = self.index.segments.iter().map(|s| (base + s.offset, base + s.offset + s.len));
        for (start, next) in starts.chain([(end, end)]) {
            check_range(position, 0, start)?;
            let gap = read(&self.source, position, start - position)?;
            if let Some(at) = gap.iter().position(|&b| b != 0) {
                return Err(Error::corruption(format!(
                    "padding at offset {}: expected 0, found {}",
                    position + at as u64,
                    gap[at]
                )));
            }
            position = next;
        }
        Ok(())
    }
}

/// The chunks of one leaf of an open pack.
#[derive(Debug, Clone)]
pub struct LeafReader<'a> {
    reader: &'a Reader,
    leaf: &'a StoredLeaf,
    /// First entry of each stream in the chunk table: leaves can have many thousand streams.
    firsts: Vec<u64>,
}

impl LeafSource for LeafReader<'_> {
    fn spec(&self) -> &LeafSpec {
        &self.leaf.spec
    }

    fn chunk(&self, stream: usize, index: u64) -> Result<Chunk<'_>> {
        let spec = self.leaf.spec.streams.get(stream).filter(|s| index < s.chunks());
        let first = spec.and_then(|_| self.firsts.get(stream));
        let entry = first.and_then(|f| self.reader.index.chunk(f.saturating_add(index)));
        let entry =
            entry.ok_or_else(|| Error::corruption(format!("stream {stream} has no chunk {index}")))?;
        let segment = self.reader.segment(self.leaf);
        let offset =
            self.reader.header.segments_offset.saturating_add(segment.offset).saturating_add(entry.offset);
        let bytes = read(&self.reader.source, offset, u64::from(entry.len))?;
        self.reader.bytes_read.fetch_add(u64::from(entry.len), Relaxed);
        let found = crc32c::crc32c(&bytes);
        if found != entry.crc {
            return Err(Error::corruption(format!(
                "stream {stream}, chunk {index}, {} bytes at offset {offset}: expected checksum {:08x}, found {found:08x}",
                entry.len, entry.crc
            )));
        }
        Ok(Chunk { mode: entry.mode()?, bytes })
    }
}

fn read(source: &Source, offset: u64, len: u64) -> Result<Cow<'_, [u8]>> {
    let len = crate::in_memory(len)?;
    // A source that copies must not be asked for more than it has: the buffer comes first.
    check_range(offset, len, source.len())?;
    source.read_at(offset, len)
}

fn read_header(source: &Source) -> Result<Header> {
    let len = source.len().min(HEADER as u64);
    Header::parse(&read(source, 0, len)?)
}

/// The error of a pack whose header promises more bytes than there are.
fn truncated(source: &Source, header: Header, limits: Limits) -> Error {
    let (len, missing) = (source.len(), header.file_len - source.len());
    let message = format!("{missing} of {} bytes are missing at the end", header.file_len);
    let error = match Reader::open_truncated(source.clone(), limits) {
        Ok(partial) => {
            let first = partial.first_unreadable();
            let Some((position, entry)) = first else {
                return Error::insufficient(format!(
                    "{message}; every tensor is readable, only the index at the end is cut"
                ))
                .with_hint("fetch the pack again, or `benben unpack --truncated` what is there");
            };
            let total = partial.tensors().len();
            Error::insufficient(format!(
                "{message}; the first unreadable tensor is {} ({position} of {total} tensors can be read)",
                entry.name
            ))
            .with_hint("fetch the pack again, or `benben unpack --truncated` what is there")
        }
        Err(e) if header.front_index_len != 0 => Error::insufficient(format!(
            "{message}; no tensor can be read: the copy of the index at the front is cut or damaged ({})",
            e.message()
        )),
        Err(_) => Error::insufficient(format!("{message}; no tensor can be read: the index was at the end")),
    };
    debug_assert!(len < header.file_len);
    error.with_hint("fetch the pack again")
}

impl Reader {
    /// The first tensor, by stored order, of which some byte is missing, and how many tensors of the whole
    /// pack can be read.
    pub fn first_unreadable(&self) -> Option<(usize, &Entry)> {
        let complete = |e: &&Entry| self.all_leaves(e).iter().all(|l| self.is_complete(l));
        let first = self.tensors().iter().find(|e| !complete(e))?;
        Some((self.tensors().iter().filter(complete).count(), first))
    }

    /// Leaves of a tensor, those behind its references included.
    fn all_leaves<'a>(&'a self, entry: &'a Entry) -> Vec<&'a StoredLeaf> {
        let mut leaves = entry.expr.leaves();
        let mut stack = vec![&entry.expr];
        while let Some(expr) = stack.pop() {
            if let Expr::Ref { tensor, .. } = expr
                && let Some(target) = self.tensor(tensor)
            {
                leaves.extend(target.expr.leaves());
            }
            stack.extend(expr.operands());
        }
        leaves
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}
