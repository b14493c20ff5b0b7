//! The index: directory, segment table, chunk table. Both tables have fixed-width entries.

use crate::directory::{Directory, check_file_name, check_name};
use crate::header::{u32_at, u64_at};
use crate::layout::{ALIGN, CHUNK_ENTRY, INDEX_HEADER, SEGMENT_ENTRY};
use crate::{Error, Expr, Limits, Mode, Result, StoredLeaf, in_memory};
use std::collections::{HashMap, HashSet};

/// One run of bytes of the file that belongs to one leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Counted from the header's `segments_offset`.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// BLAKE3 of the bytes.
    pub hash: [u8; 32],
}

/// Where one chunk is and how it is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkEntry {
    /// Counted from the segment's offset; 48 bits.
    pub(crate) offset: u64,
    pub(crate) mode: u8,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

impl ChunkEntry {
    fn to_bytes(self) -> [u8; CHUNK_ENTRY] {
        let mut b = [0; CHUNK_ENTRY];
        b[..8].copy_from_slice(&(self.offset | u64::from(self.mode) << 48).to_le_bytes());
        b[8..12].copy_from_slice(&self.len.to_le_bytes());
        b[12..].copy_from_slice(&self.crc.to_le_bytes());
        b
    }

    fn parse(b: &[u8]) -> Self {
        let word = u64_at(b, 0);
        let [.., mode, _] = word.to_le_bytes();
        Self { offset: word & ((1 << 48) - 1), mode, len: u32_at(b, 8), crc: u32_at(b, 12) }
    }
}

/// Collects the tables while segments are written.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    segments: Vec<u8>,
    chunks: Vec<u8>,
}

impl IndexBuilder {
    pub(crate) fn chunk_count(&self) -> u64 {
        (self.chunks.len() / CHUNK_ENTRY) as u64
    }

    pub(crate) fn table_bytes(&self) -> u64 {
        (self.segments.len() + self.chunks.len()) as u64
    }

    pub(crate) fn push_chunk(&mut self, entry: ChunkEntry) {
        self.chunks.extend_from_slice(&entry.to_bytes());
    }

    /// Adds a segment and returns its number.
    pub(crate) fn push_segment(&mut self, segment: Segment) -> Result<u32> {
        let number = self.segments.len() / SEGMENT_ENTRY;
        self.segments.extend_from_slice(&segment.offset.to_le_bytes());
        self.segments.extend_from_slice(&segment.len.to_le_bytes());
        self.segments.extend_from_slice(&segment.hash);
        u32::try_from(number).map_err(|_| Error::limit("more than 2^32 segments"))
    }

    pub(crate) fn to_bytes(&self, directory: &Directory) -> Result<Vec<u8>> {
        let plain = directory.to_cbor()?;
        let packed = zstd::bulk::compress(&plain, 19)?;
        let (coding, stored) = if packed.len() < plain.len() { (1u32, &packed) } else { (0, &plain) };
        let mut out =
            Vec::with_capacity(INDEX_HEADER + stored.len() + 8 + self.segments.len() + self.chunks.len());
        out.extend_from_slice(&(stored.len() as u64).to_le_bytes());
        out.extend_from_slice(&(plain.len() as u64).to_le_bytes());
        out.extend_from_slice(&coding.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&((self.segments.len() / SEGMENT_ENTRY) as u64).to_le_bytes());
        out.extend_from_slice(&self.chunk_count().to_le_bytes());
        out.extend_from_slice(stored);
        out.resize(out.len().next_multiple_of(8), 0);
        out.extend_from_slice(&self.segments);
        out.extend_from_slice(&self.chunks);
        Ok(out)
    }
}

/// A parsed index. The chunk table stays as bytes and is read in place.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) directory: Directory,
    pub(crate) segments: Vec<Segment>,
    chunks: Vec<u8>,
    by_name: HashMap<String, usize>,
}

