//! Sums of outer products x yᵀ, of which second moments are means.
//!
//! Vectors come in chunks of up to 256, cut into strips of 16 columns. A tile of 8 rows and 32 columns is summed in f32
//! over a chunk, in registers, and added to sums in f64: the error of 256 single additions, about 1e-6, is averaged
//! over chunks and does not grow with their number. Every value is summed by one thread in the order of the vectors.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;

use kernel::{COLUMNS, Kernel, LANES, Lanes, ROWS, Tile};
use rayon::prelude::*;

/// Vectors that are summed in single precision: 16 kB of a strip, three of which fit the first cache.
const CHUNK: usize = 256;
/// Rows of a piece of work: 32 tiles, some 2 million multiplications with a chunk.
const BAND: usize = 256;

/// Vectors in strips of 16 columns.
#[derive(Debug, Default)]
pub(super) struct Strips {
    vectors: usize,
    /// Strip after strip, each `vectors` long; an even number, what is no column is 0.
    values: Vec<Lanes>,
}

impl Strips {
    /// Cuts `rows` of `columns`, at most [`CHUNK`] of them.
    fn cut(&mut self, rows: &[f32], columns: usize) {
        self.vectors = rows.len() / columns;
        self.values.clear();
        self.values.resize(self.vectors * columns.div_ceil(COLUMNS) * COLUMNS / LANES, [0.0; LANES]);
        let strips = self.values.par_chunks_mut(self.vectors.max(1)).enumerate();
        strips.for_each(|(i, strip)| {
            let first = columns.min(i * LANES);
            let width = LANES.min(columns - first);
            for (to, row) in strip.iter_mut().zip(rows.chunks_exact(columns)) {
                to[..width].copy_from_slice(&row[first..first + width]);
            }
        });
    }

    fn strip(&self, i: usize) -> &[Lanes] {
        &self.values[i * self.vectors..][..self.vectors]
    }
}

/// A part of the matrix of sums: some rows of 32 columns.
#[derive(Debug)]
struct Band {
    /// Which 32 columns.
    pair: usize,
    first_row: usize,
    sums: Vec<[f64; COLUMNS]>,
}

/// The sum of x yᵀ, or its upper triangle where both are the same.
#[derive(Debug)]
pub(super) struct Gram {
    columns: usize,
    bands: Vec<Band>,
}

impl Gram {
    /// No vectors yet. With `symmetric` only what is on the diagonal and right of it is summed.
    pub(super) fn new(columns: usize, symmetric: bool) -> Self {
        let whole = columns.next_multiple_of(ROWS);
        let mut bands = Vec::new();
        for pair in 0..columns.div_ceil(COLUMNS) {
            let rows = if symmetric { whole.min((pair + 1) * COLUMNS) } else { whole };
            for first_row in (0..rows).step_by(BAND) {
                let sums = vec![[0.0; COLUMNS]; BAND.min(rows - first_row)];
                bands.push(Band { pair, first_row, sums });
            }
        }
        Self { columns, bands }
    }

    /// Adds the products of the vectors of `x` with those of `y`.
    fn add(&mut self, kernel: Kernel, x: &Strips, y: &Strips) {
        self.bands.par_iter_mut().with_max_len(1).for_each(|band| {
            let right = [y.strip(2 * band.pair), y.strip(2 * band.pair + 1)];
            for (i, sums) in band.sums.chunks_exact_mut(ROWS).enumerate() {
                let row = band.first_row + i * ROWS;
                let tile: Tile = kernel.tile(x.strip(row / LANES), row % LANES, right);
                for (sums, tile) in sums.iter_mut().zip(&tile) {
                    sums.iter_mut().zip(tile).for_each(|(s, t)| *s += f64::from(*t));
                }
            }
        });
    }

    /// Sums divided by `count`, n x n; what was not summed is its mirror image.
    pub(super) fn mean(&self, count: u64) -> Vec<f32> {
        let (n, divisor) = (self.columns, count.max(1) as f64);
        let mut out = vec![0.0; n * n];
        for band in &self.bands {
            let first = band.pair * COLUMNS;
            for (row, sums) in (band.first_row..n).zip(&band.sums) {
                let to = out[row * n..][..n].iter_mut().skip(first);
                to.zip(sums).for_each(|(to, sum)| *to = single(sum / divisor));
            }
        }
        out
    }
}

#[allow(clippy::cast_possible_truncation, reason = "means are kept in single precision")]
pub(super) fn single(x: f64) -> f32 {
    x as f32
}

/// The sums of one input: outer products, and each column by itself.
#[derive(Debug)]
pub(super) struct Sums {
    columns: usize,
    pub(super) count: u64,
    gram: Gram,
    /// Of each column, and of its magnitude.
    of: Vec<[[f64; LANES]; 2]>,
}

/// Room to cut vectors in, shared by all sums.
#[derive(Debug, Default)]
pub(super) struct Room {
    x: Strips,
    y: Strips,
}

impl Sums {
    /// No vectors yet, of `columns` values.
    pub(super) fn new(columns: usize) -> Self {
        let strips = columns.div_ceil(COLUMNS) * COLUMNS / LANES;
        Self { columns, count: 0, gram: Gram::new(columns, true), of: vec![[[0.0; LANES]; 2]; strips] }
    }

