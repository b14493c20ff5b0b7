//! Takes a pack apart and puts it together again with checksums that fit, so that only what was changed is wrong.

use benben::{Error, Result};
use ciborium::Value;

const HEADER: usize = 64;
const TRAILER: usize = 64;
const INDEX_HEADER: usize = 40;
const SEGMENT: usize = 48;

/// A pack in pieces.
pub(crate) struct Parts {
    pub(crate) header: Vec<u8>,
    /// Everything between header and index.
    pub(crate) body: Vec<u8>,
    pub(crate) directory: Value,
    /// The segment table.
    pub(crate) segments: Vec<u8>,
    /// The chunk table.
    pub(crate) chunks: Vec<u8>,
}

fn wrong(what: &str) -> Error {
    Error::invalid(format!("cannot be taken apart: {what}"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

impl Parts {
    pub(crate) fn of(pack: &[u8]) -> Result<Self> {
        let trailer = &pack[pack.len() - TRAILER..];
        let index_offset = u64_at(trailer, 0) as usize;
        let index = &pack[index_offset..pack.len() - TRAILER];
        let (stored, plain) = (u64_at(index, 0) as usize, u64_at(index, 8) as usize);
        let directory = &index[INDEX_HEADER..INDEX_HEADER + stored];
        let directory =
            if index[16] == 1 { zstd::bulk::decompress(directory, plain)? } else { directory.to_vec() };
        let directory = ciborium::from_reader(&directory[..]).map_err(|e| wrong(&e.to_string()))?;
        let tables = &index[INDEX_HEADER + stored.next_multiple_of(8)..];
        let (segments, chunks) = tables.split_at(u64_at(index, 24) as usize * SEGMENT);
        let (mut header, mut body) = (pack[..HEADER].to_vec(), pack[HEADER..index_offset].to_vec());
        // A copy of the index would be one no more.
        body[..u64_at(&header, 32) as usize].fill(0);
        header[32..40].fill(0);
        header[48..52].fill(0);
        Ok(Self { header, body, directory, segments: segments.to_vec(), chunks: chunks.to_vec() })
    }

    /// The value at the end of `path`: keys of maps, numbers of arrays.
    pub(crate) fn at(&mut self, path: &[&str]) -> Result<&mut Value> {
        let mut value = &mut self.directory;
        for key in path {
            let found = match value {
                Value::Map(map) => map.iter_mut().find(|e| e.0.as_text() == Some(key)).map(|e| &mut e.1),
                Value::Array(items) => key.parse().ok().and_then(|i: usize| items.get_mut(i)),
                _ => None,
            };
            value = found.ok_or_else(|| wrong(key))?;
        }
        Ok(value)
    }

    /// Sets `key` of the map, or number `key` of the array, at the end of `path`.
    pub(crate) fn set(&mut self, path: &[&str], key: &str, new: impl Into<Value>) -> Result<()> {
        match self.at(path)? {
            Value::Map(map) => {
                map.retain(|e| e.0.as_text() != Some(key));
                map.push((key.into(), new.into()));
            }
            Value::Array(items) => {
                let index = key.parse().ok().filter(|&i: &usize| i < items.len());
                items[index.ok_or_else(|| wrong(key))?] = new.into();
            }
            _ => return Err(wrong(key)),
        }
        Ok(())
    }

    /// Appends to the array at the end of `path`.
    pub(crate) fn append(&mut self, path: &[&str], new: Value) -> Result<()> {
        self.at(path)?.as_array_mut().ok_or_else(|| wrong("not an array"))?.push(new);
        Ok(())
    }

    /// Appends `times` copies of the last item to the array at the end of `path`.
    pub(crate) fn repeat(&mut self, path: &[&str], times: usize) -> Result<()> {
        let items = self.at(path)?.as_array_mut().ok_or_else(|| wrong("not an array"))?;
        let last = items.last().cloned().ok_or_else(|| wrong("an empty array"))?;
        items.extend(std::iter::repeat_n(last, times));
        Ok(())
    }

    /// Puts a node `name` without parameters over the one at the end of `path`.
    pub(crate) fn wrap(&mut self, path: &[&str], name: &str) -> Result<()> {
        let place = self.at(path)?;
        let operand = std::mem::replace(place, Value::Null);
        let of = Value::Array(vec![operand]);
        *place = Value::Map(vec![("node".into(), name.into()), ("of".into(), of)]);
        Ok(())
    }

    /// The bytes of the index.
    pub(crate) fn index(&self) -> Result<Vec<u8>> {
        let mut directory = Vec::new();
        ciborium::into_writer(&self.directory, &mut directory).map_err(|e| wrong(&e.to_string()))?;
        Ok(self.index_of(&directory, directory.len() as u64, 0))
    }

    /// The index with a directory of `stored` bytes that is said to be `plain` bytes in coding `coding`.
    pub(crate) fn index_of(&self, stored: &[u8], plain: u64, coding: u32) -> Vec<u8> {
        let mut index = (stored.len() as u64).to_le_bytes().to_vec();
        index.extend_from_slice(&plain.to_le_bytes());
        index.extend_from_slice(&u64::from(coding).to_le_bytes());
        index.extend_from_slice(&((self.segments.len() / SEGMENT) as u64).to_le_bytes());
        index.extend_from_slice(&((self.chunks.len() / 16) as u64).to_le_bytes());
        index.extend_from_slice(stored);
        index.resize(index.len().next_multiple_of(8), 0);
        index.extend_from_slice(&self.segments);
        index.extend_from_slice(&self.chunks);
        index
    }

    /// The whole again.
    pub(crate) fn build(&self) -> Result<Vec<u8>> {
        Ok(self.build_around(&self.index()?))
    }

    /// The whole around another index.
    pub(crate) fn build_around(&self, index: &[u8]) -> Vec<u8> {
        let mut pack = [&self.header[..], &self.body, index].concat();
        let file_len = (pack.len() + TRAILER) as u64;
        if u64_at(&pack, 40) != 0 {
            put(&mut pack, 40, file_len);
        }
        seal_header(&mut pack);
        pack.extend_from_slice(&((HEADER + self.body.len()) as u64).to_le_bytes());
        pack.extend_from_slice(&(index.len() as u64).to_le_bytes());
        pack.extend_from_slice(blake3::hash(index).as_bytes());
        pack.extend_from_slice(&file_len.to_le_bytes());
        pack.extend_from_slice(b"\x0a\x1aBNBEND");
        pack
    }
}

/// Makes the checksum of the header fit.
pub(crate) fn seal_header(pack: &mut [u8]) {
    let crc = crc32c::crc32c(&pack[..60]);
    pack[60..64].copy_from_slice(&crc.to_le_bytes());
}
