//! Products of matrices that stay packed: the kernels, and what they run over.
//!
//! `portable` is the definition; the others are held against it. A kernel knows three things: the product of one vector
//! with the 16 rows of a group, straight from codes; the values of a group as a panel; and the product of a panel with
//! many vectors, which share its weights.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod outliers;
mod packing;
mod panels;
mod portable;
mod run;
#[cfg(test)]
mod tests;
mod turned;

pub(crate) use packing::LANES;
use packing::{Packing, View, by_count, by_packing, lead, table, unit};
pub(crate) use panels::{MAX_COLUMNS, Panels, most_bytes};
use portable::Lanes;
pub(crate) use portable::half_to_f32;
pub(crate) use run::{Job, run};
pub(crate) use turned::Turned;

/// A way to multiply that this machine may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Plain Rust, on every machine.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL) and F16C.
    Avx512,
}

impl Kernel {
    /// Every kernel there is.
    pub(crate) const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine runs it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The fastest kernel of this machine.
    pub(crate) fn fastest() -> Self {
        Self::ALL.into_iter().rev().find(|k| k.is_available()).unwrap_or(Self::Portable)
    }

    /// Products of the 16 rows with `x`, which has zeros after its columns up to [`Panels::PADDING`]. Columns `k` are
    /// added in order to the sum of `k mod 4`; `(s0 + s1) + (s2 + s3)` is the result, whatever the packing.
    pub(crate) fn dot(self, view: View<'_>, x: &[f32]) -> Lanes {
        view.check();
        assert!(x.len() >= view.columns.next_multiple_of(unit(view.packing as u8)) && self.is_available());
        by_packing!(view.packing, P => match self {
            Self::Portable => portable::dot::<P, false>(view, x),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::dot::<P>(view, x),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::dot::<P>(view, x),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => [0.0; LANES],
        })
    }

    /// Values of the columns from those of unit `first` on, as many as `out` has.
    pub(crate) fn expand(self, view: View<'_>, first: usize, out: &mut [Lanes]) {
        view.check();
        assert!(self.is_available());
        by_packing!(view.packing, P => match self {
            Self::Portable => portable::expand::<P>(view, first, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::expand::<P>(view, first, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::expand::<P>(view, first, out),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => {}
        });
    }

    /// Adds the products of one or two panels of equally many columns with `vectors` rows of `x`, `stride` apart, to
    /// `sums`: those of a vector one after the other, `sums[v * panels + p]`. Each sum takes its columns in order.
    pub(crate) fn tile(
        self,
        panels: &[&[Lanes]],
        x: &[f32],
        stride: usize,
        vectors: usize,
        sums: &mut [Lanes],
    ) {
        let Some(columns) = panels.first().map(|p| p.len()) else { return };
        if vectors == 0 {
            return;
        }
        assert!(
            panels.len() <= 2
                && panels.iter().all(|p| p.len() == columns)
                && x.len() >= (vectors - 1) * stride + columns
                && sums.len() >= vectors * panels.len()
                && self.is_available()
        );
        // 12 vectors with two panels are 24 sums in registers, and 2 of weights.
        let most = if self == Self::Avx512 { 12 } else { 4 };
        for first in (0..vectors).step_by(most) {
            let (x, count) = (&x[first * stride..], most.min(vectors - first));
            let sums = &mut sums[first * panels.len()..];
            match (self, panels) {
                #[cfg(target_arch = "x86_64")]
                (Self::Avx512, &[one]) => avx512::tile([one], x, stride, count, sums),
                #[cfg(target_arch = "x86_64")]
                (Self::Avx512, &[one, two]) => avx512::tile([one, two], x, stride, count, sums),
                _ => {
                    for (p, panel) in panels.iter().enumerate() {
                        let mut own = [[0.0; LANES]; 4];
                        (0..count).for_each(|v| own[v] = sums[v * panels.len() + p]);
                        match self {
                            #[cfg(target_arch = "x86_64")]
                            Self::Avx2 => avx2::tile(panel, x, stride, count, &mut own),
                            _ => by_count!(count, V in [1 2 3 4], {
                                portable::tile::<V, false>(panel, x, stride, &mut own);
                            }),
                        }
                        (0..count).for_each(|v| sums[v * panels.len() + p] = own[v]);
                    }
                }
            }
        }
    }
}

impl View<'_> {
    /// What kernels rely on: lines for all columns, and a table for every code.
    fn check(&self) {
        let packing = self.packing as u8;
        assert!(self.lines.len() == lead(packing) + self.packing.lines(self.columns));
        assert!(self.tables.len() >= table(packing).end);
    }
}
