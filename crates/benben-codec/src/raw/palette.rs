//! Layout `palette`: a tensor of at most 256 different elements as symbols that name them.
//!
//! # Bits
//! Stream 0 holds, after the tables, the number of elements less 1 as a byte, and the elements in rising order of
//! their bits. Streams 1 and 2 are those of [`streams`](super::streams).
//!
//! # When it is chosen
//! Weights that were quantized and stored as floats again; codes of few values. Exponent and mantissa of such values
//! depend on each other, so that splitting them would cost several times as much.

use super::word::{Word, by_size};
use benben_format::{Error, Result};

/// The different elements, in rising order of their bits; `None` where there are more than 256.
pub(super) fn distinct(bytes: &[u8], size: usize) -> Option<Vec<u64>> {
    by_size!(size, distinct_of(bytes))
}

fn distinct_of<T: Word<N>, const N: usize>(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut found = std::collections::BTreeSet::new();
    let mut last = None;
    for b in bytes.as_chunks::<N>().0 {
        let bits = T::read(*b);
        if last != Some(bits) && found.insert(bits) && found.len() > 256 {
            return None;
        }
        last = Some(bits);
    }
    Some(found.into_iter().map(T::get).collect())
}

/// Number in `palette` of each element.
pub(super) fn symbols(bytes: &[u8], size: usize, palette: &[u64]) -> Vec<u8> {
    by_size!(size, symbols_of(bytes, palette))
}

fn symbols_of<T: Word<N>, const N: usize>(bytes: &[u8], palette: &[u64]) -> Vec<u8> {
    super::word::map::<T, N>(bytes, |bits| palette.partition_point(|&p| p < bits.get()) as u8)
}

/// Writes the elements that `symbols` name.
pub(super) fn look_up(palette: &[u64], size: usize, symbols: &[u8], out: &mut [u8]) -> Result<()> {
    if let Some(symbol) = symbols.iter().find(|&&s| usize::from(s) >= palette.len()) {
        return Err(Error::corruption(format!("symbol {symbol} of a palette of {}", palette.len())));
    }
    by_size!(size, look_up_of(palette, symbols, out));
    Ok(())
}

fn look_up_of<T: Word<N>, const N: usize>(palette: &[u64], symbols: &[u8], out: &mut [u8]) {
    let mut all = [[0; N]; 256];
    all.iter_mut().zip(palette).for_each(|(a, &p)| *a = T::of(p).bytes());
    let out = out.as_chunks_mut::<N>().0;
    out.iter_mut().zip(symbols).for_each(|(o, &s)| *o = all[usize::from(s)]);
}
