//! The pyramid: integer points of a given L1 norm, counted and numbered.
//!
//! `V(n, k)` points of `n` integers have absolute values that add up to `k` (Fischer 1986, equation 6):
//! `V(n, k) = V(n-1, k) + V(n, k-1) + V(n-1, k-1)`, with `V(n, 0) = 1` and `V(0, k) = 0` for `k > 0`.
//!
//! **Order.** A point of `n` integers is two of fewer: its first `a` integers with `j` of the pulses, and the rest with
//! `k - j`. Points are ordered by `j`, then by the first part, then by the rest, so the index is
//! `sum over i < j of V(a, i) V(n-a, k-i)`, plus `first * V(n-a, k-j)`, plus `rest`. Halves, `a = ceil(n / 2)`, reach
//! parts that a [table](super::tables) holds in two steps for 16 integers, where Fischer's order, `a = 1`, takes
//! twelve: a leaf decodes twice as fast at 1 to 3 bits. Above [`HALVES`] pulses `a = 1`: there a row of sums serves
//! each step, while those of halves would grow with the square of the pulses.

use super::tables::{Table, table};
use benben_format::{Error, Result};

/// Most integers of a point.
pub(super) const MAX_DIM: usize = 32;
/// Most pulses (largest L1 norm) of a point: keeps coordinates within i16 and counts within a megabyte.
pub(super) const MAX_PULSES: usize = 4096;
/// Most pulses of a point that is cut in halves.
pub(super) const HALVES: usize = 128;

/// Counts for points of at most `dim` integers and `pulses` pulses, and the order of points.
#[derive(Debug, Clone)]
pub(super) struct Pyramid {
    dim: usize,
    pulses: usize,
    /// `V(n, k)` at `n * (pulses + 1) + k`, for n up to `dim`.
    counts: Vec<u64>,
    /// `V(n, 0) + ... + V(n, k)` likewise, for n below `dim`; empty where all points are cut in halves.
    sums: Vec<u64>,
    /// By number of integers, for those that `dim` is cut into; others are empty.
    halves: Vec<Halves>,
}

/// How points of one number of integers, at least 3, are cut in halves.
#[derive(Debug, Clone, Default)]
struct Halves {
    /// Index of the first point whose first half has `j` pulses at `k (k + 1) / 2 + j`.
    starts: Vec<u64>,
    /// All points of `k` pulses, as far as there are tables.
    tables: Vec<Table>,
}

impl Halves {
    /// The row of `k` pulses.
    fn row(&self, k: usize) -> &[u64] {
        &self.starts[k * (k + 1) / 2..][..=k]
    }
}

impl Pyramid {
    /// Counts for `dim` integers and up to `pulses` pulses.
    ///
    /// # Errors
    /// InvalidArgument unless 1 <= `dim` <= [`MAX_DIM`], `pulses` <= [`MAX_PULSES`] and `V(dim, pulses) < 2^64`.
    pub(super) fn new(dim: usize, pulses: usize) -> Result<Self> {
        if dim == 0 || dim > MAX_DIM || pulses > MAX_PULSES {
            return Err(Error::invalid(format!(
                "points of {dim} integers and {pulses} pulses, expected 1 to {MAX_DIM} integers and at most \
                 {MAX_PULSES} pulses"
            )));
        }
        let width = pulses + 1;
        let mut counts = vec![0u64; width * (dim + 1)];
        counts[0] = 1;
        for n in 1..=dim {
            let (below, own) = counts.split_at_mut(n * width);
            let below = &below[(n - 1) * width..];
            own[0] = 1;
            for k in 1..width {
                let sum = below[k].checked_add(own[k - 1]).and_then(|v| v.checked_add(below[k - 1]));
                own[k] = sum.ok_or_else(|| {
                    Error::invalid(format!(
                        "points of {dim} integers and {pulses} pulses: there are more than 2^64"
                    ))
                })?;
            }
        }
        let mut sums = Vec::new();
        if pulses > HALVES {
            // A sum of V(n, ..) is below V(n + 1, ..), so that none of these overflows.
            for row in counts.chunks(width).take(dim) {
                sums.extend(row.iter().scan(0u64, |sum, v| {
                    *sum += v;
                    Some(*sum)
                }));
            }
        }
        let mut pyramid = Self { dim, pulses, counts, sums, halves: vec![Halves::default(); dim + 1] };
        pyramid.cut(dim);
        Ok(pyramid)
    }

