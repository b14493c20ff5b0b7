//! The encoder's side of the planes of the rest: which of them a table codes.
//!
//! Most planes hardly compress, and what is stored as it is costs no more than a copy. A plane gets a table where that
//! saves more than a hundredth of the tensor: low bytes of weights that have been f16 or bf16 before, high bytes
//! of integers.

use super::cut::Cut;
use super::word::{Word, by_size, entropy, histogram, map, sample};
use crate::entropy::Table;

/// Share of a tensor that a table for one more plane has to save: one for the mantissas of bf16 saves 0.13 %, and triples
/// the time of decoding.
const WORTH: f64 = 1.0 / 100.0;

/// Byte `index`, counted from the highest, of the rest of each element.
pub(super) fn extract(cut: &Cut, bytes: &[u8], index: usize) -> Vec<u8> {
    fn of<T: Word<N>, const N: usize>(cut: &Cut, bytes: &[u8], shift: u32) -> Vec<u8> {
        let typed = cut.typed::<T, N>();
        map::<T, N>(bytes, |bits| (typed.apart(bits).1 >> shift).low())
    }
    let shift = 8 * (cut.planes() - 1 - index) as u32;
    by_size!(cut.size, of(cut, bytes, shift))
}

/// Symbol of each element.
pub(super) fn symbols(cut: &Cut, bytes: &[u8]) -> Vec<u8> {
    fn of<T: Word<N>, const N: usize>(cut: &Cut, bytes: &[u8]) -> Vec<u8> {
        let typed = cut.typed::<T, N>();
        map::<T, N>(bytes, |bits| typed.apart(bits).0)
    }
    by_size!(cut.size, of(cut, bytes))
}

/// Entropy of each plane in a sample of elements, in bits.
pub(super) fn sampled_entropy<T: Word<N>, const N: usize>(cut: &Cut, sample: &[T]) -> Vec<f64> {
    let typed = cut.typed::<T, N>();
    let mut plane = vec![0; sample.len()];
    let planes = (0..cut.planes() as u32).rev().map(|p| {
        plane.iter_mut().zip(sample).for_each(|(o, &bits)| *o = (typed.apart(bits).1 >> (8 * p)).low());
        entropy(&histogram(&plane))
    });
    planes.collect()
}

/// The table of each plane that gets one, and the bits that all planes are expected to take, for a tensor whose symbols
/// take `symbol_bits`.
pub(super) fn choose(cut: &Cut, bytes: &[u8], symbol_bits: f64) -> (Vec<Option<Table>>, f64) {
    fn seen<T: Word<N>, const N: usize>(cut: &Cut, bytes: &[u8]) -> Vec<f64> {
        sampled_entropy(cut, &sample::<T, N>(bytes))
    }
    let n = (bytes.len() / cut.size) as f64;
    let seen = by_size!(cut.size, seen(cut, bytes));
    let plain = |p: usize| f64::from(cut.plane_bits(p)) * n;
    let whole = symbol_bits + seen.iter().enumerate().map(|(p, h)| plain(p).min(h * n)).sum::<f64>();
    let mut total = 0.0;
    let tables = seen.iter().enumerate().map(|(p, entropy)| {
        let coded = (plain(p) - entropy * n > WORTH * whole).then(|| {
            let counts = histogram(&extract(cut, bytes, p));
            let table = Table::from_counts(&counts);
            (table.cost_bits(&counts) + 8.0 * table.stored_bytes() as f64, table)
        });
        let coded = coded.filter(|(bits, _)| plain(p) - bits > WORTH * whole);
        total += coded.as_ref().map_or(plain(p), |c| c.0);
        coded.map(|c| c.1)
    });
    let tables = tables.collect();
    (tables, total)
}
