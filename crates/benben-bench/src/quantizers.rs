//! Quantizers on a Gaussian source: distance from the rate-distortion bound, and speed of one core.

use crate::{Goal, Matrix, Measure};
use benben::Result;
use benben::codec::{Fit, Target, decode, pvq, rvq, scalar, squared_error, trellis};
use benben_format::EncodedLeaf;
use serde::Serialize;

/// One quantizer at one rate.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Name of the codec.
    pub codec: &'static str,
    /// Bits for each weight that were asked for.
    pub asked: f64,
    /// Bits for each weight that it took, side information included.
    pub bits_per_weight: f64,
    /// Squared error relative to the weights, measured on what was decoded.
    pub relative_mse: f64,
    /// dB above the bound 2^(-2R).
    pub db_above_bound: f64,
    /// Weights encoded in a second on one core.
    pub encode_per_second: f64,
    /// Weights decoded in a second on one core.
    pub decode_per_second: f64,
    /// What the project promises of it.
    pub goals: Vec<Goal>,
}

/// Most dB above the bound that trellis quantization is promised to take, by bits.
const TRELLIS_DB: [(f64, f64); 4] = [(1.0, 0.95), (2.0, 0.80), (3.0, 0.65), (4.0, 0.55)];
/// Millions of weights that one core encodes in a second at the least, by codec.
const ENCODE: [(&str, f64); 2] = [(scalar::CODEC, 20.0), (trellis::CODEC, 3.0)];

/// The promises that `row` falls under.
fn goals(row: &Row) -> Vec<Goal> {
    let bound = TRELLIS_DB.iter().find(|(bits, _)| row.codec == trellis::CODEC && *bits == row.asked);
    let bound = bound.map(|&(_, limit)| Goal::at_most(row.db_above_bound, limit, "dB"));
    let speed = ENCODE.iter().find(|(codec, _)| *codec == row.codec);
    let speed = speed.map(|&(_, limit)| Goal::at_least(row.encode_per_second / 1e6, limit, "M/s encoded"));
    bound.into_iter().chain(speed).collect()
}

type Encode = fn(&[f32], &[u64], Target) -> Result<(EncodedLeaf, Fit)>;

/// The quantizers, in the order of the table.
pub const CODECS: [(&str, Encode); 4] = [
    (scalar::CODEC, |v, s, t| scalar::encode(v, s, &scalar::Settings::new(t))),
    (trellis::CODEC, |v, s, t| trellis::encode(v, s, &trellis::Settings::new(t))),
    ("pvq", |v, s, t| pvq::encode(v, s, &pvq::Settings::new(t))),
    ("rvq", |v, s, t| rvq::encode(v, s, &rvq::Settings::new(t))),
];

/// Quantizes `data` by every codec at every rate of `rates`.
///
/// # Errors
/// What the codecs report.
pub fn measure(data: &Matrix, rates: &[f64], measure: &mut Measure<'_>) -> Result<Vec<Row>> {
    let total = (CODECS.len() * rates.len()) as u64;
    let weights = data.values.len() as f64 / measure.threads() as f64;
    let mut rows = Vec::new();
    for (codec, encode) in CODECS {
        for &asked in rates {
            measure.tell(&format!("{codec} at {asked} bits"), rows.len() as u64, total)?;
            let (mut coded, mut out) = (None, vec![0.0; data.values.len()]);
            let encode_seconds = measure.time(&mut || {
                coded = Some(encode(&data.values, &data.shape(), Target::BitsPerWeight(asked))?);
                Ok(())
            })?;
            let Some((leaf, fit)) = coded else { continue };
            let mut turn = || decode(&leaf, 0..data.values.len() as u64, &mut out);
            let mut times = (0..3).map(|_| measure.time(&mut turn)).collect::<Result<Vec<_>>>()?;
            times.sort_by(f64::total_cmp);
            let (error, energy) = squared_error(&data.values, &out);
            let fit = Fit { relative_mse: error / energy, ..fit };
            let row = Row {
                codec,
                asked,
                bits_per_weight: fit.bits_per_weight,
                relative_mse: fit.relative_mse,
                db_above_bound: fit.db_above_gaussian_bound(),
                encode_per_second: weights / encode_seconds,
                decode_per_second: weights / times[1],
                goals: Vec::new(),
            };
            rows.push(Row { goals: goals(&row), ..row });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_quantizer_is_below_the_bound() {
        let data = Matrix::gaussian(1 << 14, 5);
        let rows = super::measure(&data, &[2.0, 3.0], &mut Measure::quick(1).unwrap()).unwrap();
        assert_eq!(rows.len(), 2 * CODECS.len());
        for row in rows {
            // Tables of a small sample cost some tenths of a dB; the sample itself is off by 0.1 dB.
            assert!((0.0..4.0).contains(&row.db_above_bound), "{row:?}");
            assert!((row.bits_per_weight / row.asked - 1.0).abs() < 0.1, "{row:?}");
            assert_eq!(
                row.goals.len(),
                [0, 1, 2][usize::from(row.codec == "trellis")
                    + usize::from(ENCODE.iter().any(|e| e.0 == row.codec))]
            );
        }
    }
}
