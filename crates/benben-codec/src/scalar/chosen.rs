//! Integers that are chosen elsewhere, one column of the tensor after the other: error feedback needs them so.
//!
//! A [`Chooser`] is the rule of one pass; the [`Part`]s of it take the columns of some rows each, in order, and give for
//! every weight, already corrected by the errors of earlier columns, the integer that costs least in error and bits
//! together. What a pass gave makes the rule of the next ([`Chooser::learned`]) and in the end a [`Chooser::leaf`].

use super::coding::Coding;
use super::encode::Parts;
use super::plan::{FINE_COLUMNS, FINE_ROWS, Limits, Plan};
use super::quantize::{self, Costs, ROW, Scale, Tables};
use super::survey::{Counter, Levels};
use super::{MAX_CLASSES, reconstruct, unzigzag};
use crate::entropy::fit_tables;
use crate::runs::{self, Runs, rows_and_columns};
use benben_format::{EncodedLeaf, Error, Result, element_count, in_memory};

/// Rows that columns are judged by, at least.
const ROWS_FOR_COLUMNS: usize = 64;

/// What each integer costs and stands for, by row and by column.
pub struct Chooser {
    costs: Costs,
    /// Value in steps of each symbol.
    levels: [f32; ROW],
    centroids: Vec<i8>,
    /// First table of each row, and what a column adds to it; empty: 0.
    rows: Vec<u8>,
    columns: Vec<u8>,
}

/// Some rows of a tensor on their way from the first column to the last.
pub struct Part<'a> {
    chooser: &'a Chooser,
    tables: Vec<u8>,
    column: usize,
}

/// Rows and columns by how loud their integers are, and which of them share a table.
struct Classes {
    runs: Runs,
    columns: Vec<u8>,
    plan: Plan,
    counts: Vec<[u64; 256]>,
}

impl Chooser {
    /// The nearest integer, whatever it costs: the rule of a first pass.
    #[must_use]
    pub fn nearest() -> Self {
        let mut costs = Costs { levels: [0.0; ROW], bits: quantize::numbers(0.0) };
        (-128i16..128).zip(&mut costs.levels).for_each(|(k, level)| *level = k.into());
        let levels = std::array::from_fn(|symbol| unzigzag(symbol as u32) as f32);
        Self { costs, levels, centroids: Vec::new(), rows: Vec::new(), columns: Vec::new() }
    }

    /// The rule of a first pass, by the nearest integers of targets `x`, in steps, row-major.
    ///
    /// # Errors
    /// As [`Chooser::learned`].
    pub fn rough(shape: &[u64], x: &[f32], lambda: f32) -> Result<Self> {
        let mut symbols = vec![0; x.len()];
        quantize::nearest(Scale { step: 1.0, limit: f32::INFINITY }, quantize::REACH, 0, x, &mut symbols);
        Self::learned(shape, x, &symbols, lambda)
    }

    /// The rule that follows from a pass over a tensor of `shape`: the `symbols` that it chose for its targets `x`, in
    /// steps, both row-major. A bit counts `lambda` steps^2.
    ///
    /// # Errors
    /// InvalidArgument where `x` or `symbols` do not fit the shape.
    pub fn learned(shape: &[u64], x: &[f32], symbols: &[u8], lambda: f32) -> Result<Self> {
        let classes = Classes::of(shape, symbols)?;
        if x.len() != symbols.len() {
            return Err(Error::invalid(format!("{} targets for {} symbols", x.len(), symbols.len())));
        }
        let mut sums = Levels::default();
        sums.add(x.iter().copied(), &[], symbols);
        let Classes { runs, columns, plan, counts } = classes;
        let mut coding = Coding::plain(1.0, 0, f32::INFINITY);
        coding.centroids = sums.centroids();
        coding.plan = plan;
        coding.counts = counts;
        let mut costs = Costs { levels: [0.0; ROW], bits: coding.bits(lambda) };
        (-128..128).zip(&mut costs.levels).for_each(|(k, level)| *level = coding.level(k));
        let levels =
            std::array::from_fn(|symbol| reconstruct(unzigzag(symbol as u32), &coding.centroids, 1.0));
        let (rows, _) = rows_and_columns(shape)?;
        let plan = &coding.plan;
        let table = |row: u64| plan.rows[usize::from(runs.class_of((row / runs.rows) as usize)) % FINE_ROWS];
        Ok(Self {
            costs,
            levels,
            rows: (0..rows).map(|row| table(row) * plan.column_count as u8).collect(),
            columns: columns.iter().map(|&c| plan.columns[usize::from(c) % FINE_COLUMNS]).collect(),
            centroids: coding.centroids,
        })
    }

    /// The path of `rows` through the columns.
    pub fn part(&self, rows: &[usize]) -> Part<'_> {
        let tables = rows.iter().map(|&row| self.rows.get(row).copied().unwrap_or(0)).collect();
        Part { chooser: self, tables, column: 0 }
    }

    /// The leaf of `symbols`, row-major, chosen by this rule, for a tensor of `shape` with this `step`. Rows and columns
    /// are sorted anew.
    ///
    /// # Errors
    /// InvalidArgument where the symbols do not fit the shape, or the step is not one.
    pub fn leaf(&self, shape: &[u64], step: f32, symbols: &[u8]) -> Result<EncodedLeaf> {
        let classes = Classes::of(shape, symbols)?;
        if !(step > 0.0 && super::largest(step, 0).is_finite()) {
            return Err(Error::invalid(format!("step {step}, expected a positive number")));
        }
        let parts = Parts {
            step,
            low_bits: 0,
            centroids: &self.centroids,
            plan: &classes.plan,
            runs: &classes.runs,
            columns: &classes.columns,
            tables: &fit_tables(&classes.counts),
            symbols,
            low: &[],
            exceptions: &[],
        };
        parts.leaf(shape)
    }
}

