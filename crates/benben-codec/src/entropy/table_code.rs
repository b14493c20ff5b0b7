//! Serialized tables.
//!
//! # Bits
//! Fields follow one another without gaps, least significant bit first ([`bits`](super::bits)); zeros fill the last
//! byte. A list begins with a byte that holds the number of tables, 0 to 32; a single table ([`Table::write`]) has
//! no such byte. Each table:
//!
//! | bits | field |
//! |---|---|
//! | 3 | grid: 0 to 6 mantissa bits; 7 for 11 |
//! | 2 | predictor |
//! | 3 | Rice parameter `k` |
//! | 2 | pairs: 0 no; 1 symbols 1 and 2, 3 and 4 .. share a level; 2 symbols 0 and 1, 2 and 3 .. |
//! | ceil(log2 i) | in table `i` of the list from 1 on: the number of the table that it goes by |
//! | 8, 8 | in the first table: first and last symbol |
//! | 1 (8), Rice | in others: 1 where the first symbol is that of the table gone by, else 0 and the symbol; the distance of the last |
//! | | a level for each group of the range |
//!
//! A group is a symbol, or a pair as far as the range has it. A level is coded as its difference `r` from a
//! prediction, as the number `z = 2r` where `r >= 0` and `-2r - 1` elsewhere: `z >> k` one-bits (fewer than 8), a
//! zero-bit and the low `k` bits of `z`; or eight one-bits and the level itself in as many bits as the grid's largest
//! level has. The first level, where predictors 0 and 1 have nothing to go by, is written in that many bits alone.
//! The last symbol's distance is coded so with `k` = 1, and 8 bits after eight one-bits.
//!
//! With `v` the levels of the groups, `u` the levels that the frequencies of the table gone by have in this grid
//! (rounded down) for the first symbol of each group, the prediction for group `i`, cut to the range of levels, is:
//! 0: `v[i-1]`; 1: `2 v[i-1] - v[i-2]` (for the second group `v[i-1]`); 2: `v[i-1] + u[i] - u[i-1]` (for the first
//! `u[i]`); 3: `u[i]`. The last two need a table to go by.

use super::Model;
use super::bits::{BitReader, BitWriter};
use super::table::{Grid, Table};
use benben_format::{Error, Result};

/// One-bits that announce a level written as it is.
const ESCAPE: u32 = 8;

/// Appends a count and the tables; at most 32 ([`Model::MAX_TABLES`]).
///
/// # Errors
/// [`InvalidArgument`](benben_format::ErrorKind::InvalidArgument) for more.
pub fn write_tables(tables: &[Table], out: &mut Vec<u8>) -> Result<()> {
    if tables.len() > Model::MAX_TABLES {
        return Err(Error::invalid(format!(
            "{} tables, at most {} expected",
            tables.len(),
            Model::MAX_TABLES
        )));
    }
    out.push(tables.len() as u8);
    write(tables, out);
    Ok(())
}

/// Bytes of `tables` in a list, its count among them.
pub fn tables_bytes(tables: &[Table]) -> usize {
    let mut out = Vec::new();
    write(tables, &mut out);
    out.len() + 1
}

/// Reads what [`write_tables`] writes off the front of `bytes`.
///
/// # Errors
/// [`Corruption`](benben_format::ErrorKind::Corruption), never a panic or a large allocation.
pub fn read_tables(bytes: &mut &[u8]) -> Result<Vec<Table>> {
    let (&count, rest) =
        bytes.split_first().ok_or_else(|| Error::corruption("the list of tables is missing"))?;
    if usize::from(count) > Model::MAX_TABLES {
        return Err(Error::corruption(format!("{count} tables, at most {} expected", Model::MAX_TABLES)));
    }
    *bytes = rest;
    read(count.into(), bytes)
}

/// Appends `tables` without a count.
pub(super) fn write(tables: &[Table], out: &mut Vec<u8>) {
    let mut writer = BitWriter::new(out);
    for (index, table) in tables.iter().enumerate() {
        let references = tables[..index].iter().enumerate();
        let codes = references.map(|(i, r)| (Some(i), Code::of(table, Some(r))));
        let alone = (index == 0).then(|| (None, Code::of(table, None)));
        let Some((reference, code)) = alone.into_iter().chain(codes).min_by_key(|c| c.1.bits) else {
            continue;
        };
        let before = reference.map(|i| &tables[i]);
        let grid = Grid::ALL.iter().position(|&g| g == table.grid()).unwrap_or(7);
        writer.put(grid as u32, 3);
        writer.put(code.predictor, 2);
        writer.put(code.k, 3);
        writer.put(code.pairs, 2);
        writer.put(reference.unwrap_or(0) as u32, reference_bits(index));
        let (first, last) = (u32::from(table.first()), table.alphabet() as u32 - 1);
        match before {
            None => {
                writer.put(first, 8);
                writer.put(last, 8);
            }
            Some(before) => {
                let same = before.first() == table.first();
                writer.put(u32::from(same), 1);
                if !same {
                    writer.put(first, 8);
                }
                put_near(&mut writer, last, before.alphabet() as u32 - 1, 1, 8);
            }
        }
        let groups = groups(table.first(), last as u8, code.pairs);
        let level_bits = table.grid().level_bits();
        let levels: Vec<u16> =
            groups.iter().map(|&s| table.levels()[usize::from(s - table.first())]).collect();
        let prediction = Prediction::new(table.grid(), code.predictor, before, &groups);
        for (i, &level) in levels.iter().enumerate() {
            if i == 0 && code.predictor < 2 {
                writer.put(level.into(), level_bits);
            } else {
                put_near(&mut writer, level.into(), prediction.of(&levels, i).into(), code.k, level_bits);
            }
        }
    }
    writer.finish();
}

