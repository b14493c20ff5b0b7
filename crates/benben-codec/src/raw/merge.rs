//! The kernel that puts symbols and planes together to elements: one pass over a block that is in the first-level
//! cache, for each element size and kind a loop of its own, which the compiler turns into vector instructions.
//!
//! On x86-64 the same code is compiled a second time for AVX2 and taken where the machine has it; both write the same
//! bytes, as they do integer arithmetic only.
#![allow(unsafe_code, reason = "calls of functions compiled for AVX2, after the machine was asked")]

use super::cut::{Cut, Kind};
use super::word::Word;

/// Elements that are merged at a time: symbols, planes and elements stay in the first-level cache.
pub(super) const BLOCK: usize = 1024;

/// Planes of zeros that stand before the planes of a cut that has fewer than the kernel for its size.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes the elements of at most [`BLOCK`] `symbols` to `out`, which they fill. `planes` are those of `cut`, the
/// highest first, each as long as `symbols`.
pub(super) fn merge(cut: &Cut, symbols: &[u8], planes: &[&[u8]], out: &mut [u8]) {
    match cut.size {
        1 => padded::<u8, 1, 1>(cut, symbols, planes, out),
        2 if planes.len() < 2 => padded::<u16, 2, 1>(cut, symbols, planes, out),
        2 => padded::<u16, 2, 2>(cut, symbols, planes, out),
        4 => padded::<u32, 4, 3>(cut, symbols, planes, out),
        _ => padded::<u64, 8, 7>(cut, symbols, planes, out),
    }
}

/// The largest of bytes, 0 of none.
pub(super) fn largest(bytes: &[u8]) -> u64 {
    #[inline(always)]
    fn portable(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0, |a, &b| a.max(b)).into()
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn for_avx2(bytes: &[u8]) -> u64 {
        portable(bytes)
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        return unsafe { for_avx2(bytes) };
    }
    portable(bytes)
}

fn padded<T: Word<N>, const N: usize, const P: usize>(
    cut: &Cut,
    symbols: &[u8],
    planes: &[&[u8]],
    out: &mut [u8],
) {
    let mut all: [&[u8]; P] = [&ZEROS; P];
    let first = P.saturating_sub(planes.len());
    all[first..].iter_mut().zip(planes).for_each(|(to, plane)| *to = plane);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        unsafe { for_avx2::<T, N, P>(cut, symbols, all, out) };
        return;
    }
    portable::<T, N, P>(cut, symbols, all, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn for_avx2<T: Word<N>, const N: usize, const P: usize>(
    cut: &Cut,
    symbols: &[u8],
    planes: [&[u8]; P],
    out: &mut [u8],
) {
    portable::<T, N, P>(cut, symbols, planes, out);
}

#[inline(always)]
fn portable<T: Word<N>, const N: usize, const P: usize>(
    cut: &Cut,
    symbols: &[u8],
    planes: [&[u8]; P],
    out: &mut [u8],
) {
    let typed = cut.typed::<T, N>();
    match cut.kind {
        Kind::Float { .. } => each(symbols, planes, out, |s, r| typed.float(s, r)),
        Kind::Plain { .. } => each(symbols, planes, out, |s, r| typed.plain(s, r)),
        Kind::Zigzag { .. } => each(symbols, planes, out, |s, r| typed.zigzag(s, r)),
    }
}

#[inline(always)]
fn each<T: Word<N>, const N: usize, const P: usize>(
    symbols: &[u8],
    planes: [&[u8]; P],
    out: &mut [u8],
    join: impl Fn(T, T) -> T,
) {
    // Slices of one length, which the loop's bound is: no checks within it.
    let n = symbols.len();
    let planes = planes.map(|p| &p[..n]);
    let out = &mut out.as_chunks_mut::<N>().0[..n];
    for i in 0..n {
        let mut rest = T::of(planes[0][i].into());
        for plane in &planes[1..] {
            rest = rest << 8 | T::of(plane[i].into());
        }
        out[i] = join(T::of(symbols[i].into()), rest).bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both<T: Word<N>, const N: usize, const P: usize>(kind: Kind, low: u32, symbols: &[u8], noise: &[u8]) {
        let cut = Cut { size: N, low, symbols: 256, kind };
        let n = symbols.len();
        let mask = |i: usize| if i == 0 { 0xff >> (8 - cut.plane_bits(0)) } else { 0xff };
        let planes: Vec<Vec<u8>> = (0..cut.planes())
            .map(|p| noise.iter().cycle().skip(p * 7 + 1).take(n).map(|b| b & mask(p)).collect())
            .collect();
        let planes: Vec<&[u8]> = planes.iter().map(Vec::as_slice).collect();
        let (mut fast, mut plain) = (vec![0; n * N], vec![0xff; n * N]);
        merge(&cut, symbols, &planes, &mut fast);
        let mut all: [&[u8]; P] = [&ZEROS; P];
        all[P - planes.len()..].copy_from_slice(&planes);
        portable::<T, N, P>(&cut, symbols, all, &mut plain);
        assert_eq!(fast, plain);
        // And apart again.
        let typed = cut.typed::<T, N>();
        for (i, bytes) in fast.as_chunks::<N>().0.iter().enumerate() {
            let (symbol, rest) = typed.apart(T::read(*bytes));
            let expected = planes.iter().fold(0u64, |rest, p| rest << 8 | u64::from(p[i]));
            assert_eq!((symbol, rest.get()), (symbols[i], expected), "{cut:?} {i}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn kernels_agree_and_invert(
            symbols in prop::collection::vec(0u8..=255, 0..=BLOCK), noise in prop::collection::vec(any::<u8>(), 1..99),
            m in 0u32..=3, low in 0u32..=8, offset: u64, zigzag: bool,
        ) {
            both::<u16, 2, 2>(Kind::Float { base: 0 }, 7, &symbols, &noise);
            both::<u32, 4, 3>(Kind::Float { base: (64 << m) * u64::from(m.min(1)) }, 23 - m, &symbols, &noise);
            both::<u64, 8, 7>(Kind::Float { base: 800 << m }, 52 - m, &symbols, &noise);
            let small: Vec<u8> = symbols.iter().map(|s| s >> 1 >> (3 - m)).collect();
            both::<u8, 1, 1>(Kind::Float { base: 0 }, 3 - m, &small, &noise);
            let kind = if zigzag { Kind::Zigzag { offset } } else { Kind::Plain { offset } };
            both::<u8, 1, 1>(kind, 0, &symbols, &noise);
            both::<u16, 2, 1>(kind, low, &symbols, &noise);
            both::<u32, 4, 3>(kind, low * 3, &symbols, &noise);
            both::<u64, 8, 7>(kind, low * 7, &symbols, &noise);
        }
    }
}
