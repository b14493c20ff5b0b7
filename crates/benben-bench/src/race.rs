//! Contestants: ways to code pieces of symbols, each checked against what it was given.

use crate::Sample;
use crate::sample::Piece;
use benben::{Error, Result};
use rayon::prelude::*;

/// A way to code pieces of symbols.
pub(crate) trait Coder: Sync + Send {
    /// What a piece is coded as.
    type Coded: Send + Sync;
    /// What it is decoded to.
    type Item: Copy + Default + PartialEq + Send + Sync;

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
    fn decode(&mut self) -> Result<()>;
    /// Refuses what was decoded unless it is what was encoded.
    fn check(&self) -> Result<()>;
    /// Bytes of everything that decoding takes; none for copies of memory.
    fn stored_bytes(&self) -> Option<usize>;
    /// Bytes that decoding writes.
    fn written_bytes(&self) -> usize;
}

/// A coder on all pieces of a sample.
pub(crate) struct OnPieces<'a, C: Coder> {
    name: String,
    writes: &'static str,
    coder: C,
    sample: &'a Sample,
    coded: Vec<C::Coded>,
    out: Vec<C::Item>,
}

impl<'a, C: Coder> OnPieces<'a, C> {
    pub(crate) fn boxed(
        name: impl Into<String>,
        writes: &'static str,
        coder: C,
        sample: &'a Sample,
    ) -> Box<dyn Contestant + 'a>
    where
        C: 'a,
    {
        let out = vec![C::Item::default(); sample.len()];
        Box::new(Self { name: name.into(), writes, coder, sample, coded: Vec::new(), out })
    }
}

impl<C: Coder> Contestant for OnPieces<'_, C> {
    fn name(&self) -> (String, &'static str) {
        (self.name.clone(), self.writes)
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

    fn decode(&mut self) -> Result<()> {
        let Self { coder, sample, coded, out, .. } = self;
        let mut rest = &mut out[..];
        let mut jobs = Vec::with_capacity(sample.pieces.len());
        for (piece, coded) in sample.pieces.iter().zip(coded) {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(piece.range.len());
            jobs.push((piece, coded, own));
            rest = others;
        }
        jobs.into_par_iter().try_for_each(|(piece, coded, own)| coder.decode(piece, coded, own))
    }

    fn check(&self) -> Result<()> {
        let mut rest = &self.out[..];
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

    fn written_bytes(&self) -> usize {
        size_of_val(&self.out[..])
    }
}
