//! The best pyramid point for a direction.
//!
//! Among the integer points of `k` pulses, the one whose direction is nearest to `x` has the largest
//! `(x . p)^2 / (p . p)`. Scaling `|x|` to L1 norm `k` and rounding to nearest places all pulses but one or two, of 16
//! integers; those are added or taken away one by one where that quotient stays largest, by the sums that each change
//! moves, as in the search of the CELT codec (Valin, Terriberry, Maxwell 2009), which rounds down and places eight.

use super::pyramid::MAX_DIM;

/// Writes the point of `pulses` pulses nearest to the direction of `x` to `point`, and gives the least-squares
/// gain `x . p / |p|`, which is the length of the projection of `x` onto the point.
///
/// `x` holds 1 to 32 finite values and `point` as many; zeros get all pulses at the first coordinate.
pub(super) fn nearest(x: &[f32], pulses: u16, point: &mut [i16]) -> f32 {
    debug_assert!(x.len() == point.len() && x.len() <= MAX_DIM);
    let n = x.len().min(MAX_DIM);
    let length: f32 = x.iter().map(|v| v.abs()).sum();
    // Sizes of sum 1, so that no product leaves the range of f32.
    let mut size = [0f32; MAX_DIM];
    let mut count = [0f32; MAX_DIM];
    let (mut dot, mut energy, mut placed) = (0f32, 0f32, 0f32);
    if length > 0.0 {
        let scale = f32::from(pulses);
        // Of few pulses, rounding to nearest would decide too many: 0.04 dB at 2 bits.
        let round = if usize::from(pulses) < n { 0.0 } else { 0.5 };
        for ((a, c), &v) in size.iter_mut().zip(&mut count).zip(x) {
            *a = v.abs() / length;
            // The product is never negative, and far below 2^31.
            *c = (*a * scale + round) as i32 as f32;
            dot += *a * *c;
            energy += *c * *c;
            placed += *c;
        }
    }
    let mut left = f32::from(pulses) - placed;
    while left != 0.0 {
        // One pulse more, or one less where there is one.
        let change = left.signum();
        let (mut best, mut best_square, mut best_energy) = (0, -1f32, 1f32);
        for (i, (&a, &c)) in size.iter().zip(&count).enumerate().take(n) {
            let d = dot + change * a;
            let (square, e) = (d * d, energy + 2.0 * change * c + 1.0);
            let more = square * best_energy > best_square * e;
            if more && c + change >= 0.0 {
                (best, best_square, best_energy) = (i, square, e);
            }
        }
        dot += change * size[best];
        energy = best_energy;
        count[best] += change;
        left -= change;
    }
    for ((p, &c), &v) in point.iter_mut().zip(&count).zip(x) {
        let c = c as i16;
        *p = if v < 0.0 { -c } else { c };
    }
    if energy > 0.0 { dot / energy.sqrt() * length } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Best quotient over all points, by trying them.
    fn exhaustive(x: &[f32], pulses: u16) -> f32 {
        let pyramid = super::super::pyramid::Pyramid::new(x.len(), pulses.into()).unwrap();
        let mut point = vec![0; x.len()];
        let gain = |point: &[i16]| {
            let dot: f32 = x.iter().zip(point).map(|(&a, &p)| a * f32::from(p)).sum();
            dot / point.iter().map(|&p| f32::from(p).powi(2)).sum::<f32>().sqrt()
        };
        (0..pyramid.count(pulses.into()))
            .map(|i| {
                pyramid.point(i, pulses.into(), &mut point).unwrap();
                gain(&point)
            })
            .fold(0.0, f32::max)
    }

    proptest! {
        #[test]
        fn points_are_nearly_the_best(
            x in prop::collection::vec(-1f32..1.0, 1..=5), pulses in 1u16..=7, size in -120i32..=110
        ) {
            let mut point = vec![0; x.len()];
            let gain = nearest(&x, pulses, &mut point);
            prop_assert_eq!(point.iter().map(|p| p.unsigned_abs()).sum::<u16>(), pulses);
            let best = exhaustive(&x, pulses);
            prop_assert!(gain >= 0.95 * best && gain <= best * 1.0001, "{} of {}", gain, best);
            let scaled: Vec<f32> = x.iter().map(|v| v * 2f32.powi(size)).collect();
            prop_assert!((nearest(&scaled, pulses, &mut point) / 2f32.powi(size) - gain).abs() <= gain * 1e-3);
        }
    }

    #[test]
    fn zeros_have_a_point_too() {
        let mut point = [7; 3];
        assert_eq!(nearest(&[0.0; 3], 4, &mut point), 0.0);
        assert_eq!(point, [4, 0, 0]);
    }
}
