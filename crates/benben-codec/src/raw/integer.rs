//! Layout `integer`: the distance from an offset, its highest bits as one symbol, the others as the rest.
//!
//! # Bits
//! With `W` the bits of an element: `v = element - offset` modulo 2^W; `u = v`, or with `zigzag` the number `2 v` for
//! `v >= 0` and `-2 v - 1` for `v < 0`, `v` taken as signed. The symbol is `u >> low`, the rest the `low` bits below.
//! The streams are those of the module `streams`.
//!
//! # Choice
//! Signed zigzag or not, and where to cut, by what a sample of the elements takes: values that spread evenly are cut
//! below their 8 highest bits, so that one symbol holds all that compresses; few large ones among small ones are cut
//! at a byte.

use super::cut::{Cut, Kind};
use super::planes;
use super::word::{Word, by_size, entropy, fold, sample};
use benben_format::{Dtype, Error, Result};
use serde::{Deserialize, Serialize};

/// How elements are split into symbol and rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distance {
    /// Whether distances are signed.
    pub zigzag: bool,
    /// What distances are counted from: the bits of an element.
    pub offset: u64,
    /// Bits of the rest.
    pub low: u8,
    /// Elements of one class.
    pub run: u64,
}

/// The cut of a split, checked against the type.
pub(super) fn cut(distance: Distance, dtype: Dtype) -> Result<Cut> {
    let Distance { zigzag, offset, low, .. } = distance;
    let (size, low) = (dtype.size(), u32::from(low));
    let width = 8 * size as u32;
    if low > width - 8 || u128::from(offset) >> width != 0 {
        return Err(Error::corruption(format!("{low} low bits and offset {offset} for dtype {dtype}")));
    }
    let kind = if zigzag { Kind::Zigzag { offset } } else { Kind::Plain { offset } };
    Ok(Cut { size, low, symbols: 256, kind })
}

/// The split that is expected to be smallest.
pub(super) fn choose(bytes: &[u8], dtype: Dtype, run: u64) -> Distance {
    by_size!(dtype.size(), choose_of(bytes, dtype, run))
}

fn choose_of<T: Word<N>, const N: usize>(bytes: &[u8], dtype: Dtype, run: u64) -> Distance {
    let width = 8 * N as u32;
    let signed = matches!(dtype, Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8);
    let flip = T::of(if signed { 1 << (width - 1) } else { 0 });
    // In the order of the type: the sign bit flipped.
    let (least, most) = fold::<T, N, _>(
        bytes,
        &(T::of(u64::MAX), T::of(0)),
        |a, elements| {
            for b in elements {
                let v = T::read(*b) ^ flip;
                *a = (a.0.min(v), a.1.max(v));
            }
        },
        |a, b| *a = (a.0.min(b.0), a.1.max(b.1)),
    );
    let sample = sample::<T, N>(bytes);
    let plain = (Kind::Plain { offset: (least ^ flip).get() }, most.minus(least).get());
    let folded = |v: T| {
        let v = v ^ flip;
        ((v << 1) ^ T::of(0).minus(v >> (width - 1))).get()
    };
    let zigzag = (Kind::Zigzag { offset: 0 }, folded(least).max(folded(most)));
    let kinds = if signed && N > 1 { vec![plain, zigzag] } else { vec![plain] };
    let mut best = (f64::INFINITY, Distance { zigzag: false, offset: 0, low: 0, run });
    for (kind, largest) in kinds {
        let lowest = (64 - largest.leading_zeros()).saturating_sub(8);
        for low in lowest..=(lowest + 7).min(width - 8) {
            let cut = Cut { size: N, low, symbols: 256, kind };
            let bits = sampled_bits::<T, N>(&cut, &sample);
            // Later ones have more planes or tables: they have to save something.
            if bits < best.0 * 0.998 {
                let (zigzag, offset) = match kind {
                    Kind::Zigzag { offset } => (true, offset),
                    Kind::Plain { offset } | Kind::Float { base: offset } => (false, offset),
                };
                best = (bits, Distance { zigzag, offset, low: low as u8, run });
            }
        }
    }
    best.1
}

/// Bits of an element, as far as a sample shows, each plane by a table or as it is.
fn sampled_bits<T: Word<N>, const N: usize>(cut: &Cut, sample: &[T]) -> f64 {
    let typed = cut.typed::<T, N>();
    let mut counts = [0; 256];
    sample.iter().for_each(|&bits| counts[usize::from(typed.apart(bits).0)] += 1);
    let planes = planes::sampled_entropy(cut, sample);
    let rest = planes.iter().enumerate().map(|(p, h)| h.min(cut.plane_bits(p).into()));
    entropy(&counts) + rest.sum::<f64>()
}
