//! A matrix of few different values: a code for each weight, a table of values, and the weights that have others.

use super::kernel::{self, BLOCK, View, block_bytes};

/// Bytes of a weight that the table does not have.
const OUTLIER_BYTES: usize = 8;
/// Widths of codes, in bits.
const WIDTHS: std::ops::RangeInclusive<u32> = 4..=8;

/// Weights as positions in a table of at most 256 values.
#[derive(Debug)]
pub(super) struct Codes {
    columns: usize,
    width: u32,
    codes: Vec<u8>,
    table: Vec<f32>,
    /// Place in `outliers` of the first of each row, and their number.
    starts: Vec<u32>,
    /// Column and value of the weights that the table does not have; their code is that of `rest`.
    outliers: Vec<(u32, f32)>,
    /// Value of the table that stands where an outlier is.
    rest: f32,
}

/// Collects a matrix row by row, as positions among all values that it may have.
pub(super) struct Gatherer<'a> {
    columns: usize,
    levels: &'a [f32],
    /// First level that may be of a bucket, for buckets of equal width over all levels.
    buckets: Vec<u16>,
    scale: f64,
    /// Position of each weight among the levels; [`NONE`] for others.
    places: Vec<u16>,
    others: Vec<(usize, f32)>,
    counts: Vec<u64>,
}

/// The place of a weight that is no level.
const NONE: u16 = u16::MAX;
const BUCKETS: usize = 2048;

impl<'a> Gatherer<'a> {
    /// Of rows of `columns` weights; `levels` ascend and are fewer than 2^16 - 1.
    pub(super) fn new(levels: &'a [f32], rows: usize, columns: usize) -> Self {
        let (low, high) = (levels.first().copied().unwrap_or(0.0), levels.last().copied().unwrap_or(0.0));
        let width = f64::from(high) - f64::from(low);
        let scale = if width > 0.0 { (BUCKETS - 1) as f64 / width } else { 0.0 };
        let mut buckets = vec![0; BUCKETS];
        let mut level = 0;
        for (i, bucket) in buckets.iter_mut().enumerate() {
            while level + 1 < levels.len() && bucket_of(levels[level], low, scale) < i {
                level += 1;
            }
            *bucket = level as u16;
        }
        Self {
            columns,
            levels,
            buckets,
            scale,
            places: Vec::with_capacity(rows * columns),
            others: Vec::new(),
            counts: vec![0; levels.len()],
        }
    }

    /// Appends weights, row after row.
    pub(super) fn push(&mut self, weights: &[f32]) {
        let low = self.levels.first().copied().unwrap_or(0.0);
        for &weight in weights {
            let mut level = usize::from(self.buckets[bucket_of(weight, low, self.scale)]);
            while level + 1 < self.levels.len() && self.levels[level].total_cmp(&weight).is_lt() {
                level += 1;
            }
            if self.levels.get(level).is_some_and(|l| l.to_bits() == weight.to_bits()) {
                self.counts[level] += 1;
                self.places.push(level as u16);
            } else {
                self.others.push((self.places.len(), weight));
                self.places.push(NONE);
            }
        }
    }

    /// The matrix in the width that takes the fewest bytes; `None` where f32 would take fewer.
    pub(super) fn finish(self) -> Option<Codes> {
        let Self { columns, levels, places, others, counts, .. } = self;
        let rows = places.len() / columns.max(1);
        let row_blocks = columns.div_ceil(BLOCK);
        let in_levels: u64 = counts.iter().sum();
        // For each width the run of levels that holds most weights.
        let (bytes, width, first) = WIDTHS
            .map(|width| {
                let size = (1usize << width).min(levels.len());
                let mut held: u64 = counts[..size].iter().sum();
                let mut best = (held, 0);
                for first in 1..=levels.len() - size {
                    held = held - counts[first - 1] + counts[first + size - 1];
                    best = best.max((held, first));
                }
                let outliers = in_levels - best.0 + others.len() as u64;
                let bytes = rows * row_blocks * block_bytes(width) + outliers as usize * OUTLIER_BYTES;
                (bytes, width, best.1)
            })
            .min()?;
        if bytes > places.len() * 4 {
            return None;
        }
        let last = (first + (1 << width)).min(levels.len());
        let mut table = levels[first..last].to_vec();
        table.resize(1 << width, 0.0);
        let rest = (0..last - first).min_by(|&a, &b| table[a].abs().total_cmp(&table[b].abs())).unwrap_or(0);
        let row_bytes = row_blocks * block_bytes(width);
        let mut codes = vec![0; rows * row_bytes];
        let (mut starts, mut outliers) = (Vec::with_capacity(rows + 1), Vec::new());
        let mut others = others.into_iter();
        for (row, places) in places.chunks(columns.max(1)).enumerate() {
            starts.push(u32::try_from(outliers.len()).ok()?);
            let codes = &mut codes[row * row_bytes..(row + 1) * row_bytes];
            for (block, places) in places.chunks(BLOCK).enumerate() {
                let mut own = [0u8; BLOCK];
                for (column, (own, &place)) in own.iter_mut().zip(places).enumerate() {
                    let place = usize::from(place);
                    *own = if (first..last).contains(&place) {
                        (place - first) as u8
                    } else {
                        let value = match place < levels.len() {
                            true => levels[place],
                            false => others.next()?.1,
                        };
                        outliers.push(((block * BLOCK + column) as u32, value));
                        rest as u8
                    };
                }
                kernel::set_codes(&mut codes[block * block_bytes(width)..][..block_bytes(width)], &own);
            }
        }
        starts.push(u32::try_from(outliers.len()).ok()?);
        outliers.shrink_to_fit();
        let rest = table[rest];
        Some(Codes { columns, width, codes, table, starts, outliers, rest })
    }
}

fn bucket_of(weight: f32, low: f32, scale: f64) -> usize {
    (((f64::from(weight) - f64::from(low)) * scale) as usize).min(BUCKETS - 1)
}

impl Codes {
    pub(super) fn view(&self) -> View<'_> {
        View::Codes { codes: &self.codes, table: &self.table, width: self.width }
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.table.len() * 4 + self.starts.len() * 4 + self.outliers.len() * OUTLIER_BYTES
    }

    fn outliers(&self, row: usize) -> &[(u32, f32)] {
        &self.outliers[self.starts[row] as usize..self.starts[row + 1] as usize]
    }

    /// Puts the outliers into rows from `first` on that the kernels have expanded.
    pub(super) fn restore(&self, first: usize, out: &mut [f32]) {
        for (i, out) in out.chunks_mut(self.columns.max(1)).enumerate() {
            for &(column, value) in self.outliers(first + i) {
                out[column as usize] = value;
            }
        }
    }

    /// What the outliers of rows from `first` on add to their sums.
    pub(super) fn correct(&self, first: usize, x: &[f32], out: &mut [f32]) {
        for (i, y) in out.iter_mut().enumerate() {
            let more: f32 = self.outliers(first + i).iter().map(|&(c, v)| (v - self.rest) * x[c as usize]).sum();
            *y += more;
        }
    }
}
