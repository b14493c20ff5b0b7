//! How an element comes apart into a *symbol* (at most 256 of them, entropy-coded) and a *rest* of a fixed number of
//! bits, and how it is put together again. One form for floats and integers, so that both share streams and kernels.
//!
//! With `L` the bits of an element below its symbol:
//!
//! - *float*: `symbol = (bits without the sign >> L) - base`, `rest = sign << L | the low L bits`;
//! - *integer*: `u = bits - offset` modulo 2^width, in its zigzag form where asked for; `symbol = u >> L`, `rest = the
//!   low L bits of u`.

use super::word::Word;

/// What elements are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sign, exponent and mantissa; `base` is what symbol 0 stands for.
    Float { base: u64 },
    /// Distance from `offset`.
    Plain { offset: u64 },
    /// Signed distance from `offset`: 0, -1, 1, -2 ... are 0, 1, 2, 3 ...
    Zigzag { offset: u64 },
}

/// A way to take elements apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Bytes of an element.
    pub(super) size: usize,
    /// Bits below the symbol: `L`.
    pub(super) low: u32,
    /// Symbols that stand for an element, 1 to 256.
    pub(super) symbols: u64,
    pub(super) kind: Kind,
}

impl Cut {
    /// Bits of the rest.
    pub(super) fn rest_bits(&self) -> u32 {
        self.low + u32::from(matches!(self.kind, Kind::Float { .. }))
    }

    /// Bytes that hold the rest, each in a plane of its own, the highest first.
    pub(super) fn planes(&self) -> usize {
        self.rest_bits().div_ceil(8) as usize
    }

    /// Bits of plane `index`: 8 but for the first.
    pub(super) fn plane_bits(&self, index: usize) -> u32 {
        if index == 0 { (self.rest_bits() + 7) % 8 + 1 } else { 8 }
    }

    /// The cut in the element's own arithmetic.
    pub(super) fn typed<T: Word<N>, const N: usize>(&self) -> Typed<T> {
        let base = match self.kind {
            Kind::Float { base } => base,
            Kind::Plain { offset } | Kind::Zigzag { offset } => offset,
        };
        Typed {
            kind: self.kind,
            low: self.low,
            mask: T::of((1 << self.low) - 1),
            base: T::of(base),
            sign: N as u32 * 8 - 1,
        }
    }
}

/// A [`Cut`] of elements of type `T`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Typed<T> {
    kind: Kind,
    low: u32,
    mask: T,
    base: T,
    sign: u32,
}

impl<T> Typed<T> {
    /// Symbol and rest of an element; those of floats are within bounds only where `base` is their lowest.
    #[inline(always)]
    pub(super) fn apart<const N: usize>(&self, bits: T) -> (u8, T)
    where
        T: Word<N>,
    {
        let u = match self.kind {
            Kind::Float { .. } => {
                let below = T::of((1 << self.sign) - 1);
                let symbol = ((bits & below) >> self.low).minus(self.base).low();
                return (symbol, (bits & self.mask) | (bits >> self.sign) << self.low);
            }
            Kind::Plain { .. } => bits.minus(self.base),
            Kind::Zigzag { .. } => {
                let v = bits.minus(self.base);
                (v << 1) ^ T::of(0).minus(v >> self.sign)
            }
        };
        ((u >> self.low).low(), u & self.mask)
    }

    /// A float from symbol and rest.
    #[inline(always)]
    pub(super) fn float<const N: usize>(&self, symbol: T, rest: T) -> T
    where
        T: Word<N>,
    {
        (rest >> self.low) << self.sign | symbol.plus(self.base) << self.low | (rest & self.mask)
    }

    /// An integer from symbol and rest.
    #[inline(always)]
    pub(super) fn plain<const N: usize>(&self, symbol: T, rest: T) -> T
    where
        T: Word<N>,
    {
        (symbol << self.low | rest).plus(self.base)
    }

    /// An integer from symbol and rest of its zigzag form.
    #[inline(always)]
    pub(super) fn zigzag<const N: usize>(&self, symbol: T, rest: T) -> T
    where
        T: Word<N>,
    {
        let u = symbol << self.low | rest;
        ((u >> 1) ^ T::of(0).minus(u & T::of(1))).plus(self.base)
    }
}
