//! Side information of a leaf: codebooks and tables, as one string of bytes.

use super::codebook::Codebook;
use super::layout::Layout;
use super::mapped::{self, Map};
use crate::entropy::bits::{self, BitReader, BitWriter};
use crate::entropy::{self, Model, SideReader, SideWriter, Table};
use benben_format::{Error, Result};

/// Entries are integers of at most this size, which f32 holds exactly.
pub(super) const MAX_ENTRY: i64 = 1 << 23;
/// Quotients from here on are escaped to plain 32-bit numbers.
const ESCAPE: u32 = 24;

/// Codebook of one group and stage as it is stored: codeword entry = integer x step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    pub(super) dim: usize,
    pub(super) step: f32,
    /// Entries of one codeword after the other, codewords in order of their first entry; with noise, rows of the map.
    pub(super) entries: Vec<i32>,
    /// What the entries map, where they are no codewords themselves.
    pub(super) noise: Option<Noise>,
    /// Table of the symbols; none where they are stored without.
    pub(super) table: Option<Table>,
}

/// The basis of a mapped codebook ([`mapped::basis`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noise {
    pub(super) seed: u64,
    /// Codewords.
    pub(super) size: usize,
}

impl Stage {
    /// The map in steps of `step`, with the table of the `counts`.
    pub(super) fn mapped(map: &Map, counts: &[u64], step: f32) -> Self {
        let whole =
            |&m: &f64| (m / f64::from(step)).round().clamp(-MAX_ENTRY as f64, MAX_ENTRY as f64) as i32;
        let noise = Noise { seed: map.seed, size: map.basis.len() / map.dim };
        let entries = map.matrix.iter().map(whole).collect();
        Self { dim: map.dim, step, entries, noise: Some(noise), table: Some(Table::from_counts(counts)) }
    }

    /// The used words of `book` in steps of `step`, sorted by the first entry, with the table of their `counts`.
    pub(super) fn quantize(book: &Codebook, counts: &[u64], step: f32) -> Self {
        let words = book.words.chunks_exact(book.dim).zip(counts);
        let mut words: Vec<(Vec<i32>, u64)> =
            words.map(|(word, &n)| (Self::entries_of(word, step), n)).collect();
        if counts.iter().any(|&n| n > 0) {
            words.retain(|w| w.1 > 0);
        } else {
            words.truncate(1);
        }
        words.sort();
        // Words that became equal are one word.
        words.dedup_by(|b, a| {
            a.0 == b.0 && {
                a.1 += b.1;
                true
            }
        });
        let counts: Vec<u64> = words.iter().map(|w| w.1).collect();
        let entries = words.into_iter().flat_map(|w| w.0).collect();
        Self { dim: book.dim, step, entries, noise: None, table: Some(Table::from_counts(&counts)) }
    }

    /// The entries that stand for `word`.
    pub(super) fn entries_of(word: &[f32], step: f32) -> Vec<i32> {
        let whole = |&c: &f32| (c / step).round().clamp(-MAX_ENTRY as f32, MAX_ENTRY as f32) as i32;
        word.iter().map(whole).collect()
    }

    /// Bits of each symbol.
    pub(super) fn prices(&self) -> Vec<f32> {
        let fixed = (self.len() as f32).log2();
        let bits = |k: usize| self.table.as_ref().map_or(fixed, |t| t.bits(k as u8) as f32);
        (0..self.len()).map(bits).collect()
    }

    /// Takes the table of `counts` where it saves more than its own size over symbols of a fixed number of bits,
    /// none elsewhere.
    pub(super) fn choose_table(&mut self, counts: &[u64], chunk_items: u32) {
        let table = Table::from_counts(counts);
        let tables = std::slice::from_ref(&table);
        let coded = entropy::estimate_symbols_bytes(&[counts], tables, chunk_items);
        // A chunk of one symbol is const, whatever the table.
        let width = if counts.iter().filter(|&&n| n > 0).count() > 1 {
            bits::width(self.len() as u64 - 1)
        } else {
            0
        };
        let packed = counts.iter().sum::<u64>() as f64 * f64::from(width) / 8.0;
        let better = coded + (table.stored_bytes() as f64) < packed;
        self.table = better.then_some(table);
    }

