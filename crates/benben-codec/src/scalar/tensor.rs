//! One tensor with what every pass over it needs to know.

use super::coding::most;
use super::plan::{FINE_COLUMNS, FINE_ROWS, Limits};
use super::survey::Sample;
use super::{MAX_CLASSES, Settings};
use crate::exceptions;
use crate::runs::{self, Runs};
use crate::{Importance, Target};
use benben_format::Result;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;

/// Most weights of a sample; an eighth of a small tensor.
const SAMPLE: usize = 1 << 17;
/// Least weights of a sample: rates come out within 1 %, which the passes over the whole then correct.
const LEAST_SAMPLE: usize = 1 << 15;
/// Weights that a sample has side by side.
const SEGMENT: usize = 1 << 10;
/// Rows that columns are judged by, at least: with fewer, their classes would say what the weights themselves say.
const ROWS_FOR_COLUMNS: u64 = 64;
/// Bits of magnitudes that [`Tensor::beyond`] tells apart: exponent and 3 bits of mantissa.
const MAGNITUDE_SHIFT: u32 = 20;

/// A tensor, its rows and columns sorted finely by energy.
pub(super) struct Tensor<'a> {
    pub(super) values: &'a [f32],
    pub(super) runs: Runs,
    /// Columns of the tensor.
    pub(super) columns: usize,
    /// Fine class of each column; empty where columns are not told apart.
    pub(super) column_class: Vec<u8>,
    pub(super) energy: f64,
    pub(super) largest: f32,
    /// Importance of each element, of mean 1; empty where uniform.
    pub(super) importance: Vec<f32>,
    pub(super) target: Target,
    classes: usize,
    /// Weights by magnitude.
    magnitudes: OnceLock<Vec<u64>>,
}

impl<'a> Tensor<'a> {
    pub(super) fn new(values: &'a [f32], rows: u64, columns: u64, settings: &Settings<'_>) -> Result<Self> {
        let classes = settings.max_classes.clamp(1, MAX_CLASSES);
        let runs = Runs::new(values, rows, columns, if classes > 1 { FINE_ROWS } else { 1 });
        let columns = usize::try_from(columns).unwrap_or(usize::MAX);
        settings.importance.check(values.len(), columns)?;
        let column_class = if classes > 1 && rows >= ROWS_FOR_COLUMNS && columns > 1 {
            runs::sort(&column_energies(values, columns), FINE_COLUMNS)
        } else {
            Vec::new()
        };
        // Blocks of a fixed size, summed in order: no thread count changes the sum.
        let blocks: Vec<(f64, u32)> = values
            .par_chunks(1 << 14)
            .map(|block| (runs::energy(block), block.iter().map(|x| x.abs().to_bits()).max().unwrap_or(0)))
            .collect();
        Ok(Self {
            values,
            runs,
            columns,
            column_class,
            energy: blocks.iter().map(|b| b.0).sum(),
            largest: f32::from_bits(blocks.iter().map(|b| b.1).max().unwrap_or(0)),
            importance: normalized(settings.importance, values.len(), columns),
            target: settings.target,
            classes,
            magnitudes: OnceLock::new(),
        })
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { runs: self.runs.class.len(), columns: self.columns, classes: self.classes }
    }

    /// Fine classes of columns.
    pub(super) fn fine_columns(&self) -> usize {
        if self.column_class.is_empty() { 1 } else { FINE_COLUMNS }
    }

    /// `of[class]` of each column of a run, one row after the other; empty where columns are not told apart.
    pub(super) fn pattern(&self, of: &[u8; FINE_COLUMNS]) -> Vec<u8> {
        let row = self.column_class.iter().map(|&c| of[usize::from(c) % FINE_COLUMNS]);
        let rows = if self.column_class.is_empty() { 0 } else { self.runs.len / self.columns.max(1) };
        let row: Vec<u8> = row.collect();
        row.repeat(rows)
    }

    /// Segments spread evenly over the tensor; all of a small one.
    pub(super) fn sample(&self) -> Sample {
        let n = self.values.len();
        let most = (n / 8).clamp(LEAST_SAMPLE, SAMPLE);
        let ranges: Vec<Range<usize>> = if n <= most {
            (0..n).step_by(SEGMENT).map(|at| at..(at + SEGMENT).min(n)).collect()
        } else {
            let count = most / SEGMENT;
            (0..count)
                .map(|i| {
                    let at = ((n - SEGMENT) as u64 * i as u64 / (count as u64 - 1)) as usize;
                    at..at + SEGMENT
                })
                .collect()
        };
        let seen: usize = ranges.iter().map(Range::len).sum();
        Sample { ranges, scale: n as f64 / seen.max(1) as f64 }
    }

    /// At least as many weights as have a magnitude above `most`.
    pub(super) fn beyond(&self, most: f64) -> u64 {
        if f64::from(self.largest) <= most {
            return 0;
        }
        let bin = |magnitude: f32| (magnitude.to_bits() >> MAGNITUDE_SHIFT) as usize;
        let magnitudes = self.magnitudes.get_or_init(|| {
            let mut counts = vec![0u64; bin(f32::INFINITY) + 1];
            for value in self.values {
                if let Some(count) = counts.get_mut(bin(value.abs())) {
                    *count += 1;
                }
            }
            counts
        });
        magnitudes.get(bin(most as f32)..).unwrap_or_default().iter().sum()
    }

    /// The least step at which so many low bits leave no more exceptions than allowed, by no more than an eighth too
    /// large.
    pub(super) fn least_step(&self, low_bits: u8) -> f64 {
        let allowed = exceptions::limit(self.values.len() as u64);
        let reach = f64::from(most(low_bits));
        let mut magnitude = f64::from(self.largest);
        while magnitude > f64::from(f32::from_bits(1)) && self.beyond(magnitude * 0.9) <= allowed {
            magnitude *= 0.9;
        }
        magnitude / reach
    }
}

fn normalized(importance: Importance<'_>, elements: usize, columns: usize) -> Vec<f32> {
    if importance == Importance::Uniform {
        return Vec::new();
    }
    let mut of: Vec<f32> = (0..elements).map(|i| importance.of(i, columns)).collect();
    let mean = of.iter().map(|&w| f64::from(w)).sum::<f64>() / of.len().max(1) as f64;
    if mean > 0.0 {
        of.iter_mut().for_each(|w| *w = (f64::from(*w) / mean) as f32);
    } else {
        of.clear();
    }
    of
}

fn column_energies(values: &[f32], columns: usize) -> Vec<f64> {
    let block = (1usize << 16).div_ceil(columns).saturating_mul(columns);
    let sums = |rows: &[f32]| {
        let mut sums = vec![0f64; columns];
        for row in rows.chunks(columns) {
            sums.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x) * f64::from(x));
        }
        sums
    };
    let blocks: Vec<Vec<f64>> = values.par_chunks(block).map(sums).collect();
    let mut all = vec![0f64; columns];
    for block in blocks {
        all.iter_mut().zip(block).for_each(|(a, b)| *a += b);
    }
    all
}