/// Reads `count` tables off the front of `bytes`.
pub(super) fn read(count: usize, bytes: &mut &[u8]) -> Result<Vec<Table>> {
    let mut reader = BitReader::new(bytes);
    let mut tables: Vec<Table> = Vec::with_capacity(count);
    for index in 0..count {
        let table = read_one(&mut reader, &tables).map_err(|e| e.context(format!("table {index}")))?;
        tables.push(table);
    }
    *bytes = reader.finish()?;
    Ok(tables)
}

fn read_one(reader: &mut BitReader<'_>, tables: &[Table]) -> Result<Table> {
    let grid = Grid::ALL[reader.take(3)? as usize];
    let (predictor, k, pairs) = (reader.take(2)?, reader.take(3)?, reader.take(2)?);
    if pairs > 2 {
        return Err(Error::corruption("pairs are 3, at most 2 expected"));
    }
    let reference = reader.take(reference_bits(tables.len()))? as usize;
    let before = tables.get(reference);
    if before.is_none() && !tables.is_empty() {
        return Err(Error::corruption(format!("goes by table {reference}, which is not before it")));
    }
    if before.is_none() && predictor > 1 {
        return Err(Error::corruption(format!("predictor {predictor} needs a table before")));
    }
    let (first, last) = match before {
        None => (reader.take(8)?, reader.take(8)?),
        Some(before) => {
            let first = if reader.take(1)? == 1 { before.first().into() } else { reader.take(8)? };
            (first, take_near(reader, before.alphabet() as u32 - 1, 1, 8)?)
        }
    };
    if last < first || last > 255 {
        return Err(Error::corruption(format!("symbols {first} to {last}")));
    }
    let groups = groups(first as u8, last as u8, pairs);
    let prediction = Prediction::new(grid, predictor, before, &groups);
    let mut levels = Vec::with_capacity(groups.len());
    for (i, symbol) in groups.iter().enumerate() {
        let level = if i == 0 && predictor < 2 {
            reader.take(grid.level_bits())?
        } else {
            take_near(reader, prediction.of(&levels, i).into(), k, grid.level_bits())
                .map_err(|e| e.context(format!("level of symbol {symbol}")))?
        };
        levels.push(level.min(u16::MAX.into()) as u16);
    }
    let mut own = Vec::with_capacity((last - first + 1) as usize);
    for (i, &level) in levels.iter().enumerate() {
        let next = groups.get(i + 1).map_or(last + 1, |&g| g.into());
        own.extend((u32::from(groups[i])..next).map(|_| level));
    }
    Table::from_levels(grid, first as u8, own)
}

/// Fewest bits that `table` takes in a list after `before`.
pub(super) fn table_bits(table: &Table, before: &[Table]) -> u64 {
    let alone = before.is_empty().then(|| Code::of(table, None));
    let codes = alone.into_iter().chain(before.iter().map(|b| Code::of(table, Some(b))));
    u64::from(reference_bits(before.len())) + codes.map(|c| c.bits).min().unwrap_or(0)
}

/// First symbols of the groups of `first..=last`.
pub(super) fn groups(first: u8, last: u8, pairs: u32) -> Vec<u8> {
    (first..=last).filter(|&s| s == first || pairs == 0 || u32::from(s) % 2 == pairs % 2).collect()
}

/// Bits of the number of the table that table `index` goes by.
fn reference_bits(index: usize) -> u32 {
    index.checked_sub(1).and_then(usize::checked_ilog2).map_or(0, |b| b + 1)
}

/// How a table is written.
struct Code {
    predictor: u32,
    k: u32,
    pairs: u32,
    /// All of them but those of the number of the table gone by.
    bits: u64,
}

