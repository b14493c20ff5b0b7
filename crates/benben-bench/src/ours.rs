//! Benben's own contestants.

use crate::Sample;
use crate::integers::Coded;
use crate::race::Contestant;
use crate::sample::{Part, unzigzag};
use benben::codec::entropy::{self, CHUNK_ITEMS, Kernel, Model, Table, Trellis, Values, rans};
use benben::{Dtype, Error, Result};
use benben_format::{Chunk, EncodedLeaf, LeafSpec, Mode, StreamKind, StreamSpec};
use rayon::prelude::*;

/// Which table codes which symbol of one matrix, and what symbols become.
#[derive(Debug)]
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
    /// trellis quantization gives them: even multiples of half the step, or odd ones and 0.
    fn unions(part: &Part) -> Self {
        let mut counts = [[0u64; 256]; 2];
        walk(&part.symbols, |state, symbol, _| {
            counts[(state & 1) as usize][usize::from(symbol)] += 1;
        });
        let even = part.values();
        let half = |s: usize| unzigzag(s as u32).signum() as f32 * part.step / 2.0;
        let odd = std::array::from_fn(|s| even[s] - half(s));
        let tables = counts.map(|c| Table::from_counts(&c)).into();
        Self { tables, trellis: Trellis::Unions, values: Values::of_unions(even, odd) }
    }

    fn model(&self) -> Model<'_> {
        Model { trellis: self.trellis, ..Model::by_rows(&self.tables, &[], 1) }
    }

    /// The values of a matrix by a plain walk, with which every kernel must agree.
    fn expected(&self, part: &Part) -> Vec<f32> {
        let even = part.values();
        let mut out = vec![0.0; part.symbols.len()];
        walk(&part.symbols, |state, symbol, i| {
            let value = even[usize::from(symbol)];
            let shift = unzigzag(symbol.into()).signum() as f32 * part.step / 2.0;
            out[i] = if self.trellis != Trellis::None && state & 1 == 1 { value - shift } else { value };
        });
        out
    }
}

/// Visits each symbol with the trellis state of its lane before it, and its number.
fn walk(symbols: &[u8], mut visit: impl FnMut(u32, u8, usize)) {
    for (number, chunk) in symbols.chunks(CHUNK_ITEMS as usize).enumerate() {
        let mut states = [0; rans::LANES];
        for (i, &symbol) in chunk.iter().enumerate() {
            let state = &mut states[i % rans::LANES];
            visit(*state, symbol, number * CHUNK_ITEMS as usize + i);
            *state = Trellis::next(*state, symbol);
        }
    }
}

/// What decoding gives.
#[derive(Debug)]
enum Out {
    Symbols(Vec<u8>),
    Values(Vec<f32>),
}

/// 32-lane rANS by one kernel, one stream for each matrix.
#[derive(Debug)]
pub struct Rans<'a> {
    kernel: Kernel,
    sample: &'a Sample,
    laws: Vec<Law>,
    leaves: Vec<EncodedLeaf>,
    out: Out,
}

impl<'a> Rans<'a> {
    /// Decodes to symbols.
    pub fn to_symbols(kernel: Kernel, sample: &'a Sample) -> Self {
        Self::new(kernel, sample, Law::plain, Out::Symbols(vec![0; sample.len()]))
    }

    /// Decodes to f32 in one pass.
    pub fn to_values(kernel: Kernel, sample: &'a Sample) -> Self {
        Self::new(kernel, sample, Law::plain, Out::Values(vec![0.0; sample.len()]))
    }

    /// Decodes to f32 along the trellis.
    pub fn trellis(kernel: Kernel, sample: &'a Sample) -> Self {
        Self::new(kernel, sample, Law::unions, Out::Values(vec![0.0; sample.len()]))
    }

    fn new(kernel: Kernel, sample: &'a Sample, law: fn(&Part) -> Law, out: Out) -> Self {
        Self { kernel, sample, laws: sample.parts.iter().map(law).collect(), leaves: Vec::new(), out }
    }

