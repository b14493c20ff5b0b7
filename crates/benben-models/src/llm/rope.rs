//! Rotary position embedding (Su et al., 2021, <https://arxiv.org/abs/2104.09864>), as Hugging Face lays it out.
//!
//! Element `i` of a head is paired with element `i + head_dim / 2`. Angles are computed in f64 and rounded once: at
//! position 8192 an f32 product would be off by 5e-4.

use super::config::Fields;
use benben_format::{Error, Result};
use serde_json::{Map, Value};
use std::f64::consts::PI;

/// Frequencies of the pairs of a head.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Radians for each position, one for each pair: `head_dim / 2`.
    frequencies: Vec<f64>,
}

/// How a network was taught contexts longer than those that it was trained on first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    None,
    /// All positions divided by a factor.
    Linear {
        factor: f64,
    },
    /// Llama 3.1: slow pairs divided by `factor`, fast ones kept, a ramp between. Pairs are told apart by how often
    /// they turn within the `original` context: below `low` times, above `high` times.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
}

impl Rope {
    /// Frequencies for heads of `head_dim`, from the fields of `config.json`.
    pub(super) fn from_config(config: &Map<String, Value>, head_dim: usize) -> Result<Self> {
        if !head_dim.is_multiple_of(2) {
            return Err(Error::corruption(format!("head_dim {head_dim}: expected an even number")));
        }
        let fields = Fields(config);
        // transformers 5 moves everything of positions into `rope_parameters`.
        let nested = fields.get("rope_parameters").or_else(|| fields.get("rope_scaling"));
        let none = Map::new();
        let nested = Fields(match nested {
            None => &none,
            Some(Value::Object(object)) => object,
            Some(_) => return Err(Error::corruption("rope_scaling: expected an object")),
        });
        let theta = match nested.number("rope_theta")? {
            Some(theta) => theta,
            None => fields.number("rope_theta")?.unwrap_or(10_000.0),
        };
        if fields.number("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
            return Err(Error::unsupported("partial_rotary_factor: only whole heads are turned here"));
        }
        Ok(Self::new(theta, head_dim, Scaling::from_fields(&nested)?))
    }

    /// Frequencies for heads of `head_dim` (even), from the base `theta`, of a network trained on its whole context.
    #[must_use]
    pub fn plain(theta: f64, head_dim: usize) -> Self {
        Self::new(theta, head_dim, Scaling::None)
    }

    fn new(theta: f64, head_dim: usize, scaling: Scaling) -> Self {
        let pairs = 0..head_dim / 2;
        let plain = pairs.map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
        Self { frequencies: plain.map(|f| scaling.apply(f)).collect() }
    }

    /// Cosines and sines for `count` positions from `first` on, each `count * head_dim / 2`, a position after the other.
    pub fn tables(&self, first: usize, count: usize, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        cos.clear();
        sin.clear();
        for position in first..first + count {
            for frequency in &self.frequencies {
                let (s, c) = (position as f64 * frequency).sin_cos();
                cos.push(single(c));
                sin.push(single(s));
            }
        }
    }
}

/// Turns every head of `row` (consecutive heads of `2 * cos.len()`) by the angles of one position.
pub(super) fn rotate(row: &mut [f32], cos: &[f32], sin: &[f32]) {
    for head in row.chunks_exact_mut(2 * cos.len()) {
        let (first, second) = head.split_at_mut(cos.len());
        for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "tables are single precision")]
fn single(x: f64) -> f32 {
    x as f32
}

impl Scaling {
    fn from_fields(fields: &Fields<'_>) -> Result<Self> {
        let kind = match fields.text("rope_type")? {
            Some(kind) => Some(kind),
            None => fields.text("type")?,
        };
        let needed = |name: &str| {
            fields.number(name)?.ok_or_else(|| Error::corruption(format!("rope_scaling: {name} is missing")))
        };
        match kind {
            None | Some("default") => Ok(Self::None),
            Some("linear") => Ok(Self::Linear { factor: needed("factor")? }),
            Some("llama3") => {
                let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
                if low >= high {
                    return Err(Error::corruption(format!(
                        "rope_scaling: low_freq_factor {low} is not below high_freq_factor {high}"
                    )));
                }
                let original = needed("original_max_position_embeddings")?;
                Ok(Self::Llama3 { factor: needed("factor")?, low, high, original })
            }
            Some(other) => Err(Error::unsupported(format!("rope_scaling of type {other:?}"))
                .with_hint("supported are default, linear and llama3")),
        }
    }

    fn apply(self, frequency: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low, high, original } => {
                let turns = original * frequency / (2.0 * PI);
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                kept * frequency + (1.0 - kept) * frequency / factor
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_turn_by_position_times_frequency() {
        let rope = Rope::new(10_000.0, 4, Scaling::None);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        rope.tables(3, 2, &mut cos, &mut sin);
        let mut row = [1.0, 2.0, 3.0, 4.0];
        rotate(&mut row, &cos[..2], &sin[..2]);
        let (s, c) = 3f64.sin_cos();
        let (s2, c2) = 0.03f64.sin_cos();
        let expected = [c - 3.0 * s, 2.0 * c2 - 4.0 * s2, 3.0 * c + s, 4.0 * c2 + 2.0 * s2];
        for (found, expected) in row.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{row:?} and {expected:?}");
        }
    }

    #[test]
    fn llama3_keeps_fast_pairs_and_slows_slow_ones() {
        let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(scaling.apply(1.0), 1.0);
        assert_eq!(scaling.apply(1e-5), 1e-5 / 8.0);
        // 2.5 turns, half of the ramp.
        let f = 2.5 * 2.0 * PI / 8192.0;
        assert!((scaling.apply(f) - (0.5 * f + 0.5 * f / 8.0)).abs() < 1e-12);
        assert_eq!(Scaling::Linear { factor: 2.0 }.apply(0.5), 0.25);
    }
}
