//! Side information of a codec: a short byte string of numbers and tables, read with every bound checked.
//!
//! Layout of the fields, one after the other: u8 as it is; unsigned integers as LEB128 (7 bits to a byte, low ones
//! first, the high bit set on all but the last, no more bytes than needed); f32 as 4 bytes, little-endian; tables as
//! [`write_tables`](super::write_tables) has them; byte strings without a length (the reader knows it).
//!
//! ```
//! use benben_codec::entropy::{SideReader, SideWriter};
//! let mut side = SideWriter::new();
//! side.u8(3);
//! side.varint(300);
//! side.f32(0.5);
//! let bytes = side.into_bytes();
//!
//! let mut reader = SideReader::new(&bytes);
//! assert_eq!((reader.u8()?, reader.varint()?, reader.f32()?), (3, 300, 0.5));
//! reader.finish()?;
//! # Ok::<(), benben_format::Error>(())
//! ```

use super::{Table, read_tables, write_tables};
use benben_format::{Error, Result};

/// Writes side information.
#[derive(Debug, Clone, Default)]
pub struct SideWriter(Vec<u8>);

impl SideWriter {
    /// An empty string.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends an unsigned integer.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Appends a float, bit for bit.
    pub fn f32(&mut self, value: f32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends bytes whose number the reader will know.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends tables and their number.
    ///
    /// # Errors
    /// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) for more than 16.
    pub fn tables(&mut self, tables: &[Table]) -> Result<()> {
        write_tables(tables, &mut self.0)
    }

    /// The string.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what [`SideWriter`] writes, in the same order.
#[derive(Debug, Clone)]
pub struct SideReader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> SideReader<'a> {
    /// A reader from the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption) at the end.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// The next unsigned integer.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption) at the end, above 64 bits, or with more bytes than needed.
    pub fn varint(&mut self) -> Result<u64> {
        let at = self.at();
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::corruption(format!("side information: no valid integer at byte {at}")))
    }

    /// The next unsigned integer, refused above `most`: for counts that allocations and loops follow.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption).
    pub fn varint_at_most(&mut self, most: u64) -> Result<u64> {
        let at = self.at();
        let value = self.varint()?;
        if value > most {
            return Err(Error::corruption(format!(
                "side information: {value} at byte {at}, at most {most} expected"
            )));
        }
        Ok(value)
    }

    /// The next float, refused unless it is finite.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption).
    pub fn f32(&mut self) -> Result<f32> {
        let at = self.at();
        let value = f32::from_le_bytes(self.array()?);
        if !value.is_finite() {
            return Err(Error::corruption(format!("side information: {value} at byte {at}, not finite")));
        }
        Ok(value)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption) where fewer are left.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::corruption(format!(
                "side information: {len} bytes wanted at byte {}, {} left",
                self.at(),
                self.rest.len()
            )));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// The next list of tables.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption).
    pub fn tables(&mut self) -> Result<Vec<Table>> {
        let at = self.at();
        read_tables(&mut self.rest).map_err(|e| e.context(format!("side information, byte {at}")))
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Refuses bytes that nobody has read.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption).
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::corruption(format!(
            "side information: {} bytes left after byte {}",
            self.rest.len(),
            self.at()
        )))
    }

    fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_round_trip(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut side = SideWriter::new();
            side.varint(value);
            let bytes = side.into_bytes();
            let mut reader = SideReader::new(&bytes);
            prop_assert_eq!(reader.varint().unwrap(), value);
            reader.finish().unwrap();
            prop_assert!(SideReader::new(&bytes[..bytes.len() - 1]).varint().is_err());
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        assert!(SideReader::new(&[0x80, 0]).varint().is_err());
        assert!(
            SideReader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint().is_err()
        );
        assert!(SideReader::new(&[5]).varint_at_most(4).is_err());
        assert!(SideReader::new(&[0, 0, 0xc0, 0x7f]).f32().is_err());
        assert!(SideReader::new(&[0]).finish().is_err());
    }
}
