//! Side information of a leaf, stream 0: the grid and the tables, in the layout that the codec's page gives.

use super::gain::{Class, Grid, MAX_CLASSES, STEP_LIMIT};
use super::pyramid::{MAX_PULSES, Pyramid};
use crate::entropy::{SideReader, SideWriter, Table};
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
    /// Tables of heads, by class; none where there are no heads.
    pub(super) heads: Vec<Table>,
}

impl Side {
    /// Appends the stored form.
    ///
    /// # Errors
    /// InvalidArgument for more than 16 tables of a kind.
    pub(super) fn write(&self, side: &mut SideWriter) -> Result<()> {
        side.f32(self.grid.step);
        side.u8(self.head_bits);
        side.varint(self.run.into());
        side.u8(self.grid.classes.len() as u8);
        for class in &self.grid.classes {
            side.u8(class.first);
            side.varint(class.pulses.into());
        }
        side.tables(&self.gains)?;
        side.tables(&self.heads)
    }

    /// Reads what [`Side::write`] made, which fills all of `bytes`, and counts the pyramid of its classes.
    ///
    /// # Errors
    /// Corruption where a field is out of its bounds.
    pub(super) fn read(bytes: &[u8], dim: usize) -> Result<(Self, Pyramid)> {
        let wrong = |what: &str| Error::corruption(format!("pvq side information: {what}"));
        let mut side = SideReader::new(bytes);
        let (step, head_bits) = (side.f32()?, side.u8()?);
        let run = side.varint_at_most(u32::MAX.into())? as u32;
        if !(step > 0.0 && step < STEP_LIMIT) || head_bits > 8 || run == 0 {
            return Err(wrong(&format!(
                "step {step}, {head_bits} head bits, runs of {run}; expected a step above 0 and \
                 below 2^112, at most 8 head bits, and runs of 1 or more"
            )));
        }
        let count = side.u8()?;
        if usize::from(count) > MAX_CLASSES {
            return Err(wrong(&format!("{count} classes, expected at most {MAX_CLASSES}")));
        }
        let mut classes: Vec<Class> = Vec::new();
        for _ in 0..count {
            let first = side.u8()?;
            let pulses = side.varint_at_most(MAX_PULSES as u64)? as u16;
            if first <= classes.last().map_or(0, |c| c.first) || pulses == 0 {
                return Err(wrong(&format!(
                    "class from symbol {first} of {pulses} pulses after {classes:?}, expected rising first \
                     symbols from 1 and at least 1 pulse"
                )));
            }
            classes.push(Class { first, pulses });
        }
        let most = classes.iter().map(|c| usize::from(c.pulses)).max().unwrap_or(0);
        let pyramid = Pyramid::new(dim, most).map_err(|e| wrong(e.message()))?;
        let (gains, heads) = (side.tables()?, side.tables()?);
        let expected = if head_bits == 0 { 0 } else { classes.len() + 1 };
        if gains.is_empty() || heads.len() != expected {
            return Err(wrong(&format!(
                "{} tables of gains and {} of heads, expected at least 1 and {expected}",
                gains.len(),
                heads.len()
            )));
        }
        side.finish()?;
        Ok((Self { grid: Grid { step, classes }, head_bits, run, gains, heads }, pyramid))
    }

    /// Width of an index's tail by class: all of its bits but the head's.
    pub(super) fn tail_bits(&self, pyramid: &Pyramid) -> Vec<u32> {
        tail_bits(&self.grid, pyramid, self.head_bits)
    }
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