impl Part<'_> {
    /// Takes the next column: `x` in steps, one for each row; writes the symbols and what they stand for, in steps. What
    /// is beyond the reach of a symbol, 127 steps, gets the outermost.
    pub fn next(&mut self, x: &[f32], symbols: &mut [u8], values: &mut [f32]) {
        let Self { chooser, tables, column } = self;
        let base = chooser.columns.get(*column).copied().unwrap_or(0);
        let of = tables.get(..x.len()).unwrap_or_default();
        let scale = Scale { step: 1.0, limit: f32::INFINITY };
        quantize::search(&chooser.costs, scale, x, &[], Tables { base, of }, symbols);
        values.iter_mut().zip(symbols).for_each(|(v, s)| *v = chooser.levels[usize::from(*s)]);
        *column += 1;
    }
}

impl Classes {
    fn of(shape: &[u64], symbols: &[u8]) -> Result<Self> {
        let (rows, columns) = rows_and_columns(shape)?;
        if element_count(shape)? != symbols.len() as u64 || symbols.is_empty() {
            return Err(Error::invalid(format!("{} symbols for a tensor of shape {shape:?}", symbols.len())));
        }
        let width = in_memory(columns)?;
        // As loud as one integer in 64 at least: whole columns of zeros, far below the others on a scale of logarithms,
        // would leave few classes to all others (of a matrix of 192 x 160 at 1.5 bits, a loss of 0.020 in place of 0.015).
        let loud = |s: u8| (unzigzag(s.into()).pow(2) as f32 + 1.0 / 64.0).sqrt();
        let integers: Vec<f32> = symbols.iter().map(|&s| loud(s)).collect();
        let runs = Runs::new(&integers, rows, columns, FINE_ROWS);
        let several = rows >= ROWS_FOR_COLUMNS as u64 && columns > 1;
        let columns = if several {
            let mut energies = vec![0f64; width];
            for row in integers.chunks(width) {
                energies.iter_mut().zip(row).for_each(|(e, q)| *e += f64::from(q * q));
            }
            runs::sort(&energies, FINE_COLUMNS)
        } else {
            Vec::new()
        };
        let fine = if several { FINE_COLUMNS } else { 1 };
        let mut counter = Counter::new(fine);
        for (run, part) in runs.parts(&(0..symbols.len())) {
            for row in symbols[part].chunks(width) {
                counter.add(runs.class_of(run), &columns, row);
            }
        }
        let cells = counter.cells(1.0);
        let limits = Limits { runs: runs.class.len(), columns: width, classes: MAX_CLASSES };
        let plan = Plan::new(&cells, limits);
        let counts = cells.tables(&plan.rows, plan.row_count, &plan.columns, plan.column_count);
        Ok(Self { runs, columns, plan, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_leaf_holds_what_was_chosen(
            (rows, columns) in (1usize..90, 1usize..70), loud in 0.2f32..40.0, seed: u32, lambda in 0.0f32..0.3,
        ) {
            let mut state = u64::from(seed);
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let shape = [rows as u64, columns as u64];
            let x: Vec<f32> = (0..rows * columns).map(|_| loud * (random() + random() * random())).collect();
            let all: Vec<usize> = (0..rows).collect();
            let mut chooser = Chooser::nearest();
            for _ in 0..3 {
                let (mut symbols, mut values) = (vec![0; x.len()], vec![0f32; x.len()]);
                // Two parts give what one gives.
                for rows in all.chunks(rows.div_ceil(2)) {
                    let mut part = chooser.part(rows);
                    for column in 0..columns {
                        let target: Vec<f32> = rows.iter().map(|r| x[r * columns + column]).collect();
                        let (mut s, mut v) = (vec![0; rows.len()], vec![0.0; rows.len()]);
                        part.next(&target, &mut s, &mut v);
                        for (i, r) in rows.iter().enumerate() {
                            (symbols[r * columns + column], values[r * columns + column]) = (s[i], v[i]);
                        }
                    }
                }
                let leaf = chooser.leaf(&shape, 0.5, &symbols).unwrap();
                let mut decoded = vec![0f32; x.len()];
                super::super::decode(&leaf, 0..x.len() as u64, &mut decoded).unwrap();
                for (d, v) in decoded.iter().zip(&values) {
                    prop_assert_eq!(d.to_bits(), (v * 0.5).to_bits());
                }
                chooser = Chooser::learned(&shape, &x, &symbols, lambda).unwrap();
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let chooser = Chooser::nearest();
        assert!(chooser.leaf(&[2, 3], 1.0, &[0; 5]).is_err());
        assert!(chooser.leaf(&[2, 3], 0.0, &[0; 6]).is_err());
        assert!(Chooser::learned(&[2, 3], &[0.0; 5], &[0; 6], 0.1).is_err());
        assert!(Chooser::learned(&[0, 3], &[], &[], 0.1).is_err());
    }
}
