//! States of 32 lanes as 16-bit halves: all of a group in two registers.
//!
//! Products of 12 and 20 bits fall into 16-bit halves, so that nothing is ever widened.
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]

use super::super::rans::LANES;
use std::arch::asm;
use std::arch::x86_64::*;

/// Words that a group may take, in bytes.
pub(super) const GROUP_BYTES: usize = 2 * LANES;

/// The low and the high halves of the states.
#[derive(Clone, Copy)]
pub(super) struct Halves {
    pub(super) low: __m512i,
    high: __m512i,
}

/// 32 integers of 16 bits from 32 bits of which the high half is 0.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn narrowed(a: __m512i, b: __m512i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)), _mm512_cvtepi32_epi16(b))
}

/// The first 16 of 32 integers as 32 bits, and the others.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn widened(x: __m512i) -> [__m512i; 2] {
    [_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x)].map(|half| _mm512_cvtepu16_epi32(half))
}

/// The two registers that 32 integers are.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load(of: &[u32; LANES]) -> [__m512i; 2] {
    // SAFETY: 16 integers each.
    unsafe { [_mm512_loadu_si512(of.as_ptr().cast()), _mm512_loadu_si512(of[16..].as_ptr().cast())] }
}

/// The other way.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store(of: [__m512i; 2], to: &mut [u32; LANES]) {
    // SAFETY: 16 integers each.
    unsafe {
        _mm512_storeu_si512(to.as_mut_ptr().cast(), of[0]);
        _mm512_storeu_si512(to[16..].as_mut_ptr().cast(), of[1]);
    }
}

impl Halves {
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(super) fn load(coder: &[u32; LANES]) -> Self {
        let [a, b] = load(coder);
        Self { low: narrowed(a, b), high: narrowed(_mm512_srli_epi32::<16>(a), _mm512_srli_epi32::<16>(b)) }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(super) fn store(self, coder: &mut [u32; LANES]) {
        let (high, low) = (widened(self.high), widened(self.low));
        let whole = |half: usize| _mm512_or_si512(_mm512_slli_epi32::<16>(high[half]), low[half]);
        store([whole(0), whole(1)], coder);
    }

    /// The states without symbols of frequency `freq` that begin `offset` slots before the state's, and the words that
    /// they take. Without `WHOLE` no frequency is 4096.
    ///
    /// # Safety
    /// At least [`GROUP_BYTES`] of words are left.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt,bmi2")]
    #[inline]
    pub(super) unsafe fn step<const WHOLE: bool>(
        &mut self,
        freq: __m512i,
        offset: __m512i,
        words: &mut &[u8],
    ) {
        // state / 4096 = 16 high + low / 4096: the product by the second is below 2^16.
        let part = _mm512_add_epi16(_mm512_mullo_epi16(freq, _mm512_srli_epi16::<12>(self.low)), offset);
        let wide = _mm512_slli_epi16::<4>(freq);
        let product = _mm512_mullo_epi16(wide, self.high);
        let sum = _mm512_add_epi16(product, part);
        // The carry: both of the highest bits, or one of them that the sum has lost.
        let carry = _mm512_ternarylogic_epi32::<0b1101_0100>(product, part, sum);
        let above = _mm512_mulhi_epu16(wide, self.high);
        let mut above = _mm512_add_epi16(above, _mm512_srli_epi16::<15>(carry));
        if WHOLE {
            // 16 times 4096 is 0 in 16 bits: the state stays as it is.
            let whole = _mm512_test_epi16_mask(freq, _mm512_set1_epi16(1 << 12));
            above = _mm512_mask_mov_epi16(above, whole, self.high);
        }
        let refill = _mm512_testn_epi16_mask(above, above);
        // SAFETY: the caller has looked.
        let fresh = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
        self.high = _mm512_mask_mov_epi16(above, refill, sum);
        self.low = expand(sum, refill, fresh);
        // At most the 64 bytes that are left.
        *words = &words[2 * refill.count_ones() as usize..];
    }
}

/// `old`, with the next words of `fresh` where `mask` has a bit. The intrinsic may become the form that reads memory,
/// which Zen 5 takes 60 times as long for.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
#[inline]
fn expand(old: __m512i, mask: __mmask32, fresh: __m512i) -> __m512i {
    let mut new = old;
    // SAFETY: one instruction from registers to a register; the caller has AVX-512 VBMI2.
    unsafe {
        asm!("vpexpandw {new}{{{mask}}}, {fresh}", new = inout(zmm_reg) new, mask = in(kreg) mask,
            fresh = in(zmm_reg) fresh, options(pure, nomem, nostack, preserves_flags));
    }
    new
}
