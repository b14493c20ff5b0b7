//! What an encoder is asked to reach.

/// The one dial of every lossy encoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Stored bits for each weight, all side information of the leaf included
    /// ([`EncodedLeaf::stored_bytes`](benben_format::EncodedLeaf::stored_bytes) x 8 / elements).
    BitsPerWeight(f64),
    /// Squared error relative to the squared norm of the weights: sum (w - v)^2 / sum w^2.
    RelativeMse(f64),
}

/// What an encoder reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Stored bits for each weight, side information included.
    pub bits_per_weight: f64,
    /// Squared error relative to the squared norm of the weights, of the values that the decoder gives.
    pub relative_mse: f64,
}

impl Fit {
    /// Distance in dB from the rate-distortion bound of a Gaussian source, D = 2^(-2R).
    pub fn db_above_gaussian_bound(&self) -> f64 {
        10.0 * self.relative_mse.log10() + 20.0 * std::f64::consts::LOG10_2 * self.bits_per_weight
    }
}

/// Sum of squared differences and sum of squares, added in a fixed order so that no thread count changes them.
pub fn squared_error(values: &[f32], decoded: &[f32]) -> (f64, f64) {
    use rayon::prelude::*;
    const BLOCK: usize = 1 << 14;
    let blocks: Vec<(f64, f64)> = values
        .par_chunks(BLOCK)
        .zip(decoded.par_chunks(BLOCK))
        .map(|(a, b)| {
            // Eight sums side by side: one would wait for its own last addition.
            let (mut error, mut energy) = ([0f64; 8], [0f64; 8]);
            for (a, b) in a.chunks(8).zip(b.chunks(8)) {
                for (((e, s), &x), &y) in error.iter_mut().zip(&mut energy).zip(a).zip(b) {
                    let (x, d) = (f64::from(x), f64::from(x) - f64::from(y));
                    *e += d * d;
                    *s += x * x;
                }
            }
            (error.iter().sum::<f64>(), energy.iter().sum::<f64>())
        })
        .collect();
    blocks.iter().fold((0.0, 0.0), |(e, s), b| (e + b.0, s + b.1))
}