    /// Fills `halves` for points of `n` integers and all that they are cut into.
    fn cut(&mut self, n: usize) {
        if n < 3 || !self.halves[n].starts.is_empty() {
            return;
        }
        let (a, b) = (n.div_ceil(2), n / 2);
        let most = self.pulses.min(HALVES);
        let mut starts = Vec::with_capacity((most + 1) * (most + 2) / 2);
        for k in 0..=most {
            let mut sum = 0;
            for j in 0..=k {
                starts.push(sum);
                sum += self.v(a, j) * self.v(b, k - j);
            }
        }
        self.halves[n].starts = starts;
        self.cut(a);
        self.cut(b);
        if self.pulses > HALVES {
            self.cut(n - 1);
        }
    }

    /// The same with the tables that make [`Pyramid::point`] fast. Tables are made once for a program, and shared.
    pub(super) fn with_tables(mut self) -> Self {
        for (n, halves) in self.halves.iter_mut().enumerate().filter(|h| !h.1.starts.is_empty()) {
            halves.tables = (0..=self.pulses).map_while(|k| table(n, k)).collect();
        }
        self
    }

    /// Largest number of pulses, at most `limit`, for which points of `dim` integers number less than 2^`bits`.
    pub(super) fn max_pulses(dim: usize, bits: u32, limit: usize) -> usize {
        let mut row = vec![0u128; dim + 1];
        row[0] = 1;
        // Row k of V over n, from row k-1, while the last column stays small.
        let mut previous = vec![1u128; dim + 1];
        for k in 1..=limit.min(MAX_PULSES) {
            row[0] = 0;
            for n in 1..=dim {
                row[n] = row[n - 1] + previous[n] + previous[n - 1];
            }
            if row[dim] >= 1u128 << bits.min(64) {
                return k - 1;
            }
            previous.copy_from_slice(&row);
        }
        limit.min(MAX_PULSES)
    }

    /// `V(n, k)` within the bounds.
    fn v(&self, n: usize, k: usize) -> u64 {
        self.counts[n * (self.pulses + 1) + k]
    }

    /// Sums of `V(n, ..)`.
    fn sums(&self, n: usize) -> &[u64] {
        &self.sums[n * (self.pulses + 1)..(n + 1) * (self.pulses + 1)]
    }

    /// `V(dim, k)`, the number of points of `k` pulses; 0 where `k` is above the bound.
    pub(super) fn count(&self, k: usize) -> u64 {
        if k <= self.pulses { self.v(self.dim, k) } else { 0 }
    }

    /// Index of `point`, whose absolute values add up to at most the bound.
    pub(super) fn index(&self, point: &[i16]) -> u64 {
        debug_assert_eq!(point.len(), self.dim);
        self.part_index(point).0
    }

    /// Index of `point` among the points of as many integers and pulses, and its pulses.
    fn part_index(&self, point: &[i16]) -> (u64, usize) {
        let &[first, ref rest @ ..] = point else { return (0, 0) };
        let a = usize::from(first.unsigned_abs());
        match *rest {
            [] => (u64::from(first < 0), a),
            [second] => {
                let b = usize::from(second.unsigned_abs());
                (pair_index(first, second), a + b)
            }
            _ => {
                let k = point.iter().map(|p| usize::from(p.unsigned_abs())).sum();
                if k > HALVES {
                    let (index, left) = self.part_index(rest);
                    if a == 0 {
                        return (index, k);
                    }
                    let row = self.sums(rest.len());
                    let before = self.v(rest.len(), k) + 2 * (row[k - 1] - row[left]);
                    let sign = if first < 0 { self.v(rest.len(), left) } else { 0 };
                    return (before + sign + index, k);
                }
                let (first, rest) = point.split_at(point.len().div_ceil(2));
                let ((high, j), (low, left)) = (self.part_index(first), self.part_index(rest));
                (self.halves[point.len()].row(k)[j] + high * self.v(rest.len(), left) + low, k)
            }
        }
    }