impl Index {
    /// Parses and checks `bytes`; `room` is the number of bytes that segments may take.
    pub(crate) fn parse(bytes: &[u8], room: u64, limits: &Limits) -> Result<Self> {
        let short = |what: &str| {
            Error::corruption(format!("index of {} bytes is too short for its {what}", bytes.len()))
        };
        if bytes.len() < INDEX_HEADER {
            return Err(short("header"));
        }
        let (stored, plain, coding) = (u64_at(bytes, 0), u64_at(bytes, 8), u32_at(bytes, 16));
        let (segment_count, chunk_count) = (u64_at(bytes, 24), u64_at(bytes, 32));
        if plain > limits.index_bytes {
            return Err(Error::limit(format!(
                "directory of {plain} bytes, the limit is {}",
                limits.index_bytes
            )));
        }
        // Checked by subtraction from what is really there: sums of fields from a file could wrap.
        let body = &bytes[INDEX_HEADER..];
        let stored =
            usize::try_from(stored).ok().filter(|&s| s <= body.len()).ok_or_else(|| short("directory"))?;
        let padded = stored
            .checked_next_multiple_of(8)
            .filter(|&p| p <= body.len())
            .ok_or_else(|| short("padding"))?;
        let tables = &body[padded..];
        let segment_bytes = usize::try_from(segment_count).ok().and_then(|n| n.checked_mul(SEGMENT_ENTRY));
        let segment_bytes =
            segment_bytes.filter(|&n| n <= tables.len()).ok_or_else(|| short("segment table"))?;
        let (segment_table, chunks) = tables.split_at(segment_bytes);
        if chunk_count.checked_mul(CHUNK_ENTRY as u64) != Some(chunks.len() as u64) {
            return Err(Error::corruption(format!(
                "chunk table: {chunk_count} entries take {CHUNK_ENTRY} bytes each, found {} bytes",
                chunks.len()
            )));
        }
        let body = &body[..stored];
        let directory = match coding {
            0 if stored as u64 != plain => {
                return Err(Error::corruption(format!(
                    "directory: {plain} bytes stored as they are in {stored}"
                )));
            }
            0 => Directory::from_cbor(body, limits)?,
            1 => Directory::from_cbor(&inflate(body, plain)?, limits)?,
            other => return Err(Error::compatibility(format!("directory coding {other} is not known"))),
        };
        let segments = parse_segments(segment_table, room)?;
        let mut by_name = HashMap::with_capacity(directory.tensors.len());
        for (i, tensor) in directory.tensors.iter().enumerate() {
            if by_name.insert(tensor.name.clone(), i).is_some() {
                return Err(
                    Error::corruption("the name stands twice in the directory").in_tensor(&tensor.name)
                );
            }
        }
        let index = Self { directory, segments, chunks: chunks.to_vec(), by_name };
        index.check(limits)?;
        Ok(index)
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn chunk(&self, at: u64) -> Option<ChunkEntry> {
        let at = usize::try_from(at).ok()?.checked_mul(CHUNK_ENTRY)?;
        Some(ChunkEntry::parse(self.chunks.get(at..)?.get(..CHUNK_ENTRY)?))
    }

    /// Entries of the chunk table.
    fn chunk_count(&self) -> u64 {
        (self.chunks.len() / CHUNK_ENTRY) as u64
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let mut owned = Ownership {
            index: self,
            segments: vec![false; self.segments.len()],
            chunks: Vec::new(),
            claimed: 0,
        };
        let mut files = HashSet::new();
        for file in &self.directory.files {
            check_file_name(&file.name, limits)?;
            if !files.insert(&file.name) {
                return Err(Error::corruption(format!("file {} stands twice in the directory", file.name)));
            }
            owned.claim(&file.leaf).map_err(|e| e.context(format!("file {}", file.name)))?;
        }
        // Found once for each tensor: many references may name one large expression.
        let refers: Vec<bool> = self.directory.tensors.iter().map(|t| holds_ref(&t.expr)).collect();
        for tensor in &self.directory.tensors {
            check_name(&tensor.name, limits)?;
            let named = |e: Error| e.in_tensor(&tensor.name);
            for leaf in tensor.expr.leaves() {
                owned.claim(leaf).map_err(named)?;
            }
            let nodes = count_nodes(&tensor.expr);
            if nodes > limits.nodes {
                return Err(named(Error::limit(format!("{nodes} nodes, the limit is {}", limits.nodes))));
            }
            self.check_refs(&tensor.expr, &refers, limits, 0).map_err(named)?;
            // Unknown nodes and values over the limit concern only who reads them: see `Reader::signature`.
        }
        owned.finish()
    }

    /// A reference names a tensor of the same shape and dtype that holds no reference itself: evaluation
    /// ends, and takes no longer than the directory is long.
    fn check_refs(
        &self,
        expr: &Expr<StoredLeaf>,
        refers: &[bool],
        limits: &Limits,
        depth: usize,
    ) -> Result<()> {
        if depth >= limits.depth {
            return Err(Error::limit(format!("expression is nested deeper than {}", limits.depth)));
        }
        if let Expr::Ref { tensor, shape, dtype } = expr {
            let position = self
                .position(tensor)
                .ok_or_else(|| Error::corruption(format!("refers to {tensor}, which is not in the pack")))?;
            let target = &self.directory.tensors[position];
            if target.shape != *shape || target.dtype != *dtype {
                return Err(Error::corruption(format!(
                    "refers to {tensor} as {dtype} {shape:?}, found {} {:?}",
                    target.dtype, target.shape
                )));
            }
            if refers[position] {
                return Err(Error::corruption(format!("refers to {tensor}, which is a reference itself")));
            }
        }
        expr.operands().into_iter().try_for_each(|e| self.check_refs(e, refers, limits, depth + 1))
    }
}

fn count_nodes(expr: &Expr<StoredLeaf>) -> usize {
    1 + expr.operands().into_iter().map(count_nodes).sum::<usize>()
}

fn holds_ref(expr: &Expr<StoredLeaf>) -> bool {
    matches!(expr, Expr::Ref { .. }) || expr.operands().into_iter().any(holds_ref)
}

/// Checks that every segment and every chunk belongs to exactly one leaf.
struct Ownership<'a> {
    index: &'a Index,
    segments: Vec<bool>,
    /// First and end of each leaf's entries in the chunk table.
    chunks: Vec<(u64, u64)>,
    /// How many entries those are together.
    claimed: u64,
}

