//! The inner loop: a tile of sums over a chunk of vectors.
#![allow(
    unsafe_code,
    reason = "a function compiled for AVX2 or AVX-512 may be called once the processor is known to have it"
)]

#[cfg(target_arch = "x86_64")]
use super::avx512;

/// Columns of a strip.
pub(super) const LANES: usize = 16;
/// Rows of a tile.
pub(super) const ROWS: usize = 8;
/// Columns of a tile.
pub(super) const COLUMNS: usize = 32;

/// 16 columns of one vector.
pub(super) type Lanes = [f32; LANES];
/// Sums of 8 rows and 32 columns.
pub(super) type Tile = [[f32; COLUMNS]; ROWS];

/// Ways to compute a tile. Those with fused multiplication and addition agree to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// What this processor can do, the slowest first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
        }
        all
    }

    /// The fastest that this processor can do.
    pub(super) fn fastest() -> Self {
        Self::all().pop().unwrap_or(Self::Portable)
    }

    /// `tile[r][c] = sum over vectors of left[vector][first + r] * right[c / 16][vector][c % 16]`.
    pub(super) fn tile(self, left: &[Lanes], first: usize, right: [&[Lanes]; 2]) -> Tile {
        assert!(first + ROWS <= LANES && right.iter().all(|r| r.len() == left.len()));
        match self {
            // Where there is no instruction for it, a fused multiplication takes a hundred times longer.
            Self::Portable => tile::<{ cfg!(target_arch = "aarch64") }>(left, first, right),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
                // SAFETY: the processor has what the function asks for.
                unsafe { wide(left, first, right) }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                assert!(is_x86_feature_detected!("avx512f"));
                // SAFETY: the processor has what the function asks for; strips are equally long, rows inside of them.
                unsafe { avx512::tile(left, first, right) }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn wide(left: &[Lanes], first: usize, right: [&[Lanes]; 2]) -> Tile {
    tile::<true>(left, first, right)
}

/// The definition, four rows and 16 columns at a time: what 16 registers hold.
#[inline(always)]
fn tile<const FMA: bool>(left: &[Lanes], first: usize, right: [&[Lanes]; 2]) -> Tile {
    let mut out = [[0.0; COLUMNS]; ROWS];
    for (half, right) in right.into_iter().enumerate() {
        for four in (0..ROWS).step_by(4) {
            let mut sums = [[0f32; LANES]; 4];
            for (left, right) in left.iter().zip(right) {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let x = left[first + four + r];
                    for (sum, y) in sums.iter_mut().zip(right) {
                        *sum = if FMA { x.mul_add(*y, *sum) } else { x * y + *sum };
                    }
                }
            }
            for (out, sums) in out[four..].iter_mut().zip(sums) {
                out[half * LANES..][..LANES].copy_from_slice(&sums);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_agree_with_their_definition() {
        let mut state = 7u32;
        let mut strip = |count: usize| -> Vec<Lanes> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..count).map(|_| std::array::from_fn(|_| next())).collect()
        };
        for count in [0, 1, 3, 64, 255] {
            let (left, a, b) = (strip(count), strip(count), strip(count));
            for first in [0, 8] {
                let fused = tile::<true>(&left, first, [&a, &b]);
                let plain = tile::<false>(&left, first, [&a, &b]);
                for kernel in Kernel::all() {
                    let found = kernel.tile(&left, first, [&a, &b]);
                    let expected = if kernel == Kernel::Portable && !cfg!(target_arch = "aarch64") {
                        plain
                    } else {
                        fused
                    };
                    assert_eq!(found, expected, "{kernel:?}, {count} vectors, rows from {first}");
                }
            }
        }
    }
}
