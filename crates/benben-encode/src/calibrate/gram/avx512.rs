//! The tile for x86-64 with AVX-512: 16 registers of sums, ten loads for 16 multiplications.
#![allow(
    unsafe_code,
    reason = "vector instructions; the portable `tile` is the twin that a test holds this against"
)]
#![allow(clippy::needless_range_loop, reason = "registers by number")]

use super::kernel::{COLUMNS, LANES, Lanes, ROWS, Tile};
use std::arch::x86_64::*;

/// See [`Kernel::tile`](super::kernel::Kernel::tile).
///
/// # Safety
/// The machine has AVX-512 F; all strips are equally long, and `first + 8` is at most 16.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile(left: &[Lanes], first: usize, right: [&[Lanes]; 2]) -> Tile {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    let (x, y) = (left.as_ptr().cast::<f32>(), right.map(|r| r.as_ptr().cast::<f32>()));
    for vector in 0..left.len() {
        // SAFETY: as the caller says.
        unsafe {
            let y = y.map(|y| _mm512_loadu_ps(y.add(vector * LANES)));
            for r in 0..ROWS {
                let x = _mm512_set1_ps(*x.add(vector * LANES + first + r));
                sums[r][0] = _mm512_fmadd_ps(x, y[0], sums[r][0]);
                sums[r][1] = _mm512_fmadd_ps(x, y[1], sums[r][1]);
            }
        }
    }
    let mut out = [[0.0; COLUMNS]; ROWS];
    for r in 0..ROWS {
        for half in 0..2 {
            // SAFETY: a row is two times 16 floats.
            unsafe { _mm512_storeu_ps(out[r].as_mut_ptr().add(half * LANES), sums[r][half]) };
        }
    }
    out
}
