//! Leaves whose values follow from one small integer each: the form in which products can run.
//!
//! `scalar`, `trellis` and the pulses of `pvq` differ in how they code their integers, not in what these mean: the
//! value of `q` is `sign(q) * (|q| + shift(|q|)) * step`, with shifts for small `|q|` only. A trellis counts `q` in
//! places of both of its codebooks, so that the path is no longer needed. [`integers`] decodes as fast as values are
//! decoded: the integers are looked up in place of them.

use crate::{pvq, scalar, trellis};
use benben_format::{LeafSource, LeafSpec, Result};
use std::ops::Range;

/// From the integers of a leaf to its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    /// What one integer counts.
    pub step: f32,
    /// What each magnitude, from 0 on, is moved by, in steps; larger ones by nothing.
    pub shifts: Vec<f32>,
    /// No integer of the leaf is lower.
    pub lowest: i32,
    /// No integer of the leaf is higher.
    pub highest: i32,
    /// Elements that have another value, whatever their integer says: numbers, rising, and values.
    pub exceptions: Vec<(u64, f32)>,
}

impl Lattice {
    /// The lattice of a leaf; none where its codec has no such form.
    ///
    /// # Errors
    /// Corruption and Compatibility, as decoding the leaf.
    pub fn of(source: &dyn LeafSource) -> Result<Option<Self>> {
        match source.spec().codec.as_str() {
            scalar::CODEC => scalar::lattice(source).map(Some),
            trellis::CODEC => trellis::lattice(source).map(Some),
            pvq::CODEC => pvq::lattice(source),
            _ => Ok(None),
        }
    }

    /// The value of integer `q`: the bits that [`decode`](crate::decode) gives.
    #[must_use]
    pub fn value(&self, q: i32) -> f32 {
        let magnitude = q.unsigned_abs();
        let shift = self.shifts.get(magnitude as usize).copied().unwrap_or(0.0);
        let value = (magnitude as f32 + shift) * self.step;
        if q < 0 { -value } else { value }
    }
}

/// The integers of elements `range`, as f32, which holds them exactly; those of exceptions are any.
///
/// # Errors
/// As [`decode`](crate::decode); InvalidArgument for a leaf that has no lattice.
pub fn integers(source: &dyn LeafSource, range: Range<u64>, out: &mut [f32]) -> Result<()> {
    match source.spec().codec.as_str() {
        scalar::CODEC => scalar::integers(source, range, out),
        trellis::CODEC => trellis::integers(source, range, out),
        _ => pvq::integers(source, range, out),
    }
}

/// Largest magnitude of the integers of a leaf, and its number of exceptions, from what the index says alone; none
/// where it has no lattice.
///
/// # Errors
/// Corruption where the parameters are out of range.
pub fn reach(spec: &LeafSpec) -> Result<Option<(u32, u64)>> {
    match spec.codec.as_str() {
        scalar::CODEC => scalar::reach(spec).map(Some),
        trellis::CODEC => trellis::reach(spec).map(Some),
        pvq::CODEC => pvq::reach(spec),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn integers_are_the_values(
            codec in 0usize..4,
            bits in 0.5f64..6.0,
            (rows, columns) in (1u64..40, 1u64..70),
            loud in 1.0f32..1e6,
            seed in any::<u32>(),
        ) {
            let mut state = u64::from(seed);
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let mut values: Vec<f32> =
                (0..rows * columns).map(|_| random() + random() * random() * 3.0).collect();
            values[0] *= loud;
            let (shape, target) = ([rows, columns], Target::BitsPerWeight(bits + 8.0 * 3000.0 / (rows * columns) as f64));
            let leaf = match codec {
                0 => scalar::encode(&values, &shape, &scalar::Settings::new(target)),
                1 => scalar::encode(&values, &shape, &scalar::Settings::new(Target::RelativeMse(1e-7))),
                2 => trellis::encode(&values, &shape, &trellis::Settings::new(Target::RelativeMse(4f64.powf(-bits)))),
                _ => pvq::encode(&values, &shape, &pvq::Settings {
                    form: Some(pvq::Form::Pulses),
                    ..pvq::Settings::new(Target::RelativeMse(4f64.powf(-bits)))
                }),
            };
            let Ok((leaf, _)) = leaf else { return Ok(()) };
            let n = values.len() as u64;
            let lattice = Lattice::of(&leaf).unwrap().unwrap();
            let (reach, most) = reach(&leaf.spec).unwrap().unwrap();
            prop_assert!(lattice.exceptions.len() as u64 <= most);
            let range = n / 3..n;
            let (mut found, mut expected) = (vec![0.0; (n - n / 3) as usize], vec![0.0; (n - n / 3) as usize]);
            integers(&leaf, range.clone(), &mut found).unwrap();
            crate::decode(&leaf, range.clone(), &mut expected).unwrap();
            for (i, (q, value)) in found.iter().zip(&expected).enumerate() {
                let at = i as u64 + range.start;
                let exception = lattice.exceptions.iter().find(|e| e.0 == at);
                let q = *q as i32;
                prop_assert!((lattice.lowest..=lattice.highest).contains(&q) && q.unsigned_abs() <= reach);
                let own = exception.map_or_else(|| lattice.value(q), |e| e.1);
                prop_assert_eq!(own.to_bits(), value.to_bits(), "element {}", at);
            }
        }
    }

    #[test]
    fn other_codecs_have_none() {
        let leaf = crate::ternary::encode(
            &[1.0; 64],
            &[8, 8],
            &crate::ternary::Settings::new(Target::RelativeMse(0.5)),
        );
        let leaf = leaf.unwrap().0;
        assert_eq!((Lattice::of(&leaf).unwrap(), reach(&leaf.spec).unwrap()), (None, None));
        assert!(integers(&leaf, 0..1, &mut [0.0]).is_err());
    }
}
