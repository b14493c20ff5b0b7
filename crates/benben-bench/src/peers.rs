//! The peers, each used as its documentation recommends for speed, and copies of memory as the limit.

use crate::Sample;
use crate::race::{Coder, Contestant, Item, OnPieces, Scratch};
use crate::sample::{Part, Piece, unzigzag};
use benben::codec::entropy::Table;
use benben::{Error, Result};
use constriction::stream::Decode;
use constriction::stream::model::{ContiguousCategoricalEntropyModel, ContiguousLookupDecoderModel};
use constriction::stream::stack::{DefaultAnsCoder, SmallAnsCoder};
use pco::ChunkConfig;
use std::hint::black_box;

type Encoder = ContiguousCategoricalEntropyModel<u16, Vec<u16>, 12>;
type Decoder = ContiguousLookupDecoderModel<u16, Vec<u16>, Box<[u16]>, 12>;

/// The models of constriction: 12 bits, the precision that it looks up in a table.
struct Laws(Vec<(Encoder, Decoder)>);

impl Laws {
    fn new(sample: &Sample) -> Result<Self> {
        let refused = |()| Error::invalid("constriction refuses the frequencies");
        let law = |part: &Part| {
            // Every symbol up to the last needs a frequency.
            let last = part.counts.iter().rposition(|c| *c > 0).unwrap_or(0).max(1);
            let counts: Vec<u64> = part.counts[..=last].iter().map(|c| (*c).max(1)).collect();
            let table = Table::from_counts(&counts);
            let freqs: Vec<u16> = (0..=last).map(|s| table.freq(s as u8) as u16).collect();
            let encoder = Encoder::from_nonzero_fixed_point_probabilities(freqs.iter(), false);
            let decoder = Decoder::from_nonzero_fixed_point_probabilities(freqs.iter(), false);
            Ok((encoder.map_err(refused)?, decoder.map_err(refused)?))
        };
        sample.parts.iter().map(law).collect::<Result<_>>().map(Self)
    }

    /// Two bytes for each frequency: a plain array.
    fn bytes(&self) -> usize {
        self.0.iter().map(|(encoder, _)| 2 * encoder.support_size()).sum()
    }
}

macro_rules! ans {
    ($(#[$doc:meta])* $name:ident, $coder:ident, $word:ty) => {
        $(#[$doc])*
        pub(crate) struct $name(Laws);

        impl $name {
            pub(crate) fn new(sample: &Sample) -> Result<Self> {
                Laws::new(sample).map(Self)
            }
        }

        impl Coder for $name {
            type Coded = Vec<$word>;
            type Item = u8;

            fn encode(&self, piece: &Piece, symbols: &[u8]) -> Result<Self::Coded> {
                let mut coder = $coder::new();
                let symbols = symbols.iter().map(|&s| usize::from(s));
                coder
                    .encode_iid_symbols_reverse(symbols, &self.0.0[piece.part].0)
                    .map_err(|e| Error::invalid(format!("constriction: {e:?}")))?;
                Ok(coder.into_compressed().unwrap_or_else(|e| match e {}))
            }

            fn decode(&self, piece: &Piece, coded: &Self::Coded, out: &mut [u8]) -> Result<()> {
                let damaged = || Error::corruption("constriction finds no words");
                let mut coder = $coder::from_compressed_slice(coded).map_err(|_| damaged())?;
                let model = self.0.0[piece.part].1.as_view();
                for (o, symbol) in out.iter_mut().zip(coder.decode_iid_symbols(piece.range.len(), model)) {
                    let symbol = symbol.map_err(|_| damaged())? as u8;
                    *o = symbol;
                }
                Ok(())
            }

            fn bytes(&self, coded: &Self::Coded) -> usize {
                size_of_val(&coded[..])
            }

            fn expected(&self, _: &Piece, symbols: &[u8]) -> Vec<u8> {
                symbols.into()
            }

            fn side_bytes(&self) -> usize {
                self.0.bytes()
            }
        }
    };
}

ans!(
    /// constriction's preset for look-up tables: words of 16 bits.
    SmallAns, SmallAnsCoder, u16
);
ans!(
    /// constriction's default coder with the same model: words of 32 bits.
    DefaultAns, DefaultAnsCoder, u32
);

/// constriction's default coder on a whole sample, for `cargo bench`.
pub struct Constriction<'a>(Box<dyn Contestant + 'a>);

impl<'a> Constriction<'a> {
    /// With one model for each matrix.
    ///
    /// # Errors
    /// InvalidArgument where constriction refuses the frequencies.
    pub fn new(sample: &'a Sample) -> Result<Self> {
        Ok(Self(OnPieces::boxed("constriction, DefaultAnsCoder", DefaultAns::new(sample)?, sample)))
    }

    /// Codes all matrices.
    ///
    /// # Errors
    /// What constriction reports.
    pub fn encode(&mut self) -> Result<()> {
        self.0.encode()
    }

    /// Decodes all matrices, which have been encoded.
    ///
    /// # Errors
    /// What constriction reports.
    pub fn decode(&mut self, scratch: &mut Scratch) -> Result<()> {
        self.0.decode(scratch)
    }
}

impl std::fmt::Debug for Constriction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constriction")
    }
}

