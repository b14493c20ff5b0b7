//! The dictionary: 65,536 strings of trits that 16-bit codewords stand for, the same for every leaf.
//!
//! QMoE (Frantar and Alistarh 2023, section 4) codes the ternary weights of an expert with a fixed dictionary built
//! for P(0) = 0.885, so that each row can be decoded alone by table look-ups. The construction here is integer-only,
//! so that anyone rebuilds the same dictionary:
//!
//! - A *pair* of trits `a, b` (0 zero, 1 positive, 2 negative) is the digit `3a + b`, 0 to 8. Strings have 1 to 14
//!   pairs.
//! - A string costs 100 for each trit 0 and 2338 for each other trit: `-log(0.885)` and `-log(0.0575)`, in
//!   proportion.
//! - Start from the nine strings of one pair. Codeword 0, 1, 2, ... is the cheapest string not taken yet; equals are
//!   taken by fewer pairs first, then by digits as numbers, the first digit foremost. A string that is taken offers
//!   its nine extensions by one more pair, if it is shorter than 14. Stop at 65,536.
//!
//! So every prefix of a string is a string, and any row can be coded: from its first pair on, take the longest string
//! that the row goes on with. A row of an odd number of trits is coded with a zero appended.

use benben_format::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

/// Strings of the dictionary.
const STRINGS: usize = 1 << 16;
/// Most pairs of a string.
const MAX_PAIRS: u8 = 14;
/// Most trits of a string.
pub(super) const MAX_TRITS: usize = 2 * MAX_PAIRS as usize;
/// Cost of a zero, and of any other trit.
const COSTS: [u32; 3] = [100, 2338, 2338];

/// The dictionary, with what both directions look up.
pub(super) struct Dictionary {
    /// Trits of each string, 2 bits each from the low bit up, and the number of pairs in the high byte.
    strings: Vec<u64>,
    /// Codeword of each string's extension by each pair; 0 for none (string 0 extends nothing).
    extensions: Vec<[u16; 9]>,
    /// Codeword of each string of one pair.
    roots: [u16; 9],
}