impl Code {
    /// What takes the fewest bits, going by `before`.
    fn of(table: &Table, before: Option<&Table>) -> Self {
        let (first, last) = (table.first(), (table.alphabet() - 1) as u8);
        let (all, grid) = (table.levels(), table.grid());
        let level_bits = u64::from(grid.level_bits());
        let ends = before.map_or(16, |b| {
            1 + if b.first() == first { 0 } else { 8 } + near_bits(last.into(), b.alphabet() as u32 - 1, 1, 8)
        });
        let mut best = Self { predictor: 0, k: 0, pairs: 0, bits: u64::MAX };
        for pairs in 0..3 {
            let groups = groups(first, last, pairs);
            let shared = |s: u8| {
                s == first || groups.binary_search(&s).is_ok() || {
                    let at = usize::from(s - first);
                    all[at] == all[at - 1]
                }
            };
            if !(first..=last).all(shared) {
                continue;
            }
            let levels: Vec<u16> = groups.iter().map(|&s| all[usize::from(s - first)]).collect();
            for predictor in 0..if before.is_some() { 4 } else { 2 } {
                let prediction = Prediction::new(grid, predictor, before, &groups);
                let plain = usize::from(predictor < 2);
                let mut bits = [10 + ends + level_bits * plain as u64; 8];
                for (i, &level) in levels.iter().enumerate().skip(plain) {
                    let z = zigzag(level.into(), prediction.of(&levels, i).into());
                    for (k, bits) in bits.iter_mut().enumerate() {
                        *bits += rice_bits(z, k as u32, level_bits);
                    }
                }
                for (k, &bits) in bits.iter().enumerate() {
                    if bits < best.bits {
                        best = Self { predictor, k: k as u32, pairs, bits };
                    }
                }
            }
        }
        best
    }
}

/// Predicts levels from those before and from the table gone by.
struct Prediction {
    predictor: u32,
    most: i32,
    /// Levels of the table gone by, where the predictor needs them.
    by: Vec<u16>,
}

impl Prediction {
    fn new(grid: Grid, predictor: u32, before: Option<&Table>, groups: &[u8]) -> Self {
        let by = match before {
            Some(before) if predictor > 1 => groups.iter().map(|&s| grid.level(before.freq(s))).collect(),
            _ => Vec::new(),
        };
        Self { predictor, most: grid.max_level().into(), by }
    }

    /// Prediction of level `i` from `v`, the levels before it.
    fn of(&self, v: &[u16], i: usize) -> u16 {
        let at = |levels: &[u16], back: usize| -> i32 {
            i.checked_sub(back).and_then(|j| levels.get(j)).map_or(0, |&v| v.into())
        };
        let predicted = match (self.predictor, i) {
            (0, _) | (1, 0 | 1) => at(v, 1),
            (1, _) => 2 * at(v, 1) - at(v, 2),
            (2, 1..) => at(v, 1) + at(&self.by, 0) - at(&self.by, 1),
            _ => at(&self.by, 0),
        };
        predicted.clamp(0, self.most) as u16
    }
}

/// Writes `value` by its distance from `near`, or in `bits` bits.
fn put_near(writer: &mut BitWriter<'_>, value: u32, near: u32, k: u32, bits: u32) {
    let z = zigzag(value, near);
    if z >> k < ESCAPE {
        writer.put((1 << (z >> k)) - 1, (z >> k) + 1);
        writer.put(z & ((1 << k) - 1), k);
    } else {
        writer.put((1 << ESCAPE) - 1, ESCAPE);
        writer.put(value, bits);
    }
}

/// Reads what [`put_near`] writes.
fn take_near(reader: &mut BitReader<'_>, near: u32, k: u32, bits: u32) -> Result<u32> {
    let mut ones = 0;
    while ones < ESCAPE && reader.take(1)? == 1 {
        ones += 1;
    }
    if ones == ESCAPE {
        return reader.take(bits);
    }
    let z = ones << k | reader.take(k)?;
    let r = if z.is_multiple_of(2) { i64::from(z / 2) } else { -i64::from(z / 2) - 1 };
    let value = i64::from(near) + r;
    u32::try_from(value).map_err(|_| Error::corruption(format!("{value}, at least 0 expected")))
}

fn near_bits(value: u32, near: u32, k: u32, bits: u64) -> u64 {
    rice_bits(zigzag(value, near), k, bits)
}

fn rice_bits(z: u32, k: u32, bits: u64) -> u64 {
    if z >> k < ESCAPE { u64::from((z >> k) + 1 + k) } else { u64::from(ESCAPE) + bits }
}

fn zigzag(value: u32, near: u32) -> u32 {
    let r = value as i32 - near as i32;
    (if r >= 0 { 2 * r } else { -2 * r - 1 }) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_page() {
        let bytes = [0x01, 0x20, 0x01, 0x08, 0x4c, 0x01];
        let tables = read_tables(&mut &bytes[..]).unwrap_or_default();
        let freqs: Vec<u32> = tables.iter().flat_map(|t| (0..4).map(|s| t.freq(s))).collect();
        assert_eq!(freqs, [2731, 683, 682, 0]);
        let mut again = Vec::new();
        assert!(write_tables(&tables, &mut again).is_ok() && again == bytes, "{again:x?}");
    }

    #[test]
    fn groups_begin_at_the_first_symbol() {
        assert_eq!(groups(3, 6, 0), [3, 4, 5, 6]);
        assert_eq!(groups(2, 6, 1), [2, 3, 5]);
        assert_eq!(groups(3, 6, 2), [3, 4, 6]);
        assert_eq!(groups(255, 255, 1), [255]);
    }
}