    /// Codes all matrices.
    ///
    /// # Errors
    /// None but of the library itself.
    pub fn encode(&mut self) -> Result<()> {
        let both = self.sample.parts.iter().zip(&self.laws);
        self.leaves = both.map(|(part, law)| leaf(part, law)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Decodes all matrices, which have been encoded.
    ///
    /// # Errors
    /// None but of the library itself.
    pub fn decode(&mut self) -> Result<()> {
        let jobs = self.leaves.iter().zip(&self.laws);
        let lengths = self.sample.parts.iter().map(|p| p.symbols.len());
        match &mut self.out {
            Out::Symbols(out) => jobs.zip(split(out, lengths)).try_for_each(|((leaf, law), own)| {
                let range = 0..own.len() as u64;
                entropy::decode_symbols_by(self.kernel, leaf, 0, range, &law.model(), own)
            }),
            Out::Values(out) => jobs.zip(split(out, lengths)).try_for_each(|((leaf, law), own)| {
                let range = 0..own.len() as u64;
                entropy::decode_values_by(self.kernel, leaf, 0, range, &law.model(), &law.values, own)
            }),
        }
    }
}

/// `out` cut into pieces of `lengths`.
fn split<T>(mut out: &mut [T], lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = &mut [T]> {
    lengths.map(move |n| {
        let (own, others) = std::mem::take(&mut out).split_at_mut(n);
        out = others;
        own
    })
}

/// One stream of which every chunk is rANS.
fn leaf(part: &Part, law: &Law) -> Result<EncodedLeaf> {
    let shape = [part.rows as u64, part.columns as u64];
    let chunks: Option<Vec<_>> = part
        .symbols
        .par_chunks(CHUNK_ITEMS as usize)
        .enumerate()
        .map(|(i, chunk)| {
            let first = i as u64 * u64::from(CHUNK_ITEMS);
            Some(Chunk::new(Mode::Rans, rans::encode(chunk, first, &law.model())?))
        })
        .collect();
    let chunks = chunks.ok_or_else(|| Error::invalid("a symbol has no frequency"))?;
    let items = part.symbols.len() as u64;
    let spec = StreamSpec { kind: StreamKind::Symbols, items, chunk_items: CHUNK_ITEMS };
    let mut leaf = EncodedLeaf::new(LeafSpec::new("symbols", 1, Dtype::F32, &shape, &())?);
    leaf.push(spec, chunks);
    Ok(leaf)
}

impl Contestant for Rans<'_> {
    fn name(&self) -> (String, &'static str) {
        let trellis = self.laws.iter().any(|l| l.trellis != Trellis::None);
        match self.out {
            Out::Symbols(_) => (format!("Benben, {}", self.kernel), "u8"),
            Out::Values(_) if trellis => (format!("Benben, {}, trellis", self.kernel), "f32"),
            Out::Values(_) => (format!("Benben, {}, fused", self.kernel), "f32"),
        }
    }

    fn encode(&mut self) -> Result<()> {
        Self::encode(self)
    }

    fn decode(&mut self) -> Result<()> {
        Self::decode(self)
    }

    fn check(&self) -> Result<()> {
        let parts = &self.sample.parts;
        let same = match &self.out {
            Out::Symbols(out) => out.iter().eq(parts.iter().flat_map(|p| &p.symbols)),
            Out::Values(out) => {
                let expected = parts.iter().zip(&self.laws).flat_map(|(part, law)| law.expected(part));
                out.iter().copied().eq(expected)
            }
        };
        if same {
            Ok(())
        } else {
            Err(Error::corruption(format!("{} decodes something else", self.name().0)))
        }
    }

    fn stored_bytes(&self) -> Option<usize> {
        let tables: usize = self.laws.iter().flat_map(|l| &l.tables).map(Table::stored_bytes).sum();
        let leaves: u64 = self.leaves.iter().map(EncodedLeaf::stored_bytes).sum();
        Some(tables + leaves as usize)
    }

    fn written_bytes(&self) -> usize {
        match &self.out {
            Out::Symbols(out) => out.len(),
            Out::Values(out) => size_of_val(&out[..]),
        }
    }
}

/// What quantizers do: class tables, side information and all, by the public calls.
pub(crate) struct ClassTables<'a> {
    sample: &'a Sample,
    coded: Vec<Coded>,
    out: Vec<f32>,
}

impl<'a> ClassTables<'a> {
    pub(crate) fn new(sample: &'a Sample) -> Self {
        Self { sample, coded: Vec::new(), out: vec![0.0; sample.len()] }
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
        let parts = self.sample.parts.iter();
        self.coded = parts
            .map(|p| Coded::encode(&Self::integers(p), p.rows, p.columns, p.step))
            .collect::<Result<_>>()?;
        Ok(())
    }

    fn decode(&mut self) -> Result<()> {
        let lengths = self.sample.parts.iter().map(|p| p.symbols.len());
        let mut both = self.coded.iter().zip(split(&mut self.out, lengths));
        both.try_for_each(|(coded, own)| coded.decode(own))
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