impl Ownership<'_> {
    fn claim(&mut self, leaf: &StoredLeaf) -> Result<()> {
        let number = leaf.segment as usize;
        let segment = self.index.segments.get(number).ok_or_else(|| {
            Error::corruption(format!("segment {number} of {} does not exist", self.index.segments.len()))
        })?;
        if std::mem::replace(&mut self.segments[number], true) {
            return Err(Error::corruption(format!("segment {number} belongs to two leaves")));
        }
        let count = leaf.spec.streams.iter().try_fold(0u64, |n, s| n.checked_add(s.chunks()));
        let end =
            count.and_then(|c| leaf.first_chunk.checked_add(c)).filter(|&e| e <= self.index.chunk_count());
        let Some(end) = end else {
            return Err(Error::corruption(format!(
                "chunks from {} on: more than the {} of the table",
                leaf.first_chunk,
                self.index.chunk_count()
            )));
        };
        // Counted before they are walked: each of many leaves could name all chunks of the table.
        self.claimed += end - leaf.first_chunk;
        if self.claimed > self.index.chunk_count() {
            return Err(Error::corruption(format!(
                "chunks from {} on: leaves take {} so far, the table has {}",
                leaf.first_chunk,
                self.claimed,
                self.index.chunk_count()
            )));
        }
        let mut position = 0u64;
        for at in leaf.first_chunk..end {
            let Some(entry) = self.index.chunk(at) else { break };
            if entry.offset != position {
                return Err(Error::corruption(format!(
                    "chunk {at}: expected at {position}, found at {}",
                    entry.offset
                )));
            }
            position += u64::from(entry.len);
        }
        if position != segment.len {
            return Err(Error::corruption(format!(
                "segment {number}: its chunks take {position} bytes, it has {}",
                segment.len
            )));
        }
        self.chunks.push((leaf.first_chunk, end));
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        if let Some(unused) = self.segments.iter().position(|&used| !used) {
            return Err(Error::corruption(format!("segment {unused} belongs to nothing")));
        }
        self.chunks.sort_unstable();
        let mut next = 0;
        for (first, end) in self.chunks {
            if first < next {
                return Err(Error::corruption(format!("chunks from {first} on belong to two leaves")));
            }
            if first != next {
                return Err(Error::corruption(format!("chunks of a leaf begin at {first}, expected {next}")));
            }
            next = end;
        }
        let total = self.index.chunk_count();
        if next != total {
            return Err(Error::corruption(format!("{total} chunks in the table, {next} in use")));
        }
        Ok(())
    }
}

