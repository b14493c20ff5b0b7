//! safetensors: a length, a JSON header, and the tensors one after the other.
//!
//! Source: the reference implementation, <https://github.com/huggingface/safetensors>, whose rules the reader keeps.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | N, u64 little-endian, at most 100,000,000 |
//! | N | JSON as below, padded with spaces |
//! | rest | tensors, little-endian; offsets count from here |
//!
//! ```json
//! {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
//! ```
//!
//! The tensors cover the rest of the file exactly: no gap, no overlap, nothing behind the last.

mod header;
mod read;
mod write;

pub(crate) use header::Pairs;
pub use read::SafeTensors;
pub use write::{TensorSpec, write};

use benben_format::{Dtype, Error, Result};

/// Key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// Names of element types in the header.
const DTYPES: [(Dtype, &str); 15] = [
    (Dtype::F64, "F64"),
    (Dtype::F32, "F32"),
    (Dtype::F16, "F16"),
    (Dtype::BF16, "BF16"),
    (Dtype::F8E4M3, "F8_E4M3"),
    (Dtype::F8E5M2, "F8_E5M2"),
    (Dtype::I64, "I64"),
    (Dtype::I32, "I32"),
    (Dtype::I16, "I16"),
    (Dtype::I8, "I8"),
    (Dtype::U64, "U64"),
    (Dtype::U32, "U32"),
    (Dtype::U16, "U16"),
    (Dtype::U8, "U8"),
    (Dtype::Bool, "BOOL"),
];

fn dtype_name(dtype: Dtype) -> Result<&'static str> {
    DTYPES
        .iter()
        .find_map(|&(d, name)| (d == dtype).then_some(name))
        .ok_or_else(|| Error::unsupported(format!("safetensors has no element type {dtype}")))
}

fn dtype_of(name: &str) -> Result<Dtype> {
    DTYPES.iter().find_map(|&(d, n)| (n == name).then_some(d)).ok_or_else(|| {
        let known: Vec<&str> = DTYPES.iter().map(|d| d.1).collect();
        Error::unsupported(format!("element type {name:?} is not read, known are {}", known.join(" ")))
    })
}

/// Bytes of a tensor of `shape`.
fn tensor_bytes(dtype: Dtype, shape: &[u64]) -> Result<u64> {
    benben_format::element_count(shape)?
        .checked_mul(dtype.size() as u64)
        .ok_or_else(|| Error::limit(format!("shape {shape:?} of {dtype} takes more than 2^64 bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_has_one_name() {
        for d in Dtype::ALL {
            assert_eq!(dtype_of(dtype_name(d).unwrap()).unwrap(), d);
        }
        assert!(dtype_of("F4").unwrap_err().message().contains("\"F4\""));
    }
}