impl Dictionary {
    /// The dictionary; built when it is first asked for, in some 50 ms.
    pub(super) fn get() -> &'static Self {
        static DICTIONARY: OnceLock<Dictionary> = OnceLock::new();
        DICTIONARY.get_or_init(Self::build)
    }

    fn build() -> Self {
        let mut built =
            Self { strings: Vec::with_capacity(STRINGS), extensions: vec![[0; 9]; STRINGS], roots: [0; 9] };
        // (cost, pairs, digits as a number, trits, codeword of the string without its last pair)
        let mut offers = BinaryHeap::new();
        let offer = |cost: u32, pairs: u8, digits: u64, trits: u64, parent: Option<u16>| {
            (0..9).map(move |d: u64| {
                let added = COSTS[d as usize / 3] + COSTS[d as usize % 3];
                let trits = trits | ((d / 3) | ((d % 3) << 2)) << (4 * pairs);
                Reverse((cost + added, pairs + 1, digits * 9 + d, trits, parent))
            })
        };
        offers.extend(offer(0, 0, 0, 0, None));
        while built.strings.len() < STRINGS {
            let Some(Reverse((cost, pairs, digits, trits, parent))) = offers.pop() else { break };
            let codeword = built.strings.len() as u16;
            let last = (digits % 9) as usize;
            match parent {
                Some(parent) => built.extensions[usize::from(parent)][last] = codeword,
                None => built.roots[last] = codeword,
            }
            built.strings.push(trits | u64::from(pairs) << 56);
            if pairs < MAX_PAIRS {
                offers.extend(offer(cost, pairs, digits, trits, Some(codeword)));
            }
        }
        built
    }

    /// Codewords of `trits`, each 0, 1 or 2.
    pub(super) fn encode(&self, trits: &[u8], codewords: &mut Vec<u16>) {
        let mut current: Option<u16> = None;
        for pair in trits.chunks(2) {
            let digit = usize::from(3 * pair[0] + pair.get(1).copied().unwrap_or(0));
            current = match current {
                None => Some(self.roots[digit]),
                Some(c) => match self.extensions[usize::from(c)][digit] {
                    0 => {
                        codewords.push(c);
                        Some(self.roots[digit])
                    }
                    longer => Some(longer),
                },
            };
        }
        codewords.extend(current);
    }

    /// Decodes little-endian `codewords` into `trits`, which they must fill (but for the zero after an odd number).
    ///
    /// # Errors
    /// Corruption where they do not.
    pub(super) fn decode(&self, codewords: &[u8], trits: &mut [u8]) -> Result<()> {
        let wanted = trits.len();
        let mut at = 0;
        for code in codewords.chunks_exact(2) {
            let string = self.strings[usize::from(u16::from_le_bytes([code[0], code[1]]))];
            let count = (string >> 56) as usize * 2;
            let (room, over) = match wanted.saturating_sub(at) {
                left if left >= count => (count, 0),
                left if left + 1 == count => (left, string >> (2 * left) & 3),
                left => {
                    return Err(Error::corruption(format!(
                        "a codeword of {count} trits where {left} are left of {wanted}"
                    )));
                }
            };
            if over != 0 {
                return Err(Error::corruption("a trit after the last, which is not zero"));
            }
            for (i, t) in trits[at..at + room].iter_mut().enumerate() {
                *t = (string >> (2 * i) & 3) as u8;
            }
            at += room;
        }
        if at == wanted {
            Ok(())
        } else {
            Err(Error::corruption(format!("codewords of {at} trits, expected {wanted}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(codewords: &[u16]) -> Vec<u8> {
        codewords.iter().flat_map(|c| c.to_le_bytes()).collect()
    }

    fn random(seed: u64, zeros: u64, count: usize) -> Vec<u8> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let x = state >> 33;
                if x % 1000 < zeros { 0 } else { 1 + (x / 1000 % 2) as u8 }
            })
            .collect()
    }

    #[test]
    fn the_dictionary_is_the_one_documented() {
        let d = Dictionary::get();
        assert_eq!(d.strings.len(), STRINGS);
        // All-zero strings of 1 to 11 pairs come first: eleven pairs cost 2200, one other trit and a zero 2438.
        let zeros: Vec<u64> = d.strings[..12].iter().map(|s| s >> 56).collect();
        assert_eq!(zeros, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert!(d.strings[..12].iter().all(|s| s << 8 == 0));
        // A fingerprint of them all, for implementers: FNV-1a over the codewords' 8 bytes.
        let hash = d
            .strings
            .iter()
            .flat_map(|s| s.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(hash, 0x3eb1_6bcf_5e99_38b5);
    }

    #[test]
    fn rates_are_those_of_the_paper() {
        for (zeros, most) in [(885, 0.74), (830, 1.0), (950, 0.60)] {
            let trits = random(zeros, zeros, 200_000);
            let mut codewords = Vec::new();
            Dictionary::get().encode(&trits, &mut codewords);
            let bits = codewords.len() as f64 * 16.0 / trits.len() as f64;
            assert!(bits < most, "{bits} bits at {zeros} zeros of 1000");
        }
    }

    proptest! {
        #[test]
        fn any_row_comes_back(seed: u64, zeros in 0u64..=1000, count in 0usize..400, cut: prop::sample::Index) {
            let trits = random(seed, zeros, count);
            let mut codewords = Vec::new();
            let d = Dictionary::get();
            d.encode(&trits, &mut codewords);
            let bytes = pack(&codewords);
            let mut back = vec![9; count];
            d.decode(&bytes, &mut back).unwrap();
            prop_assert_eq!(&back, &trits);
            if count > 0 {
                prop_assert!(d.decode(&bytes[..2 * cut.index(codewords.len())], &mut back).is_err());
                // The zero after an odd number belongs to the code, so only a pair less is too little room.
                prop_assert!(d.decode(&bytes, &mut back[..(count - 1) / 2 * 2]).is_err());
            }
        }

        #[test]
        fn any_codewords_are_read_without_panic(codewords: Vec<u16>, count in 0usize..200) {
            let _ = Dictionary::get().decode(&pack(&codewords), &mut vec![0; count]);
        }
    }
}
