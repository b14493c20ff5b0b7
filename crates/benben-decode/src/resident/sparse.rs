//! A `sparse` value in memory: where its groups are, and their values in the narrowest form that is exact.
//!
//! Values take 1 byte where there are at most 256 different ones (integers of one step, as a rule), 2 as f16 or as the
//! number of one of at most 65536, else 4. Places take a bit for each group of the matrix, or 2 to 4 bytes for each kept
//! one where those are fewer. At 1 of 10 single elements kept, of a leaf of 6 bits, that is 0.23 bytes a weight.

use super::dictionary::{Dictionary, Read};
use super::node::Input;
use benben_format::{Error, Result, in_memory};
use rayon::prelude::*;

/// Vectors that are multiplied together, and the least kept values that a thread takes.
const TOGETHER: usize = 16;
const SHARE: usize = 1 << 14;

/// A matrix that is 0 but for some groups.
#[derive(Debug)]
pub(super) struct Sparse {
    rows: usize,
    columns: usize,
    group: [usize; 2],
    /// Number of the first kept group of each band of groups, and of all.
    starts: Vec<usize>,
    places: Places,
    values: Dictionary,
}

/// Which groups of a band are kept.
#[derive(Debug)]
enum Places {
    /// A bit for each; bands begin with a word.
    Bits(Vec<u64>),
    /// Their numbers within the band.
    Near(Vec<u16>),
    Far(Vec<u32>),
}

