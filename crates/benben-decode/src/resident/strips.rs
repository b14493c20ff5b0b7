//! A leaf from beginning to end, in parts that hold whole chunks: each chunk is read and decoded once.

use super::node::BLOCK;
use crate::product::LANES;
use benben_format::{LeafSpec, Result, StreamSpec};
use std::ops::Range;

/// Items of a leaf in parts of about [`BLOCK`] weights.
pub(super) struct Strips {
    items: usize,
    step: usize,
}

impl Strips {
    /// Of a leaf of so many elements.
    pub(super) fn of(spec: &LeafSpec, elements: usize) -> Self {
        Self::of_groups(spec, elements, 1)
    }

    /// Of a leaf whose items are groups of `size` elements.
    pub(super) fn of_groups(spec: &LeafSpec, groups: usize, size: usize) -> Self {
        let own = |s: &&StreamSpec| s.items == groups as u64;
        // At most a million items: `StreamSpec::MAX_CHUNK_ITEMS`.
        let chunk = spec.streams.iter().filter(own).map(|s| s.chunk_items).max().unwrap_or(1).max(1);
        let step = (BLOCK / size.max(1)).max(1).next_multiple_of(chunk as usize);
        Self { items: groups, step }
    }

    /// The parts.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (items, step) = (self.items, self.step);
        (0..items).step_by(step).map(move |start| start..items.min(start + step))
    }

    /// The same for a row-major matrix as whole groups of rows: `decode` fills `width` values for each element, `take`
    /// gets rows, in order; what is left of a group waits for the next part.
    ///
    /// # Errors
    /// Those of `decode`.
    pub(super) fn rows<T: Copy + Default>(
        &self,
        [rows, columns]: [usize; 2],
        width: usize,
        mut decode: impl FnMut(Range<u64>, &mut [T]) -> Result<()>,
        mut take: impl FnMut(Range<usize>, &[T]),
    ) -> Result<()> {
        let group = LANES * columns * width;
        let most = self.step.min(self.items) * width + group;
        let mut values = vec![T::default(); most.min(rows * columns * width)];
        let (mut filled, mut row) = (0, 0);
        for range in self.ranges() {
            let end = filled + range.len() * width;
            let last = range.end == self.items;
            decode(range.start as u64..range.end as u64, &mut values[filled..end])?;
            let whole = if last { rows - row } else { end / group * LANES };
            let used = whole * columns * width;
            take(row..row + whole, &values[..used]);
            values.copy_within(used..end, 0);
            (filled, row) = (end - used, row + whole);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use benben_format::{Dtype, StreamKind};

    #[test]
    fn parts_are_whole_chunks_and_rows_come_in_groups() {
        for (rows, columns, chunk) in
            [(1, 1, 7), (40_000, 33, 65_536), (9000, 250, 1000), (17, 100_000, 1 << 20)]
        {
            let items = (rows * columns) as u64;
            let stream = StreamSpec { kind: StreamKind::Symbols, items, chunk_items: chunk };
            let mut spec =
                LeafSpec::new("scalar", 1, Dtype::F32, &[rows as u64, columns as u64], &()).unwrap();
            spec.streams.push(stream);
            let strips = Strips::of(&spec, rows * columns);
            let starts: Vec<usize> = strips.ranges().map(|r| r.start).collect();
            assert!(starts.iter().all(|s| s.is_multiple_of(chunk as usize)), "{starts:?}");
            let (mut next, mut seen) = (0, 0u64);
            let decode = |range: Range<u64>, out: &mut [u64]| {
                out.iter_mut().zip(range).for_each(|(o, i)| *o = i);
                Ok(())
            };
            let take = |range: Range<usize>, values: &[u64]| {
                assert_eq!(range.start, next);
                assert!(range.start.is_multiple_of(LANES) && values.len() == range.len() * columns);
                assert!(values.iter().all(|&v| std::mem::replace(&mut seen, v + 1) == v));
                next = range.end;
            };
            strips.rows([rows, columns], 1, decode, take).unwrap();
            assert_eq!((next, seen), (rows, items));
        }
    }
}
