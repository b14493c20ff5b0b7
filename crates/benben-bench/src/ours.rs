//! Benben's own contestants.

use crate::Sample;
use crate::goal::Promise;
use crate::integers::Coded;
use crate::race::{Contestant, Item, Scratch};
use crate::sample::{Part, unzigzag};
use benben::codec::entropy::{self, CHUNK_ITEMS, Kernel, Model, Table, Trellis, Values, rans};
use benben::{Dtype, Error, Result};
use benben_format::{Chunk, EncodedLeaf, LeafSpec, Mode, StreamKind, StreamSpec};
use rayon::prelude::*;
use std::fmt;

/// Tables of [`Job::Classes`].
const CLASSES: usize = 4;

/// What a kernel decodes to, and by which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// To symbols; one table.
    Symbols,
    /// To f32 in one pass; one table.
    Fused,
    /// To f32; one of four tables for each row, the rows sorted by their size.
    Classes,
    /// To f32 along the trellis; a table for each of the two union codebooks.
    Unions,
    /// To f32 along the trellis; a table for each of the eight states.
    States,
}

impl Job {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 5] = [Self::Symbols, Self::Fused, Self::Classes, Self::Unions, Self::States];

    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Symbols => "symbols",
            Self::Fused => "fused",
            Self::Classes => "row-classes",
            Self::Unions => "trellis-unions",
            Self::States => "trellis-states",
        }
    }

    const fn trellis(self) -> Trellis {
        match self {
            Self::Symbols | Self::Fused | Self::Classes => Trellis::None,
            Self::Unions => Trellis::Unions,
            Self::States => Trellis::States,
        }
    }

    /// What the project promises of this job by a kernel.
    fn promise(self, kernel: Kernel) -> Option<Promise> {
        let best = kernel == Kernel::fastest() && kernel != Kernel::Portable;
        match (self, kernel) {
            (Self::Symbols, Kernel::Avx2) => Some(Promise::OfConstriction(8.0)),
            (Self::Symbols, kernel) if kernel != Kernel::Portable => Some(Promise::OfConstriction(10.0)),
            (Self::Fused, _) if best => Some(Promise::OfMemcpy(0.6)),
            (Self::Unions | Self::States, _) if best => Some(Promise::OfMemcpy(0.45)),
            _ => None,
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which table codes which symbol of one matrix, and what symbols become.
#[derive(Debug)]
struct Law {
    tables: Vec<Table>,
    /// Class of each row; empty where there is one.
    classes: Vec<u8>,
    columns: u64,
    trellis: Trellis,
    values: Values,
    chunk_items: u32,
}

impl Law {
    fn new(job: Job, part: &Part, chunk_items: u32) -> Self {
        let trellis = job.trellis();
        let columns = part.columns.max(1);
        let classes = if job == Job::Classes { by_size(part) } else { Vec::new() };
        let mut counts = vec![[0u64; 256]; trellis.tables().max(CLASSES)];
        let mask = trellis.tables() as u32 - 1;
        walk(&part.symbols, chunk_items, |state, symbol, i| {
            let class = usize::from(classes.get(i / columns).copied().unwrap_or(0));
            counts[class + (state & mask) as usize][usize::from(symbol)] += 1;
        });
        counts.truncate(if classes.is_empty() { trellis.tables() } else { CLASSES });
        let even = part.values();
        // Integers of any origin walk through the trellis; the values are those that trellis quantization gives
        // them: even multiples of half the step, or odd ones and 0.
        let values = match trellis {
            Trellis::None => Values::new(even),
            _ => Values::of_unions(even, std::array::from_fn(|s| even[s] - half(s as u8, part))),
        };
        let tables = counts.iter().map(|c| Table::from_counts(c)).collect();
        Self { tables, classes, columns: columns as u64, trellis, values, chunk_items }
    }

    fn model(&self) -> Model<'_> {
        Model { trellis: self.trellis, ..Model::by_rows(&self.tables, &self.classes, self.columns) }
    }

    /// The values of a matrix by a plain walk, with which every kernel must agree.
    fn expected(&self, part: &Part) -> Vec<f32> {
        let even = part.values();
        let mut out = vec![0.0; part.symbols.len()];
        walk(&part.symbols, self.chunk_items, |state, symbol, i| {
            let odd = self.trellis != Trellis::None && state & 1 == 1;
            out[i] = even[usize::from(symbol)] - if odd { half(symbol, part) } else { 0.0 };
        });
        out
    }
}

/// Half a step towards the symbol's sign.
fn half(symbol: u8, part: &Part) -> f32 {
    unzigzag(symbol.into()).signum() as f32 * part.step / 2.0
}

/// Rows sorted by their mean symbol into classes of equally many.
fn by_size(part: &Part) -> Vec<u8> {
    let rows = part.symbols.chunks(part.columns.max(1));
    let mut order: Vec<(u64, usize)> =
        rows.enumerate().map(|(i, row)| (row.iter().map(|&s| u64::from(s)).sum(), i)).collect();
    order.sort_unstable();
    let mut classes = vec![0; order.len()];
    for (rank, &(_, row)) in order.iter().enumerate() {
        classes[row] = (rank * CLASSES / order.len()) as u8;
    }
    classes
}

/// Visits each symbol with the trellis state of its lane before it, and its number.
fn walk(symbols: &[u8], chunk_items: u32, mut visit: impl FnMut(u32, u8, usize)) {
    for (number, chunk) in symbols.chunks(chunk_items as usize).enumerate() {
        let mut states = [0; rans::LANES];
        for (i, &symbol) in chunk.iter().enumerate() {
            let state = &mut states[i % rans::LANES];
            visit(*state, symbol, number * chunk_items as usize + i);
            *state = Trellis::next(*state, symbol);
        }
    }
}

/// 32-lane rANS by one kernel, one stream for each matrix.
#[derive(Debug)]
pub struct Rans<'a> {
    kernel: Kernel,
    job: Job,
    sample: &'a Sample,
    laws: Vec<Law>,
    leaves: Vec<EncodedLeaf>,
}

