//! Element types of tensors, and their conversion to and from `f32`.

use crate::{Error, Result};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Element type of a tensor. Values are little-endian and packed without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[allow(missing_docs, reason = "each name is its own description")]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Dtype {
    /// Every element type, widest first within its family.
    pub const ALL: [Self; 15] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F8E4M3,
        Self::F8E5M2,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::F8E5M2)
    }

    /// Whether weights of this type may be quantized: f32, f16 and bf16.
    pub const fn is_weight(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Name as it is written in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F8E4M3 => "f8e4m3",
            Self::F8E5M2 => "f8e5m2",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// Values of `bytes` as `f32`, rounded to nearest where they are wider.
    ///
    /// # Errors
    /// [`Corruption`](crate::ErrorKind::Corruption) unless `bytes` holds `out.len()` elements.
    pub fn to_f32(self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        if bytes.len() != out.len() * self.size() {
            return Err(Error::corruption(format!(
                "{} elements of {self} take {} bytes, found {}",
                out.len(),
                out.len() * self.size(),
                bytes.len()
            )));
        }
        macro_rules! read {
            ($t:ty, $f:expr) => {
                for (o, b) in out.iter_mut().zip(bytes.chunks_exact(size_of::<$t>())) {
                    let mut a = [0; size_of::<$t>()];
                    a.copy_from_slice(b);
                    *o = $f(<$t>::from_le_bytes(a));
                }
            };
        }
        #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is what the function is for")]
        match self {
            Self::F64 => read!(f64, |x| x as f32),
            Self::F32 => read!(f32, |x| x),
            Self::F16 => read!(f16, f16::to_f32),
            Self::BF16 => read!(bf16, bf16::to_f32),
            Self::F8E4M3 => read!(u8, f8e4m3_to_f32),
            Self::F8E5M2 => read!(u8, |x: u8| f16::from_bits(u16::from(x) << 8).to_f32()),
            Self::I64 => read!(i64, |x| x as f32),
            Self::I32 => read!(i32, |x| x as f32),
            Self::I16 => read!(i16, f32::from),
            Self::I8 => read!(i8, f32::from),
            Self::U64 => read!(u64, |x| x as f32),
            Self::U32 => read!(u32, |x| x as f32),
            Self::U16 => read!(u16, f32::from),
            Self::U8 => read!(u8, f32::from),
            Self::Bool => read!(u8, |x| f32::from(u8::from(x != 0))),
        }
        Ok(())
    }

    /// Bytes of `values` in this type, rounded to nearest even.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for types other than f64, f32, f16 and bf16: rounding
    /// weights to integers would be a silent loss.
    pub fn from_f32(self, values: &[f32]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(values.len() * self.size());
        match self {
            Self::F64 => values.iter().for_each(|&x| out.extend_from_slice(&f64::from(x).to_le_bytes())),
            Self::F32 => values.iter().for_each(|&x| out.extend_from_slice(&x.to_le_bytes())),
            Self::F16 => {
                values.iter().for_each(|&x| out.extend_from_slice(&f16::from_f32(x).to_le_bytes()));
            }
            Self::BF16 => {
                values.iter().for_each(|&x| out.extend_from_slice(&bf16::from_f32(x).to_le_bytes()));
            }
            other => {
                return Err(Error::unsupported(format!("float values cannot be written as {other}"))
                    .with_hint("use one of f32, f16, bf16 or f64"));
            }
        }
        Ok(out)
    }
}

/// OCP FP8 E4M3: bias 7, no infinities, 0x7f is NaN.
fn f8e4m3_to_f32(x: u8) -> f32 {
    let (exponent, mantissa) = ((x >> 3) & 15, f32::from(x & 7));
    let magnitude = match (exponent, x & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        (e, _) => (8.0 + mantissa) * 2f32.powi(i32::from(e) - 10),
    };
    if x & 0x80 == 0 { magnitude } else { -magnitude }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|d| d.name().eq_ignore_ascii_case(s)).ok_or_else(|| {
            Error::invalid(format!("unknown dtype {s:?}"))
                .with_hint("known: f64 f32 f16 bf16 f8e4m3 f8e5m2 i64 i32 i16 i8 u64 u32 u16 u8 bool")
        })
    }
}

/// Elements of a tensor of `shape`; 1 for a scalar.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit) where the product does not fit 63 bits.
pub fn element_count(shape: &[u64]) -> Result<u64> {
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= i64::MAX as u64)
        .ok_or_else(|| Error::limit(format!("shape {shape:?} has more than 2^63 elements")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_values_follow_the_ocp_table() {
        assert_eq!(f8e4m3_to_f32(0x7e), 448.0);
        assert_eq!(f8e4m3_to_f32(0x01), 2f32.powi(-9));
        assert_eq!(f8e4m3_to_f32(0xb8), -1.0);
        assert!(f8e4m3_to_f32(0x7f).is_nan());
    }

    #[test]
    fn half_types_round_trip() {
        for d in [Dtype::F16, Dtype::BF16, Dtype::F32] {
            let bytes = d.from_f32(&[0.5, -2.0, 0.0]).unwrap();
            let mut back = [0.0; 3];
            d.to_f32(&bytes, &mut back).unwrap();
            assert_eq!(back, [0.5, -2.0, 0.0]);
        }
    }

    #[test]
    fn counts_refuse_to_wrap() {
        assert_eq!(element_count(&[]).unwrap(), 1);
        assert_eq!(element_count(&[0, u64::MAX, u64::MAX]).unwrap(), 0);
        assert!(element_count(&[1 << 32, 1 << 32]).is_err());
    }
}