    /// The codewords that decoders see.
    pub(super) fn book(&self) -> Codebook {
        let words = match self.noise {
            None => self.entries.iter().map(|&e| e as f32 * self.step).collect(),
            Some(Noise { seed, size }) => {
                mapped::words(&mapped::basis(seed, size, self.dim), &self.entries, self.dim, self.step)
            }
        };
        Codebook { dim: self.dim, words }
    }

    /// What the symbols are coded with.
    pub(super) fn model(&self) -> Model<'_> {
        self.table.as_ref().map_or(Model::none(), Model::single)
    }

    /// Drops the codewords without `counts`, but not all, and takes the table of the others. Codewords of noise cost
    /// nothing and stay.
    pub(super) fn retain(&mut self, counts: &[u64]) {
        if self.noise.is_some() || counts.iter().all(|&n| n == 0) {
            self.table = Some(Table::from_counts(counts));
            return;
        }
        let kept = self.entries.chunks_exact(self.dim).zip(counts).filter(|w| *w.1 > 0);
        self.entries = kept.flat_map(|w| w.0).copied().collect();
        let kept: Vec<u64> = counts.iter().copied().filter(|&n| n > 0).collect();
        self.table = Some(Table::from_counts(&kept));
    }

    /// Number of codewords.
    pub(super) fn len(&self) -> usize {
        self.noise.map_or(self.entries.len() / self.dim, |n| n.size)
    }

    /// Entries as unsigned integers to code: the first entry of a codeword as the difference from that of the
    /// codeword before (never negative: sorting saves the log2(K!) bits that the order would cost), all others, and all
    /// of a map, with the sign in the lowest bit. `true` marks a difference.
    fn integers(&self) -> impl Iterator<Item = (bool, u32)> {
        self.entries.iter().enumerate().map(|(i, &e)| match i.checked_sub(self.dim) {
            Some(before) if i % self.dim == 0 && self.noise.is_none() => {
                (true, e.abs_diff(self.entries[before]))
            }
            _ => (false, ((e << 1) ^ (e >> 31)) as u32),
        })
    }

    /// The Rice parameter that makes differences (or the others) shortest.
    fn parameter(&self, differences: bool) -> u8 {
        let bits = |r: u8| -> u64 {
            let own = self.integers().filter(|i| i.0 == differences);
            own.map(|i| u64::from(rice_bits(i.1, r))).sum()
        };
        (0..=24).min_by_key(|&r| bits(r)).unwrap_or(0)
    }
}

fn rice_bits(value: u32, r: u8) -> u32 {
    let quotient = value >> r;
    if quotient < ESCAPE { quotient + 1 + u32::from(r) } else { ESCAPE + 32 }
}

fn put_rice(out: &mut BitWriter<'_>, value: u32, r: u8) {
    let quotient = value >> r;
    if quotient < ESCAPE {
        out.put((1 << quotient) - 1, quotient + 1);
        out.put(value & ((1 << r) - 1), r.into());
    } else {
        out.put((1 << ESCAPE) - 1, ESCAPE);
        out.put(value, 32);
    }
}

fn take_rice(bits: &mut BitReader<'_>, r: u8) -> Result<u32> {
    let mut quotient = 0;
    while bits.take(1)? == 1 {
        quotient += 1;
        if quotient == ESCAPE {
            return bits.take(32);
        }
    }
    Ok(quotient << r | bits.take(r.into())?)
}

