//! Side information of a leaf whose points are stored pulse by pulse.

use super::gain::STEP_LIMIT;
use crate::entropy::{SideReader, SideWriter, Table};
use benben_format::{Error, Result};

/// Most magnitudes with a shift of their own.
pub(super) const MAX_SHIFTS: usize = 15;

/// Everything that a decoder needs besides classes and pulses.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PulseSide {
    /// Value of one pulse.
    pub(super) step: f32,
    /// Groups of one run; all groups of a run have the same class.
    pub(super) run: u32,
    /// What magnitudes 1, 2, ... are moved by, in 256ths of the step.
    pub(super) shifts: Vec<i8>,
    /// Tables of classes, none or one.
    pub(super) classes: Vec<Table>,
    /// Tables of pulses, by class.
    pub(super) pulses: Vec<Table>,
}

impl PulseSide {
    /// Appends the stored form.
    ///
    /// # Errors
    /// InvalidArgument for more than 32 tables.
    pub(super) fn write(&self, side: &mut SideWriter) -> Result<()> {
        side.f32(self.step);
        side.varint(self.run.into());
        side.u8(self.shifts.len() as u8);
        self.shifts.iter().for_each(|s| side.u8(s.cast_unsigned()));
        side.tables(&self.classes)?;
        side.tables(&self.pulses)
    }

    /// Reads what [`PulseSide::write`] made, which fills all of `bytes`.
    ///
    /// # Errors
    /// Corruption where a field is out of its bounds.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = |what: String| Err(Error::corruption(format!("pvq side information: {what}")));
        let mut side = SideReader::new(bytes);
        let (step, run) = (side.f32()?, side.varint_at_most(u32::MAX.into())? as u32);
        if !(step > 0.0 && step < STEP_LIMIT) || run == 0 {
            return wrong(format!(
                "step {step}, runs of {run}; expected a step above 0 and below 2^112, and runs of 1 or more"
            ));
        }
        let count = usize::from(side.u8()?);
        if count > MAX_SHIFTS {
            return wrong(format!("{count} shifts, expected at most {MAX_SHIFTS}"));
        }
        let shifts = side.bytes(count)?.iter().map(|b| b.cast_signed()).collect();
        let (classes, pulses) = (side.tables()?, side.tables()?);
        if classes.len() > 1 || pulses.is_empty() {
            return wrong(format!(
                "{} tables of classes and {} of pulses, expected at most 1 and at least 1",
                classes.len(),
                pulses.len()
            ));
        }
        side.finish()?;
        Ok(Self { step, run, shifts, classes, pulses })
    }

    /// Value of each symbol, the zigzag code of an integer: its magnitude, shifted, times the step.
    pub(super) fn values(&self) -> [f32; 256] {
        let mut values = [0.0; 256];
        for (symbol, value) in values.iter_mut().enumerate().skip(1) {
            let magnitude = symbol.div_ceil(2);
            let shift = self.shifts.get(magnitude - 1).copied().unwrap_or(0);
            // At most 128, in 256ths: exact.
            let size = (magnitude as f32 + f32::from(shift) / 256.0) * self.step;
            *value = if symbol % 2 == 1 { -size } else { size };
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side() -> PulseSide {
        PulseSide {
            step: 0.5,
            run: 3,
            shifts: vec![-64, 0, 32],
            classes: vec![Table::from_counts(&[1, 2])],
            pulses: vec![Table::from_counts(&[5, 2, 3]), Table::from_counts(&[0, 1, 1])],
        }
    }

    fn written(side: &PulseSide) -> Vec<u8> {
        let mut writer = SideWriter::new();
        side.write(&mut writer).unwrap();
        writer.into_bytes()
    }

    #[test]
    fn values_are_shifted_magnitudes() {
        let values = side().values();
        assert_eq!(values[..7], [0.0, -0.375, 0.375, -1.0, 1.0, -1.5625, 1.5625]);
        assert_eq!((values[254], values[255]), (63.5, -64.0));
        assert_eq!(PulseSide::read(&written(&side())).unwrap(), side());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let refused = |side: PulseSide| {
            let e = PulseSide::read(&written(&side)).unwrap_err();
            assert_eq!(e.kind(), benben_format::ErrorKind::Corruption);
        };
        for step in [0.0, -1.0, f32::INFINITY, f32::NAN, STEP_LIMIT] {
            refused(PulseSide { step, ..side() });
        }
        refused(PulseSide { run: 0, ..side() });
        refused(PulseSide { shifts: vec![0; 16], ..side() });
        refused(PulseSide { pulses: Vec::new(), ..side() });
        refused(PulseSide { classes: vec![Table::from_counts(&[1]); 2], ..side() });
        let mut long = written(&side());
        assert!((0..long.len()).all(|end| PulseSide::read(&long[..end]).is_err()));
        long.push(0);
        assert!(PulseSide::read(&long).is_err());
    }
}
