//! Tables of points: where a pyramid is small, its points one after the other, so that decoding is a copy.
//!
//! Made when first asked for and kept for the life of the program, whatever the number of leaves: the order of points
//! is one for all. All tables that there can be take 2 MB; those of groups of 16, 250 kB.

use super::order::pair;
use super::pyramid::MAX_DIM;
use std::sync::OnceLock;

/// Most points of a table. At 2^13 parts of four integers have tables up to 14 pulses, which is most parts at 3 bits;
/// 2^14 is no faster, at twice the memory.
const MAX_POINTS: usize = 1 << 13;
/// One more than the most pulses of a table: three integers of 45 pulses have 8102 points.
const PULSES: usize = 46;

/// A table to be made, or to be without.
type Slot = OnceLock<Option<Box<[i8]>>>;

static TABLES: [[Slot; PULSES]; MAX_DIM + 1] = [const { [const { OnceLock::new() }; PULSES] }; MAX_DIM + 1];

/// All points of one number of integers and pulses, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table(&'static [i8]);

impl Table {
    /// Copies point `index`, which exists, to `point`, which is as long.
    #[inline]
    pub(super) fn copy(self, index: usize, point: &mut [i16]) {
        match point.len() {
            // Known lengths are one load and one store.
            4 => copy::<4>(self.0, index, point),
            8 => copy::<8>(self.0, index, point),
            n => {
                let from = &self.0[index * n..(index + 1) * n];
                point.iter_mut().zip(from).for_each(|(p, &v)| *p = v.into());
            }
        }
    }
}

#[inline]
fn copy<const N: usize>(table: &[i8], index: usize, point: &mut [i16]) {
    if let (Some(to), Some(from)) = (point.first_chunk_mut::<N>(), table.get(index * N..(index + 1) * N)) {
        to.iter_mut().zip(from).for_each(|(p, &v)| *p = v.into());
    }
}

/// The table of points of `n` integers (at least 3, others need none) and `k` pulses, where they are few.
pub(super) fn table(n: usize, k: usize) -> Option<Table> {
    let made = TABLES.get(n)?.get(k)?.get_or_init(|| make(n, k));
    made.as_deref().map(Table)
}

fn make(n: usize, k: usize) -> Option<Box<[i8]>> {
    if n < 3 || count(n, k)? > MAX_POINTS {
        return None;
    }
    let mut points = Vec::with_capacity(count(n, k)? * n);
    let (a, b) = (n.div_ceil(2), n / 2);
    for j in 0..=k {
        let (first, rest) = (all(a, j)?, all(b, k - j)?);
        for first in first.chunks(a) {
            for rest in rest.chunks(b) {
                points.extend_from_slice(first);
                points.extend_from_slice(rest);
            }
        }
    }
    Some(points.into())
}

/// All points of part of a table.
fn all(n: usize, k: usize) -> Option<std::borrow::Cow<'static, [i8]>> {
    let k8 = i8::try_from(k).ok()?;
    match n {
        1 if k == 0 => Some(vec![0].into()),
        1 => Some(vec![k8, -k8].into()),
        2 => {
            let points = (0..count(2, k)? as u64).flat_map(|i| {
                let (first, second) = pair(i, k);
                [first as i8, second as i8]
            });
            Some(points.collect::<Vec<_>>().into())
        }
        _ => table(n, k).map(|t| t.0.into()),
    }
}

/// `V(n, k)`, where it is not far above the most points of a table.
fn count(n: usize, k: usize) -> Option<usize> {
    let mut row = [0usize; PULSES];
    row[0] = 1;
    for _ in 0..n {
        let mut below = 1;
        for at in 1..=k {
            let own = row.get(at)?;
            let v = own + row[at - 1] + below;
            if v > 1 << 40 {
                return None;
            }
            (below, row[at]) = (*own, v);
        }
    }
    Some(row[k])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_few_and_small() {
        assert_eq!(count(8, 8), Some(157_184));
        assert_eq!(count(3, 45), Some(8102));
        let mut bytes = 0;
        for n in 0..=MAX_DIM + 1 {
            for k in 0..PULSES + 2 {
                let Some(table) = table(n, k) else { continue };
                assert_eq!(table.0.len(), count(n, k).unwrap() * n);
                bytes += table.0.len();
            }
        }
        assert!(bytes > 1 << 20 && bytes < 2 << 20, "{bytes}");
        assert!(table(4, 14).is_some() && table(4, 15).is_none() && table(16, 3).is_some());
    }
}
