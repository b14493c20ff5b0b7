//! The kernels for x86-64 with AVX2 and FMA: the portable ones, compiled for 8 lanes to a register.
#![allow(
    unsafe_code,
    reason = "the compiler may use these instructions only where the caller has found them"
)]

use super::packing::View;
use super::portable::{self, Lanes};

/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn dot<const P: u8>(view: View<'_>, x: &[f32]) -> Lanes {
    portable::dot::<P, true>(view, x)
}

/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn expand<const P: u8>(view: View<'_>, first: usize, out: &mut [Lanes]) {
    portable::expand::<P>(view, first, out);
}

/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<const V: usize>(panel: &[Lanes], x: &[f32], stride: usize, sums: &mut [Lanes]) {
    portable::tile::<V, true>(panel, x, stride, sums);
}