    /// Writes point `index` of `k` pulses to `point`.
    ///
    /// # Errors
    /// Corruption unless `index < V(dim, k)`.
    #[inline]
    pub(super) fn point(&self, index: u64, k: usize, point: &mut [i16]) -> Result<()> {
        debug_assert_eq!(point.len(), self.dim);
        if index >= self.count(k) {
            return Err(Error::corruption(format!(
                "point {index} of {} integers and {k} pulses, there are {}",
                self.dim,
                self.count(k)
            )));
        }
        self.part(index, k, point);
        Ok(())
    }

    /// Writes point `index`, which exists, of `k` pulses to `point`.
    fn part(&self, mut index: u64, mut k: usize, mut point: &mut [i16]) {
        loop {
            let n = point.len();
            match point {
                [] => return,
                [one] => {
                    *one = signed(k, index != 0);
                    return;
                }
                [first, second] => {
                    (*first, *second) = pair(index, k);
                    return;
                }
                _ => {}
            }
            if k > HALVES {
                let Some((first, rest)) = point.split_first_mut() else { return };
                let zero = self.v(n - 1, k);
                if index < zero {
                    *first = 0;
                } else {
                    index -= zero;
                    // The largest j with 2 (S(k-1) - S(k-j)) <= index.
                    let row = self.sums(n - 1);
                    let floor = row[k - 1] - index / 2;
                    let left = row[..k].partition_point(|&s| s < floor);
                    index -= 2 * (row[k - 1] - row[left]);
                    let each = self.v(n - 1, left);
                    *first = signed(k - left, index >= each);
                    index -= if index >= each { each } else { 0 };
                    k = left;
                }
                point = rest;
                continue;
            }
            let halves = &self.halves[n];
            if let Some(table) = halves.tables.get(k) {
                return table.copy(index as usize, point);
            }
            let row = halves.row(k);
            let j = last_at_most(row, index);
            let (first, rest) = point.split_at_mut(n.div_ceil(2));
            let within = index - row[j];
            let each = self.v(rest.len(), k - j);
            let high = if (within | each) >> 32 == 0 {
                u64::from(within as u32 / each as u32)
            } else {
                within / each
            };
            self.part(high, j, first);
            (index, k, point) = (within - high * each, k - j, rest);
        }
    }
}

/// `k`, or `-k`.
#[inline]
fn signed(k: usize, negative: bool) -> i16 {
    if negative { -(k as i16) } else { k as i16 }
}

/// Point `index` of two integers: 2 of `j = 0`, 4 each of `j = 1 .. k-1`, 2 of `j = k`.
#[inline]
pub(super) fn pair(index: u64, k: usize) -> (i16, i16) {
    if k == 0 {
        return (0, 0);
    }
    let (j, place) = if index < 2 { (0, index) } else { ((index - 2) / 4 + 1, (index - 2) % 4) };
    let j = j as usize;
    // The last block has no second integer to give a sign to.
    let (negative, other) = if j == k { (place != 0, false) } else { (place & 2 != 0, place & 1 != 0) };
    (signed(j, negative), signed(k - j, other))
}

fn pair_index(first: i16, second: i16) -> u64 {
    let (a, b) = (u64::from(first.unsigned_abs()), u64::from(second.unsigned_abs()));
    let (negative, other) = (u64::from(first < 0), u64::from(second < 0));
    match (a, b) {
        (0, _) => other,
        (_, 0) => 2 + (a - 1) * 4 + negative,
        _ => 2 + (a - 1) * 4 + 2 * negative + other,
    }
}