impl Sparse {
    /// The places of a mask, whose values are `kept` groups and still to come.
    ///
    /// # Errors
    /// Corruption where the mask keeps another number of groups.
    pub(super) fn new(
        [rows, columns]: [usize; 2],
        group: [usize; 2],
        mask: &[u8],
        kept: u64,
    ) -> Result<Self> {
        let total = mask.iter().filter(|&&k| k != 0).count();
        if total as u64 != kept {
            return Err(Error::corruption(format!(
                "sparse: the mask keeps {total} groups, {kept} are stored"
            )));
        }
        let across = columns / group[1];
        let mut starts = Vec::with_capacity(rows / group[0] + 1);
        starts.push(0);
        let bands = || mask.chunks(across.max(1));
        for band in bands() {
            let before = starts.last().copied().unwrap_or(0);
            starts.push(before + band.iter().filter(|&&k| k != 0).count());
        }
        starts.resize(rows / group[0] + 1, total);
        let kept_of = |band: &'_ [u8]| -> Vec<usize> {
            band.iter().enumerate().filter(|(_, k)| **k != 0).map(|(i, _)| i).collect()
        };
        #[allow(clippy::cast_possible_truncation, reason = "numbers of groups of a band, seen to fit")]
        let places = match Self::width(rows / group[0], across, total) {
            0 => {
                let words = across.div_ceil(64);
                let mut bits = vec![0u64; bands().len() * words];
                for (bits, band) in bits.chunks_mut(words.max(1)).zip(bands()) {
                    kept_of(band).into_iter().for_each(|i| bits[i / 64] |= 1 << (i % 64));
                }
                Places::Bits(bits)
            }
            2 => Places::Near(bands().flat_map(kept_of).map(|i| i as u16).collect()),
            _ => Places::Far(bands().flat_map(kept_of).map(|i| i as u32).collect()),
        };
        Ok(Self {
            rows,
            columns,
            group,
            starts,
            places,
            values: Dictionary::new(total * group[0] * group[1]),
        })
    }

    /// Bytes of a place, 0 where bits for all are fewer.
    fn width(bands: usize, across: usize, kept: usize) -> usize {
        let bits = bands.saturating_mul(across.div_ceil(64) * 8);
        let each = if across <= 1 << 16 { 2 } else { 4 };
        if bits <= kept.saturating_mul(each) || across > u32::MAX as usize { 0 } else { each }
    }

    /// Appends the values of the next groups.
    pub(super) fn push(&mut self, values: &[f32]) {
        self.values.push(values);
    }

    /// All values are there.
    pub(super) fn finish(mut self) -> Self {
        self.values.finish();
        self
    }

    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    pub(super) fn bytes(&self) -> usize {
        let places = match &self.places {
            Places::Bits(words) => size_of_val(&**words),
            Places::Near(places) => size_of_val(&**places),
            Places::Far(places) => size_of_val(&**places),
        };
        size_of_val(&*self.starts) + places + self.values.bytes()
    }

    /// Most bytes of a matrix with `kept` groups.
    pub(super) fn most_bytes([rows, columns]: [u64; 2], group: [u32; 2], kept: u64) -> Result<usize> {
        let [down, across] = [rows / u64::from(group[0]), columns / u64::from(group[1])];
        let (down, across, kept) = (in_memory(down)?, in_memory(across)?, in_memory(kept)?);
        let places = match Self::width(down, across, kept) {
            0 => down.saturating_mul(across.div_ceil(64) * 8),
            each => kept.saturating_mul(each),
        };
        let values = kept.saturating_mul(group[0] as usize).saturating_mul(group[1] as usize);
        let starts = (down + 1).saturating_mul(size_of::<usize>());
        Ok(starts.saturating_add(places).saturating_add(Dictionary::most_bytes(values)))
    }

    /// Calls `of` with each kept group of a band: its number among all, and its first column.
    #[inline(always)]
    fn each(&self, band: usize, mut of: impl FnMut(usize, usize)) {
        let (start, end) = (self.starts[band], self.starts[band + 1]);
        let width = self.group[1];
        match &self.places {
            Places::Near(places) => {
                let own = places[start..end].iter().enumerate();
                own.for_each(|(i, &place)| of(start + i, usize::from(place) * width));
            }
            Places::Far(places) => {
                let own = places[start..end].iter().enumerate();
                own.for_each(|(i, &place)| of(start + i, place as usize * width));
            }
            Places::Bits(words) => {
                let count = (self.columns / width).div_ceil(64);
                let mut at = start;
                for (i, &word) in words[band * count..(band + 1) * count].iter().enumerate() {
                    let mut left = word;
                    while left != 0 {
                        of(at, (64 * i + left.trailing_zeros() as usize) * width);
                        left &= left - 1;
                        at += 1;
                    }
                }
            }
        }
    }

    /// Row `row`.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        out.fill(0.0);
        let [height, width] = self.group;
        self.each(row / height, |number, column| {
            let first = (number * height + row % height) * width;
            let own = out[column..column + width].iter_mut().enumerate();
            own.for_each(|(i, o)| *o = self.values.get(first + i));
        });
    }

    /// Products with all vectors of `x`: each output by one thread, groups in the order of their columns.
    pub(super) fn multiply(&self, x: &Input, out: &mut [f32]) {
        let vectors = x.vectors();
        let kept = self.starts.last().copied().unwrap_or(0) * self.group[0] * self.group[1];
        let rows = (SHARE * self.rows.max(1) / kept.max(1)).max(1);
        if let [x] = &x.rows().collect::<Vec<_>>()[..] {
            let pieces = out.par_chunks_mut(rows).enumerate();
            pieces.for_each(|(piece, out)| self.values.read(One { of: self, first: piece * rows, x, out }));
            return;
        }
        // Column after column, all vectors of it side by side.
        for first in (0..vectors).step_by(TOGETHER) {
            let mut side = vec![[0.0; TOGETHER]; self.columns];
            for (v, x) in x.rows().skip(first).take(TOGETHER).enumerate() {
                side.iter_mut().zip(x).for_each(|(s, x)| s[v] = *x);
            }
            let mut sums = vec![[0.0; TOGETHER]; self.rows];
            sums.par_chunks_mut(rows).enumerate().for_each(|(piece, out)| {
                self.values.read(Many { of: self, first: piece * rows, x: &side, out });
            });
            for (v, out) in out.chunks_mut(self.rows.max(1)).skip(first).take(TOGETHER).enumerate() {
                out.iter_mut().zip(&sums).for_each(|(o, s)| *o = s[v]);
            }
        }
    }

    /// Calls `of` with number and column of each kept value of a row.
    #[inline(always)]
    fn elements(&self, row: usize, mut of: impl FnMut(usize, usize)) {
        let [height, width] = self.group;
        self.each(row / height, |number, column| {
            let first = (number * height + row % height) * width;
            (0..width).for_each(|i| of(first + i, column + i));
        });
    }
}

/// Rows times one vector.
struct One<'a> {
    of: &'a Sparse,
    first: usize,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Read for One<'_> {
    #[inline(always)]
    fn with(self, get: impl Fn(usize) -> f32) {
        for (i, y) in self.out.iter_mut().enumerate() {
            // Four sums: an addition need not wait for the one before.
            let mut sums = [0f32; 4];
            self.of.elements(self.first + i, |number, column| {
                sums[number % 4] += get(number) * self.x[column];
            });
            *y = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        }
    }
}

/// Rows times several.
struct Many<'a> {
    of: &'a Sparse,
    first: usize,
    x: &'a [[f32; TOGETHER]],
    out: &'a mut [[f32; TOGETHER]],
}

impl Read for Many<'_> {
    #[inline(always)]
    fn with(self, get: impl Fn(usize) -> f32) {
        for (i, sums) in self.out.iter_mut().enumerate() {
            self.of.elements(self.first + i, |number, column| {
                let weight = get(number);
                sums.iter_mut().zip(&self.x[column]).for_each(|(s, x)| *s += weight * x);
            });
        }
    }
}
