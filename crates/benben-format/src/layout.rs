//! Sizes and magic numbers of container version 1 (`format-spec/container.md`).

/// First eight bytes of a pack. The high bit, both line endings and the end-of-file byte show
/// damage by text-mode transfers at once, as in PNG.
pub const MAGIC: [u8; 8] = [0x89, b'B', b'N', b'B', 0x0d, 0x0a, 0x1a, 0x0a];
/// Last eight bytes of a pack.
pub const END_MAGIC: [u8; 8] = *b"\x0a\x1aBNBEND";
/// Container version that this crate writes.
pub const MAJOR: u16 = 1;
/// Minor version: additions that an older reader may ignore.
pub const MINOR: u16 = 0;
/// Bytes of the header.
pub const HEADER: usize = 64;
/// Bytes of the trailer.
pub const TRAILER: usize = 64;
/// Where the first segment may start; segment offsets count from the header's `segments_offset`.
pub const ALIGN: u64 = 256;
/// Bytes of the index before the directory.
pub const INDEX_HEADER: usize = 40;
/// Bytes of a segment table entry.
pub const SEGMENT_ENTRY: usize = 48;
/// Bytes of a chunk table entry.
pub const CHUNK_ENTRY: usize = 16;
/// What one look at the end of a file reads: with an index that fits, opening takes this one read.
pub const TAIL_READ: u64 = 64 * 1024;
