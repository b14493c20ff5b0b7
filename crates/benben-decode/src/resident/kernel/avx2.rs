//! The kernels for x86-64 with AVX2, FMA and F16C: the portable text, compiled for these instructions.
#![allow(unsafe_code, reason = "functions for instructions that the caller has found; `portable` is the text")]

use super::{View, portable};
use std::ops::Range;

/// See [`Path::dots`](super::Path::dots).
pub(super) fn dots(view: View<'_>, rows: Range<usize>, x: &[f32], out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma,f16c,bmi2")]
    fn inner(view: View<'_>, rows: Range<usize>, x: &[f32], out: &mut [f32]) {
        portable::dots(view, rows, x, out);
    }
    // SAFETY: `Path::available` has found the instructions on this machine (BMI2 comes with every AVX2).
    unsafe { inner(view, rows, x, out) }
}

/// See [`Path::expand`](super::Path::expand).
pub(super) fn expand(view: View<'_>, rows: Range<usize>, columns: usize, out: &mut [f32]) {
    #[target_feature(enable = "avx2,fma,f16c,bmi2")]
    fn inner(view: View<'_>, rows: Range<usize>, columns: usize, out: &mut [f32]) {
        portable::expand(view, rows, columns, out);
    }
    // SAFETY: as above.
    unsafe { inner(view, rows, columns, out) }
}
