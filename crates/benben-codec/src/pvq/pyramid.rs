//! The pyramid: integer points of a given L1 norm, counted and numbered.
//!
//! `V(n, k)` points of `n` integers have absolute values that add up to `k` (Fischer 1986, equation 6):
//! `V(n, k) = V(n-1, k) + V(n, k-1) + V(n-1, k-1)`, with `V(n, 0) = 1` and `V(0, k) = 0` for `k > 0`.

use super::tables::{Table, table};
use benben_format::{Error, Result};

/// Most integers of a point.
pub(super) const MAX_DIM: usize = 32;
/// Most pulses (largest L1 norm) of a point: keeps coordinates within i16 and counts within a megabyte.
pub(super) const MAX_PULSES: usize = 4096;
/// Most pulses of a point that is cut in halves.
pub(super) const HALVES: usize = 128;

/// Counts for points of at most `dim` integers and `pulses` pulses, and how `order.rs` cuts them.
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
pub(super) struct Halves {
    /// Index of the first point whose first half has `j` pulses at `k (k + 1) / 2 + j`.
    starts: Vec<u64>,
    /// All points of `k` pulses, as far as there are tables.
    pub(super) tables: Vec<Table>,
}

impl Halves {
    /// The row of `k` pulses.
    pub(super) fn row(&self, k: usize) -> &[u64] {
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
    pub(super) fn v(&self, n: usize, k: usize) -> u64 {
        self.counts[n * (self.pulses + 1) + k]
    }

    /// Sums of `V(n, ..)`.
    pub(super) fn sums(&self, n: usize) -> &[u64] {
        &self.sums[n * (self.pulses + 1)..(n + 1) * (self.pulses + 1)]
    }

    /// How points of `n` integers are cut.
    pub(super) fn halves(&self, n: usize) -> &Halves {
        &self.halves[n]
    }

    /// Integers of a point.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// `V(dim, k)`, the number of points of `k` pulses; 0 where `k` is above the bound.
    pub(super) fn count(&self, k: usize) -> u64 {
        if k <= self.pulses { self.v(self.dim, k) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
