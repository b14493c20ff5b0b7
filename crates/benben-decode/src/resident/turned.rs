//! A matrix whose transpose is in memory: codewords and points that run along the outputs, as error feedback makes them.
//!
//! One vector: each stored row is expanded and added, times its activation, to all outputs. Many vectors: 16 outputs
//! at a time are expanded and multiplied.

use super::codebooks::{Codebooks, MANY};
use super::fine::Fine;
use super::node::Input;
use crate::product::{Kernel, LANES};
use rayon::prelude::*;

/// Weights of a piece, whose outputs are summed by themselves: pieces are the same for any number of threads.
const PIECE: usize = 1 << 17;

/// The transpose of what is stored.
#[derive(Debug)]
pub(super) struct Turned(pub(super) Stored);

/// What is stored: as many rows as the matrix has columns.
#[derive(Debug)]
pub(super) enum Stored {
    Codebooks(Codebooks),
    Fine(Fine),
}

impl Stored {
    fn shape(&self) -> [usize; 2] {
        match self {
            Self::Codebooks(of) => of.shape(),
            Self::Fine(of) => of.shape(),
        }
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Codebooks(of) => of.row(row, out),
            Self::Fine(of) => of.row(row, out),
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        match self {
            Self::Codebooks(of) => of.at(row, column),
            Self::Fine(of) => of.at(row, column),
        }
    }
}

impl Turned {
    pub(super) fn shape(&self) -> [usize; 2] {
        let [columns, rows] = self.0.shape();
        [rows, columns]
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.0 {
            Stored::Codebooks(of) => of.bytes(),
            Stored::Fine(of) => of.bytes(),
        }
    }

    /// Row `row`.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(column, out)| *out = self.0.at(column, row));
    }

    /// Products with all vectors of `x`.
    pub(super) fn multiply(&self, kernel: Kernel, x: &Input, out: &mut [f32]) {
        if x.vectors() >= MANY {
            return self.by_groups(kernel, x, out);
        }
        let [rows, columns] = self.shape();
        let vectors: Vec<&[f32]> = x.rows().collect();
        let each = (PIECE / rows.max(1)).max(1);
        let piece = |start: usize| {
            let mut sums = vec![0.0; vectors.len() * rows];
            let mut values = vec![0.0; rows];
            for column in start..columns.min(start + each) {
                self.0.row(column, &mut values);
                for (sums, x) in sums.chunks_mut(rows.max(1)).zip(&vectors) {
                    sums.iter_mut().zip(&values).for_each(|(s, w)| *s += w * x[column]);
                }
            }
            sums
        };
        let pieces: Vec<Vec<f32>> = (0..columns).into_par_iter().step_by(each).map(piece).collect();
        out.fill(0.0);
        for sums in pieces {
            out.iter_mut().zip(sums).for_each(|(o, s)| *o += s);
        }
    }

    fn by_groups(&self, kernel: Kernel, x: &Input, out: &mut [f32]) {
        let [rows, columns] = self.shape();
        let sums: Vec<Vec<[f32; LANES]>> = (0..rows.div_ceil(LANES))
            .into_par_iter()
            .map(|group| {
                let mut panel = vec![[0.0; LANES]; columns];
                for (column, lanes) in panel.iter_mut().enumerate() {
                    let own = &mut lanes[..LANES.min(rows - group * LANES)];
                    own.iter_mut().enumerate().for_each(|(i, w)| *w = self.0.at(column, group * LANES + i));
                }
                let mut sums = vec![[0.0; LANES]; x.vectors()];
                kernel.tile(&[&panel], &x.values, x.stride, x.vectors(), &mut sums);
                sums
            })
            .collect();
        for (v, out) in out.chunks_mut(rows.max(1)).enumerate() {
            out.chunks_mut(LANES).zip(&sums).for_each(|(o, s)| o.copy_from_slice(&s[v][..o.len()]));
        }
    }
}
