//! The bits of an element as an unsigned integer of its own size: loops over them vectorize, loops over `u64` do not.

use rayon::prelude::*;
use std::ops::{BitAnd, BitOr, BitXor, Shl, Shr};

/// An unsigned integer of `N` bytes.
pub(super) trait Word<const N: usize>:
    Copy
    + Send
    + Sync
    + Ord
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    /// From little-endian bytes.
    fn read(bytes: [u8; N]) -> Self;
    /// As little-endian bytes.
    fn bytes(self) -> [u8; N];
    /// The low bits of `value`.
    fn of(value: u64) -> Self;
    /// Zero-extended.
    fn get(self) -> u64;
    /// Its low byte.
    fn low(self) -> u8;
    /// Sum, modulo 2 to the number of bits.
    fn plus(self, other: Self) -> Self;
    /// Difference, modulo 2 to the number of bits.
    fn minus(self, other: Self) -> Self;
}

macro_rules! word {
    ($($t:ty: $n:literal),*) => {$(
        impl Word<$n> for $t {
            #[inline(always)]
            fn read(bytes: [u8; $n]) -> Self {
                Self::from_le_bytes(bytes)
            }
            #[inline(always)]
            fn bytes(self) -> [u8; $n] {
                self.to_le_bytes()
            }
            #[inline(always)]
            fn of(value: u64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn get(self) -> u64 {
                self.into()
            }
            #[inline(always)]
            fn low(self) -> u8 {
                self as u8
            }
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    )*};
}
word!(u8: 1, u16: 2, u32: 4, u64: 8);

/// Calls a function that is generic over a [`Word`] and its size for elements of `$size` bytes.
macro_rules! by_size {
    ($size:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $size {
            1 => $f::<u8, 1>($($arg),*),
            2 => $f::<u16, 2>($($arg),*),
            4 => $f::<u32, 4>($($arg),*),
            _ => $f::<u64, 8>($($arg),*),
        }
    };
}
pub(super) use by_size;

/// Elements that one thread takes at a time.
const BLOCK: usize = 1 << 16;

/// One byte for each element.
pub(super) fn map<T: Word<N>, const N: usize>(bytes: &[u8], byte: impl Fn(T) -> u8 + Sync) -> Vec<u8> {
    let mut out = vec![0; bytes.len() / N];
    out.par_chunks_mut(BLOCK).zip(bytes.par_chunks(BLOCK * N)).for_each(|(out, bytes)| {
        out.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(o, b)| *o = byte(T::read(*b)));
    });
    out
}

/// What `add` makes of each block of elements, put together by `merge` in order.
pub(super) fn fold<T: Word<N>, const N: usize, A: Clone + Send + Sync>(
    bytes: &[u8],
    zero: &A,
    add: impl Fn(&mut A, &[[u8; N]]) + Sync,
    merge: impl Fn(&mut A, A),
) -> A {
    let blocks = bytes.par_chunks(BLOCK * N).map(|bytes| {
        let mut sum = zero.clone();
        add(&mut sum, bytes.as_chunks::<N>().0);
        sum
    });
    let blocks: Vec<A> = blocks.collect();
    let mut sum = zero.clone();
    blocks.into_iter().for_each(|block| merge(&mut sum, block));
    sum
}

/// At most about 2^16 elements from all over the tensor, in pieces of 256: enough to see how symbols are spread.
pub(super) fn sample<T: Word<N>, const N: usize>(bytes: &[u8]) -> Vec<T> {
    const PIECE: usize = 256;
    const PIECES: usize = 256;
    let elements = bytes.as_chunks::<N>().0;
    let step = (elements.len() / PIECES).max(PIECE);
    let pieces = elements.chunks(step).flat_map(|piece| &piece[..piece.len().min(PIECE)]);
    pieces.map(|&b| T::read(b)).collect()
}

/// How often each byte occurs.
pub(super) fn histogram(symbols: &[u8]) -> [u64; 256] {
    // Four counters for each byte: equal neighbours need not wait for each other.
    let mut counts = [[0u64; 256]; 4];
    let (groups, rest) = symbols.as_chunks::<4>();
    for group in groups {
        counts.iter_mut().zip(group).for_each(|(c, &s)| c[usize::from(s)] += 1);
    }
    rest.iter().for_each(|&s| counts[0][usize::from(s)] += 1);
    std::array::from_fn(|s| counts.iter().map(|c| c[s]).sum())
}

/// Bits of the entropy of each item that is counted.
pub(super) fn entropy(counts: &[u64]) -> f64 {
    let n = counts.iter().sum::<u64>() as f64;
    let seen = counts.iter().filter(|c| **c > 0).map(|&c| c as f64);
    if n == 0.0 { 0.0 } else { seen.map(|c| c * (n / c).log2()).sum::<f64>() / n }
}
