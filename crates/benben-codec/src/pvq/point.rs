//! The best pyramid point for a direction.
//!
//! Among the integer points of `k` pulses, the one whose direction is nearest to `x` has the largest
//! `(x . p)^2 / (p . p)`. Scaling `|x|` to L1 norm `k` and rounding down places most pulses at once and never one
//! too many; the rest go one by one to where they raise that quotient most, as in the search of the CELT codec
//! (Valin, Terriberry, Maxwell 2009).

use super::pyramid::MAX_DIM;

/// Writes the point of `pulses` pulses nearest to the direction of `x` to `point`, and gives the least-squares
/// gain `x . p / |p|`, which is the length of the projection of `x` onto the point.
///
/// `x` holds 1 to 32 finite values and `point` as many; zeros get all pulses at the first coordinate.
pub fn nearest(x: &[f32], pulses: u16, point: &mut [i16]) -> f32 {
    debug_assert!(x.len() == point.len() && x.len() <= MAX_DIM);
    let n = x.len().min(MAX_DIM);
    let mut size = [0f32; MAX_DIM];
    let mut length = 0f32;
    for (a, &v) in size.iter_mut().zip(x) {
        *a = v.abs();
        length += *a;
    }
    let mut count = [0f32; MAX_DIM];
    let (mut dot, mut energy, mut left) = (0f32, 0f32, f32::from(pulses));
    if length > 0.0 {
        // A hair below the exact scale, so that rounding of the product never places a pulse too many.
        let scale = f32::from(pulses) * (1.0 - 1e-6) / length;
        for (c, &a) in count.iter_mut().zip(&size[..n]) {
            *c = (a * scale).floor();
            dot += a * *c;
            energy += *c * *c;
            left -= *c;
        }
    }
    while left >= 1.0 {
        let (mut best, mut best_square, mut best_energy) = (0, -1f32, 1f32);
        for i in 0..n {
            let d = dot + size[i];
            let (square, e) = (d * d, energy + 2.0 * count[i] + 1.0);
            if square * best_energy > best_square * e {
                (best, best_square, best_energy) = (i, square, e);
            }
        }
        dot += size[best];
        energy = best_energy;
        count[best] += 1.0;
        left -= 1.0;
    }
    for ((p, &c), &v) in point.iter_mut().zip(&count).zip(x) {
        let c = c as i16;
        *p = if v < 0.0 { -c } else { c };
    }
    if energy > 0.0 { dot / energy.sqrt() } else { 0.0 }
}
