//! What symbols and tables are expected to take, for encoders that compare many ways to share tables.

/// Bits of symbols seen `counts[s]` times under their own ideal code.
pub(crate) fn entropy_bits(counts: &[u64; 256]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    counts.iter().filter(|c| **c > 0).map(|&c| c as f64 * (total / c as f64).log2()).sum()
}

/// About what a stored table of so many symbols, from the first that occurs to the last, takes.
pub(crate) fn table_bits(symbols: usize) -> f64 {
    24.0 + 2.5 * symbols as f64
}

/// Bits that tell one of `classes` apart, bit-packed: what the stream coder reaches at least.
pub(crate) fn class_bits(classes: usize) -> f64 {
    f64::from(usize::BITS - classes.saturating_sub(1).leading_zeros())
}

/// Symbols from the first that occurs to the last; 1 where none does.
pub(crate) fn span(counts: &[u64; 256]) -> usize {
    let first = counts.iter().position(|&c| c > 0).unwrap_or(0);
    let last = counts.iter().rposition(|&c| c > 0).unwrap_or(0);
    last - first + 1
}
