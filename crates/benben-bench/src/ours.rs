//! Benben's own contestants.

use crate::Sample;
use crate::integers::Coded;
use crate::race::{Coder, Contestant};
use crate::sample::{Part, Piece, unzigzag};
use benben::codec::entropy::{Kernel, Model, Table, Trellis, Values, rans};
use benben::{Error, Result};

/// Which table codes which symbol of one matrix, and what symbols become.
pub(crate) struct Law {
    tables: Vec<Table>,
    trellis: Trellis,
    values: Values,
}

impl Law {
    /// One table for the matrix.
    fn plain(part: &Part) -> Self {
        let values = Values::new(part.values());
        Self { tables: vec![part.table.clone()], trellis: Trellis::None, values }
    }

    /// A table for each union codebook. Integers of any origin walk through the trellis; the values are those that
    /// trellis quantization gives them: even multiples of the step, or odd ones and 0.
    fn unions(part: &Part, pieces: &[&Piece]) -> Self {
        let mut counts = [[0u64; 256]; 2];
        for piece in pieces {
            let mut states = [0; rans::LANES];
            for (i, &symbol) in part.symbols[piece.range.clone()].iter().enumerate() {
                let state = &mut states[i % rans::LANES];
                counts[(*state & 1) as usize][usize::from(symbol)] += 1;
                *state = Trellis::next(*state, symbol);
            }
        }
        let step = part.step / 2.0;
        let even = part.values();
        let odd = std::array::from_fn(|s| even[s] - unzigzag(s as u32).signum() as f32 * step);
        let tables = counts.map(|c| Table::from_counts(&c)).into();
        Self { tables, trellis: Trellis::Unions, values: Values::of_unions(even, odd) }
    }

    fn model(&self) -> Model<'_> {
        Model { trellis: self.trellis, ..Model::by_rows(&self.tables, &[], 1) }
    }
}

/// 32-lane rANS by one kernel.
pub(crate) struct Rans {
    kernel: Kernel,
    laws: Vec<Law>,
}

impl Rans {
    pub(crate) fn plain(kernel: Kernel, sample: &Sample) -> Self {
        Self { kernel, laws: sample.parts.iter().map(Law::plain).collect() }
    }

    pub(crate) fn trellis(kernel: Kernel, sample: &Sample) -> Self {
        let laws = sample.parts.iter().enumerate().map(|(i, part)| {
            let own: Vec<&Piece> = sample.pieces.iter().filter(|p| p.part == i).collect();
            Law::unions(part, &own)
        });
        Self { kernel, laws: laws.collect() }
    }

    fn encode(&self, piece: &Piece, symbols: &[u8]) -> Result<Vec<u8>> {
        let coded = rans::encode(symbols, 0, &self.laws[piece.part].model());
        coded.ok_or_else(|| Error::invalid("a symbol without a frequency"))
    }

    fn side_bytes(&self) -> usize {
        self.laws.iter().flat_map(|l| &l.tables).map(Table::stored_bytes).sum()
    }
}

/// rANS to symbols.
pub(crate) struct ToSymbols(pub(crate) Rans);

impl Coder for ToSymbols {
    type Coded = Vec<u8>;
    type Item = u8;

    fn encode(&self, piece: &Piece, symbols: &[u8]) -> Result<Vec<u8>> {
        self.0.encode(piece, symbols)
    }

    fn decode(&self, piece: &Piece, coded: &Vec<u8>, out: &mut [u8]) -> Result<()> {
        rans::decode_by(self.0.kernel, coded, 0, &self.0.laws[piece.part].model(), out)
    }

    fn bytes(&self, coded: &Vec<u8>) -> usize {
        coded.len()
    }

    fn expected(&self, _: &Piece, symbols: &[u8]) -> Vec<u8> {
        symbols.into()
    }

    fn side_bytes(&self) -> usize {
        self.0.side_bytes()
    }
}

/// rANS to values in one pass.
pub(crate) struct ToValues(pub(crate) Rans);

impl Coder for ToValues {
    type Coded = Vec<u8>;
    type Item = f32;

    fn encode(&self, piece: &Piece, symbols: &[u8]) -> Result<Vec<u8>> {
        self.0.encode(piece, symbols)
    }

    fn decode(&self, piece: &Piece, coded: &Vec<u8>, out: &mut [f32]) -> Result<()> {
        let law = &self.0.laws[piece.part];
        rans::decode_values_by(self.0.kernel, coded, 0, &law.model(), &law.values, out)
    }

    fn bytes(&self, coded: &Vec<u8>) -> usize {
        coded.len()
    }

    fn expected(&self, piece: &Piece, symbols: &[u8]) -> Vec<f32> {
        // By the portable kernel, which the tests of the codec hold against a plain walk.
        let mut out = vec![0.0; symbols.len()];
        let law = &self.0.laws[piece.part];
        let coded = self.0.encode(piece, symbols).unwrap_or_default();
        let done = rans::decode_values_by(Kernel::Portable, &coded, 0, &law.model(), &law.values, &mut out);
        if done.is_ok() { out } else { Vec::new() }
    }

    fn side_bytes(&self) -> usize {
        self.0.side_bytes()
    }
}

/// What quantizers do: class tables, side information and all, by the public calls.
pub(crate) struct ClassTables<'a> {
    sample: &'a Sample,
    coded: Vec<Coded>,
    out: Vec<f32>,
}

impl<'a> ClassTables<'a> {
    pub(crate) fn boxed(sample: &'a Sample) -> Box<dyn Contestant + 'a> {
        Box::new(Self { sample, coded: Vec::new(), out: vec![0.0; sample.len()] })
    }

    fn integers(part: &Part) -> Vec<i32> {
        part.symbols.iter().map(|&s| unzigzag(s.into())).collect()
    }
}

impl Contestant for ClassTables<'_> {
    fn name(&self) -> (String, &'static str) {
        ("Benben, class tables".into(), "f32")
    }

    fn encode(&mut self) -> Result<()> {
        let parts = &self.sample.parts;
        self.coded = parts
            .iter()
            .map(|p| Coded::encode(&Self::integers(p), p.rows, p.columns, p.step))
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        let mut rest = &mut self.out[..];
        for (coded, part) in self.coded.iter().zip(&self.sample.parts) {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(part.symbols.len());
            coded.decode(own)?;
            rest = others;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let expected = self.sample.parts.iter().flat_map(|p| {
            let values = p.values();
            p.symbols.iter().map(move |&s| values[usize::from(s)])
        });
        if self.out.iter().copied().eq(expected) {
            Ok(())
        } else {
            Err(Error::corruption("class tables decode something else"))
        }
    }

    fn stored_bytes(&self) -> Option<usize> {
        Some(self.coded.iter().map(Coded::stored_bytes).sum())
    }

    fn written_bytes(&self) -> usize {
        size_of_val(&self.out[..])
    }
}
