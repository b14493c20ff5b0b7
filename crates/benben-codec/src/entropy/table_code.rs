//! Serialized tables.
//!
//! # Bits
//! Fields follow one another without gaps, least significant bit first ([`bits`](super::bits)); zeros fill the last
//! byte. A list begins with a byte that holds the number of tables, 0 to 16; a single table ([`Table::write`]) has
//! no such byte. Each table:
//!
//! | bits | field |
//! |---|---|
//! | 3 | grid: 0 to 6 mantissa bits; 7 for 11 |
//! | 2 | predictor |
//! | 3 | Rice parameter `k` |
//! | 1 | not in the first table: 1 where the range of symbols is the one of the table before |
//! | 8, 8 | first and last symbol, unless that bit was 1 |
//! | | a level for each symbol of the range |
//!
//! A level is coded as its difference `r` from a prediction, as the number `z = 2r` where `r >= 0` and `-2r - 1`
//! elsewhere: `z >> k` one-bits (fewer than 8), a zero-bit and the low `k` bits of `z`; or eight one-bits and the
//! level itself in as many bits as the grid's largest level has. The first level, where predictors 0 and 1 have
//! nothing to go by, is written in that many bits alone.
//!
//! With `v` the levels, `u` the levels that the frequencies of the table before have in this grid (rounded down), the
//! prediction for symbol `i`, cut to the range of levels, is: 0: `v[i-1]`; 1: `2 v[i-1] - v[i-2]` (for the second
//! symbol `v[i-1]`); 2: `v[i-1] + u[i] - u[i-1]` (for the first symbol `u[i]`); 3: `u[i]`. The last two need a table
//! before.

use super::Model;
use super::bits::{BitReader, BitWriter};
use super::table::{Grid, Table};
use benben_format::{Error, Result};
use std::ops::RangeInclusive;

/// One-bits that announce a level written as it is.
const ESCAPE: u32 = 8;

/// Appends a count and the tables; at most 16 ([`Model::MAX_TABLES`]).
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
    let mut before = None;
    for table in tables {
        let (predictor, k, _) = best(table, before);
        let code = Grid::ALL.iter().position(|&g| g == table.grid()).unwrap_or(7);
        writer.put(code as u32, 3);
        writer.put(predictor, 2);
        writer.put(k, 3);
        let same = before.is_some_and(|b| range(b) == range(table));
        if before.is_some() {
            writer.put(u32::from(same), 1);
        }
        if !same {
            writer.put((*range(table).start()).into(), 8);
            writer.put((*range(table).end()).into(), 8);
        }
        let level_bits = table.grid().level_bits();
        for (i, &level) in table.levels().iter().enumerate() {
            if i == 0 && predictor < 2 {
                writer.put(level.into(), level_bits);
                continue;
            }
            let z = zigzag(level, predict(table.grid(), predictor, table.levels(), i, before, table.first()));
            if z >> k < ESCAPE {
                writer.put((1 << (z >> k)) - 1, (z >> k) + 1);
                writer.put(z & ((1 << k) - 1), k);
            } else {
                writer.put((1 << ESCAPE) - 1, ESCAPE);
                writer.put(level.into(), level_bits);
            }
        }
        before = Some(table);
    }
    writer.finish();
}

/// Reads `count` tables off the front of `bytes`.
pub(super) fn read(count: usize, bytes: &mut &[u8]) -> Result<Vec<Table>> {
    let mut reader = BitReader::new(bytes);
    let mut tables: Vec<Table> = Vec::with_capacity(count);
    for index in 0..count {
        let table = read_one(&mut reader, tables.last()).map_err(|e| e.context(format!("table {index}")))?;
        tables.push(table);
    }
    *bytes = reader.finish()?;
    Ok(tables)
}