/// The side information of all stages, those of group 0 first.
pub(super) fn write(stages: &[Stage]) -> Result<Vec<u8>> {
    let mut side = SideWriter::new();
    for stage in stages {
        let parameters = [stage.parameter(true), stage.parameter(false)];
        side.u8((stage.len() - 1) as u8);
        side.f32(stage.step);
        match stage.noise {
            None => side.u8(parameters[0]),
            Some(noise) => side.varint(noise.seed),
        }
        side.u8(parameters[1]);
        let mut bytes = Vec::new();
        let mut bits = BitWriter::new(&mut bytes);
        for (difference, value) in stage.integers() {
            put_rice(&mut bits, value, parameters[usize::from(!difference)]);
        }
        bits.finish();
        side.bytes(&bytes);
        side.tables(stage.table.as_slice())?;
    }
    Ok(side.into_bytes())
}

/// Most bytes of [`write`] that a leaf of this layout may have. What it takes to decode follows from the number of
/// vectors that there are codewords for, and from the size of the tensor: codebooks that are larger than their values
/// are no codebooks.
pub(super) fn most_bytes(layout: &Layout, stages: u8, mapped: bool) -> u64 {
    let dim = layout.dim as u64;
    let stage = |group: usize| {
        let words = layout.vectors(group).clamp(1, 256);
        // An entry in Rice code takes at most 7 bytes, a frequency less than 3.
        if mapped { 32 + 7 * dim * dim + 3 * 256 } else { 32 + words * (7 * dim + 3) }
    };
    let all: u64 = (0..layout.groups).map(stage).sum::<u64>() * u64::from(stages);
    all.min(layout.elements.saturating_mul(4).saturating_add(1 << 16)).min(1 << 26)
}

/// Reads what [`write`] writes, and gives each stage and its number to `each` before the next one is read: all stages
/// together can take many times their stored bytes.
pub(super) fn read(
    bytes: &[u8],
    dim: usize,
    stages: usize,
    mapped: bool,
    mut each: impl FnMut(usize, Stage) -> Result<()>,
) -> Result<()> {
    let mut side = SideReader::new(bytes);
    for index in 0..stages {
        let stage =
            read_stage(&mut side, dim, mapped).map_err(|e| e.context(format!("rvq codebook {index}")))?;
        each(index, stage)?;
    }
    side.finish()
}

