//! The two union codebooks: from integers to values.

use super::Params;
use crate::entropy::Values;

/// Levels of each codebook that have a shift of their own.
pub(super) const MAX_SHIFTS: usize = 15;
/// Shifts are in this part of a step: i8 reaches 2 steps, and rounding costs 2e-5 step^2, 1e-4 of the error.
pub(super) const SHIFT_UNIT: f32 = 64.0;
/// What the codebooks reach, in steps: k up to 127.
pub(super) const REACH: f32 = 252.0;

/// The signed integer of a symbol.
#[inline(always)]
pub(super) fn unzigzag(symbol: u8) -> i32 {
    let z = i32::from(symbol);
    (z >> 1) ^ -(z & 1)
}

/// The symbol of `k`, -128 to 127.
#[inline(always)]
pub(super) fn zigzag(k: i32) -> u8 {
    ((k << 1) ^ (k >> 31)) as u8
}

/// Place of `k` on the lattice of whole steps.
#[inline(always)]
pub(super) fn place(zero: bool, union: usize, k: i32) -> i32 {
    match (union, zero) {
        (0, _) => 2 * k,
        (_, false) => 2 * k + 1,
        (_, true) => 2 * k - k.signum(),
    }
}

/// Shifts of the levels 1, 2, .. of each codebook, away from 0, without trailing zeros.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Shifts(pub(super) [Vec<i8>; 2]);

impl Shifts {
    /// Magnitude of the value at `place`, in steps.
    pub(super) fn magnitude(&self, union: usize, place: i32) -> f32 {
        let magnitude = place.unsigned_abs();
        let level = magnitude.div_ceil(2) as usize;
        let shift = self.0[union].get(level.wrapping_sub(1)).map_or(0.0, |&t| f32::from(t) / SHIFT_UNIT);
        magnitude as f32 + shift
    }

    /// Value of each k from -128 on, in steps.
    pub(super) fn levels(&self, zero: bool) -> [[f32; 256]; 2] {
        [0, 1].map(|union| {
            std::array::from_fn(|i| {
                let place = place(zero, union, i as i32 - 128);
                self.magnitude(union, place).copysign(place as f32)
            })
        })
    }

    /// Place of each symbol.
    pub(super) fn places(params: &Params) -> Values {
        let row =
            |union| std::array::from_fn(|symbol| place(params.zero, union, unzigzag(symbol as u8)) as f32);
        Values::of_unions(row(0), row(1))
    }

    /// What each magnitude of a place is moved by, in steps: even places belong to codebook 0, odd ones to 1.
    pub(super) fn of_places(&self) -> Vec<f32> {
        (0..=2 * MAX_SHIFTS as i32).map(|a| self.magnitude((a % 2) as usize, a) - a as f32).collect()
    }

    /// Value of each symbol: the only arithmetic that an independent decoder must repeat.
    pub(super) fn values(&self, params: &Params) -> Values {
        let row = |union| {
            std::array::from_fn(|symbol| {
                let place = place(params.zero, union, unzigzag(symbol as u8));
                let value = self.magnitude(union, place) * params.step;
                if place < 0 { -value } else { value }
            })
        };
        Values::of_unions(row(0), row(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_integers_are_inverse() {
        assert_eq!([0, 1, 2, 3, 254, 255].map(unzigzag), [0, -1, 1, -2, 127, -128]);
        assert!((0..=255).all(|s| zigzag(unzigzag(s)) == s));
    }

    #[test]
    fn levels_lie_where_the_page_says() {
        let shifts = Shifts([vec![16], vec![-8, 32]]);
        let at = |zero, union: usize, k: i32| shifts.levels(zero)[union][(k + 128) as usize];
        assert_eq!([-2, -1, 0, 1, 2].map(|k| at(false, 0, k)), [-4.0, -2.25, 0.0, 2.25, 4.0]);
        assert_eq!([-3, -2, -1, 0, 1, 2].map(|k| at(false, 1, k)), [-5.0, -3.5, -0.875, 0.875, 3.5, 5.0]);
        assert_eq!([-2, -1, 0, 1, 2, 3].map(|k| at(true, 1, k)), [-3.5, -0.875, 0.0, 0.875, 3.5, 5.0]);
    }
}
