//! Matrices as symbols, cut into the pieces that every contestant codes on its own.

use crate::Matrix;
use benben::Result;
use benben::codec::entropy::CHUNK_ITEMS;
use std::ops::Range;

/// Matrices divided by one step each and rounded, as symbols.
#[derive(Debug)]
pub struct Sample {
    pub(crate) parts: Vec<Part>,
    /// What is coded at a time: at most a chunk, never across matrices.
    pub(crate) pieces: Vec<Piece>,
}

/// One matrix of a sample.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) step: f32,
    /// Zigzag codes of the integers, at most 254.
    pub(crate) symbols: Vec<u8>,
    pub(crate) counts: [u64; 256],
}

/// Symbols `range` of part `part`.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) part: usize,
    pub(crate) range: Range<usize>,
}

impl Sample {
    /// The matrices at a step at which Gaussian weights take `bits` bits each.
    ///
    /// # Errors
    /// InvalidArgument where `bits` is not 0.1 to 6.
    pub fn quantize(data: &[Matrix], bits: f64) -> Result<Self> {
        if !(0.1..=6.0).contains(&bits) {
            return Err(benben::Error::invalid(format!("{bits} bits for each symbol, expected 0.1 to 6")));
        }
        let parts: Vec<Part> = data.iter().map(|m| Part::quantize(m, bits)).collect();
        let chunk = CHUNK_ITEMS as usize;
        let pieces = parts.iter().enumerate().flat_map(|(part, p)| {
            let symbols = p.symbols.len();
            (0..symbols).step_by(chunk).map(move |at| Piece { part, range: at..symbols.min(at + chunk) })
        });
        Ok(Self { pieces: pieces.collect(), parts })
    }

    /// Symbols in all.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|p| p.symbols.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Order-0 entropy in bits for each symbol, by matrix.
    pub fn entropy(&self) -> f64 {
        let bits: f64 = self.parts.iter().map(|p| entropy_bits(&p.counts)).sum();
        bits / self.len().max(1) as f64
    }

    pub(crate) fn symbols(&self, piece: &Piece) -> &[u8] {
        &self.parts[piece.part].symbols[piece.range.clone()]
    }
}

impl Part {
    fn quantize(matrix: &Matrix, bits: f64) -> Self {
        // Entropy of a uniform quantizer: h(X) - log2 step, with h of a Gaussian 2.05 + log2 sigma.
        let step = matrix.rms() * (2.05 - bits).exp2();
        let (step, integer) = (if step > 0.0 { step as f32 } else { 1.0 }, |x: f32, inverse: f32| {
            ((x * inverse).round_ties_even() as i32).clamp(-127, 127)
        });
        let inverse = 1.0 / step;
        let symbols: Vec<u8> = matrix.values.iter().map(|&x| zigzag(integer(x, inverse)) as u8).collect();
        let mut counts = [0; 256];
        symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
        Self { rows: matrix.rows, columns: matrix.columns, step, symbols, counts }
    }

    /// What the symbols stand for.
    pub(crate) fn integers(&self) -> Vec<i32> {
        self.symbols.iter().map(|&s| unzigzag(s.into())).collect()
    }

    /// Value of each symbol.
    pub(crate) fn values(&self) -> [f32; 256] {
        std::array::from_fn(|s| unzigzag(s as u32) as f32 * self.step)
    }
}

/// 0, -1, 1, -2, 2 as 0, 1, 2, 3, 4.
pub(crate) const fn zigzag(q: i32) -> u32 {
    ((q << 1) ^ (q >> 31)).cast_unsigned()
}

pub(crate) const fn unzigzag(z: u32) -> i32 {
    (z >> 1).cast_signed() ^ -((z & 1).cast_signed())
}

/// Bits that symbols seen `counts[s]` times take at the least, without memory.
pub(crate) fn entropy_bits(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    counts.iter().filter(|c| **c > 0).map(|&c| c as f64 * (total / c as f64).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_gives_the_bits_that_were_asked_for() {
        let data = [Matrix::gaussian(1 << 17, 1), Matrix::gaussian(1 << 16, 2)];
        for bits in [2.0, 3.0, 5.0] {
            let sample = Sample::quantize(&data, bits).unwrap();
            // The formula is that of fine steps: 0.06 bits off at 2.
            assert!((sample.entropy() - bits).abs() < 0.1, "{} for {bits}", sample.entropy());
            assert_eq!(sample.pieces.iter().map(|p| p.range.len()).sum::<usize>(), sample.len());
        }
        assert!(Sample::quantize(&data, 9.0).is_err() && Sample::quantize(&data, f64::NAN).is_err());
    }

    #[test]
    fn zigzag_goes_there_and_back() {
        assert!((-130..=130).all(|q| unzigzag(zigzag(q)) == q));
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }
}
