//! Kernels of the rANS decoder: the same bits in, the same symbols or values out, on every path.
//!
//! A kernel decodes whole groups of [`LANES`] symbols while at least as many words are left, and says how many symbols
//! it did; [`rans`](super::rans) does the rest. It takes one chunk or a few side by side: a look-up waits for the one
//! before in the same lane, and what one chunk waits for the others hide. `portable` is the definition; the others are
//! held against it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod halves;
#[cfg(target_arch = "x86_64")]
mod narrow;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod search;

use super::Trellis;
use super::rans::LANES;
#[cfg(target_arch = "x86_64")]
pub(super) use narrow::Narrow;
pub(super) use portable::one;
#[cfg(target_arch = "x86_64")]
pub(super) use search::{Planes, Searches};
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
    /// x86-64 with AVX-512 (also VBMI and VBMI2): 32 lanes to a register and small tables in registers; what does not
    /// fit is left to [`Kernel::Avx512`].
    Avx512Narrow,
    /// aarch64, which always has it: 4 lanes to a register.
    Neon,
}

impl Kernel {
    /// Every kernel there is.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Narrow, Self::Neon];

    /// Whether this machine runs it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Narrow => {
                Self::Avx512.is_available()
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vbmi2")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Avx512Narrow => false,
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
            Self::Avx512Narrow => "AVX-512 VBMI2",
            Self::Neon => "NEON",
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

impl Lanes {
    /// No states yet.
    pub(super) const NONE: Self = Self { coder: [0; LANES], trellis: [0; LANES] };
}

/// A table in registers, which only x86-64 has.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug)]
pub(super) enum Narrow {}

#[cfg(not(target_arch = "x86_64"))]
impl Narrow {
    pub(super) fn new(_: &super::Table) -> Option<Self> {
        None
    }
}

/// Tables as searches, and values for them, which only x86-64 has.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug)]
pub(super) enum Searches {}

#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug)]
pub(super) enum Planes {}

#[cfg(not(target_arch = "x86_64"))]
impl Searches {
    pub(super) fn new(_: &[super::Table], _: Trellis) -> Option<Self> {
        None
    }

    pub(super) fn planes(&self, _: &[[f32; 256]]) -> Planes {
        match *self {}
    }
}

/// The slots of one table.
pub(super) type Slots = [u32; 4096];

/// What a kernel looks things up in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup<'a> {
    /// Slots of all tables of the model.
    pub(super) slots: &'a [Slots],
    /// The tables that fit registers, in that form; none where the kernel does not use it.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 has such a kernel"))]
    pub(super) narrow: &'a [Option<Narrow>],
    /// All tables as searches, and the values for that form; where the kernel uses it and the tables are not too large.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 has such a kernel"))]
    pub(super) searches: Option<&'a Searches>,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 has such a kernel"))]
    pub(super) planes: Option<&'a Planes>,
    /// Values by union codebook; one row, or two with a trellis. Not looked at for symbols.
    pub(super) values: &'a [[f32; 256]],
    pub(super) trellis: Trellis,
    /// One more than the largest symbol that any slot holds.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AVX-512 looks at it"))]
    pub(super) alphabet: usize,
}

/// First table of each symbol of some groups.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tables<'a> {
    /// The same for all.
    Shared(u8),
    /// One for each symbol.
    Each(&'a [u8]),
}

impl Tables<'_> {
    /// That of symbol `at`.
    #[cfg(target_arch = "x86_64")]
    fn first(self, at: usize) -> u8 {
        match self {
            Self::Shared(table) => table,
            Self::Each(each) => each.get(at).copied().unwrap_or(0),
        }
    }

    /// Those from symbol `done` on.
    pub(super) fn from(self, done: usize) -> Self {
        match self {
            Self::Each(each) => Self::Each(each.get(done..).unwrap_or_default()),
            shared => shared,
        }
    }
}

/// The largest of some bytes, 0 of none; vectors' work, where a plain maximum is a byte at a time.
fn largest(of: &[u8]) -> u8 {
    let (groups, rest) = of.as_chunks::<LANES>();
    let by_lane = groups
        .iter()
        .fold([0; LANES], |most: [u8; LANES], group| std::array::from_fn(|lane| most[lane].max(group[lane])));
    by_lane.iter().chain(rest).copied().max().unwrap_or(0)
}

impl Kernel {
    /// Decodes symbols in whole groups, as many of each stream, while each has a word for each lane, and says how many.
    /// The tables, plus those of the trellis, are among the slots.
    pub(super) fn run<I: Item, const N: usize>(
        self,
        lookup: Lookup<'_>,
        tables: [Tables<'_>; N],
        lanes: &mut [Lanes; N],
        words: &mut [&[u8]; N],
        mut out: [&mut [I]; N],
    ) -> usize {
        // What the SIMD kernels rely on, whoever calls: every index that they make stays inside.
        let most = tables.iter().map(|tables| match *tables {
            Tables::Shared(t) => usize::from(t),
            Tables::Each(t) => usize::from(largest(t)),
        });
        let rows = if lookup.trellis == Trellis::None { 1 } else { 2 };
        let inside = most.max().unwrap_or(0) + lookup.trellis.tables() <= lookup.slots.len()
            && (!I::VALUES || rows <= lookup.values.len())
            && lanes.iter().flat_map(|l| l.trellis).all(|s| s < 8);
        if !inside || !self.is_available() {
            return 0;
        }
        let each = tables.iter().map(|tables| match tables {
            Tables::Shared(_) => usize::MAX,
            Tables::Each(t) => t.len(),
        });
        let count = out.iter().map(|o| o.len()).chain(each).min().unwrap_or(0) / LANES * LANES;
        let out = out.each_mut().map(|o| &mut o[..count]);
        match self {
            Self::Portable => portable::run(lookup, tables, lanes, words, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::run(lookup, tables, lanes, words, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::run(lookup, tables, lanes, words, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Narrow => narrow::run(lookup, tables, lanes, words, out),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Avx512Narrow => 0,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::run(lookup, tables, lanes, words, out),
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => 0,
        }
    }
}
