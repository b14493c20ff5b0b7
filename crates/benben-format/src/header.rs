//! Header and trailer: the two fixed 64-byte ends of a pack.

use crate::layout::{ALIGN, END_MAGIC, HEADER, MAGIC, MAJOR, MINOR, TRAILER};
use crate::{Error, Result};

/// The first 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Where segment offsets count from, a multiple of [`ALIGN`].
    pub(crate) segments_offset: u64,
    /// Bytes of the index copy that follows the header; 0 where there is none.
    pub(crate) front_index_len: u64,
    /// Bytes of the whole pack; 0 where the writer could not come back to say.
    pub(crate) file_len: u64,
    /// CRC32C of the index copy.
    pub(crate) front_index_crc: u32,
}

/// The last 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) index_offset: u64,
    pub(crate) index_len: u64,
    /// BLAKE3 of the index, which holds the BLAKE3 of every segment: the identity of the pack.
    pub(crate) root: [u8; 32],
    pub(crate) file_len: u64,
}

/// Little-endian integer at `at`; the caller has checked the length of `bytes`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut a = [0; 8];
    a.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(a)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut a = [0; 4];
    a.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(a)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

impl Header {
    pub(crate) fn to_bytes(self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[..8].copy_from_slice(&MAGIC);
        b[8..10].copy_from_slice(&MAJOR.to_le_bytes());
        b[10..12].copy_from_slice(&MINOR.to_le_bytes());
        b[12..16].copy_from_slice(&64u32.to_le_bytes());
        // Bytes 16..24 are feature flags, none of which is defined yet.
        b[24..32].copy_from_slice(&self.segments_offset.to_le_bytes());
        b[32..40].copy_from_slice(&self.front_index_len.to_le_bytes());
        b[40..48].copy_from_slice(&self.file_len.to_le_bytes());
        b[48..52].copy_from_slice(&self.front_index_crc.to_le_bytes());
        let crc = crc32c::crc32c(&b[..60]);
        b[60..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    pub(crate) fn parse(b: &[u8]) -> Result<Self> {
        check_magic(b)?;
        if b.len() < HEADER {
            return Err(Error::insufficient(format!("the header takes {HEADER} bytes, found {}", b.len())));
        }
        let (expected, found) = (u32_at(b, 60), crc32c::crc32c(&b[..60]));
        if expected != found {
            return Err(Error::corruption(format!(
                "header checksum at offset 60: expected {expected:08x}, found {found:08x}"
            )));
        }
        let major = u16_at(b, 8);
        if major != MAJOR {
            return Err(Error::compatibility(format!(
                "container version {major}, this build reads version {MAJOR}"
            ))
            .with_hint("a newer Benben reads this pack"));
        }
        // The low half of the flags marks features that a reader may ignore, the high half those it must know.
        let critical = u64_at(b, 16) >> 32;
        if critical != 0 {
            return Err(Error::compatibility(format!(
                "the pack needs features {critical:#x} that this build does not know"
            )));
        }
        let header = Self {
            segments_offset: u64_at(b, 24),
            front_index_len: u64_at(b, 32),
            file_len: u64_at(b, 40),
            front_index_crc: u32_at(b, 48),
        };
        let room = header.segments_offset.checked_sub(HEADER as u64);
        if u32_at(b, 12) as usize != HEADER
            || !header.segments_offset.is_multiple_of(ALIGN)
            || room.is_none_or(|r| r < header.front_index_len)
        {
            return Err(Error::corruption(format!(
                "header fields contradict each other: segments at {}, index copy of {} bytes",
                header.segments_offset, header.front_index_len
            )));
        }
        Ok(header)
    }
}

fn check_magic(b: &[u8]) -> Result<()> {
    let head = &b[..b.len().min(8)];
    let differing: u32 = head.iter().zip(MAGIC).map(|(a, b)| (a ^ b).count_ones()).sum();
    if differing == 0 && head.len() == 8 {
        return Ok(());
    }
    if differing == 0 {
        return Err(Error::insufficient(format!("the header takes {HEADER} bytes, found {}", b.len())));
    }
    // A flipped bit or a text-mode transfer leaves most of the signature; another format leaves none of it.
    if head.len() == 8 && (differing <= 4 || &head[1..4] == b"BNB") {
        return Err(Error::corruption(format!(
            "signature at offset 0: expected {MAGIC:02x?}, found {head:02x?}"
        ))
        .with_hint("was it sent as text? fetch it again in binary mode"));
    }
    Err(Error::invalid(format!(
        "not a Benben pack: expected it to begin with {MAGIC:02x?}, found {head:02x?}"
    ))
    .with_hint("`benben pack` makes a pack from safetensors, a model folder or GGUF"))
}

impl Trailer {
    pub(crate) fn to_bytes(self) -> [u8; TRAILER] {
        let mut b = [0; TRAILER];
        b[..8].copy_from_slice(&self.index_offset.to_le_bytes());
        b[8..16].copy_from_slice(&self.index_len.to_le_bytes());
        b[16..48].copy_from_slice(&self.root);
        b[48..56].copy_from_slice(&self.file_len.to_le_bytes());
        b[56..].copy_from_slice(&END_MAGIC);
        b
    }

    /// Parses the last bytes of an input of `len` bytes.
    pub(crate) fn parse(b: &[u8], len: u64) -> Result<Self> {
        if b[56..64] != END_MAGIC {
            return Err(Error::insufficient(format!(
                "the last 8 of {len} bytes are {:02x?}, expected {END_MAGIC:02x?}: the end is missing or damaged",
                &b[56..64]
            ))
            .with_hint("fetch the pack again; it has no copy of the index at the front that could say what is left"));
        }
        let mut root = [0; 32];
        root.copy_from_slice(&b[16..48]);
        let t = Self { index_offset: u64_at(b, 0), index_len: u64_at(b, 8), root, file_len: u64_at(b, 48) };
        let end = t.index_offset.checked_add(t.index_len).and_then(|e| e.checked_add(TRAILER as u64));
        if t.file_len != len || end != Some(len) {
            return Err(Error::corruption(format!(
                "trailer of {len} bytes says: index of {} bytes at {}, {} bytes in all",
                t.index_len, t.index_offset, t.file_len
            )));
        }
        Ok(t)
    }
}
