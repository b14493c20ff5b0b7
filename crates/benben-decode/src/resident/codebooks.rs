//! An `rvq` leaf in memory: its codewords, and for each vector of weights their numbers.
//!
//! A product computes each codeword times each part of the activations once, then looks up and adds: `1 / dim`
//! additions for each weight and stage. Many vectors at once take values in place of that.

use super::fine::by_rows;
use super::node::Input;
use crate::product::{Kernel, LANES};
use benben_codec::rvq::Part;
use rayon::prelude::*;

/// Positions whose tables stay in the first-level cache: 32 of 1 kB.
const POSITIONS: usize = 32;
/// Rows of one piece of work.
const ROWS: usize = 8 * LANES;
/// Vectors from which on values are dearer to look up than to multiply.
pub(super) const MANY: usize = 8;

/// One stage of one group.
#[derive(Debug)]
struct Stage {
    /// First vector of a row, and vectors of a row.
    first: usize,
    count: usize,
    /// Number of codewords.
    size: usize,
    /// Coordinate `i` of all codewords, for each `i`: tables are made of them.
    coordinates: Vec<f32>,
    /// Codewords one after the other: rows are made of them.
    words: Vec<f32>,
    /// Codeword of each vector, row after row.
    codes: Vec<u8>,
}

/// A matrix.
#[derive(Debug)]
pub(super) struct Codebooks {
    rows: usize,
    columns: usize,
    dim: usize,
    /// Whether vectors cross rows; then there is one group.
    crossing: bool,
    stages: Vec<Stage>,
}

impl Codebooks {
    /// The matrix of `parts`, `single` where there is one group: otherwise vectors do not cross rows.
    pub(super) fn new(rows: usize, columns: usize, dim: usize, parts: Vec<Part>, single: bool) -> Self {
        let stage = |part: Part| {
            let (first, count) = match usize::try_from(part.positions.start) {
                Ok(start) if !single => (start, part.codes.len() / rows.max(1)),
                _ => (0, columns / dim),
            };
            let size = part.words.len() / dim;
            let coordinates =
                (0..dim).flat_map(|i| part.words.iter().skip(i).step_by(dim)).copied().collect();
            Stage { first, count, size, coordinates, words: part.words, codes: part.codes }
        };
        let crossing = !columns.is_multiple_of(dim);
        Self { rows, columns, dim, crossing, stages: parts.into_iter().map(stage).collect() }
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    pub(super) fn bytes(&self) -> usize {
        self.stages.iter().map(|s| 2 * size_of_val(&*s.words) + s.codes.len()).sum()
    }

    /// Most bytes of a matrix of so many groups and stages: a byte for each vector and stage, 256 codewords each.
    pub(super) fn most_bytes(rows: usize, columns: usize, dim: usize, groups: u16, stages: u8) -> usize {
        let codes = rows.saturating_mul(columns).div_ceil(dim.max(1)).saturating_mul(stages.into());
        let books = usize::from(groups) * usize::from(stages) * (2 * 256 * dim * size_of::<f32>());
        codes.saturating_add(books)
    }

    /// Row `row`: codewords are added in the order of their stages.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        out.fill(0.0);
        if self.crossing {
            return self.crossing_row(row, out);
        }
        let mut written = vec![false; self.columns / self.dim];
        for stage in &self.stages {
            let codes = &stage.codes[row * stage.count..][..stage.count];
            let vectors = out[stage.first * self.dim..].chunks_mut(self.dim);
            for ((out, &code), written) in vectors.zip(codes).zip(&mut written[stage.first..]) {
                let word = &stage.words[usize::from(code) * self.dim..][..self.dim];
                // The first codeword is the value, also where it is -0.0.
                if std::mem::replace(written, true) {
                    out.iter_mut().zip(word).for_each(|(o, w)| *o += w);
                } else {
                    out.copy_from_slice(word);
                }
            }
        }
    }

    /// One value.
    pub(super) fn at(&self, row: usize, column: usize) -> f32 {
        let element = row * self.columns + column;
        let words = self.stages.iter().filter_map(|stage| {
            // Of the row's vectors those of the stage, unless they cross rows: then all are.
            let (vector, i) = if self.crossing {
                (element / self.dim, element % self.dim)
            } else {
                let within = (column / self.dim).checked_sub(stage.first).filter(|&v| v < stage.count)?;
                (row * stage.count + within, column % self.dim)
            };
            Some(stage.words[usize::from(stage.codes[vector]) * self.dim + i])
        });
        // The first codeword is the value, also where it is -0.0.
        words.reduce(|sum, word| sum + word).unwrap_or(0.0)
    }

