//! What packing did, as values that a program or a table can show.

use serde::Serialize;

/// One tensor of a pack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Element type.
    pub dtype: String,
    /// How it is stored, in short: `scalar`, `sum(ternary, ternary)`.
    pub expression: String,
    /// Bytes in the source.
    pub source_bytes: u64,
    /// Bytes in the pack, its entries in the tables included.
    pub bytes: u64,
    /// The same in bits for each element.
    pub bits_per_weight: f64,
    /// Squared error relative to the squared norm; 0 is bit-exact, absent is not known.
    pub relative_mse: Option<f64>,
    /// What a reader should know: why it was not treated as the recipe says, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What packing a model came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackReport {
    /// Bytes of the weights in the source.
    pub source_bytes: u64,
    /// Bytes of the pack, everything counted.
    pub packed_bytes: u64,
    /// Elements of all tensors.
    pub weights: u64,
    /// `packed_bytes` in bits for each element.
    pub bits_per_weight: f64,
    /// Bytes that files which travel with the model take in the pack.
    pub file_bytes: u64,
    /// Identity of the pack: BLAKE3 of its index, in hexadecimal.
    pub root: String,
    /// Tensors in stored order.
    pub tensors: Vec<TensorReport>,
}