/// Place of the last element of `row`, which rises, that is at most `index`, as the first is; without a branch that depends on
/// it, since any of them would be foretold wrongly half of the time.
#[inline]
fn last_at_most(row: &[u64], index: u64) -> usize {
    let (mut at, mut size) = (0, row.len());
    while size > 1 {
        let half = size / 2;
        at = if row[at + half] <= index { at + half } else { at };
        size -= half;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_are_those_of_fischer() {
        // Table I of Fischer 1986 and the closed form sum of 2^i C(8, i) C(7, i-1).
        let p = Pyramid::new(3, 4).unwrap();
        assert_eq!([0, 1, 2, 3, 4].map(|k| p.count(k)), [1, 6, 18, 38, 66]);
        assert_eq!(Pyramid::new(8, 8).unwrap().count(8), 157_184);
        assert_eq!(Pyramid::new(1, 9).unwrap().count(9), 2);
        assert_eq!(Pyramid::new(2, 9).unwrap().count(9), 36);
    }

    #[test]
    fn order_is_the_one_documented() {
        let p = Pyramid::new(2, 2).unwrap();
        let all: Vec<[i16; 2]> = (0..8)
            .map(|i| {
                let mut x = [0; 2];
                p.point(i, 2, &mut x).unwrap();
                x
            })
            .collect();
        assert_eq!(all, [[0, 2], [0, -2], [1, 1], [1, -1], [-1, 1], [-1, -1], [2, 0], [-2, 0]]);
        // The first two of three have 0, 1, 2 pulses: 2, 8 and 8 points.
        let p = Pyramid::new(3, 2).unwrap();
        let mut x = [0; 3];
        for (i, expected) in [(1, [0, 0, -2]), (2, [0, 1, 1]), (10, [0, 2, 0]), (17, [-2, 0, 0])] {
            p.point(i, 2, &mut x).unwrap();
            assert_eq!(x, expected);
        }
    }

    #[test]
    fn every_small_pyramid_is_numbered_without_gaps() {
        for dim in 1..=5 {
            let plain = Pyramid::new(dim, 7).unwrap();
            let pyramid = plain.clone().with_tables();
            for k in 0..=7 {
                let mut seen = std::collections::BTreeSet::new();
                for i in 0..pyramid.count(k) {
                    let mut x = vec![9; dim];
                    pyramid.point(i, k, &mut x).unwrap();
                    let mut same = x.clone();
                    plain.point(i, k, &mut same).unwrap();
                    assert_eq!(same, x);
                    assert_eq!(x.iter().map(|p| usize::from(p.unsigned_abs())).sum::<usize>(), k);
                    assert_eq!(pyramid.index(&x), i);
                    assert!(seen.insert(x));
                }
                assert!(pyramid.point(pyramid.count(k), k, &mut vec![0; dim]).is_err());
            }
        }
    }

    #[test]
    fn sizes_past_64_bits_are_refused() {
        for dim in 1..=MAX_DIM {
            let most = Pyramid::max_pulses(dim, 64, MAX_PULSES);
            let p = Pyramid::new(dim, most).unwrap();
            assert!(most == MAX_PULSES || Pyramid::new(dim, most + 1).is_err(), "{dim}: {most}");
            assert!(dim < 8 || p.count(most) > 1 << 61, "{dim}: {most}");
        }
        assert!(Pyramid::new(0, 1).is_err());
        assert!(Pyramid::new(33, 1).is_err());
        assert!(Pyramid::new(2, MAX_PULSES + 1).is_err());
    }

    proptest! {
        #[test]
        fn indices_of_large_pyramids_come_back(dim in 1usize..=32, share in 0.0f64..=1.0, seed: u64) {
            let most = Pyramid::max_pulses(dim, 64, MAX_PULSES);
            let k = ((most as f64 * share) as usize).max(1);
            let pyramid = Pyramid::new(dim, most).unwrap();
            let tabled = pyramid.clone().with_tables();
            for index in [seed % pyramid.count(k), seed % pyramid.count(k).min(1000), pyramid.count(k) - 1] {
                let (mut point, mut same) = (vec![0; dim], vec![0; dim]);
                pyramid.point(index, k, &mut point).unwrap();
                tabled.point(index, k, &mut same).unwrap();
                prop_assert_eq!(&same, &point);
                prop_assert_eq!(point.iter().map(|p| usize::from(p.unsigned_abs())).sum::<usize>(), k);
                prop_assert_eq!(pyramid.index(&point), index);
            }
        }
    }
}