fn read_stage(side: &mut SideReader<'_>, dim: usize, mapped: bool) -> Result<Stage> {
    let size = usize::from(side.u8()?) + 1;
    let step = side.f32()?;
    if step <= 0.0 {
        return Err(Error::corruption(format!("step {step}, a number above 0 expected")));
    }
    let (noise, differences) =
        if mapped { (Some(Noise { seed: side.varint()?, size }), 0) } else { (None, side.u8()?) };
    let parameters = [differences, side.u8()?];
    if let Some(r) = parameters.iter().find(|&&r| r > 24) {
        return Err(Error::corruption(format!("Rice parameter {r}, at most 24 expected")));
    }
    let rest = side.bytes(side.remaining())?;
    let mut bits = BitReader::new(rest);
    let mut entries: Vec<i32> = Vec::new();
    let rows = if mapped { dim } else { size };
    for i in 0..rows * dim {
        let before = i.checked_sub(dim).filter(|_| i % dim == 0 && !mapped);
        let value = take_rice(&mut bits, parameters[usize::from(before.is_none())])?;
        let entry = match before {
            Some(before) => i64::from(entries[before]) + i64::from(value),
            None => i64::from(value >> 1) ^ -i64::from(value & 1),
        };
        if entry.abs() > MAX_ENTRY {
            return Err(Error::corruption(format!("entry {entry}, at most {MAX_ENTRY} expected")));
        }
        entries.push(entry as i32);
    }
    *side = SideReader::new(bits.finish()?);
    let mut tables = side.tables()?;
    if tables.len() > 1 {
        return Err(Error::corruption(format!("{} tables, at most 1 expected", tables.len())));
    }
    Ok(Stage { dim, step, entries, noise, table: tables.pop() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use benben_format::ErrorKind;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8], dim: usize, stages: usize, mapped: bool) -> Result<Vec<Stage>> {
        let mut all = Vec::new();
        read(bytes, dim, stages, mapped, |index, stage| {
            assert_eq!(index, all.len());
            all.push(stage);
            Ok(())
        })?;
        Ok(all)
    }

    fn stage() -> impl Strategy<Value = Stage> {
        let words = (1usize..5).prop_flat_map(|dim| {
            let entry =
                prop_oneof![-9i32..9, -4000i32..4000, Just(MAX_ENTRY as i32), Just(-MAX_ENTRY as i32)];
            proptest::collection::vec(proptest::collection::vec(entry, dim), 1..257)
        });
        (words, any::<bool>(), proptest::option::of(any::<u64>())).prop_map(|(mut words, coded, seed)| {
            let (dim, size) = (words[0].len(), words.len());
            let counts: Vec<u64> = (0..size as u64).map(|i| i * i % 97 + 1).collect();
            let table = coded.then(|| Table::from_counts(&counts));
            let entries = if seed.is_some() {
                words.concat().into_iter().cycle().take(dim * dim).collect()
            } else {
                words.sort();
                words.concat()
            };
            Stage { dim, step: 0.25, entries, noise: seed.map(|seed| Noise { seed, size }), table }
        })
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(stage in stage()) {
            let bytes = write(std::slice::from_ref(&stage)).unwrap();
            let mapped = stage.noise.is_some();
            let elements = (stage.dim * stage.len()) as u64;
            let layout = Layout::new(&[elements], stage.dim as u8, 1, ErrorKind::Corruption).unwrap();
            prop_assert!(bytes.len() as u64 <= most_bytes(&layout, 1, mapped));
            prop_assert_eq!(&read_all(&bytes, stage.dim, 1, mapped).unwrap()[0], &stage);
            // Every shorter string ends too early, a longer one too late.
            for len in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
                prop_assert!(read_all(&bytes[..len], stage.dim, 1, mapped).is_err());
            }
            prop_assert!(read_all(&[bytes, vec![0]].concat(), stage.dim, 1, mapped).is_err());
        }

        #[test]
        fn noise_is_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            dim in 1usize..9,
            mapped in any::<bool>(),
        ) {
            if let Ok(stages) = read_all(&bytes, dim, 2, mapped) {
                let whole = |s: &Stage| s.book().words.len() == s.len() * dim;
                prop_assert!(stages.iter().all(|s| s.step > 0.0 && whole(s)));
            }
        }
    }

    #[test]
    fn the_bytes_of_the_specification() {
        let stage = Stage { dim: 2, step: 0.5, entries: vec![-3, 1, 2, 0], noise: None, table: None };
        let bytes = [1, 0, 0, 0, 0x3f, 2, 1, 0x9b, 2, 0];
        assert_eq!(read_all(&bytes, 2, 1, false).unwrap(), [stage]);
        // The same integers as the map of two codewords of seed 300.
        let noise = Some(Noise { seed: 300, size: 2 });
        let stage = Stage { dim: 2, step: 0.5, entries: vec![-3, 1, 2, 0], noise, table: None };
        let bytes = [1, 0, 0, 0, 0x3f, 0xac, 2, 1, 0x9b, 1, 0];
        assert_eq!(read_all(&bytes, 2, 1, true).unwrap(), [stage]);
    }

    #[test]
    fn steps_and_parameters_are_checked() {
        let stage = Stage { dim: 1, step: 1.0, entries: vec![3, 5], noise: None, table: None };
        let good = write(&[stage]).unwrap();
        for step in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let mut bad = good.clone();
            bad[1..5].copy_from_slice(&step.to_le_bytes());
            assert!(read_all(&bad, 1, 1, false).is_err(), "{step}");
        }
        for at in [5, 6] {
            let mut bad = good.clone();
            bad[at] = 25;
            assert!(read_all(&bad, 1, 1, false).is_err());
        }
    }
}
