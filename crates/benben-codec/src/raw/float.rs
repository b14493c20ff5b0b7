//! Layout `float`: the exponent and the leading bits of the mantissa as one symbol, sign and other bits as the rest.
//!
//! # Bits
//! An element has a sign bit, `E` exponent bits and `M` mantissa bits (f64: 11, 52; f32: 8, 23; f16: 5, 10; bf16: 8,
//! 7; f8e4m3: 4, 3; f8e5m2: 5, 2). With the parameters `mantissa = m` (0 to 3, at most `M`) and `lowest`, the symbol is `(exponent - lowest) << m | first m
//! bits of the mantissa`, below 256, and the rest is `sign << (M - m) | other bits of the mantissa`. The streams are
//! those of the module `streams`.
//!
//! # Cost
//! The leading mantissa bits depend on the exponent a little: 0.07 bits of each weight at `m` = 2 (MiniLM-L6).

use super::cut::{Cut, Kind};
use super::word::{Word, by_size, fold};
use crate::entropy::Table;
use benben_format::{Dtype, Error, Result};
use serde::{Deserialize, Serialize};

/// How elements are split into symbol and rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Leading bits of the mantissa that the symbol holds.
    pub mantissa: u8,
    /// Exponent of symbol 0.
    pub lowest: u16,
    /// Elements of one class.
    pub run: u64,
}

/// Most mantissa bits of a symbol.
const MOST: u32 = 3;

/// What a rest of whole bytes counts: it is not unpacked, and bare exponents are few enough for the fastest kernel.
const WHOLE: f64 = 0.99;

/// Exponent bits and mantissa bits of a float type.
const fn widths(dtype: Dtype) -> Option<(u32, u32)> {
    Some(match dtype {
        Dtype::F64 => (11, 52),
        Dtype::F32 => (8, 23),
        Dtype::F16 => (5, 10),
        Dtype::BF16 => (8, 7),
        Dtype::F8E4M3 => (4, 3),
        Dtype::F8E5M2 => (5, 2),
        _ => return None,
    })
}

/// The cut of a split, checked against the type.
pub(super) fn cut(split: Split, dtype: Dtype) -> Result<Cut> {
    let Some((exponent, mantissa)) = widths(dtype) else {
        return Err(Error::corruption(format!("layout float of dtype {dtype}, a float type expected")));
    };
    let (m, lowest) = (u32::from(split.mantissa), u64::from(split.lowest));
    if m > mantissa.min(MOST) || lowest >> exponent != 0 {
        return Err(Error::corruption(format!(
            "{m} mantissa bits and lowest exponent {lowest} for dtype {dtype}"
        )));
    }
    Ok(Cut {
        size: dtype.size(),
        low: mantissa - m,
        symbols: (((1 << exponent) - lowest) << m).min(256),
        kind: Kind::Float { base: lowest << m },
    })
}

/// The split that is expected to be smallest; `None` where `dtype` is no float of 2 bytes or more (one byte is a symbol
/// as it is), or its exponents span more than 256.
pub(super) fn choose(bytes: &[u8], dtype: Dtype, run: u64) -> Option<Split> {
    let (exponent, mantissa) = widths(dtype).filter(|_| dtype.size() > 1)?;
    // Counts for the most mantissa bits; sums of neighbours are the counts for fewer.
    let counts = by_size!(dtype.size(), count(bytes, mantissa - MOST, exponent + MOST));
    let seen = |c: &u64| *c > 0;
    let lowest = counts.iter().position(seen)? >> MOST;
    let highest = counts.iter().rposition(seen)? >> MOST;
    let counts = &counts[lowest << MOST..(highest + 1) << MOST];
    let n: u64 = counts.iter().sum();
    let candidates = (0..=MOST).filter(|&m| (highest - lowest + 1) << m <= 256).map(|m| {
        let counts: Vec<u64> = counts.chunks(1 << (MOST - m)).map(|c| c.iter().sum()).collect();
        let table = Table::from_counts(&counts);
        let rest = f64::from(mantissa - m + 1) * n as f64;
        let bits = table.cost_bits(&counts) + 8.0 * table.stored_bytes() as f64 + rest;
        (if (mantissa - m + 1).is_multiple_of(8) { bits * WHOLE } else { bits }, m)
    });
    let (_, m) = candidates.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Split { mantissa: m as u8, lowest: u16::try_from(lowest).ok()?, run })
}

/// How often each value of the `width` bits above the lowest `low` occurs.
fn count<T: Word<N>, const N: usize>(bytes: &[u8], low: u32, width: u32) -> Vec<u64> {
    let mask = T::of((1 << width) - 1);
    let zero = vec![0u64; 2 << width];
    let mut counts = fold::<T, N, _>(
        bytes,
        &zero,
        |counts, elements| {
            // Two counters for each value: equal neighbours need not wait for each other.
            let (even, odd) = counts.split_at_mut(1 << width);
            let at = |b: &[u8; N]| ((T::read(*b) >> low) & mask).get() as usize;
            let (pairs, rest) = elements.as_chunks::<2>();
            for [a, b] in pairs {
                even[at(a)] += 1;
                odd[at(b)] += 1;
            }
            rest.iter().for_each(|b| even[at(b)] += 1);
        },
        |sum, block| sum.iter_mut().zip(block).for_each(|(a, b)| *a += b),
    );
    let odd = counts.split_off(1 << width);
    counts.iter_mut().zip(odd).for_each(|(a, b)| *a += b);
    counts
}
