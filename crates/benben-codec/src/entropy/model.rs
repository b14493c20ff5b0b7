//! Which table codes which symbol.

use super::Table;
use benben_format::{Error, ErrorKind, Result};
use std::ops::Range;

/// Which table codes which symbol: that of the class of its run, of the class of its column, and of the state of its
/// lane's trellis. Table number `(row class * columns.count + column class) * T + t`, with `T` and `t` those of
/// [`Trellis`].
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// At most [`Model::MAX_TABLES`] tables.
    pub tables: &'a [Table],
    /// Classes of runs of symbols.
    pub rows: Rows<'a>,
    /// Classes of columns.
    pub columns: Columns<'a>,
    /// What the symbols before say of a symbol.
    pub trellis: Trellis,
}

/// Classes of runs: symbol `i` of the stream has class `of[i / run]`.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Class of each run; empty where all have class 0.
    pub of: &'a [u8],
    /// Symbols of one run (a row, or several).
    pub run: u64,
}

/// Classes of columns: symbol `i` of the stream has class `of[i mod of.len()]`.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    /// Class of each column; empty where all have class 0.
    pub of: &'a [u8],
    /// Number of classes, at least 1.
    pub count: u8,
}

/// The part of the table's number that follows the path of a symbol's lane.
///
/// Symbol `i` of a chunk belongs to lane `i mod 32`; each lane has a state of 3 bits, 0 before its first symbol in the
/// chunk. The trellis is the 8-state one of Ungerboeck (IEEE Trans. Inf. Theory 28, 1982), as in JPEG 2000 Part 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trellis {
    /// No trellis: one table for each class.
    #[default]
    None,
    /// A table for each of the two union codebooks: `t` is the lowest bit of the state.
    Unions,
    /// A table for each of the eight states: `t` is the state.
    States,
}

impl Trellis {
    /// Tables of one class.
    pub const fn tables(self) -> usize {
        match self {
            Self::None => 1,
            Self::Unions => 2,
            Self::States => 8,
        }
    }

    /// The state of a lane after a symbol. The symbol is the zigzag code of an integer whose parity chooses the branch.
    #[inline(always)]
    pub const fn next(state: u32, symbol: u8) -> u32 {
        let parity = (symbol as u32).div_ceil(2) & 1;
        (state << 1 & 7) | (parity ^ (state >> 1 ^ state >> 2) & 1)
    }
}

impl<'a> Model<'a> {
    /// Most tables of one model: 32 slot tables are 512 KiB, half of a usual second-level cache.
    pub const MAX_TABLES: usize = 32;

    /// No tables: chunks are const, raw, bit-packed or zstd.
    pub const fn none() -> Self {
        Self::by_rows(&[], &[], 1)
    }

    /// One table for every symbol.
    pub const fn single(table: &'a Table) -> Self {
        Self::by_rows(std::slice::from_ref(table), &[], 1)
    }

    /// A table for each class of runs of `run` symbols.
    pub const fn by_rows(tables: &'a [Table], of: &'a [u8], run: u64) -> Self {
        let columns = Columns { of: &[], count: 1 };
        Self { tables, rows: Rows { of, run }, columns, trellis: Trellis::None }
    }

    /// Refuses a model whose classes do not cover symbols `range` with tables that exist; `kind` says whose fault
    /// it is: the caller's when encoding, the file's when decoding.
    pub(super) fn check(&self, range: &Range<u64>, kind: ErrorKind) -> Result<()> {
        let fail = |message: String| Err(Error::new(kind, message));
        let Self { tables, rows, columns, trellis } = self;
        if tables.len() > Self::MAX_TABLES {
            return fail(format!("{} tables, at most {} expected", tables.len(), Self::MAX_TABLES));
        }
        if columns.count == 0 {
            return fail("0 classes of columns, at least 1 expected".into());
        }
        if let Some(i) = columns.of.iter().position(|&c| c >= columns.count) {
            return fail(format!("column {i} has class {}, found {} classes", columns.of[i], columns.count));
        }
        let each = usize::from(columns.count) * trellis.tables();
        if tables.is_empty() && rows.of.is_empty() || range.is_empty() {
            return Ok(());
        }
        let needed = |class: u8| (usize::from(class) + 1) * each;
        if rows.of.is_empty() {
            return match needed(0) <= tables.len() {
                true => Ok(()),
                false => fail(format!("{} tables, at least {each} expected", tables.len())),
            };
        }
        if rows.run == 0 {
            return fail("runs of 0 symbols".into());
        }
        let runs = range.start / rows.run..=(range.end - 1) / rows.run;
        let (first, last) = (usize::try_from(*runs.start()), usize::try_from(*runs.end()));
        let (Ok(first), Ok(last)) = (first, last) else { return fail(format!("runs {runs:?} do not exist")) };
        let Some(classes) = rows.of.get(first..=last) else {
            return fail(format!("symbols {range:?} reach run {last}, found {} runs", rows.of.len()));
        };
        match classes.iter().position(|&c| needed(c) > tables.len()) {
            Some(i) => fail(format!(
                "run {} has class {}, found {} tables, {each} for each class",
                first + i,
                classes[i],
                tables.len()
            )),
            None => Ok(()),
        }
    }

