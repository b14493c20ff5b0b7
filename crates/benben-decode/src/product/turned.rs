//! Integers of a matrix that is stored column after column, until they are packed.
//!
//! A stored row touches every group of 16 rows, so that all of them have to be there before the first is packed. They
//! lie as they are stored: the 16 rows of a group are side by side in each column, and packing needs no transposition.

use super::packing::LANES;
use rayon::prelude::*;

/// Elements for each that a byte does not hold, below which those lie beside the bytes: 16 bytes each.
const RARE: usize = 16;
/// Elements that one thread narrows at a time.
const PIECE: usize = 1 << 14;

/// Integers of ten bits, in one byte each where that holds nearly all of them.
#[derive(Debug)]
pub(crate) struct Turned {
    rows: usize,
    columns: usize,
    kept: Kept,
    filled: usize,
}

#[derive(Debug)]
enum Kept {
    /// Bytes, and by place those integers that a byte does not hold.
    Narrow(Vec<i8>, Vec<(usize, i16)>),
    Wide(Vec<i16>),
}

impl Turned {
    /// Room for a matrix.
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        let kept = Kept::Narrow(vec![0; rows * columns], Vec::new());
        Self { rows, columns, kept, filled: 0 }
    }

    /// Takes the next integers, which are whole.
    #[allow(clippy::cast_possible_truncation, reason = "ten bits")]
    pub(crate) fn push(&mut self, integers: &[f32]) {
        let start = self.filled;
        self.filled += integers.len();
        let most = self.rows * self.columns / RARE;
        match &mut self.kept {
            Kept::Wide(all) => {
                let own = all[start..self.filled].par_chunks_mut(PIECE).zip(integers.par_chunks(PIECE));
                own.for_each(|(own, new)| own.iter_mut().zip(new).for_each(|(o, q)| *o = *q as i16));
            }
            Kept::Narrow(all, far) => {
                let own = all[start..self.filled].par_chunks_mut(PIECE).zip(integers.par_chunks(PIECE));
                let narrow = |(piece, (own, new)): (usize, (&mut [i8], &[f32]))| {
                    own.iter_mut().zip(new).for_each(|(o, q)| *o = *q as i8);
                    // Casts saturate; hardly any piece has one that did.
                    let beyond = own.iter().zip(new).any(|(o, q)| f32::from(*o) != *q);
                    let place = start + piece * PIECE;
                    let all = new.iter().enumerate().filter(|_| beyond);
                    let far = all.filter(|(_, q)| f32::from(**q as i8) != **q);
                    far.map(|(i, q)| (place + i, *q as i16)).collect::<Vec<_>>()
                };
                far.extend(own.enumerate().map(narrow).collect::<Vec<_>>().into_iter().flatten());
                if far.len() > most {
                    let mut wide: Vec<i16> = all.iter().map(|&q| q.into()).collect();
                    far.iter().for_each(|&(at, q)| wide[at] = q);
                    self.kept = Kept::Wide(wide);
                }
            }
        }
    }

    /// The 16 rows of group `group`, by column; rows that are not there are 0.
    pub(crate) fn group(&self, group: usize) -> Vec<[i32; LANES]> {
        match &self.kept {
            Kept::Wide(all) => self.columns_of(group, all),
            Kept::Narrow(all, far) => {
                let mut out = self.columns_of(group, all);
                if far.is_empty() {
                    return out;
                }
                let first = group * LANES;
                for (column, out) in out.iter_mut().enumerate() {
                    let start = column * self.rows + first;
                    let end = start + LANES.min(self.rows - first);
                    let from = far.partition_point(|f| f.0 < start);
                    let own = far[from..].iter().take_while(|f| f.0 < end);
                    own.for_each(|&(at, q)| out[at - start] = q.into());
                }
                out
            }
        }
    }

    fn columns_of<T: Copy + Into<i32>>(&self, group: usize, all: &[T]) -> Vec<[i32; LANES]> {
        let first = group * LANES;
        let count = LANES.min(self.rows - first);
        let column = |column: &[T]| {
            let mut out = [0; LANES];
            match column[first..first + count].first_chunk::<LANES>() {
                Some(whole) => out = whole.map(Into::into),
                None => out.iter_mut().zip(&column[first..]).for_each(|(o, &q)| *o = q.into()),
            }
            out
        };
        all.chunks_exact(self.rows).map(column).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_by_group() {
        for (rows, columns, wild) in [(16, 5, 0), (37, 70, 100), (40, 33, 2), (5, 3, 1)] {
            #[allow(clippy::cast_possible_truncation, reason = "below 255")]
            let value = |i: usize| {
                let q = (i * 37 % 255) as i32 - 127;
                if wild > 0 && i.is_multiple_of(wild) { 2 * q } else { q }
            };
            let all: Vec<f32> = (0..rows * columns).map(|i| value(i) as f32).collect();
            let mut turned = Turned::new(rows, columns);
            all.chunks(rows * 2).for_each(|part| turned.push(part));
            assert_eq!(matches!(turned.kept, Kept::Wide(_)), (1..=2).contains(&wild));
            for group in 0..rows.div_ceil(LANES) {
                for (column, lanes) in turned.group(group).iter().enumerate() {
                    for (lane, q) in lanes.iter().enumerate() {
                        let row = group * LANES + lane;
                        let expected = if row < rows { value(column * rows + row) } else { 0 };
                        assert_eq!(*q, expected, "row {row}, column {column}");
                    }
                }
            }
        }
    }
}
