//! Trits that are chosen one column of the tensor after the other: error feedback needs them so.
//!
//! A [`Chooser`] is the rule of one pass: thresholds and levels, fixed. The [`Part`]s of it take the columns of some rows
//! each and give the values that trits stand for; by the same choice, [`Chooser::leaves`] are those of all targets of the
//! pass.

use super::encode::{assemble, check};
use super::level::level;
use super::plane::Plane;
use super::stack::{self, Stack};
use benben_format::{EncodedLeaf, Error, Result};
use rayon::prelude::*;

/// Planes with the thresholds and levels of each.
pub struct Chooser {
    planes: Vec<Rule>,
    /// Elements of a row.
    columns: usize,
}

struct Rule {
    threshold: f32,
    level_run: usize,
    unit: f32,
    /// Codes of the positive and the negative level of each run.
    levels: Vec<u8>,
}

/// Some rows of a tensor on their way from the first column to the last.
pub struct Part {
    /// Threshold of each plane, and the levels of each row.
    planes: Vec<(f32, Vec<[f32; 2]>)>,
}

impl Chooser {
    /// The rule for targets `x`, rows of `columns` one after the other, by a `stack` whose last plane has this
    /// `threshold`.
    ///
    /// # Errors
    /// As [`encode`](super::encode()); InvalidArgument for rows that are not whole, and a threshold that is not positive.
    pub fn learned(columns: usize, x: &[f32], stack: &Stack, threshold: f64) -> Result<Self> {
        check(x, &[x.len() as u64])?;
        if columns == 0 || x.is_empty() || !x.len().is_multiple_of(columns) {
            return Err(Error::invalid(format!("{} targets in rows of {columns}", x.len())));
        }
        let first = stack.first(threshold);
        if !(threshold > 0.0 && first.is_finite()) {
            return Err(Error::invalid(format!("threshold {threshold}, expected a positive number")));
        }
        let planes = stack::stack(x, columns, first, stack.planes(), stack.wide()).0;
        let rule = |(k, plane): (usize, Plane)| {
            let Plane { level_run, unit, levels, .. } = plane;
            Rule { threshold: stack::threshold(first, k), level_run, unit, levels }
        };
        Ok(Self { planes: planes.into_iter().enumerate().map(rule).collect(), columns })
    }

    /// The path of `rows` through the columns.
    #[must_use]
    pub fn part(&self, rows: &[usize]) -> Part {
        let of = |rule: &Rule| rows.iter().map(|&row| rule.pair(row * self.columns)).collect();
        Part { planes: self.planes.iter().map(|rule| (rule.threshold, of(rule))).collect() }
    }

    /// The planes whose sum (f32 additions, in order) is what parts give for the targets `x` of a tensor of `shape`.
    ///
    /// # Errors
    /// As [`encode`](super::encode()).
    pub fn leaves(&self, shape: &[u64], x: &[f32]) -> Result<Vec<EncodedLeaf>> {
        check(x, shape)?;
        let row = self.columns;
        let mut sums = vec![0f32; x.len()];
        let mut leaves = Vec::with_capacity(self.planes.len());
        for rule in &self.planes {
            let mut trits = vec![0u8; x.len()];
            let rows = trits.par_chunks_mut(row).zip(sums.par_chunks_mut(row)).zip(x.par_chunks(row));
            rows.enumerate().for_each(|(i, ((trits, sums), x))| {
                let pair = rule.pair(i * row);
                for ((t, sum), x) in trits.iter_mut().zip(sums).zip(x) {
                    let value;
                    (*t, value) = choose(rule.threshold, pair, x - *sum);
                    *sum += value;
                }
            });
            let Rule { level_run, unit, ref levels, .. } = *rule;
            leaves.push(assemble(&Plane { trits, level_run, unit, levels: levels.clone() }, shape, row)?);
        }
        Ok(leaves)
    }
}

impl Rule {
    /// Levels of the row that begins at element `at`.
    fn pair(&self, at: usize) -> [f32; 2] {
        let run = at / self.level_run.max(1);
        [0, 1].map(|side| self.levels.get(2 * run + side).map_or(0.0, |&code| level(code, self.unit)))
    }
}

/// The trit of a value that is left, and what it stands for. A level that nothing was seen of is not used.
fn choose(threshold: f32, [positive, negative]: [f32; 2], x: f32) -> (u8, f32) {
    if x > threshold && positive > 0.0 {
        (1, positive)
    } else if x < -threshold && negative > 0.0 {
        (2, -negative)
    } else {
        (0, 0.0)
    }
}

impl Part {
    /// Takes the next column: `x`, one for each row; writes the values that they become.
    pub fn next(&mut self, x: &[f32], values: &mut [f32]) {
        for (i, (value, &x)) in values.iter_mut().zip(x).enumerate() {
            *value = 0.0;
            for (threshold, levels) in &self.planes {
                let pair = levels.get(i).copied().unwrap_or_default();
                *value += choose(*threshold, pair, x - *value).1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn leaves_hold_what_was_chosen(
            (rows, columns) in (1usize..90, 1usize..70), bits in 0.3f64..6.0, threshold in 0.01f64..3.0, seed: u32,
        ) {
            let mut state = u64::from(seed);
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            // Rows may have several dimensions.
            let shape = [rows as u64, columns as u64, 1];
            let x: Vec<f32> = (0..rows * columns).map(|_| random() + random() * random()).collect();
            let other: Vec<f32> = (0..rows * columns).map(|_| random() + random()).collect();
            let stack = Stack::of(&x, bits).unwrap();
            let chooser = Chooser::learned(columns, &x, &stack, threshold).unwrap();
            let mut values = vec![0f32; x.len()];
            let all: Vec<usize> = (0..rows).collect();
            for rows in all.chunks(rows.div_ceil(2)) {
                let mut part = chooser.part(rows);
                for column in 0..columns {
                    let target: Vec<f32> = rows.iter().map(|r| other[r * columns + column]).collect();
                    let mut own = vec![0.0; rows.len()];
                    part.next(&target, &mut own);
                    rows.iter().zip(own).for_each(|(r, v)| values[r * columns + column] = v);
                }
            }
            let leaves = chooser.leaves(&shape, &other).unwrap();
            prop_assert_eq!(leaves.len(), stack.planes());
            let mut sums = vec![0f32; x.len()];
            for leaf in &leaves {
                let mut decoded = vec![0f32; x.len()];
                super::super::decode(leaf, 0..x.len() as u64, &mut decoded).unwrap();
                sums.iter_mut().zip(decoded).for_each(|(s, d)| *s += d);
            }
            prop_assert_eq!(sums, values);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = [1.0, -2.0, 0.5, 0.0, 3.0, -0.25];
        let stack = Stack::of(&x, 1.5).unwrap();
        assert!(Chooser::learned(4, &x, &stack, 0.5).is_err());
        assert!(Chooser::learned(3, &x, &stack, 0.0).is_err());
        let chooser = Chooser::learned(3, &x, &stack, 0.5).unwrap();
        assert!(chooser.leaves(&[2, 3], &x[1..]).is_err() && Stack::of(&x, -1.0).is_err());
    }
}