    /// The first table of symbols `first ..`, where all of the `count` symbols share it. The model has passed
    /// [`Model::check`] for them.
    pub(super) fn shared(&self, first: u64, count: usize) -> Option<u8> {
        if !self.columns.of.is_empty() {
            return None;
        }
        let (Some(last), false) = ((first + count as u64).checked_sub(1), self.rows.of.is_empty()) else {
            return Some(0);
        };
        let runs = (first / self.rows.run) as usize..=(last / self.rows.run) as usize;
        let (class, rest) = self.rows.of.get(runs)?.split_first()?;
        rest.iter()
            .all(|c| c == class)
            .then(|| class * (usize::from(self.columns.count) * self.trellis.tables()) as u8)
    }

    /// Writes the first table (that of trellis state 0) of each of the symbols `first ..` to `out`. The model has
    /// passed [`Model::check`] for them.
    pub(super) fn first_tables(&self, first: u64, out: &mut [u8]) {
        let Self { rows, columns, trellis, .. } = self;
        let trellis = trellis.tables() as u8;
        let each = columns.count * trellis;
        if rows.of.is_empty() {
            out.fill(0);
        } else {
            let (mut run, mut at) = ((first / rows.run) as usize, first);
            let mut rest = &mut *out;
            while !rest.is_empty() {
                let end = (run as u64 + 1).saturating_mul(rows.run);
                let count = rest.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let (own, others) = rest.split_at_mut(count);
                own.fill(rows.of.get(run).map_or(0, |c| c * each));
                (run, at, rest) = (run + 1, end, others);
            }
        }
        if !columns.of.is_empty() {
            let mut column = (first % columns.of.len() as u64) as usize;
            let mut rest = out;
            while !rest.is_empty() {
                let count = rest.len().min(columns.of.len() - column);
                let (own, others) = rest.split_at_mut(count);
                own.iter_mut().zip(&columns.of[column..]).for_each(|(t, c)| *t += c * trellis);
                (column, rest) = (0, others);
            }
        }
    }

    /// Writes the table of each of `symbols`, a chunk that begins with symbol `first` of the stream, to `out`.
    pub(super) fn tables_of(&self, first: u64, symbols: &[u8], out: &mut [u8]) {
        self.first_tables(first, out);
        let mask = self.trellis.tables() as u32 - 1;
        if mask == 0 {
            return;
        }
        let mut states = [0u32; super::rans::LANES];
        for (tables, symbols) in out.chunks_mut(states.len()).zip(symbols.chunks(states.len())) {
            for ((table, &symbol), state) in tables.iter_mut().zip(symbols).zip(&mut states) {
                *table += (*state & mask) as u8;
                *state = Trellis::next(*state, symbol);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_columns_and_paths_name_a_table() {
        let tables = vec![Table::from_counts(&[1, 1]); 16];
        let model = Model {
            tables: &tables,
            rows: Rows { of: &[0, 0, 1, 0], run: 6 },
            columns: Columns { of: &[0, 1, 3], count: 4 },
            trellis: Trellis::Unions,
        };
        model.check(&(3..21), ErrorKind::Corruption).unwrap();
        assert!(model.check(&(3..25), ErrorKind::Corruption).is_err());
        let mut found = [9; 18];
        model.first_tables(3, &mut found);
        assert_eq!(found, [0, 2, 6, 0, 2, 6, 0, 2, 6, 8, 10, 14, 8, 10, 14, 0, 2, 6]);
        let rows = Model { columns: Columns { of: &[], count: 4 }, ..model };
        assert_eq!((rows.shared(3, 9), rows.shared(3, 10), rows.shared(12, 6)), (Some(0), None, Some(8)));
        let mut found = [0; 40];
        Model { rows: Rows { of: &[], run: 0 }, columns: Columns { of: &[], count: 1 }, ..model }.tables_of(
            0,
            &[[1; 32], [0; 32]].concat()[..40],
            &mut found,
        );
        assert_eq!((found[31], found[32], found[39]), (0, 1, 1));
    }

    #[test]
    fn classes_without_tables_are_refused() {
        let tables = [Table::from_counts(&[1, 1]), Table::from_counts(&[1, 3])];
        let refused = |model: Model<'_>| model.check(&(0..6), ErrorKind::Corruption).is_err();
        assert!(!refused(Model::by_rows(&tables, &[0, 1], 5)));
        assert!(refused(Model::by_rows(&tables, &[0, 2], 5)));
        assert!(refused(Model::by_rows(&tables, &[0], 5)));
        assert!(refused(Model::by_rows(&tables, &[0], 0)));
        assert!(refused(Model { trellis: Trellis::States, ..Model::single(&tables[0]) }));
        let columns = |of, count| Model { columns: Columns { of, count }, ..Model::by_rows(&tables, &[], 1) };
        assert!(!refused(columns(&[0, 1], 2)));
        assert!(refused(columns(&[0, 2], 2)) && refused(columns(&[], 3)) && refused(columns(&[], 0)));
    }

    #[test]
    fn every_state_has_two_ways_in() {
        let mut ways = [0; 8];
        for state in 0..8 {
            for symbol in [0, 1] {
                ways[Trellis::next(state, symbol) as usize] += 1;
            }
        }
        assert_eq!(ways, [2; 8]);
        // 0 -1 1 -2 2 ...: parities 0 1 1 0 0.
        assert_eq!([0, 1, 2, 3, 4].map(|s| Trellis::next(0, s)), [0, 1, 1, 0, 0]);
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|s| Trellis::next(s, 0)), [0, 2, 5, 7, 1, 3, 4, 6]);
    }
}