    /// Row `row` of vectors that follow each other through all rows.
    fn crossing_row(&self, row: usize, out: &mut [f32]) {
        let start = row * self.columns;
        for (number, stage) in self.stages.iter().enumerate() {
            let (mut vector, mut skip) = (start / self.dim, start % self.dim);
            let mut rest = &mut *out;
            while !rest.is_empty() {
                let (own, others) = rest.split_at_mut(rest.len().min(self.dim - skip));
                let code = usize::from(stage.codes[vector]);
                let word = &stage.words[code * self.dim + skip..];
                for (out, word) in own.iter_mut().zip(word) {
                    *out = if number > 0 { *out + word } else { *word };
                }
                (rest, vector, skip) = (others, vector + 1, 0);
            }
        }
    }

    /// Products with all vectors of `x`.
    pub(super) fn multiply(&self, kernel: Kernel, x: &Input, out: &mut [f32]) {
        if self.crossing {
            return by_rows(self.shape(), x, out, |row, values| self.row(row, values));
        }
        let (vectors, stride, x) = (x.vectors(), x.stride, &x.values[..]);
        if vectors < MANY {
            for (x, out) in x.chunks(stride).zip(out.chunks_mut(self.rows)) {
                self.look_up(&x[..self.columns], out);
            }
            return;
        }
        let sums: Vec<Vec<[f32; LANES]>> = (0..self.rows.div_ceil(LANES))
            .into_par_iter()
            .map(|group| {
                let mut panel = vec![[0.0; LANES]; self.columns];
                let mut row = vec![0.0; self.columns];
                for lane in 0..LANES.min(self.rows - group * LANES) {
                    self.row(group * LANES + lane, &mut row);
                    panel.iter_mut().zip(&row).for_each(|(p, w)| p[lane] = *w);
                }
                let mut sums = vec![[0.0; LANES]; vectors];
                kernel.tile(&[&panel], x, stride, vectors, &mut sums);
                sums
            })
            .collect();
        for (v, out) in out.chunks_mut(self.rows).enumerate() {
            out.chunks_mut(LANES).zip(&sums).for_each(|(o, s)| o.copy_from_slice(&s[v][..o.len()]));
        }
    }

    /// Products of one vector by tables.
    fn look_up(&self, x: &[f32], out: &mut [f32]) {
        let tables: Vec<Vec<f32>> = self.stages.iter().map(|s| s.tables(x, self.dim)).collect();
        out.par_chunks_mut(ROWS).enumerate().for_each(|(piece, out)| {
            out.fill(0.0);
            for (stage, tables) in self.stages.iter().zip(&tables) {
                for start in (0..stage.count).step_by(POSITIONS) {
                    let end = stage.count.min(start + POSITIONS);
                    let tables = &tables[start * stage.size..end * stage.size];
                    for (r, y) in out.iter_mut().enumerate() {
                        let codes = &stage.codes[(piece * ROWS + r) * stage.count..][start..end];
                        *y += sum(codes, tables, stage.size);
                    }
                }
            }
        });
    }
}

impl Stage {
    /// Every codeword times every part of `x` that it is used for, position after position.
    fn tables(&self, x: &[f32], dim: usize) -> Vec<f32> {
        let mut tables = vec![0.0; self.count * self.size];
        let parts = x[self.first * dim..].par_chunks(dim);
        tables.par_chunks_mut(self.size).zip(parts).with_min_len(POSITIONS).for_each(|(table, x)| {
            for (words, x) in self.coordinates.chunks(self.size).zip(x) {
                table.iter_mut().zip(words).for_each(|(t, w)| *t += w * x);
            }
        });
        tables
    }
}

/// Entries of `codes`, one of each table of `size`, in four sums.
fn sum(codes: &[u8], tables: &[f32], size: usize) -> f32 {
    let mut sums = [0f32; 4];
    for (i, (&code, table)) in codes.iter().zip(tables.chunks(size)).enumerate() {
        sums[i % 4] += table[usize::from(code)];
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}
