//! Randomized Hadamard transform of rows: spreads outliers over a block before quantization.
//!
//! Source: Ailon & Chazelle 2009; as incoherence processing of weights, QuIP# (Tseng et al. 2024). Signs come
//! from splitmix64 (Steele, Lea & Flood 2014): column j is negated where bit `j % 64` of output number `j / 64`
//! is set.

fn splitmix64(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn apply_signs(row: &mut [f32], seed: u64) {
    for (i, word) in row.chunks_mut(64).enumerate() {
        let bits = splitmix64(seed, i as u64);
        for (j, x) in word.iter_mut().enumerate() {
            if bits >> j & 1 == 1 {
                *x = -*x;
            }
        }
    }
}

/// Unnormalized fast Walsh-Hadamard transform, butterflies of distance 1, 2, 4, .., then scaled by
/// 1 / sqrt(length) as one f32 factor.
fn transform(block: &mut [f32]) {
    let mut half = 1;
    while half < block.len() {
        for pair in block.chunks_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (block.len() as f32).sqrt();
    block.iter_mut().for_each(|x| *x *= scale);
}

/// What an encoder stores under a `rotate` node: `H(signs * row) / sqrt(block)`.
///
/// `block` is a power of two that divides `columns`.
pub fn hadamard_rows(values: &mut [f32], columns: usize, seed: u64, block: usize) {
    for row in values.chunks_mut(columns.max(1)) {
        apply_signs(row, seed);
        row.chunks_mut(block.max(1)).for_each(transform);
    }
}

/// The value of a `rotate` node: `signs * H(row) / sqrt(block)`, the inverse of [`hadamard_rows`] up to rounding.
pub fn inverse_hadamard_rows(values: &mut [f32], columns: usize, seed: u64, block: usize) {
    for row in values.chunks_mut(columns.max(1)) {
        row.chunks_mut(block.max(1)).for_each(transform);
        apply_signs(row, seed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_the_published_sequence() {
        // First outputs for seed 1234567, as the reference implementation prints them.
        assert_eq!(splitmix64(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(splitmix64(1_234_567, 1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn rotation_is_undone_and_keeps_the_norm() {
        let row: Vec<f32> = (0..192).map(|i| (i as f32).sin()).collect();
        let mut turned = row.clone();
        hadamard_rows(&mut turned, 192, 7, 64);
        let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
        assert!((norm(&row) / norm(&turned) - 1.0).abs() < 1e-5);
        assert!(row.iter().zip(&turned).any(|(a, b)| (a - b).abs() > 0.1));
        inverse_hadamard_rows(&mut turned, 192, 7, 64);
        assert!(row.iter().zip(&turned).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
