//! What a pack holds, as values that a table or JSON can show.

use crate::Pack;
use benben_format::hex;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that the index of a pack says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contents {
    /// Program and version that wrote it.
    pub generator: String,
    /// Identity: BLAKE3 of the index, in hexadecimal.
    pub root: String,
    /// Bytes of the pack, everything counted.
    pub packed_bytes: u64,
    /// Bytes of the tensors in the source.
    pub source_bytes: u64,
    /// Elements of all tensors.
    pub weights: u64,
    /// `packed_bytes` in bits for each element.
    pub bits_per_weight: f64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of its copy at the front.
    pub front_index_bytes: u64,
    /// Text pairs carried over from the source.
    pub metadata: BTreeMap<String, String>,
    /// The recipe that made the pack, TOML.
    pub recipe: Option<String>,
    /// Files that travel with the model.
    pub files: Vec<FileContents>,
    /// Tensors in stored order.
    pub tensors: Vec<TensorContents>,
}

/// One travelling file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileContents {
    /// Its name.
    pub name: String,
    /// Bytes when unpacked.
    pub file_bytes: u64,
    /// Bytes in the pack.
    pub bytes: u64,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorContents {
    /// Its name.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Element type in which it is handed out.
    pub dtype: String,
    /// How it is stored.
    pub expression: String,
    /// Bits for each element.
    pub bits_per_weight: f64,
    /// Bytes in the pack, its share of the index not counted.
    pub bytes: u64,
    /// Squared error relative to the squared norm, as measured when it was packed.
    pub relative_mse: Option<f64>,
    /// Type in the source.
    pub source_type: String,
    /// Bytes in the source.
    pub source_bytes: u64,
    /// Why it cannot be read, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl Contents {
    /// What `pack` holds. Reads nothing but the index.
    pub fn new(pack: &Pack) -> Self {
        let reader = pack.reader();
        let directory = reader.directory();
        let tensors: Vec<TensorContents> = pack
            .tensors()
            .map(|t| TensorContents {
                name: t.name().into(),
                shape: t.shape().into(),
                dtype: t.dtype().to_string(),
                expression: t.entry().expr.describe(),
                bits_per_weight: t.stored_bytes() as f64 * 8.0 / t.elements().max(1) as f64,
                bytes: t.stored_bytes(),
                relative_mse: t.entry().origin.relative_mse,
                source_type: t.entry().origin.dtype.clone(),
                source_bytes: t.entry().origin.bytes,
                unreadable: reader.signature(t.entry()).err().map(|e| e.to_string()),
            })
            .collect();
        let files = directory.files.iter().map(|f| FileContents {
            name: f.name.clone(),
            file_bytes: f.leaf.spec.elements().unwrap_or(0),
            bytes: reader.segment(&f.leaf).len,
        });
        let weights: u64 = pack.tensors().map(|t| t.elements()).sum();
        Self {
            generator: directory.generator.clone(),
            root: hex(&reader.root()),
            packed_bytes: reader.len(),
            source_bytes: tensors.iter().map(|t| t.source_bytes).sum(),
            weights,
            bits_per_weight: reader.len() as f64 * 8.0 / weights.max(1) as f64,
            index_bytes: reader.index_bytes(),
            front_index_bytes: reader.front_index_bytes(),
            metadata: directory.metadata.clone(),
            recipe: directory.recipe.clone(),
            files: files.collect(),
            tensors,
        }
    }
}
