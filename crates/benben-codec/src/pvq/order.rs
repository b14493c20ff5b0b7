//! The order of points: which index names which.
//!
//! **Order.** A point of `n` integers is two of fewer: its first `a` integers with `j` of the pulses, and the rest with
//! `k - j`. Points are ordered by `j`, then by the first part, then by the rest, so the index is
//! `sum over i < j of V(a, i) V(n-a, k-i)`, plus `first * V(n-a, k-j)`, plus `rest`. Halves, `a = ceil(n / 2)`, reach
//! parts that a [table](super::tables) holds in two steps for 16 integers, where Fischer's order, `a = 1`, takes
//! twelve: a leaf decodes twice as fast at 1 to 3 bits. Above [`HALVES`] pulses `a = 1`: there a row of sums serves
//! each step, while those of halves would grow with the square of the pulses.

use super::pyramid::{HALVES, Pyramid};
use benben_format::{Error, Result};

impl Pyramid {
    /// Index of `point`, whose absolute values add up to at most the bound.
    pub(super) fn index(&self, point: &[i16]) -> u64 {
        debug_assert_eq!(point.len(), self.dim());
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
                (self.halves(point.len()).row(k)[j] + high * self.v(rest.len(), left) + low, k)
            }
        }
    }

    /// Writes point `index` of `k` pulses to `point`.
    ///
    /// # Errors
    /// Corruption unless `index < V(dim, k)`.
    #[inline]
    pub(super) fn point(&self, index: u64, k: usize, point: &mut [i16]) -> Result<()> {
        debug_assert_eq!(point.len(), self.dim());
        if index >= self.count(k) {
            return Err(Error::corruption(format!(
                "point {index} of {} integers and {k} pulses, there are {}",
                self.dim(),
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
            let halves = self.halves(n);
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
    use super::super::pyramid::MAX_PULSES;
    use super::*;
    use proptest::prelude::*;

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

    /// `point` of the codec's page, word for word.
    fn paged(mut index: u128, n: usize, k: usize, v: &[Vec<u128>]) -> Vec<i16> {
        if k == 0 {
            return vec![0; n];
        }
        if n == 1 {
            return vec![if index == 0 { k as i16 } else { -(k as i16) }];
        }
        let a = if k <= 128 { n.div_ceil(2) } else { 1 };
        let mut j = 0;
        while index >= v[a][j] * v[n - a][k - j] {
            index -= v[a][j] * v[n - a][k - j];
            j += 1;
        }
        let each = v[n - a][k - j];
        [paged(index / each, a, j, v), paged(index % each, n - a, k - j, v)].concat()
    }

    #[test]
    fn points_are_those_of_the_page() {
        for (n, most) in [(3, 200), (6, 300), (7, 140), (16, 30), (32, 16)] {
            let mut v = vec![vec![0u128; most + 1]; n + 1];
            v[0][0] = 1;
            for n in 1..=n {
                v[n][0] = 1;
                for k in 1..=most {
                    v[n][k] = v[n - 1][k] + v[n][k - 1] + v[n - 1][k - 1];
                }
            }
            let pyramid = Pyramid::new(n, most).unwrap().with_tables();
            let mut point = vec![0; n];
            for k in [1, 5, 11, most / 2, most] {
                for i in 0..40 {
                    let index = (v[n][k] / 41 * i + i) % v[n][k];
                    pyramid.point(index as u64, k, &mut point).unwrap();
                    assert_eq!(point, paged(index, n, k, &v), "{n} {k} {index}");
                }
            }
        }
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
