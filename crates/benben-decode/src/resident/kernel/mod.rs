//! Inner loops over rows of weights as they lie in memory: dot products, and expansion to f32.
//!
//! `portable` is the definition; the others are held against it. Paths differ in the order of their sums, so they
//! agree within f32 rounding; one path gives the same bits whatever the number of threads.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::ops::Range;

/// Columns of a block of codes.
pub(super) const BLOCK: usize = 64;

/// Rows of weights of one matrix, as they lie in memory.
#[derive(Debug, Clone, Copy)]
pub(super) enum View<'a> {
    /// f32 values.
    Dense(&'a [f32]),
    /// IEEE half precision, as bits.
    F16(&'a [u16]),
    /// bfloat16, as bits.
    Bf16(&'a [u16]),
    /// Positions in a table of `2^width` values, 4 to 8 bits each. A row is whole blocks of [`BLOCK`] columns; a block is
    /// 32 bytes of low halves (of code i below, of code 32 + i above), then 8 bytes for each further bit.
    Codes {
        /// The blocks.
        codes: &'a [u8],
        /// Values of the codes, `2^width` of them.
        table: &'a [f32],
        /// Bits of a code.
        width: u32,
    },
}

/// Bytes of a block of codes of `width` bits.
pub(super) const fn block_bytes(width: u32) -> usize {
    32 + 8 * (width as usize - 4)
}

/// Puts the codes of a block into its bytes.
pub(super) fn set_codes(block: &mut [u8], codes: &[u8; BLOCK]) {
    let (low, planes) = block.split_at_mut(32);
    for (i, low) in low.iter_mut().enumerate() {
        *low = codes[i] & 15 | codes[32 + i] << 4;
    }
    for (plane, bits) in planes.chunks_exact_mut(8).enumerate() {
        for (bits, codes) in bits.iter_mut().zip(codes.chunks_exact(8)) {
            *bits = codes.iter().enumerate().fold(0, |b, (i, c)| b | (c >> (4 + plane) & 1) << i);
        }
    }
}

/// A set of instructions that this machine may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Plain Rust.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL.
    Avx512,
}

impl Path {
    /// The paths of this machine, the fastest last.
    pub(super) fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "other machines have one path")]
        let mut paths = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            if is_x86_feature_detected!("avx2") && fma {
                paths.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                paths.push(Self::Avx512);
            }
        }
        paths
    }

    /// The fastest path of this machine.
    pub(super) fn fastest() -> Self {
        static FASTEST: std::sync::OnceLock<Path> = std::sync::OnceLock::new();
        *FASTEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Portable))
    }

    /// `out[i] = row (rows.start + i) * x`, for rows of `x.len()` columns.
    pub(super) fn dots(self, view: View<'_>, rows: Range<usize>, x: &[f32], out: &mut [f32]) {
        view.check(&rows, x.len());
        assert_eq!(rows.len(), out.len(), "a sum for each row");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::dots(view, rows, x, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::dots(view, rows, x, out),
            _ => portable::dots(view, rows, x, out),
        }
    }

    /// Rows as f32, one after the other.
    pub(super) fn expand(self, view: View<'_>, rows: Range<usize>, columns: usize, out: &mut [f32]) {
        view.check(&rows, columns);
        assert_eq!(rows.len() * columns, out.len(), "a value for each weight");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::expand(view, rows, columns, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::expand(view, rows, columns, out),
            _ => portable::expand(view, rows, columns, out),
        }
    }
}

impl View<'_> {
    /// Everything that the kernels rely on when they read.
    fn check(self, rows: &Range<usize>, columns: usize) {
        assert!(rows.start <= rows.end, "rows in order");
        let (have, each) = match self {
            Self::Dense(values) => (values.len(), columns),
            Self::F16(bits) | Self::Bf16(bits) => (bits.len(), columns),
            Self::Codes { codes, table, width } => {
                assert!((4..=8).contains(&width) && table.len() == 1 << width, "a table of 2^width");
                (codes.len(), columns.div_ceil(BLOCK) * block_bytes(width))
            }
        };
        assert!(rows.end.checked_mul(each).is_some_and(|end| end <= have), "rows within the matrix");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(i: usize) -> u64 {
        let mut z = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    fn value(i: usize) -> f32 {
        (noise(i) % 2001) as f32 / 1000.0 - 1.0
    }

    proptest! {
        #[test]
        fn paths_agree(rows in 1usize..9, columns in 1usize..200, seed in 0usize..1000, kind in 0u32..8) {
            let n = rows * columns;
            let values: Vec<f32> = (0..n).map(|i| value(i + seed)).collect();
            let halves: Vec<u16> = values.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect();
            let brains: Vec<u16> = values.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect();
            let width = kind.clamp(4, 8);
            let bytes = columns.div_ceil(BLOCK) * block_bytes(width);
            let (mut codes, table) = (vec![0; rows * bytes], (0..1 << width).map(value).collect::<Vec<_>>());
            let chosen: Vec<usize> = (0..n).map(|i| noise(i + seed) as usize % (1 << width)).collect();
            for (row, chosen) in codes.chunks_mut(bytes).zip(chosen.chunks(columns)) {
                for (block, chosen) in row.chunks_mut(block_bytes(width)).zip(chosen.chunks(BLOCK)) {
                    set_codes(block, &std::array::from_fn(|i| chosen.get(i).map_or(0, |&c| c as u8)));
                }
            }
            let (view, expected): (View<'_>, Vec<f32>) = match kind {
                0 => (View::Dense(&values), values.clone()),
                1 => (View::F16(&halves), halves.iter().map(|&b| half::f16::from_bits(b).to_f32()).collect()),
                2 => (View::Bf16(&brains), brains.iter().map(|&b| half::bf16::from_bits(b).to_f32()).collect()),
                _ => (View::Codes { codes: &codes, table: &table, width }, chosen.iter().map(|&c| table[c]).collect()),
            };
            let x: Vec<f32> = (0..columns).map(|i| value(i * 7 + seed)).collect();
            for path in Path::available() {
                let (first, last) = (seed % rows, rows);
                let mut out = vec![f32::NAN; (last - first) * columns];
                path.expand(view, first..last, columns, &mut out);
                prop_assert_eq!(&out[..], &expected[first * columns..], "{:?}", path);
                let mut out = vec![f32::NAN; last - first];
                path.dots(view, first..last, &x, &mut out);
                for (y, row) in out.iter().zip(expected[first * columns..].chunks(columns)) {
                    let sum: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    let size: f64 = row.iter().zip(&x).map(|(w, x)| (f64::from(*w) * f64::from(*x)).abs()).sum();
                    prop_assert!((f64::from(*y) - sum).abs() <= 1e-6 * size + 1e-30, "{path:?}: {y} {sum}");
                }
            }
        }
    }
}
