//! The pyramid: integer points of a given L1 norm, counted and numbered.
//!
//! `V(n, k)` points of `n` integers have absolute values that add up to `k` (Fischer 1986, equation 6):
//! `V(n, k) = V(n-1, k) + V(n, k-1) + V(n-1, k-1)`, with `V(n, 0) = 1` and `V(0, k) = 0` for `k > 0`.
//!
//! **Order.** Points are ordered by their first coordinate, then by the second, and so on; the values of one
//! coordinate are ordered 0, +1, -1, +2, -2, ... A coordinate of value `v`, with `n` coordinates after it and `k`
//! pulses left for it and them, spans `V(n, k - |v|)` consecutive indices. So the index of a point is the sum over
//! its coordinates of what lies before them: nothing for 0, and for `a = |v| > 0`
//! `V(n, k) + 2 (V(n, k-1) + ... + V(n, k-a+1))`, plus `V(n, k-a)` where `v` is negative.

use benben_format::{Error, Result};

/// Most integers of a point.
pub(super) const MAX_DIM: usize = 32;
/// Most pulses (largest L1 norm) of a point: keeps coordinates within i16 and tables within a megabyte.
pub(super) const MAX_PULSES: usize = 4096;

/// Counts for points of one dimension and any number of pulses up to a bound.
#[derive(Debug, Clone)]
pub(super) struct Pyramid {
    dim: usize,
    pulses: usize,
    /// `S(n, k) = V(n, 0) + ... + V(n, k)` at `n * (pulses + 1) + k`, for n below `dim`.
    sums: Vec<u64>,
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
        let mut sums = vec![1u64; width];
        // S(n, k) = S(n, k-1) + V(n, k), and V(n, k) = S(n-1, k) + S(n-1, k-1): the recurrence, summed.
        for n in 1..=dim {
            let mut total = 1u64;
            for k in 0..width {
                if k > 0 {
                    let below = (n - 1) * width + k;
                    let count = sums[below].checked_add(sums[below - 1]);
                    let sum = count.and_then(|v| if n == dim { Some(v) } else { total.checked_add(v) });
                    total = sum.ok_or_else(|| {
                        Error::invalid(format!(
                            "points of {dim} integers and {pulses} pulses: there are more than 2^64"
                        ))
                    })?;
                }
                if n < dim {
                    sums.push(total);
                }
            }
        }
        Ok(Self { dim, pulses, sums })
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

    fn row(&self, n: usize) -> &[u64] {
        &self.sums[n * (self.pulses + 1)..(n + 1) * (self.pulses + 1)]
    }

    /// `V(dim, k)`, the number of points of `k` pulses; 0 where `k` is above the bound.
    pub(super) fn count(&self, k: usize) -> u64 {
        let row = self.row(self.dim - 1);
        match k {
            0 => 1,
            k if k <= self.pulses => row[k] + row[k - 1],
            _ => 0,
        }
    }

    /// Index of `point`, whose absolute values add up to at most the bound.
    pub(super) fn index(&self, point: &[i16]) -> u64 {
        debug_assert_eq!(point.len(), self.dim);
        let mut left: usize = point.iter().map(|p| usize::from(p.unsigned_abs())).sum();
        let mut index = 0;
        for (&p, n) in point.iter().zip((0..self.dim).rev()) {
            let a = usize::from(p.unsigned_abs());
            if a == 0 {
                continue;
            }
            let row = self.row(n);
            index += (row[left] - row[left - 1]) + 2 * (row[left - 1] - row[left - a]);
            left -= a;
            if p < 0 {
                index += row[left] - if left > 0 { row[left - 1] } else { 0 };
            }
        }
        index
    }

    /// Writes point `index` of `k` pulses to `point`, and gives the sum of its squares.
    ///
    /// # Errors
    /// Corruption unless `index < V(dim, k)`.
    pub(super) fn point(&self, index: u64, k: usize, point: &mut [i16]) -> Result<u32> {
        debug_assert_eq!(point.len(), self.dim);
        if index >= self.count(k) {
            return Err(Error::corruption(format!(
                "point {index} of {} integers and {k} pulses, there are {}",
                self.dim,
                self.count(k)
            )));
        }
        let (mut rest, mut left, mut energy) = (index, k, 0);
        for (p, n) in point.iter_mut().zip((0..self.dim).rev()) {
            *p = 0;
            if left == 0 {
                continue;
            }
            let row = self.row(n);
            let zero = row[left] - row[left - 1];
            if rest < zero {
                continue;
            }
            rest -= zero;
            // The largest a with 2 (S(left-1) - S(left-a)) <= rest: short walks first, then bisection.
            let floor = row[left - 1] - rest / 2;
            let mut after = left - 1;
            if row[after.saturating_sub(4)] >= floor {
                after = row[..left].partition_point(|&s| s < floor);
            } else {
                while after > 0 && row[after - 1] >= floor {
                    after -= 1;
                }
            }
            rest -= 2 * (row[left - 1] - row[after]);
            let each = row[after] - if after > 0 { row[after - 1] } else { 0 };
            let a = (left - after) as i16;
            energy += u32::from(a.unsigned_abs()).pow(2);
            if rest >= each {
                rest -= each;
                *p = -a;
            } else {
                *p = a;
            }
            left = after;
        }
        Ok(energy)
    }
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
    }

    #[test]
    fn every_small_pyramid_is_numbered_without_gaps() {
        for dim in 1..=5 {
            let pyramid = Pyramid::new(dim, 7).unwrap();
            for k in 0..=7 {
                let mut seen = std::collections::BTreeSet::new();
                for i in 0..pyramid.count(k) {
                    let mut x = vec![9; dim];
                    let energy = pyramid.point(i, k, &mut x).unwrap();
                    assert_eq!(x.iter().map(|p| usize::from(p.unsigned_abs())).sum::<usize>(), k);
                    assert_eq!(energy, x.iter().map(|p| u32::from(p.unsigned_abs()).pow(2)).sum());
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
            let index = seed % pyramid.count(k);
            let mut point = vec![0; dim];
            pyramid.point(index, k, &mut point).unwrap();
            prop_assert_eq!(pyramid.index(&point), index);
        }
    }
}
