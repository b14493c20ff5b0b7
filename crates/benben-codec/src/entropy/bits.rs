//! Items of a fixed number of bits, and bits written one field after the other.
//!
//! Layout: bit `b` of the sequence is bit `b % 8` (the least significant is 0) of byte `b / 8`; a field's own least
//! significant bit comes first. What is left of the last byte is zero, and readers check that it is.
//!
//! ```
//! use benben_codec::entropy::bits::{pack, unpack};
//! let bytes = pack(&[5, 3, 7], 3);
//! assert_eq!(bytes, [0b11_011_101, 0b1]);
//! let mut out = [0; 2];
//! unpack(&bytes, 3, 1, &mut out);
//! assert_eq!(out, [3, 7]);
//! ```

use benben_format::{Error, Result};

/// Bytes of `items` fields of `bits` bits.
pub fn packed_len(items: usize, bits: u8) -> u64 {
    (items as u64 * u64::from(bits)).div_ceil(8)
}

/// Bits that `value` needs, at least 1.
pub fn width(value: u64) -> u8 {
    (64 - value.leading_zeros()).max(1) as u8
}

/// Packs `values` into fields of `bits` (1 to 64) bits; each must fit.
pub fn pack(values: &[u64], bits: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(packed_len(values.len(), bits) as usize);
    let (mut held, mut count) = (0u128, 0u32);
    for &v in values {
        debug_assert!(width(v) <= bits);
        held |= u128::from(v) << count;
        count += u32::from(bits);
        while count >= 8 {
            out.push(held as u8);
            held >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        out.push(held as u8);
    }
    out
}

/// [`pack`] for fields of at most 8 bits: eight symbols are `bits` whole bytes.
pub fn pack_symbols(symbols: &[u8], bits: u8) -> Vec<u8> {
    let bits = bits.clamp(1, 8);
    let len = packed_len(symbols.len(), bits) as usize;
    // Room to write eight bytes where the last group starts.
    let mut out = vec![0; len + 8];
    for (group, at) in symbols.chunks(8).zip((0..).step_by(bits.into())) {
        let word = group.first_chunk::<8>().map_or_else(
            || group.iter().rev().fold(0, |word, &s| word << 8 | u64::from(s)),
            |g| u64::from_le_bytes(*g),
        );
        out[at..at + 8].copy_from_slice(&gather(word, bits.into()).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Moves the low `b` bits of each byte together: neighbours, then pairs of pairs, then the halves.
fn gather(x: u64, b: u32) -> u64 {
    let (one, two, four) = masks(b);
    let x = (x & one) | ((x >> (8 - b)) & (one << b));
    let x = (x & two) | ((x >> (16 - 2 * b)) & (two << (2 * b)));
    (x & four) | ((x >> (32 - 4 * b)) & (four << (4 * b)))
}

/// The inverse of [`gather`].
fn spread(x: u64, b: u32) -> u64 {
    let (one, two, four) = masks(b);
    let x = (x & four) | ((x >> (4 * b) & four) << 32);
    let x = (x & two) | ((x << (16 - 2 * b)) & (two << 16));
    (x & one) | ((x << (8 - b)) & (one << 8))
}

/// The low field of each 2 bytes, the low two of each 4, the low four of 8.
fn masks(b: u32) -> (u64, u64, u64) {
    let low = |fields: u32| (1u64 << (fields * b)) - 1;
    (low(1) * 0x0001_0001_0001_0001, low(2) * 0x0000_0001_0000_0001, low(4))
}

/// Refuses `bytes` unless it is exactly `items` fields of `bits` bits with zeros after them.
///
/// # Errors
/// [`Corruption`](benben_format::ErrorKind::Corruption).
pub fn check_packed(bytes: &[u8], items: usize, bits: u8) -> Result<()> {
    let expected = packed_len(items, bits);
    if bytes.len() as u64 != expected {
        return Err(Error::corruption(format!(
            "{items} items of {bits} bits take {expected} bytes, found {}",
            bytes.len()
        )));
    }
    let used = (items as u64 * u64::from(bits)) % 8;
    match bytes.last() {
        Some(&last) if used != 0 && last >> used != 0 => {
            Err(Error::corruption(format!("padding after {items} items of {bits} bits is not zero")))
        }
        _ => Ok(()),
    }
}

/// Field `first` and those after it, as many as `out` holds; bits past the end of `bytes` read as zero.
pub fn unpack(bytes: &[u8], bits: u8, first: usize, out: &mut [u64]) {
    let mask = u64::MAX >> (64 - bits.clamp(1, 64));
    let mut at = first as u64 * u64::from(bits);
    for o in out {
        let byte = (at / 8) as usize;
        let rest = bytes.get(byte..).unwrap_or_default();
        let window = rest.first_chunk::<16>().map_or_else(
            || {
                let mut padded = [0; 16];
                padded[..rest.len()].copy_from_slice(rest);
                u128::from_le_bytes(padded)
            },
            |w| u128::from_le_bytes(*w),
        );
        *o = (window >> (at % 8)) as u64 & mask;
        at += u64::from(bits);
    }
}

/// [`unpack`] for fields of at most 8 bits: eight symbols are `bits` whole bytes.
pub fn unpack_symbols(bytes: &[u8], bits: u8, first: usize, out: &mut [u8]) {
    let bits = bits.clamp(1, 8);
    let single = |index: usize, out: &mut [u8]| {
        for (i, o) in out.iter_mut().enumerate() {
            let mut word = [0];
            unpack(bytes, bits, index + i, &mut word);
            *o = word[0] as u8;
        }
    };
    let head = (first.next_multiple_of(8) - first).min(out.len());
    let (before, rest) = out.split_at_mut(head);
    single(first, before);
    let start = (first + head) / 8 * usize::from(bits);
    let (groups, after) = rest.as_chunks_mut::<8>();
    for (group, at) in groups.iter_mut().zip((start..).step_by(bits.into())) {
        let bytes = bytes.get(at..).unwrap_or_default();
        let word = bytes.first_chunk::<8>().map_or_else(
            || bytes.iter().rev().fold(0, |word, &b| word << 8 | u64::from(b)),
            |b| u64::from_le_bytes(*b),
        );
        *group = spread(word, bits.into()).to_le_bytes();
    }
    single(first + head + 8 * groups.len(), after);
}

/// Appends fields of different widths to a byte string.
#[derive(Debug)]
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// A writer that appends whole bytes to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, count: 0 }
    }

    /// Writes the low `bits` (at most 32) bits of `value`.
    pub fn put(&mut self, value: u32, bits: u32) {
        debug_assert!(bits <= 32 && u64::from(value) >> bits == 0);
        self.held |= u64::from(value) << self.count;
        self.count += bits;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// Writes what is held, zeros after it.
    pub fn finish(self) {
        if self.count > 0 {
            self.out.push(self.held as u8);
        }
    }
}

/// Reads what [`BitWriter`] writes.
#[derive(Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> BitReader<'a> {
    /// A reader from the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `bits` (at most 32) bits.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption) past the end.
    pub fn take(&mut self, bits: u32) -> Result<u32> {
        let end = self.at + u64::from(bits);
        if end > self.bytes.len() as u64 * 8 {
            return Err(Error::corruption(format!(
                "bit field ends at bit {end}, the {} bytes at bit {}",
                self.bytes.len(),
                self.bytes.len() * 8
            )));
        }
        let (mut value, mut got) = (0u64, 0);
        while got < bits {
            let (byte, shift) = ((self.at / 8) as usize, (self.at % 8) as u32);
            let n = (8 - shift).min(bits - got);
            let field = (u64::from(self.bytes[byte]) >> shift) & ((1 << n) - 1);
            value |= field << got;
            got += n;
            self.at += u64::from(n);
        }
        Ok(value as u32)
    }

    /// The bytes after the last one begun, once the rest of that one is seen to be zero.
    ///
    /// # Errors
    /// [`Corruption`](benben_format::ErrorKind::Corruption) where it is not.
    pub fn finish(self) -> Result<&'a [u8]> {
        let (byte, shift) = ((self.at / 8) as usize, self.at % 8);
        if shift == 0 {
            return Ok(&self.bytes[byte..]);
        }
        if self.bytes[byte] >> shift != 0 {
            return Err(Error::corruption(format!("padding bits of byte {byte} are not zero")));
        }
        Ok(&self.bytes[byte + 1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_round_trip(bits in 1u8..=64, values in prop::collection::vec(any::<u64>(), 0..70), skip in 0usize..70) {
            let values: Vec<u64> = values.iter().map(|v| v & (u64::MAX >> (64 - bits))).collect();
            let bytes = pack(&values, bits);
            check_packed(&bytes, values.len(), bits).unwrap();
            let skip = skip.min(values.len());
            let mut out = vec![0; values.len() - skip];
            unpack(&bytes, bits, skip, &mut out);
            prop_assert_eq!(&out, &values[skip..]);
            if bits <= 8 {
                let symbols: Vec<u8> = values.iter().map(|&v| v as u8).collect();
                prop_assert_eq!(pack_symbols(&symbols, bits), bytes.clone());
                let mut out = vec![0; values.len() - skip];
                unpack_symbols(&bytes, bits, skip, &mut out);
                prop_assert!(out.iter().zip(&values[skip..]).all(|(&a, &b)| u64::from(a) == b));
            }
        }

        #[test]
        fn fields_round_trip(fields in prop::collection::vec((any::<u32>(), 0u32..=32), 0..50)) {
            let fields: Vec<_> =
                fields.iter().map(|&(v, n)| ((u64::from(v) & ((1 << n) - 1)) as u32, n)).collect();
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            fields.iter().for_each(|&(v, n)| writer.put(v, n));
            writer.finish();
            bytes.push(0xaa);
            let mut reader = BitReader::new(&bytes);
            for &(v, n) in &fields {
                prop_assert_eq!(reader.take(n).unwrap(), v);
            }
            prop_assert_eq!(reader.finish().unwrap(), &[0xaa]);
        }
    }

    #[test]
    fn padding_must_be_zero() {
        check_packed(&[0b0111], 3, 1).unwrap();
        check_packed(&[0b1111], 3, 1).unwrap_err();
        check_packed(&[7, 0], 3, 1).unwrap_err();
        BitReader::new(&[2]).finish().unwrap();
        let mut reader = BitReader::new(&[2]);
        reader.take(1).unwrap();
        reader.finish().unwrap_err();
        assert!(BitReader::new(&[2]).take(9).is_err());
    }
}