fn inflate(bytes: &[u8], plain: u64) -> Result<Vec<u8>> {
    let plain = in_memory(plain)?;
    // Grow with what really comes out: a small frame that claims much must not reserve much.
    let mut out = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, plain as u64 + 1), &mut out)
        .map_err(|e| Error::corruption(format!("directory: zstd: {e}")))?;
    if out.len() != plain {
        return Err(Error::corruption(format!(
            "directory: expected {plain} bytes after zstd, found {}",
            out.len()
        )));
    }
    Ok(out)
}

fn parse_segments(table: &[u8], room: u64) -> Result<Vec<Segment>> {
    let mut end = 0;
    let mut segments = Vec::with_capacity(table.len() / SEGMENT_ENTRY);
    for (i, b) in table.chunks_exact(SEGMENT_ENTRY).enumerate() {
        let mut hash = [0; 32];
        hash.copy_from_slice(&b[16..]);
        let segment = Segment { offset: u64_at(b, 0), len: u64_at(b, 8), hash };
        // In file order, without overlap, and with no more room between them than alignment explains.
        let fits = segment.offset >= end && segment.offset - end < ALIGN && segment.offset <= room;
        if !fits || segment.len > room - segment.offset {
            return Err(Error::corruption(format!(
                "segment {i}: {} bytes at {}, expected between {end} and {room}",
                segment.len, segment.offset
            )));
        }
        end = segment.offset + segment.len;
        segments.push(segment);
    }
    if end > room || room - end >= ALIGN {
        return Err(Error::corruption(format!("segments end at {end}, the index begins at {room}")));
    }
    Ok(segments)
}

impl ChunkEntry {
    pub(crate) fn mode(self) -> Result<Mode> {
        Mode::from_u8(self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Entry, LeafSpec, Origin, StreamKind, StreamSpec};

    /// An index of `leaves` empty tensors that all claim the same 64 empty chunks.
    fn overlapping(leaves: u32) -> Result<Index> {
        let mut builder = IndexBuilder::default();
        (0..64).for_each(|_| builder.push_chunk(ChunkEntry { offset: 0, mode: 0, len: 0, crc: 0 }));
        let mut directory = Directory::default();
        for segment in 0..leaves {
            builder.push_segment(Segment { offset: 0, len: 0, hash: [0; 32] })?;
            let mut spec = LeafSpec::new("raw", 1, Dtype::U8, &[64], &())?;
            spec.streams = vec![StreamSpec { kind: StreamKind::Symbols, items: 64, chunk_items: 1 }];
            directory.tensors.push(Entry {
                name: segment.to_string(),
                dtype: Dtype::U8,
                shape: vec![64],
                origin: Origin::default(),
                expr: Expr::Leaf(StoredLeaf { spec, segment, first_chunk: 0 }),
            });
        }
        Index::parse(&builder.to_bytes(&directory)?, 0, &Limits::default())
    }

    #[test]
    fn leaves_that_share_chunks_are_refused_before_the_chunks_are_walked_again() {
        overlapping(1).unwrap();
        let e = overlapping(3).unwrap_err();
        assert!(e.message().contains("leaves take 128 so far, the table has 64"), "{e}");
        assert_eq!(e.tensor(), Some("1"));
    }
}
