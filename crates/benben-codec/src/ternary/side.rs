//! Side information of a leaf, stream 0, in the layout that the codec's page gives.

use crate::entropy::{SideReader, SideWriter, Table};
use benben_format::{Error, Result};

/// Longest run: added to a number of elements it does not leave u64.
const MAX_RUN: u64 = 1 << 62;

/// Everything that a decoder needs besides the streams.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Side {
    /// Unit of the levels.
    pub(super) unit: f32,
    /// Elements that share a pair of levels.
    pub(super) level_run: u64,
    /// Elements that share a band, or (dictionary) a block of codewords.
    pub(super) run: u64,
    /// Table of level codes; at most one.
    pub(super) levels: Vec<Table>,
    /// Tables of trits, by band; none with the dictionary.
    pub(super) trits: Vec<Table>,
}

impl Side {
    /// The stored form.
    ///
    /// # Errors
    /// InvalidArgument for more than 16 tables.
    pub(super) fn write(&self) -> Result<Vec<u8>> {
        let mut side = SideWriter::new();
        side.f32(self.unit);
        side.varint(self.level_run);
        side.varint(self.run);
        side.tables(&self.levels)?;
        side.tables(&self.trits)?;
        Ok(side.into_bytes())
    }

    /// Reads what [`Side::write`] made.
    ///
    /// # Errors
    /// Corruption where a field is out of its bounds.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut side = SideReader::new(bytes);
        let unit = side.f32()?;
        let (level_run, run) = (side.varint_at_most(MAX_RUN)?, side.varint_at_most(MAX_RUN)?);
        let (levels, trits) = (side.tables()?, side.tables()?);
        side.finish()?;
        if unit <= 0.0 || level_run == 0 || run == 0 || levels.len() > 1 {
            return Err(Error::corruption(format!(
                "ternary side information: unit {unit}, runs of {level_run} and {run}, {} tables of levels; expected \
                 a unit above 0, runs of 1 or more and at most 1 table",
                levels.len()
            )));
        }
        Ok(Self { unit, level_run, run, levels, trits })
    }
}
