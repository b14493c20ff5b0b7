//! Contestants: ways to code pieces of symbols, each checked against what it was given.

use crate::Sample;
use crate::goal::Promise;
use crate::sample::Piece;
use benben::{Error, Result};
use rayon::prelude::*;

/// Where everyone decodes to, by turns: the same memory for all, so that none has the better pages, and 64 MB of f32
/// for each contestant do not add up.
#[derive(Debug)]
pub struct Scratch {
    symbols: Vec<u8>,
    words: Vec<u16>,
    values: Vec<f32>,
}

impl Scratch {
    /// Room for as many symbols as `sample` has.
    pub fn new(sample: &Sample) -> Self {
        let n = sample.len();
        Self { symbols: vec![0; n], words: vec![0; n], values: vec![0.0; n] }
    }

    /// Symbols that were decoded last.
    pub fn symbols(&self) -> &[u8] {
        &self.symbols
    }

    /// Values that were decoded last.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Overwrites what the one before has left, so that it is not taken for one's own: symbols with 255, values with
    /// NaN.
    pub fn spoil(&mut self) {
        self.symbols.fill(u8::MAX);
        self.words.fill(u16::MAX);
        self.values.fill(f32::NAN);
    }
}

/// What is decoded to.
pub(crate) trait Item: Copy + Default + PartialEq + Send + Sync {
    /// Name in reports.
    const NAME: &'static str;

    fn of(scratch: &Scratch) -> &[Self];
    fn of_mut(scratch: &mut Scratch) -> &mut [Self];
}

macro_rules! item {
    ($type:ty, $field:ident) => {
        impl Item for $type {
            const NAME: &'static str = stringify!($type);

            fn of(scratch: &Scratch) -> &[Self] {
                &scratch.$field
            }

            fn of_mut(scratch: &mut Scratch) -> &mut [Self] {
                &mut scratch.$field
            }
        }
    };
}

item!(u8, symbols);
item!(u16, words);
item!(f32, values);

/// A way to code pieces of symbols.
pub(crate) trait Coder: Sync + Send {
    /// What a piece is coded as.
    type Coded: Send + Sync;
    /// What it is decoded to.
    type Item: Item;

    fn encode(&self, piece: &Piece, symbols: &[u8]) -> Result<Self::Coded>;
    fn decode(&self, piece: &Piece, coded: &Self::Coded, out: &mut [Self::Item]) -> Result<()>;
    /// Bytes of what a piece is coded as.
    fn bytes(&self, coded: &Self::Coded) -> usize;
    /// What decoding must give.
    fn expected(&self, piece: &Piece, symbols: &[u8]) -> Vec<Self::Item>;
    /// Bytes of tables.
    fn side_bytes(&self) -> usize {
        0
    }
}

/// What takes part in a race.
pub(crate) trait Contestant: Send {
    /// What it is called, and what it writes.
    fn name(&self) -> (String, &'static str);
    fn encode(&mut self) -> Result<()>;
    fn decode(&mut self, scratch: &mut Scratch) -> Result<()>;
    /// Refuses what was decoded unless it is what was encoded.
    fn check(&self, scratch: &Scratch) -> Result<()>;
    /// Bytes of everything that decoding takes; none for copies of memory.
    fn stored_bytes(&self) -> Option<usize>;
    /// What the project promises of its decoder.
    fn promise(&self) -> Option<Promise> {
        None
    }
}

/// A coder on all pieces of a sample.
pub(crate) struct OnPieces<'a, C: Coder> {
    name: String,
    coder: C,
    sample: &'a Sample,
    coded: Vec<C::Coded>,
}

impl<'a, C: Coder> OnPieces<'a, C> {
    pub(crate) fn boxed(name: impl Into<String>, coder: C, sample: &'a Sample) -> Box<dyn Contestant + 'a>
    where
        C: 'a,
    {
        Box::new(Self { name: name.into(), coder, sample, coded: Vec::new() })
    }
}

impl<C: Coder> Contestant for OnPieces<'_, C> {
    fn name(&self) -> (String, &'static str) {
        (self.name.clone(), C::Item::NAME)
    }

    fn encode(&mut self) -> Result<()> {
        let Self { coder, sample, .. } = self;
        self.coded = sample
            .pieces
            .par_iter()
            .map(|piece| coder.encode(piece, sample.symbols(piece)))
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn decode(&mut self, scratch: &mut Scratch) -> Result<()> {
        let Self { coder, sample, coded, .. } = self;
        let mut rest = C::Item::of_mut(scratch);
        let mut jobs = Vec::with_capacity(sample.pieces.len());
        for (piece, coded) in sample.pieces.iter().zip(coded) {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(piece.range.len());
            jobs.push((piece, coded, own));
            rest = others;
        }
        jobs.into_par_iter().try_for_each(|(piece, coded, own)| coder.decode(piece, coded, own))
    }

    fn check(&self, scratch: &Scratch) -> Result<()> {
        let mut rest = C::Item::of(scratch);
        for piece in &self.sample.pieces {
            let (own, others) = rest.split_at(piece.range.len());
            if own != self.coder.expected(piece, self.sample.symbols(piece)) {
                return Err(Error::corruption(format!("{} decodes something else", self.name)));
            }
            rest = others;
        }
        Ok(())
    }

    fn stored_bytes(&self) -> Option<usize> {
        Some(self.coder.side_bytes() + self.coded.iter().map(|c| self.coder.bytes(c)).sum::<usize>())
    }
}