fn read_one(reader: &mut BitReader<'_>, before: Option<&Table>) -> Result<Table> {
    let grid = Grid::ALL[reader.take(3)? as usize];
    let (predictor, k) = (reader.take(2)?, reader.take(3)?);
    if before.is_none() && predictor > 1 {
        return Err(Error::corruption(format!("predictor {predictor} needs a table before")));
    }
    let range = match before {
        Some(before) if reader.take(1)? == 1 => range(before),
        _ => reader.take(8)? as u8..=reader.take(8)? as u8,
    };
    let first = *range.start();
    let mut levels = Vec::new();
    for i in 0..range.len() {
        let level = if i == 0 && predictor < 2 {
            reader.take(grid.level_bits())?
        } else {
            let mut ones = 0;
            while ones < ESCAPE && reader.take(1)? == 1 {
                ones += 1;
            }
            if ones == ESCAPE {
                reader.take(grid.level_bits())?
            } else {
                let z = ones << k | reader.take(k)?;
                let r = if z % 2 == 0 { z as i32 / 2 } else { -(z as i32 / 2) - 1 };
                let level = i32::from(predict(grid, predictor, &levels, i, before, first)) + r;
                u32::try_from(level).map_err(|_| {
                    Error::corruption(format!("level {level} of symbol {}", i + usize::from(first)))
                })?
            }
        };
        levels.push(level.min(u16::MAX.into()) as u16);
    }
    Table::from_levels(grid, first, levels)
}

/// Bits that `table` takes after the table `before`.
pub(super) fn table_bits(table: &Table, before: Option<&Table>) -> u64 {
    let same = before.is_some_and(|b| range(b) == range(table));
    8 + u64::from(before.is_some()) + if same { 0 } else { 16 } + best(table, before).2
}

/// Predictor and Rice parameter that take the fewest bits for the levels, and those bits.
fn best(table: &Table, before: Option<&Table>) -> (u32, u32, u64) {
    let (levels, grid) = (table.levels(), table.grid());
    let level_bits = u64::from(grid.level_bits());
    let mut best = (0, 0, u64::MAX);
    for predictor in 0..if before.is_some() { 4 } else { 2 } {
        let plain = usize::from(predictor < 2);
        let mut bits = [level_bits * plain as u64; 8];
        for (i, &level) in levels.iter().enumerate().skip(plain) {
            let z = zigzag(level, predict(grid, predictor, levels, i, before, table.first()));
            for (k, bits) in bits.iter_mut().enumerate() {
                let ones = u64::from(z >> k);
                *bits +=
                    if ones < ESCAPE.into() { ones + 1 + k as u64 } else { u64::from(ESCAPE) + level_bits };
            }
        }
        for (k, &bits) in bits.iter().enumerate() {
            if bits < best.2 {
                best = (predictor, k as u32, bits);
            }
        }
    }
    best
}

/// Prediction of level `i` from the levels before it and the table `before`.
fn predict(grid: Grid, predictor: u32, levels: &[u16], i: usize, before: Option<&Table>, first: u8) -> u16 {
    let v = |back: usize| i.checked_sub(back).and_then(|j| levels.get(j)).map_or(0, |&v| i32::from(v));
    let u = |back: usize| {
        let symbol = (usize::from(first) + i - back) as u8;
        before.map_or(0, |b| i32::from(grid.level(b.freq(symbol))))
    };
    let predicted = match (predictor, i) {
        (0, _) | (1, 0 | 1) => v(1),
        (1, _) => 2 * v(1) - v(2),
        (2, 1..) => v(1) + u(0) - u(1),
        _ => u(0),
    };
    predicted.clamp(0, grid.max_level().into()) as u16
}

fn zigzag(level: u16, predicted: u16) -> u32 {
    let r = i32::from(level) - i32::from(predicted);
    (if r >= 0 { 2 * r } else { -2 * r - 1 }) as u32
}

fn range(table: &Table) -> RangeInclusive<u8> {
    table.first()..=(table.alphabet() - 1) as u8
}
