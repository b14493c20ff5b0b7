//! Where the vectors of a tensor lie, and to which group each belongs.

use benben_format::{Error, ErrorKind, Result, element_count};
use std::ops::Range;

/// Vectors of `dim` consecutive elements in row-major order, the last one padded with zeros. With several groups
/// the vectors of a row are split by their position: group g holds positions `g P / G .. (g + 1) P / G` of P.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) dim: usize,
    pub(super) groups: usize,
    pub(super) elements: u64,
    /// Vectors of a row; all of them where there is one group.
    per_row: u64,
    rows: u64,
}

impl Layout {
    /// The layout of a tensor of `shape`; `kind` says whose fault a contradiction is.
    pub(super) fn new(shape: &[u64], dim: u8, groups: u16, kind: ErrorKind) -> Result<Self> {
        let elements = element_count(shape)?;
        if dim == 0 || groups == 0 {
            return Err(Error::new(
                kind,
                format!("rvq: dim {dim} and groups {groups}, both must be above 0"),
            ));
        }
        let (width, dim) = (u64::from(dim), usize::from(dim));
        let groups = usize::from(groups);
        if groups == 1 || elements == 0 {
            return Ok(Self { dim, groups, elements, per_row: elements.div_ceil(width), rows: 1 });
        }
        let row = shape.last().copied().unwrap_or(1);
        let per_row = row / width;
        if row % width != 0 || per_row < groups as u64 {
            return Err(Error::new(
                kind,
                format!("rvq: rows of {row} elements do not split into {groups} groups of vectors of {dim}"),
            ));
        }
        Ok(Self { dim, groups, elements, per_row, rows: elements / row })
    }

    /// Positions in a row of the vectors of `group`.
    pub(super) fn positions(&self, group: usize) -> Range<u64> {
        let cut = |g: usize| (u128::from(self.per_row) * g as u128 / self.groups as u128) as u64;
        cut(group)..cut(group + 1)
    }

    /// Number of vectors of `group`.
    pub(super) fn vectors(&self, group: usize) -> u64 {
        let p = self.positions(group);
        (p.end - p.start) * self.rows
    }

    /// Vectors of `group` before vector `vector` of the tensor.
    pub(super) fn before(&self, group: usize, vector: u64) -> u64 {
        if self.per_row == 0 {
            return 0;
        }
        let p = self.positions(group);
        let inside = (vector % self.per_row).clamp(p.start, p.end) - p.start;
        vector / self.per_row * (p.end - p.start) + inside
    }

    /// Runs of consecutive vectors of `group` within `vectors` of the tensor.
    pub(super) fn runs(&self, group: usize, vectors: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let (p, per_row) = (self.positions(group), self.per_row.max(1));
        (vectors.start / per_row..vectors.end.div_ceil(per_row)).filter_map(move |row| {
            let start = (row * per_row + p.start).max(vectors.start);
            let end = (row * per_row + p.end).min(vectors.end);
            (start < end).then_some(start..end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_partition_the_vectors() {
        let l = Layout::new(&[3, 14], 2, 3, ErrorKind::Corruption).unwrap();
        assert_eq!((0..3).map(|g| l.vectors(g)).collect::<Vec<_>>(), [6, 6, 9]);
        assert_eq!(l.runs(1, 3..12).collect::<Vec<_>>(), [3..4, 9..11]);
        assert_eq!((l.before(1, 3), l.before(1, 12)), (1, 4));
        assert!(Layout::new(&[3, 14], 4, 2, ErrorKind::Corruption).is_err());
        assert!(Layout::new(&[3, 14], 2, 8, ErrorKind::Corruption).is_err());
        let one = Layout::new(&[5], 2, 1, ErrorKind::Corruption).unwrap();
        assert_eq!((one.vectors(0), one.before(0, 2)), (3, 2));
    }
}
