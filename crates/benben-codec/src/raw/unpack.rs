//! Symbols of a fixed number of bits to bytes, for planes of which every bit counts: as fast as the merge that
//! follows, where [`bits::unpack_symbols`] takes as long as rANS does.
//!
//! A register of 8 integers of 32 bits gets 4 symbols in each: a shuffle and a shift bring their bits to the front,
//! two steps of mask and shift spread them over the 4 bytes.
#![allow(
    unsafe_code,
    reason = "vector instructions; `bits::unpack_symbols` is the twin that a test holds this to"
)]

use crate::entropy::bits;

/// As [`bits::unpack_symbols`]: fields of `width` bits (1 to 8) from field `first` on, as many as `out` holds. `fields`
/// holds them all.
pub(super) fn unpack(fields: &[u8], width: u8, first: usize, out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if (1..8).contains(&width) && first.is_multiple_of(8) && is_x86_feature_detected!("avx2") {
        let start = first / 8 * usize::from(width);
        // SAFETY: the machine has AVX2.
        let done = unsafe { groups(fields.get(start..).unwrap_or_default(), width, out) };
        bits::unpack_symbols(fields, width, first + done, &mut out[done..]);
        return;
    }
    bits::unpack_symbols(fields, width, first, out);
}

/// Unpacks groups of 32 symbols while 16 bytes can be read from the middle of a group, and returns how many symbols
/// that were.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn groups(fields: &[u8], width: u8, out: &mut [u8]) -> usize {
    use std::arch::x86_64::*;
    let w = usize::from(width);
    // Lane `l` of 4 begins at bit 4 w l of its half.
    let mut bytes = [0u8; 32];
    for (i, b) in bytes.iter_mut().enumerate() {
        *b = (w * (i / 4 % 4) / 2 + i % 4) as u8;
    }
    // SAFETY: 32 bytes.
    let bytes = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    let half = if w % 2 == 1 { 4 } else { 0 };
    let shift = _mm256_setr_epi32(0, half, 0, half, 0, half, 0, half);
    let pairs = _mm256_set1_epi32((1 << (2 * w)) - 1);
    let singles = _mm256_set1_epi16((1 << w) - 1);
    let (by_pairs, by_singles) = (_mm_cvtsi32_si128(16 - 2 * w as i32), _mm_cvtsi32_si128(8 - w as i32));
    let mut done = 0;
    for (group, at) in out.as_chunks_mut::<32>().0.iter_mut().zip((0..).step_by(4 * w)) {
        let middle = fields.get(at + 2 * w..).and_then(|f| f.first_chunk::<16>());
        let (Some(low), Some(high)) = (fields.get(at..).and_then(|f| f.first_chunk::<16>()), middle) else {
            break;
        };
        // SAFETY: 16 bytes each.
        let x = unsafe { _mm256_loadu2_m128i(high.as_ptr().cast(), low.as_ptr().cast()) };
        let x = _mm256_srlv_epi32(_mm256_shuffle_epi8(x, bytes), shift);
        let above = _mm256_sll_epi32(_mm256_andnot_si256(pairs, x), by_pairs);
        let x = _mm256_or_si256(_mm256_and_si256(x, pairs), above);
        let above = _mm256_sll_epi16(_mm256_andnot_si256(singles, x), by_singles);
        let x = _mm256_or_si256(
            _mm256_and_si256(x, singles),
            _mm256_and_si256(above, _mm256_sll_epi16(singles, _mm_cvtsi32_si128(8))),
        );
        // What a lane holds above its 4 symbols has been shifted out or falls to the mask.
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(group.as_mut_ptr().cast(), x) };
        done += 32;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_its_twin() {
        for width in 1..=8u8 {
            let symbols: Vec<u8> =
                (0..1000u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8 >> (8 - width)).collect();
            let fields = bits::pack_symbols(&symbols, width);
            for (first, last) in [(0, 1000), (0, 0), (0, 33), (8, 999), (3, 700), (968, 1000), (512, 1000)] {
                let (mut fast, mut plain) = (vec![0xaa; last - first], vec![0x55; last - first]);
                unpack(&fields, width, first, &mut fast);
                bits::unpack_symbols(&fields, width, first, &mut plain);
                assert_eq!(fast, plain, "{width} {first} {last}");
                assert_eq!(fast, symbols[first..last]);
            }
        }
    }
}
