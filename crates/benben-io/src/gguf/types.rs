//! Tensor types: id, name, extent of a block, and how values are read.

use super::blocks::{self, expand};
use benben_format::Dtype;

/// How the bytes of a tensor become values.
#[derive(Clone, Copy)]
pub(super) enum Values {
    /// They are values of this type.
    Stored(Dtype),
    /// Blocks, expanded to f32.
    Blocks(fn(&[u8]) -> Vec<u8>),
    /// There is no reader.
    Unread,
}

/// A tensor type of GGML.
#[derive(Clone, Copy)]
pub(super) struct TensorType {
    pub(super) id: u32,
    pub(super) name: &'static str,
    /// Elements of one block.
    pub(super) elements: u64,
    /// Bytes of one block.
    pub(super) bytes: u64,
    pub(super) values: Values,
}

const fn stored(id: u32, dtype: Dtype) -> TensorType {
    TensorType {
        id,
        name: dtype.name(),
        elements: 1,
        bytes: dtype.size() as u64,
        values: Values::Stored(dtype),
    }
}

const fn quantized(
    id: u32,
    name: &'static str,
    elements: u64,
    bytes: u64,
    f: fn(&[u8]) -> Vec<u8>,
) -> TensorType {
    TensorType { id, name, elements, bytes, values: Values::Blocks(f) }
}

const fn unread(id: u32, name: &'static str, elements: u64, bytes: u64) -> TensorType {
    TensorType { id, name, elements, bytes, values: Values::Unread }
}

/// The type with this id; `None` for those of a later time and those that were withdrawn.
pub(super) fn by_id(id: u32) -> Option<&'static TensorType> {
    TYPES.iter().find(|t| t.id == id)
}

static TYPES: [TensorType; 33] = [
    stored(0, Dtype::F32),
    stored(1, Dtype::F16),
    quantized(2, "Q4_0", 32, 18, |b| expand(b, blocks::q4_0)),
    quantized(3, "Q4_1", 32, 20, |b| expand(b, blocks::q4_1)),
    quantized(6, "Q5_0", 32, 22, |b| expand(b, blocks::q5_0)),
    quantized(7, "Q5_1", 32, 24, |b| expand(b, blocks::q5_1)),
    quantized(8, "Q8_0", 32, 34, |b| expand(b, blocks::q8_0)),
    // Q8_1 and Q8_K are types of activations while a product is computed; no file has them.
    unread(9, "Q8_1", 32, 40),
    quantized(10, "Q2_K", 256, 84, |b| expand(b, blocks::q2_k)),
    quantized(11, "Q3_K", 256, 110, |b| expand(b, blocks::q3_k)),
    quantized(12, "Q4_K", 256, 144, |b| expand(b, blocks::q4_k)),
    quantized(13, "Q5_K", 256, 176, |b| expand(b, blocks::q5_k)),
    quantized(14, "Q6_K", 256, 210, |b| expand(b, blocks::q6_k)),
    unread(15, "Q8_K", 256, 292),
    unread(16, "IQ2_XXS", 256, 66),
    unread(17, "IQ2_XS", 256, 74),
    unread(18, "IQ3_XXS", 256, 98),
    unread(19, "IQ1_S", 256, 50),
    quantized(20, "IQ4_NL", 32, 18, |b| expand(b, blocks::iq4_nl)),
    unread(21, "IQ3_S", 256, 110),
    unread(22, "IQ2_S", 256, 82),
    unread(23, "IQ4_XS", 256, 136),
    stored(24, Dtype::I8),
    stored(25, Dtype::I16),
    stored(26, Dtype::I32),
    stored(27, Dtype::I64),
    stored(28, Dtype::F64),
    unread(29, "IQ1_M", 256, 56),
    stored(30, Dtype::BF16),
    unread(34, "TQ1_0", 256, 54),
    unread(35, "TQ2_0", 256, 66),
    quantized(39, "MXFP4", 32, 17, |b| expand(b, blocks::mxfp4)),
    unread(40, "NVFP4", 64, 36),
];