impl<'a> Rans<'a> {
    /// In chunks of the usual size.
    pub fn new(kernel: Kernel, job: Job, sample: &'a Sample) -> Self {
        Self::in_chunks(kernel, job, sample, CHUNK_ITEMS)
    }

    /// In chunks of `chunk_items`, at least 1.
    pub fn in_chunks(kernel: Kernel, job: Job, sample: &'a Sample, chunk_items: u32) -> Self {
        let laws = sample.parts.iter().map(|part| Law::new(job, part, chunk_items.max(1))).collect();
        Self { kernel, job, sample, laws, leaves: Vec::new() }
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
    pub fn decode(&self, scratch: &mut Scratch) -> Result<()> {
        let mut jobs = self.leaves.iter().zip(&self.laws);
        let lengths = self.sample.parts.iter().map(|p| p.symbols.len());
        if self.job == Job::Symbols {
            let mut jobs = jobs.zip(split(u8::of_mut(scratch), lengths));
            return jobs.try_for_each(|((leaf, law), own)| {
                let range = 0..own.len() as u64;
                entropy::decode_symbols_by(self.kernel, leaf, 0, range, &law.model(), own)
            });
        }
        let mut outs = split(f32::of_mut(scratch), lengths);
        jobs.try_for_each(|(leaf, law)| {
            let own = outs.next().unwrap_or_default();
            let range = 0..own.len() as u64;
            entropy::decode_values_by(self.kernel, leaf, 0, range, &law.model(), &law.values, own)
        })
    }

    /// Refuses what was decoded unless it is what was encoded.
    ///
    /// # Errors
    /// Corruption.
    pub fn check(&self, scratch: &Scratch) -> Result<()> {
        let parts = &self.sample.parts;
        let same = if self.job == Job::Symbols {
            u8::of(scratch).iter().eq(parts.iter().flat_map(|p| &p.symbols))
        } else {
            let expected = parts.iter().zip(&self.laws).flat_map(|(part, law)| law.expected(part));
            f32::of(scratch).iter().copied().eq(expected)
        };
        if same {
            Ok(())
        } else {
            Err(Error::corruption(format!("{} decodes something else", self.name().0)))
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

/// A stream of which every chunk is rANS, and one of the classes.
fn leaf(part: &Part, law: &Law) -> Result<EncodedLeaf> {
    let shape = [part.rows as u64, part.columns as u64];
    let chunks: Option<Vec<_>> = part
        .symbols
        .par_chunks(law.chunk_items as usize)
        .enumerate()
        .map(|(i, chunk)| {
            let first = i as u64 * u64::from(law.chunk_items);
            Some(Chunk::new(Mode::Rans, rans::encode(chunk, first, &law.model())?))
        })
        .collect();
    let chunks = chunks.ok_or_else(|| Error::invalid("a symbol has no frequency"))?;
    let items = part.symbols.len() as u64;
    let spec = StreamSpec { kind: StreamKind::Symbols, items, chunk_items: law.chunk_items };
    let mut leaf = EncodedLeaf::new(LeafSpec::new("symbols", 1, Dtype::F32, &shape, &())?);
    leaf.push(spec, chunks);
    let (spec, chunks) = entropy::encode_symbols(&law.classes, &Model::none(), CHUNK_ITEMS)?;
    leaf.push(spec, chunks);
    Ok(leaf)
}

impl Contestant for Rans<'_> {
    fn name(&self) -> (String, &'static str) {
        let writes = if self.job == Job::Symbols { u8::NAME } else { f32::NAME };
        (format!("Benben {}, {}", self.job, self.kernel), writes)
    }

    fn encode(&mut self) -> Result<()> {
        Self::encode(self)
    }

    fn decode(&mut self, scratch: &mut Scratch) -> Result<()> {
        Self::decode(self, scratch)
    }

    fn check(&self, scratch: &Scratch) -> Result<()> {
        Self::check(self, scratch)
    }

    fn stored_bytes(&self) -> Option<usize> {
        let tables: usize = self.laws.iter().flat_map(|l| &l.tables).map(Table::stored_bytes).sum();
        let leaves: u64 = self.leaves.iter().map(EncodedLeaf::stored_bytes).sum();
        Some(tables + leaves as usize)
    }

    fn promise(&self) -> Option<Promise> {
        self.job.promise(self.kernel)
    }
}

/// What quantizers do: classes of rows as they pay, the smallest mode of each chunk, side information read anew, by
/// the public calls.
pub(crate) struct ClassTables<'a> {
    sample: &'a Sample,
    coded: Vec<Coded>,
}

impl<'a> ClassTables<'a> {
    pub(crate) fn new(sample: &'a Sample) -> Self {
        Self { sample, coded: Vec::new() }
    }
}

impl Contestant for ClassTables<'_> {
    fn name(&self) -> (String, &'static str) {
        ("Benben as stored".into(), "f32")
    }

    fn encode(&mut self) -> Result<()> {
        let parts = self.sample.parts.iter();
        self.coded =
            parts.map(|p| Coded::encode(&p.integers(), p.rows, p.columns, p.step)).collect::<Result<_>>()?;
        Ok(())
    }

    fn decode(&mut self, scratch: &mut Scratch) -> Result<()> {
        let lengths = self.sample.parts.iter().map(|p| p.symbols.len());
        let mut both = self.coded.iter().zip(split(f32::of_mut(scratch), lengths));
        both.try_for_each(|(coded, own)| coded.decode(own))
    }

    fn check(&self, scratch: &Scratch) -> Result<()> {
        let expected = self.sample.parts.iter().flat_map(|p| {
            let values = p.values();
            p.symbols.iter().map(move |&s| values[usize::from(s)])
        });
        if f32::of(scratch).iter().copied().eq(expected) {
            Ok(())
        } else {
            Err(Error::corruption("class tables decode something else"))
        }
    }

    fn stored_bytes(&self) -> Option<usize> {
        Some(self.coded.iter().map(Coded::stored_bytes).sum())
    }
}