/// zstd on the symbols as bytes, at a level.
pub(crate) struct Zstd(pub(crate) i32);

impl Coder for Zstd {
    type Coded = Vec<u8>;
    type Item = u8;

    fn encode(&self, _: &Piece, symbols: &[u8]) -> Result<Vec<u8>> {
        Ok(zstd::bulk::compress(symbols, self.0)?)
    }

    fn decode(&self, _: &Piece, coded: &Vec<u8>, out: &mut [u8]) -> Result<()> {
        Ok(zstd::bulk::decompress_to_buffer(coded, out).map(drop)?)
    }

    fn bytes(&self, coded: &Vec<u8>) -> usize {
        coded.len()
    }

    fn expected(&self, _: &Piece, symbols: &[u8]) -> Vec<u8> {
        symbols.into()
    }
}

/// pco on the integers as u16, in their own order.
pub(crate) struct Pco;

impl Pco {
    fn words(symbols: &[u8]) -> Vec<u16> {
        symbols.iter().map(|&s| (unzigzag(s.into()) + 128).unsigned_abs() as u16).collect()
    }
}

impl Coder for Pco {
    type Coded = Vec<u8>;
    type Item = u16;

    fn encode(&self, _: &Piece, symbols: &[u8]) -> Result<Vec<u8>> {
        pco::standalone::simple_compress(&Self::words(symbols), &ChunkConfig::default()).map_err(refused)
    }

    fn decode(&self, _: &Piece, coded: &Vec<u8>, out: &mut [u16]) -> Result<()> {
        pco::standalone::simple_decompress_into(coded, out).map(drop).map_err(refused)
    }

    fn bytes(&self, coded: &Vec<u8>) -> usize {
        coded.len()
    }

    fn expected(&self, _: &Piece, symbols: &[u8]) -> Vec<u16> {
        Self::words(symbols)
    }
}

/// An error of pco in our terms.
pub(crate) fn refused(error: pco::errors::PcoError) -> Error {
    Error::corruption(format!("pco: {error}"))
}

/// What memory allows: as many f32 as there are symbols, copied or set.
pub(crate) struct Memory {
    source: Vec<f32>,
    copy: bool,
}

impl Memory {
    pub(crate) fn copy(values: usize) -> Box<dyn Contestant> {
        Box::new(Self { source: vec![1.0; values], copy: true })
    }

    pub(crate) fn set() -> Box<dyn Contestant> {
        Box::new(Self { source: Vec::new(), copy: false })
    }
}

impl Contestant for Memory {
    fn name(&self) -> (String, &'static str) {
        (if self.copy { "memcpy" } else { "memset" }.into(), "f32")
    }

    fn encode(&mut self) -> Result<()> {
        Ok(())
    }

    fn decode(&mut self, scratch: &mut Scratch) -> Result<()> {
        let out = f32::of_mut(scratch);
        if self.copy {
            out.copy_from_slice(black_box(&self.source));
        } else {
            out.fill(black_box(0.0));
        }
        black_box(out);
        Ok(())
    }

    fn check(&self, scratch: &Scratch) -> Result<()> {
        let expected = if self.copy { 1.0 } else { 0.0 };
        if f32::of(scratch).iter().all(|&x| x == expected) {
            Ok(())
        } else {
            Err(Error::corruption("memory holds something else"))
        }
    }

    fn stored_bytes(&self) -> Option<usize> {
        None
    }
}
