//! Tails: the bits of levels and indices that are as good as random, stored as they are.
//!
//! Fields of 0 to 64 bits follow each other in 64-bit words from the lowest bit up; a field that does not fit the
//! word goes on in the next one.

use benben_format::{Error, Result};

/// Appends fields to words.
#[derive(Debug, Default)]
pub(super) struct TailWriter {
    words: Vec<u64>,
    /// Bits taken of the last word; 64 where there is none to go on with.
    used: u32,
}

impl TailWriter {
    /// A writer at the start of a word.
    pub(super) fn new() -> Self {
        Self { words: Vec::new(), used: 64 }
    }

    /// Appends the low `width` bits of `value`, which has no others.
    pub(super) fn put(&mut self, value: u64, width: u32) {
        debug_assert!(width <= 64 && (width == 64 || value >> width == 0));
        if width == 0 {
            return;
        }
        if self.used == 64 {
            self.words.push(0);
            self.used = 0;
        }
        if let Some(last) = self.words.last_mut() {
            *last |= value << self.used;
        }
        let room = 64 - self.used;
        if width <= room {
            self.used += width;
        } else {
            self.words.push(value >> room);
            self.used = width - room;
        }
    }

    /// The words.
    pub(super) fn finish(self) -> Vec<u64> {
        self.words
    }
}

/// Takes fields off words.
#[derive(Debug, Clone, Copy)]
pub(super) struct TailReader<'a> {
    words: &'a [u64],
    at: u64,
}

impl<'a> TailReader<'a> {
    /// A reader at bit `at` of `words`.
    pub(super) fn new(words: &'a [u64], at: u64) -> Self {
        Self { words, at }
    }

    /// The next `width` bits.
    ///
    /// # Errors
    /// Corruption past the end.
    pub(super) fn take(&mut self, width: u32) -> Result<u64> {
        if width == 0 {
            return Ok(0);
        }
        let end =
            || Error::corruption(format!("tails end at word {}, before bit {}", self.words.len(), self.at));
        let (word, shift) = ((self.at / 64) as usize, (self.at % 64) as u32);
        let mut value = self.words.get(word).ok_or_else(end)? >> shift;
        if shift + width > 64 {
            value |= self.words.get(word + 1).ok_or_else(end)? << (64 - shift);
        }
        self.at += u64::from(width);
        Ok(value & (u64::MAX >> (64 - width)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_come_back(fields in prop::collection::vec((any::<u64>(), 0u32..=64), 0..100)) {
            let cut = |v: u64, w: u32| if w == 0 { 0 } else { v & (u64::MAX >> (64 - w)) };
            let mut writer = TailWriter::new();
            for &(v, w) in &fields {
                writer.put(cut(v, w), w);
            }
            let bits: u64 = fields.iter().map(|f| u64::from(f.1)).sum();
            let words = writer.finish();
            prop_assert_eq!(words.len() as u64, bits.div_ceil(64));
            let mut reader = TailReader::new(&words, 0);
            for &(v, w) in &fields {
                prop_assert_eq!(reader.take(w).unwrap(), cut(v, w));
            }
            let end = words.len() as u64 * 64;
            prop_assert!(TailReader::new(&words, end).take(1).is_err());
        }
    }
}
