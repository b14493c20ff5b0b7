//! Kernels of the rANS decoder: the same bits in, the same symbols or values out, on every path.
//!
//! A kernel decodes whole groups of [`LANES`] symbols while at least as many words are left, and says how many symbols
//! it did; [`rans`](super::rans) does the rest. `portable` is the definition; the others are held against it, group by
//! group.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::Trellis;
use super::rans::LANES;
pub(super) use portable::one;
use std::fmt;

/// A way to decode that this machine may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Plain Rust, on every machine.
    Portable,
    /// x86-64 with AVX2: 8 lanes to a register.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL): 16 lanes to a register.
    Avx512,
}

impl Kernel {
    /// Every kernel there is.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Whether this machine runs it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The kernels of this machine, the fastest last.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|k| k.is_available()).collect()
    }

    /// The fastest kernel of this machine.
    pub fn fastest() -> Self {
        let available = Self::ALL.into_iter().rev().find(|k| k.is_available());
        available.unwrap_or(Self::Portable)
    }

    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a kernel writes for a symbol: the symbol (u8) or its value (f32).
pub(super) trait Item: Copy + Default + Send + 'static {
    /// Whether values are written.
    const VALUES: bool;

    /// What a symbol becomes by one union codebook.
    fn of(symbol: u8, values: &[f32; 256]) -> Self;
}

impl Item for u8 {
    const VALUES: bool = false;

    #[inline(always)]
    fn of(symbol: u8, _: &[f32; 256]) -> Self {
        symbol
    }
}

impl Item for f32 {
    const VALUES: bool = true;

    #[inline(always)]
    fn of(symbol: u8, values: &[f32; 256]) -> Self {
        values[usize::from(symbol)]
    }
}

/// States of all lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lanes {
    /// Of the coder.
    pub(super) coder: [u32; LANES],
    /// Of the trellis, 0 to 7.
    pub(super) trellis: [u32; LANES],
}

/// The slots of one table.
pub(super) type Slots = [u32; 4096];

/// What a kernel looks things up in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup<'a> {
    /// Slots of all tables of the model.
    pub(super) slots: &'a [Slots],
    /// Values by union codebook; one row, or two with a trellis. Not looked at for symbols.
    pub(super) values: &'a [[f32; 256]],
    pub(super) trellis: Trellis,
}

/// First table of each symbol of some groups.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tables<'a> {
    /// The same for all.
    Shared(u8),
    /// One for each symbol.
    Each(&'a [u8]),
}

impl Kernel {
    /// Decodes symbols in whole groups while `words` has one word for each lane. The tables, plus those of the trellis,
    /// are among the slots.
    pub(super) fn run<I: Item>(
        self,
        lookup: Lookup<'_>,
        tables: Tables<'_>,
        lanes: &mut Lanes,
        words: &mut &[u8],
        out: &mut [I],
    ) -> usize {
        // What the SIMD kernels rely on, whoever calls: every index that they make stays inside.
        let most = match tables {
            Tables::Shared(t) => usize::from(t),
            Tables::Each(t) => t.iter().copied().max().map_or(0, usize::from),
        };
        let rows = if lookup.trellis == Trellis::None { 1 } else { 2 };
        let each = if let Tables::Each(t) = tables { t.len() } else { out.len() };
        let inside = most + lookup.trellis.tables() <= lookup.slots.len()
            && (!I::VALUES || rows <= lookup.values.len())
            && lanes.trellis.iter().all(|&s| s < 8);
        if !inside || !self.is_available() {
            return 0;
        }
        let count = out.len().min(each) / LANES * LANES;
        let out = &mut out[..count];
        match self {
            Self::Portable => portable::run(lookup, tables, lanes, words, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::run(lookup, tables, lanes, words, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::run(lookup, tables, lanes, words, out),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => 0,
        }
    }
}
