//! Integers that panels have no form for: points of `pvq`, each group with a gain of its own, vectors of `rvq` that cross
//! rows, integers of `scalar` above 6 bits. Rows are expanded as they are multiplied, for all vectors at once.

use super::node::{Input, dot};
use benben_codec::lattice::Lattice;
use rayon::prelude::*;

/// Values that a thread takes at least.
const SHARE: usize = 1 << 14;

/// A matrix.
#[derive(Debug)]
pub(super) struct Fine {
    rows: usize,
    columns: usize,
    codes: Codes,
    meaning: Meaning,
}

#[derive(Debug)]
enum Codes {
    Bytes(Vec<i8>),
    Words(Vec<i16>),
}

/// From integers to values.
#[derive(Debug)]
pub(super) enum Meaning {
    /// `gains[element / dim] * integer`.
    Gains { dim: usize, gains: Vec<f32> },
    /// One step for all.
    Lattice(Box<Lattice>),
}

impl Fine {
    /// Room for a matrix whose integers mean the same.
    pub(super) fn new(rows: usize, columns: usize, meaning: Meaning) -> Self {
        Self { rows, columns, codes: Codes::Bytes(Vec::with_capacity(rows * columns)), meaning }
    }

    /// Appends integers, which are whole and of 16 bits.
    #[allow(clippy::cast_possible_truncation, reason = "seen to fit")]
    pub(super) fn push(&mut self, integers: &[f32]) {
        if let Codes::Bytes(bytes) = &mut self.codes {
            if integers.iter().all(|q| f32::from(*q as i8) == *q) {
                bytes.extend(integers.iter().map(|q| *q as i8));
                return;
            }
            let mut wide = Vec::with_capacity(self.rows * self.columns);
            wide.extend(bytes.iter().map(|&q| i16::from(q)));
            self.codes = Codes::Words(wide);
        }
        if let Codes::Words(words) = &mut self.codes {
            words.extend(integers.iter().map(|q| *q as i16));
        }
    }

    /// Appends the gains of groups.
    pub(super) fn push_gains(&mut self, more: &[f32]) {
        if let Meaning::Gains { gains, .. } = &mut self.meaning {
            gains.extend_from_slice(more);
        }
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    pub(super) fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Bytes(codes) => codes.len(),
            Codes::Words(codes) => size_of_val(&**codes),
        };
        codes
            + match &self.meaning {
                Meaning::Gains { gains, .. } => size_of_val(&**gains),
                Meaning::Lattice(of) => size_of_val(&*of.shifts) + size_of_val(&*of.exceptions),
            }
    }

    /// Row `row`.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        let first = row * self.columns;
        match &self.codes {
            Codes::Bytes(codes) => self.values(first, &codes[first..first + self.columns], out),
            Codes::Words(codes) => self.values(first, &codes[first..first + self.columns], out),
        }
    }

    /// One value.
    pub(super) fn at(&self, row: usize, column: usize) -> f32 {
        let at = row * self.columns + column;
        let mut value = [0.0];
        match &self.codes {
            Codes::Bytes(codes) => self.values(at, &codes[at..=at], &mut value),
            Codes::Words(codes) => self.values(at, &codes[at..=at], &mut value),
        }
        value[0]
    }

    fn values<T: Copy + Into<f32> + Into<i32>>(&self, first: usize, codes: &[T], out: &mut [f32]) {
        match &self.meaning {
            Meaning::Gains { dim, gains } => {
                // Vectors may cross rows: the first and the last may be cut.
                let lead = (dim - first % dim) % dim;
                let lead = lead.min(codes.len());
                let scale = |out: &mut [f32], codes: &[T], gain: f32| {
                    out.iter_mut().zip(codes).for_each(|(o, &q)| *o = gain * Into::<f32>::into(q));
                };
                if lead > 0 {
                    scale(&mut out[..lead], &codes[..lead], gains[first / dim]);
                }
                let gains = &gains[(first + lead) / dim..];
                let vectors = out[lead..].chunks_mut(*dim).zip(codes[lead..].chunks(*dim));
                vectors.zip(gains).for_each(|((out, codes), gain)| scale(out, codes, *gain));
            }
            Meaning::Lattice(lattice) => {
                out.iter_mut().zip(codes).for_each(|(o, &q)| *o = lattice.value(q.into()));
                let end = (first + codes.len()) as u64;
                let from = lattice.exceptions.partition_point(|e| e.0 < first as u64);
                for &(at, value) in lattice.exceptions[from..].iter().take_while(|e| e.0 < end) {
                    #[allow(clippy::cast_possible_truncation, reason = "an element of this row")]
                    let at = at as usize - first;
                    out[at] = value;
                }
            }
        }
    }

    /// Products with all vectors of `x`: each output by one thread, in one order.
    pub(super) fn multiply(&self, x: &Input, out: &mut [f32]) {
        by_rows([self.rows, self.columns], x, out, |row, values| self.row(row, values));
    }
}

/// Products of rows that are expanded one at a time, each for all vectors.
pub(super) fn by_rows(
    [rows, columns]: [usize; 2],
    x: &Input,
    out: &mut [f32],
    row: impl Fn(usize, &mut [f32]) + Sync,
) {
    let vectors: Vec<&[f32]> = x.rows().collect();
    let each = (SHARE / columns.max(1)).max(1);
    // Row after row, the outputs of all vectors side by side.
    let mut sums = vec![0.0; rows * vectors.len()];
    sums.par_chunks_mut((each * vectors.len()).max(1)).enumerate().for_each(|(piece, sums)| {
        let mut values = vec![0.0; columns];
        for (i, sums) in sums.chunks_mut(vectors.len().max(1)).enumerate() {
            row(piece * each + i, &mut values);
            sums.iter_mut().zip(&vectors).for_each(|(s, x)| *s = dot(&values, x));
        }
    });
    for (v, out) in out.chunks_mut(rows.max(1)).enumerate() {
        let own = sums.iter().skip(v).step_by(vectors.len().max(1));
        out.iter_mut().zip(own).for_each(|(o, s)| *o = *s);
    }
}
