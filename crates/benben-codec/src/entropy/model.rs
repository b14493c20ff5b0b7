//! Which table codes which symbol.

use super::Table;
use benben_format::{Error, ErrorKind, Result};
use std::ops::Range;

/// Which table codes which symbol: symbol `i` of the stream uses table `classes[i / run]`.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// At most 16 tables.
    pub tables: &'a [Table],
    /// Table of each run; empty where table 0 codes everything.
    pub classes: &'a [u8],
    /// Symbols of one run (a row, or several).
    pub run: u64,
}

impl<'a> Model<'a> {
    /// Most tables of one model: 16 slot tables are 256 KiB, which stay in a second-level cache.
    pub const MAX_TABLES: usize = 16;

    /// No tables: chunks are const, raw, bit-packed or zstd.
    pub const fn none() -> Self {
        Self { tables: &[], classes: &[], run: 1 }
    }

    /// One table for every symbol.
    pub const fn single(table: &'a Table) -> Self {
        Self { tables: std::slice::from_ref(table), classes: &[], run: 1 }
    }

    /// Refuses a model whose classes do not cover symbols `range` with tables that exist; `kind` says whose fault
    /// it is: the caller's when encoding, the file's when decoding.
    pub(super) fn check(&self, range: &Range<u64>, kind: ErrorKind) -> Result<()> {
        let fail = |message: String| Err(Error::new(kind, message));
        if self.tables.len() > Self::MAX_TABLES {
            return fail(format!("{} tables, at most {} expected", self.tables.len(), Self::MAX_TABLES));
        }
        if self.classes.is_empty() || range.is_empty() {
            return Ok(());
        }
        if self.run == 0 {
            return fail("runs of 0 symbols".into());
        }
        let runs = range.start / self.run..=(range.end - 1) / self.run;
        let (first, last) = (usize::try_from(*runs.start()), usize::try_from(*runs.end()));
        let (Ok(first), Ok(last)) = (first, last) else { return fail(format!("runs {runs:?} do not exist")) };
        let Some(classes) = self.classes.get(first..=last) else {
            return fail(format!("symbols {range:?} reach run {last}, found {} runs", self.classes.len()));
        };
        match classes.iter().position(|&c| usize::from(c) >= self.tables.len()) {
            Some(i) => fail(format!(
                "run {} has class {}, found {} tables",
                first + i,
                classes[i],
                self.tables.len()
            )),
            None => Ok(()),
        }
    }

    /// Longest pieces of `range` that one table codes, in order, as `(symbols from range.start, table)`. The model
    /// has passed [`Model::check`] for this range and has tables.
    pub(super) fn segments(&self, range: Range<u64>) -> Segments<'a> {
        let run = range.start.checked_div(self.run).unwrap_or(0) as usize;
        Segments { model: *self, run, start: range.start, at: range.start, end: range.end }
    }
}

/// Iterator of [`Model::segments`].
pub(super) struct Segments<'a> {
    model: Model<'a>,
    /// Run that symbol `at` belongs to.
    run: usize,
    start: u64,
    at: u64,
    end: u64,
}

impl<'a> Iterator for Segments<'a> {
    type Item = (Range<usize>, &'a Table);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let Model { tables, classes, run } = self.model;
        let from = self.at;
        let class = if classes.is_empty() {
            self.at = self.end;
            0
        } else {
            let class = *classes.get(self.run)?;
            while self.at < self.end && classes.get(self.run) == Some(&class) {
                self.run += 1;
                self.at = (self.run as u64).saturating_mul(run).min(self.end);
            }
            class
        };
        let local = |i: u64| (i - self.start) as usize;
        tables.get(usize::from(class)).map(|t| (local(from)..local(self.at), t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_runs_of_one_class_are_one_segment() {
        let tables = [Table::from_counts(&[1, 1]), Table::from_counts(&[1, 3])];
        let model = Model { tables: &tables, classes: &[0, 0, 1, 0], run: 5 };
        model.check(&(3..18), ErrorKind::Corruption).unwrap();
        let seen: Vec<_> = model.segments(3..18).map(|(r, t)| (r, t == &tables[1])).collect();
        assert_eq!(seen, [(0..7, false), (7..12, true), (12..15, false)]);
        assert!(model.check(&(3..21), ErrorKind::Corruption).is_err());
        let wrong = Model { classes: &[0, 2], ..model };
        wrong.check(&(0..5), ErrorKind::Corruption).unwrap();
        assert!(wrong.check(&(0..6), ErrorKind::Corruption).is_err());
    }
}
