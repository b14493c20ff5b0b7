//! The kernels for x86-64 with AVX2 and FMA: the portable ones, compiled for 8 lanes to a register.
#![allow(
    unsafe_code,
    reason = "the compiler may use these instructions only where the caller has found them"
)]

use super::packing::{View, by_count};
use super::portable::{self, Lanes};

/// See [`Kernel::dot`](super::Kernel::dot), which has checked machine and lengths.
pub(super) fn dot<const P: u8>(view: View<'_>, x: &[f32]) -> Lanes {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn compiled<const P: u8>(view: View<'_>, x: &[f32]) -> Lanes {
        portable::dot::<P, true>(view, x)
    }
    // SAFETY: the caller has found AVX2, FMA and F16C.
    unsafe { compiled::<P>(view, x) }
}

/// See [`Kernel::expand`](super::Kernel::expand), which has checked the machine.
pub(super) fn expand<const P: u8>(view: View<'_>, first: usize, out: &mut [Lanes]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn compiled<const P: u8>(view: View<'_>, first: usize, out: &mut [Lanes]) {
        portable::expand::<P>(view, first, out);
    }
    // SAFETY: the caller has found AVX2, FMA and F16C.
    unsafe { compiled::<P>(view, first, out) }
}

/// See [`Kernel::tile`](super::Kernel::tile), which has checked the machine; up to 4 vectors.
pub(super) fn tile(panel: &[Lanes], x: &[f32], stride: usize, vectors: usize, sums: &mut [Lanes]) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn compiled<const V: usize>(panel: &[Lanes], x: &[f32], stride: usize, sums: &mut [Lanes]) {
        portable::tile::<V, true>(panel, x, stride, sums);
    }
    // SAFETY: the caller has found AVX2, FMA and F16C.
    by_count!(vectors, V in [1 2 3 4], unsafe { compiled::<V>(panel, x, stride, sums) });
}
