//! Weights that the codes of their group do not reach, beside the codes.

use super::packing::{BLOCK, LANES, Line};
use super::portable::Lanes;
use std::ops::Range;

/// Outliers of a line: eight places, then eight values.
const PER_LINE: usize = LANES / 2;

/// A weight that the codes of its group do not reach. Its code is 0, whose value is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlier {
    /// `column * 16 + lane`.
    at: u32,
    value: f32,
}

impl Outlier {
    #[allow(clippy::cast_possible_truncation, reason = "below MAX_COLUMNS * 16 = 2^31")]
    pub(crate) fn new(column: usize, lane: usize, value: f32) -> Self {
        Self { at: (column * LANES + lane) as u32, value }
    }

    pub(crate) fn column(self) -> usize {
        self.at as usize / LANES
    }

    pub(crate) fn lane(self) -> usize {
        self.at as usize % LANES
    }

    pub(crate) fn value(self) -> f32 {
        self.value
    }

    fn block(self) -> usize {
        self.column() / BLOCK
    }
}

/// The outliers of a group: by block of columns; in it first one of each lane, then the second of each, and so on.
///
/// A product adds each to the sum of its lane: were neighbours of the same lane, each would wait for the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outliers<'a> {
    lines: &'a [Line],
    count: usize,
}

/// Lines of so many outliers.
pub(crate) const fn lines(count: usize) -> usize {
    count.div_ceil(PER_LINE)
}

/// Appends `outliers` to the lines of their group.
pub(crate) fn append(mut outliers: Vec<Outlier>, lines: &mut Vec<Line>) {
    outliers.sort_unstable_by_key(|o| o.at);
    let (mut block, mut ranks) = (0, [0u32; LANES]);
    let ranked = outliers.into_iter().map(|outlier| {
        if outlier.block() != block {
            (block, ranks) = (outlier.block(), [0; LANES]);
        }
        let rank = &mut ranks[outlier.lane()];
        *rank += 1;
        (block, *rank, outlier.lane(), outlier)
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_unstable_by_key(|&(block, rank, lane, _)| (block, rank, lane));
    for part in ranked.chunks(PER_LINE) {
        let mut line = Line([0; LANES]);
        for (i, (.., outlier)) in part.iter().enumerate() {
            line.0[i] = outlier.at;
            line.0[PER_LINE + i] = outlier.value.to_bits();
        }
        lines.push(line);
    }
}

impl<'a> Outliers<'a> {
    /// The `count` outliers of `lines`.
    pub(crate) fn new(lines: &'a [Line], count: usize) -> Self {
        Self { lines, count }
    }

    /// All of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = Outlier> + 'a {
        self.from(0)
    }

    /// Those from line `first` on.
    fn from(self, first: usize) -> impl Iterator<Item = Outlier> + 'a {
        let of = |line: &'a Line| (0..PER_LINE).map(move |i| of_line(line, i));
        self.lines[first..].iter().flat_map(of).take(self.count - self.count.min(first * PER_LINE))
    }

    /// Those of `columns`, within a look at those of the blocks around.
    pub(crate) fn within(self, columns: Range<usize>) -> impl Iterator<Item = Outlier> + 'a {
        let first = self.lines.partition_point(|line| of_line(line, 0).block() < columns.start / BLOCK);
        let last = columns.end.div_ceil(BLOCK);
        self.from(first.saturating_sub(1))
            .take_while(move |o| o.block() < last)
            .filter(move |o| columns.contains(&o.column()))
    }

    /// Adds their products with `x` to the sums of their lanes.
    pub(crate) fn add_products(self, x: &[f32], sums: &mut Lanes) {
        let mut left = self.count;
        for line in self.lines {
            for i in 0..PER_LINE.min(left) {
                let outlier = of_line(line, i);
                sums[outlier.lane()] += outlier.value() * x[outlier.column()];
            }
            left = left.saturating_sub(PER_LINE);
        }
    }
}

fn of_line(line: &Line, i: usize) -> Outlier {
    Outlier { at: line.0[i], value: f32::from_bits(line.0[PER_LINE + i]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn all_are_found(
            places in prop::collection::btree_set((0usize..3000, 0usize..LANES), 0..300),
            (start, length) in (0usize..3000, 0usize..3000),
        ) {
            let value = |column: usize, lane: usize| (column * LANES + lane) as f32;
            let all = places.iter().map(|&(column, lane)| Outlier::new(column, lane, value(column, lane)));
            let mut held = Vec::new();
            append(all.collect(), &mut held);
            prop_assert_eq!(held.len(), lines(places.len()));
            let outliers = Outliers::new(&held, places.len());
            let set = |found: &mut dyn Iterator<Item = Outlier>| {
                let mut found: Vec<_> = found.map(|o| (o.column(), o.lane(), o.value())).collect();
                found.sort_by_key(|f| (f.0, f.1));
                found
            };
            let expected = |range: Range<usize>| -> Vec<_> {
                let within = places.iter().filter(|p| range.contains(&p.0));
                within.map(|&(column, lane)| (column, lane, value(column, lane))).collect()
            };
            prop_assert_eq!(set(&mut outliers.iter()), expected(0..3000));
            let range = start..start + length;
            prop_assert_eq!(set(&mut outliers.within(range.clone())), expected(range));
            // Whole numbers below 2^24: exact in any order.
            let x: Vec<f32> = (0..3000).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
            let mut sums = [0.0; LANES];
            outliers.add_products(&x, &mut sums);
            let mut wanted = [0.0; LANES];
            places.iter().for_each(|&(c, lane)| wanted[lane] += value(c, lane) * x[c]);
            prop_assert_eq!(sums, wanted);
        }
    }
}
