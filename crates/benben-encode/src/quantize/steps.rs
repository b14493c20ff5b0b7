//! Factors of columns and rows: the step of each weight is the tensor's step times both.
//!
//! At one slope of rate and error, every column errs by the same amount in the outputs: its step is inverse to what
//! feedback leaves of its error, the diagonal of the factor (water-filling; WaterSIC, Lifar et al. 2026). A row whose
//! output matters `r` times as much has a step smaller by `sqrt(r)`.

use benben_codec::raw;
use benben_format::{Dtype, EncodedLeaf, Expr, Result};

/// Bits that a rounding of factors to `2^(k/g)` costs each weight are `ln 2 / 12 g^2`; storing k costs `log2 g` more for
/// each factor. With `weights` to a factor, g is best at the square root of this much times `weights`.
const FINENESS: f64 = 0.08;
/// No factor is further than this from the middle one: 2^20.
const REACH: f64 = 20.0;
/// Finest grid: what bf16 tells apart.
const FINEST: f64 = 32.0;

/// `1 / sizes` on a grid of powers of 2 as fine as is worth it where each serves so many weights, and the geometric mean
/// of `sizes`, which the factors leave out: `factor = mean / size`, nearly.
pub(super) fn factors(sizes: &[f64], weights: usize) -> (Vec<f32>, f64) {
    let seen: Vec<f64> = sizes.iter().filter(|s| **s > 0.0).map(|s| s.log2()).collect();
    let mean = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
    let grid = (FINENESS * weights as f64).sqrt().log2().round().exp2().clamp(1.0, FINEST);
    let factor = |size: &f64| {
        let place = if *size > 0.0 { (mean - size.log2()).clamp(-REACH, REACH) } else { REACH };
        #[allow(clippy::cast_possible_truncation, reason = "rounded to what bf16 holds")]
        let exact = ((place * grid).round() / grid).exp2() as f32;
        let mut bits = exact.to_bits();
        // To nearest; factors are far from f32's end.
        bits += 0x8000;
        f32::from_bits(bits & 0xffff_0000)
    };
    (sizes.iter().map(factor).collect(), mean.exp2())
}

/// `factors`, those of columns that would reach further than `reach` at them made as large as it takes. Where single inputs
/// are a thousand times as loud as others (the massive activations of language models), their columns would have finer
/// steps than symbols can count; the loss of one column a little too coarse does not show.
pub(super) fn within(factors: &[f32], largest: &[f32], reach: f32) -> Vec<f32> {
    let least = |(&factor, &largest): (&f32, &f32)| {
        let least = largest / reach;
        if factor >= least { factor } else { f32::from_bits((least.to_bits() + 0xffff) & 0xffff_0000) }
    };
    factors.iter().zip(largest).map(least).collect()
}

/// Factors as an operand of `scale`; none where all are 1.
pub(super) fn stored(factors: &[f32]) -> Result<Option<Box<Expr<EncodedLeaf>>>> {
    if factors.iter().all(|f| *f == 1.0) {
        return Ok(None);
    }
    let bytes = Dtype::BF16.from_f32(factors)?;
    Ok(Some(Box::new(Expr::Leaf(raw::encode(&bytes, Dtype::BF16, &[factors.len() as u64])?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_inverse_on_a_grid_that_bf16_holds() {
        let sizes: Vec<f64> = (0..100).map(|i| 0.01 * 1.1f64.powi(i)).collect();
        for weights in [1, 192, 576, 1536, 100_000] {
            let (factors, mean) = factors(&sizes, weights);
            let width = 1.0 / (FINENESS * weights as f64).sqrt().max(0.5);
            for (f, s) in factors.iter().zip(&sizes) {
                let off = (f64::from(*f) * s / mean).log2().abs();
                assert!(off <= width.max(0.03) && f.to_bits().trailing_zeros() >= 16, "{weights}: {off}");
            }
            let bytes = Dtype::BF16.from_f32(&factors).unwrap();
            let mut back = vec![0.0; factors.len()];
            Dtype::BF16.to_f32(&bytes, &mut back).unwrap();
            assert_eq!(back, factors);
        }
        let (odd, _) = factors(&[1.0, 0.0, 1.0], 10);
        assert!(odd[1] > 1e5 && odd[0] == 1.0);
        assert!(stored(&[1.0; 3]).unwrap().is_none());
    }
}