    /// Adds vectors, row by row.
    pub(super) fn add(&mut self, rows: &[f32], room: &mut Room) {
        self.add_by(Kernel::fastest(), rows, room);
    }

    fn add_by(&mut self, kernel: Kernel, rows: &[f32], room: &mut Room) {
        for chunk in rows.chunks(CHUNK * self.columns) {
            room.x.cut(chunk, self.columns);
            self.of.par_iter_mut().enumerate().for_each(|(i, of)| {
                let mut own = [[0f32; LANES]; 2];
                for x in room.x.strip(i) {
                    for k in 0..LANES {
                        own[0][k] += x[k];
                        own[1][k] += x[k].abs();
                    }
                }
                let sums = of.as_flattened_mut().iter_mut().zip(own.as_flattened());
                sums.for_each(|(sum, own)| *sum += f64::from(*own));
            });
            self.gram.add(kernel, &room.x, &room.x);
            self.count += (chunk.len() / self.columns) as u64;
        }
    }

    /// E[x xᵀ] (n x n, of which only the upper triangle is whole), E[x] and E|x|.
    pub(super) fn means(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (mean, absolute) = self.means_of_columns();
        (self.gram.mean(self.count), mean, absolute)
    }

    /// E[x] and E|x|.
    pub(super) fn means_of_columns(&self) -> (Vec<f32>, Vec<f32>) {
        let divisor = self.count.max(1) as f64;
        let of = |which: usize| {
            let values = self.of.iter().flat_map(|strip| strip[which]);
            values.take(self.columns).map(|sum| single(sum / divisor)).collect()
        };
        (of(0), of(1))
    }
}

/// The sum of x yᵀ of two inputs that differ.
#[derive(Debug)]
pub(super) struct Cross {
    columns: usize,
    count: u64,
    gram: Gram,
}

impl Cross {
    /// No vectors yet, of `columns` values.
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, count: 0, gram: Gram::new(columns, false) }
    }

    /// Adds as many vectors x as y.
    pub(super) fn add(&mut self, x: &[f32], y: &[f32], room: &mut Room) {
        let chunk = CHUNK * self.columns;
        for (x, y) in x.chunks(chunk).zip(y.chunks(chunk)) {
            room.x.cut(x, self.columns);
            room.y.cut(y, self.columns);
            self.gram.add(Kernel::fastest(), &room.x, &room.y);
            self.count += (x.len() / self.columns) as u64;
        }
    }

    /// E[x yᵀ], and of how many vectors.
    pub(super) fn mean(&self) -> (Vec<f32>, u64) {
        (self.gram.mean(self.count), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 * 2.0 - 2.0
            })
            .collect()
    }

    fn naive(x: &[f32], y: &[f32], n: usize, row: usize, column: usize) -> f64 {
        let each = x.chunks(n).zip(y.chunks(n));
        each.map(|(x, y)| f64::from(x[row]) * f64::from(y[column])).sum::<f64>() / (x.len() / n) as f64
    }

    #[test]
    fn sums_are_those_of_their_formula() {
        for (n, vectors) in [(1, 1), (5, 3), (16, 40), (33, 300), (48, 513), (300, 70)] {
            let (x, y) = (noise(n * vectors, 1), noise(n * vectors, 2));
            let mut room = Room::default();
            let (mut sums, mut cross) = (Sums::new(n), Cross::new(n));
            // In pieces that are no multiples of anything.
            for (x, y) in x.chunks(n * 37).zip(y.chunks(n * 37)) {
                sums.add(x, &mut room);
                cross.add(x, y, &mut room);
            }
            assert_eq!(sums.count, vectors as u64);
            let ((moment, mean, absolute), (product, count)) = (sums.means(), cross.mean());
            assert_eq!(count, vectors as u64);
            let near =
                |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 3e-6 * b.abs().max(1.0), "{a} {b}");
            for row in 0..n {
                for column in 0..n {
                    near(product[row * n + column], naive(&x, &y, n, row, column));
                    if column >= row {
                        near(moment[row * n + column], naive(&x, &x, n, row, column));
                    }
                }
                let own = || x.iter().skip(row).step_by(n).map(|x| f64::from(*x));
                near(mean[row], own().sum::<f64>() / vectors as f64);
                near(absolute[row], own().map(f64::abs).sum::<f64>() / vectors as f64);
            }
        }
    }

    #[test]
    fn threads_and_kernels_change_no_bit() {
        let (n, vectors) = (100, 700);
        let x = noise(n * vectors, 3);
        let run = |threads: usize, kernel: Kernel| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut sums = Sums::new(n);
            pool.install(|| sums.add_by(kernel, &x, &mut Room::default()));
            let (a, b, c) = sums.means();
            [a, b, c].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        for kernel in Kernel::all() {
            let one = run(1, kernel);
            for threads in [2, 3, 7] {
                assert_eq!(one, run(threads, kernel), "{kernel:?}, {threads} threads");
            }
        }
    }
}
