//! Side information of a leaf, stream 0: the grid and the tables, in the layout that the codec's page gives.

use super::gain::{Class, Grid, MAX_CLASSES};
use super::pyramid::Pyramid;
use crate::entropy::Table;
use benben_format::{Error, Result};

/// Everything that a decoder needs besides the streams of groups.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Side {
    pub(super) grid: Grid,
    /// Most bits of an index that are coded as its head, 0 to 8.
    pub(super) head_bits: u8,
    /// Groups of one run; all groups of a run have the same band.
    pub(super) run: u32,
    /// Tables of gain symbols, by band.
    pub(super) gains: Vec<Table>,
    /// Tables of heads, by class; the first, of zero groups, is implied.
    pub(super) heads: Vec<Table>,
}

impl Side {
    /// Bytes before the classes.
    const FIXED: usize = 12;

    /// Appends the stored form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.grid.step.to_le_bytes());
        out.extend_from_slice(&self.run.to_le_bytes());
        out.extend_from_slice(&[
            self.grid.low,
            self.head_bits,
            self.grid.classes.len() as u8,
            self.gains.len() as u8,
        ]);
        for class in &self.grid.classes {
            out.push(class.first);
            out.extend_from_slice(&class.pulses.to_le_bytes());
        }
        for table in self.gains.iter().chain(self.heads.iter().skip(1)) {
            table.write(out);
        }
    }

    /// Reads what [`Side::write`] made, which fills all of `bytes`, and counts the pyramid of its classes.
    ///
    /// # Errors
    /// Corruption where a field is out of its bounds.
    pub(super) fn read(mut bytes: &[u8], dim: usize) -> Result<(Self, Pyramid)> {
        let wrong = |what: &str| Error::corruption(format!("pvq side information: {what}"));
        let (fixed, rest) = bytes.split_at_checked(Self::FIXED).ok_or_else(|| wrong("ends early"))?;
        let word = |at: usize| {
            let mut b = [0; 4];
            b.copy_from_slice(&fixed[at..at + 4]);
            b
        };
        let (step, run) = (f32::from_le_bytes(word(0)), u32::from_le_bytes(word(4)));
        let [low, head_bits, classes, bands] = word(8);
        if !(step > 0.0 && step < 2f32.powi(112)) {
            return Err(wrong(&format!("step {step}, expected above 0 and below 2^112")));
        }
        if run == 0 || low > 8 || head_bits > 8 || !(1..=16).contains(&bands) {
            return Err(wrong(&format!(
                "run {run}, low bits {low}, head bits {head_bits}, bands {bands}; expected 1 or more, at most 8, \
                 at most 8, 1 to 16"
            )));
        }
        if usize::from(classes) > MAX_CLASSES {
            return Err(wrong(&format!("{classes} classes, expected at most {MAX_CLASSES}")));
        }
        let (listed, rest) =
            rest.split_at_checked(usize::from(classes) * 3).ok_or_else(|| wrong("ends within classes"))?;
        let classes: Vec<Class> = listed
            .chunks_exact(3)
            .map(|c| Class { first: c[0], pulses: u16::from_le_bytes([c[1], c[2]]) })
            .collect();
        if !classes.is_sorted_by(|a, b| a.first < b.first)
            || classes.iter().any(|c| c.first == 0 || c.pulses == 0)
        {
            return Err(wrong(&format!(
                "classes {classes:?}, expected rising first symbols from 1 and pulses"
            )));
        }
        let most = classes.iter().map(|c| usize::from(c.pulses)).max().unwrap_or(0);
        let pyramid = Pyramid::new(dim, most).map_err(|e| wrong(e.message()))?;
        bytes = rest;
        let gains = (0..bands).map(|_| Table::read(&mut bytes)).collect::<Result<Vec<_>>>()?;
        let mut heads = vec![zero_head()];
        if head_bits > 0 {
            for _ in 0..classes.len() {
                heads.push(Table::read(&mut bytes)?);
            }
        }
        if !bytes.is_empty() {
            return Err(wrong(&format!("{} bytes left over", bytes.len())));
        }
        Ok((Self { grid: Grid { step, low, classes }, head_bits, run, gains, heads }, pyramid))
    }

    /// Width of an index's tail by class: all of its bits but the head's.
    pub(super) fn tail_bits(&self, pyramid: &Pyramid) -> Vec<u32> {
        tail_bits(&self.grid, pyramid, self.head_bits)
    }
}

/// The table of zero groups: their head is always 0 and costs nothing.
pub(super) fn zero_head() -> Table {
    Table::from_counts(&[1])
}

/// Width of an index's tail by class where at most `head_bits` of its bits are its head.
pub(super) fn tail_bits(grid: &Grid, pyramid: &Pyramid, head_bits: u8) -> Vec<u32> {
    (0..=grid.classes.len() as u8)
        .map(|class| {
            let last = pyramid.count(usize::from(grid.pulses(class))).saturating_sub(1);
            (u64::BITS - last.leading_zeros()).saturating_sub(u32::from(head_bits))
        })
        .collect()
}
