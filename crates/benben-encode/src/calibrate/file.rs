//! A calibration as a file: safetensors, so that other tools can read it.
//!
//! | tensor | what |
//! |---|---|
//! | `stage.I.moment` | f32, upper triangle of E[x xᵀ] row by row, n (n + 1) / 2 |
//! | `stage.I.mean`, `stage.I.absolute` | f32, E[x] and E\|x\|, n |
//! | `rows.NAME` | f32, importance of each output row of tensor NAME |
//! | `frequency` | f32, part of the look-ups that go to each row of the table |
//! | `influence` | f32, for each block |
//! | `change` | f32, for each block; files of earlier versions have none |
//! | `counts` | u32, low and high half of the vectors of each stage |
//! | `hashes` | u8, BLAKE3 of each tensor before this one, 32 bytes each |
//!
//! Metadata: `format`, `stages` (JSON: block, columns and names of each), `table`, and what [`About`] says.

use benben_format::{Dtype, Error, Result, hex};
use benben_io::safetensors::{self, TensorSpec};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

/// What `format` says.
pub(super) const FORMAT: &str = "benben calibration 1";

/// What a calibration is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// Identity of the model, hexadecimal.
    pub model: String,
    /// Hash of the data, hexadecimal.
    pub data: String,
    /// Tokens of a sample; 0 where samples differ.
    pub context: usize,
    /// Samples.
    pub samples: usize,
    /// What the samples were chosen by; none: the first ones.
    pub seed: Option<u64>,
}

impl About {
    /// About a model of this identity and these data, by their hashes.
    #[must_use]
    pub fn new(model: &[u8; 32], data: &[u8; 32]) -> Self {
        Self { model: hex(model), data: hex(data), context: 0, samples: 0, seed: None }
    }
}

/// A stage as metadata name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StageEntry {
    pub(super) block: usize,
    pub(super) columns: usize,
    pub(super) names: Vec<String>,
}

/// Everything of a file but the values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) about: About,
    pub(super) stages: Vec<StageEntry>,
    pub(super) blocks: usize,
    /// Tensors whose output rows have an importance, and how many.
    pub(super) rows: Vec<(String, usize)>,
    pub(super) table: Option<(String, usize)>,
    /// Whether blocks say by how much they change their stream.
    pub(super) change: bool,
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Moment(usize),
    Mean(usize),
    Absolute(usize),
    Rows(String),
    Frequency,
    Influence,
    Change,
    Counts,
}

impl Part {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Moment(i) => format!("stage.{i}.moment"),
            Self::Mean(i) => format!("stage.{i}.mean"),
            Self::Absolute(i) => format!("stage.{i}.absolute"),
            Self::Rows(name) => format!("rows.{name}"),
            Self::Frequency => "frequency".into(),
            Self::Influence => "influence".into(),
            Self::Change => "change".into(),
            Self::Counts => "counts".into(),
        }
    }
}

/// Name of the last tensor.
pub(super) const HASHES: &str = "hashes";

impl Layout {
    /// Parts in the order of the file, each with its type and shape.
    pub(super) fn parts(&self) -> Result<Vec<(Part, Dtype, Vec<u64>)>> {
        let mut parts = Vec::new();
        for (i, stage) in self.stages.iter().enumerate() {
            let n = stage.columns as u64;
            let triangle = n.checked_add(1).and_then(|m| m.checked_mul(n)).map(|m| m / 2);
            let triangle = triangle.ok_or_else(|| Error::limit(format!("{n} columns of stage {i}")))?;
            parts.push((Part::Moment(i), Dtype::F32, vec![triangle]));
            parts.push((Part::Mean(i), Dtype::F32, vec![n]));
            parts.push((Part::Absolute(i), Dtype::F32, vec![n]));
        }
        for (name, rows) in &self.rows {
            parts.push((Part::Rows(name.clone()), Dtype::F32, vec![*rows as u64]));
        }
        if let Some((_, rows)) = &self.table {
            parts.push((Part::Frequency, Dtype::F32, vec![*rows as u64]));
        }
        parts.push((Part::Influence, Dtype::F32, vec![self.blocks as u64]));
        if self.change {
            parts.push((Part::Change, Dtype::F32, vec![self.blocks as u64]));
        }
        parts.push((Part::Counts, Dtype::U32, vec![self.stages.len() as u64, 2]));
        Ok(parts)
    }

    fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let about = &self.about;
        let stages =
            serde_json::to_string(&self.stages).map_err(|e| Error::invalid(format!("no JSON form: {e}")))?;
        let mut pairs = vec![
            ("format", FORMAT.into()),
            ("stages", stages),
            ("model", about.model.clone()),
            ("data", about.data.clone()),
            ("context", about.context.to_string()),
            ("samples", about.samples.to_string()),
        ];
        pairs.extend(about.seed.map(|seed| ("seed", seed.to_string())));
        pairs.extend(self.table.iter().map(|(name, _)| ("table", name.clone())));
        Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Writes the file; `next` gives the values of each part, in order.
    pub(super) fn write<'a>(
        &self,
        out: &mut dyn Write,
        mut next: impl FnMut(&Part) -> Result<Cow<'a, [u8]>>,
    ) -> Result<u64> {
        let parts = self.parts()?;
        let spec = |(part, dtype, shape): &(Part, Dtype, Vec<u64>)| TensorSpec {
            name: part.name(),
            dtype: *dtype,
            shape: shape.clone(),
        };
        let mut specs: Vec<TensorSpec> = parts.iter().map(spec).collect();
        specs.push(TensorSpec { name: HASHES.into(), dtype: Dtype::U8, shape: vec![parts.len() as u64, 32] });
        let mut hashes = Vec::with_capacity(32 * parts.len());
        safetensors::write(out, &specs, &self.metadata()?, |i| match parts.get(i) {
            Some((part, ..)) => {
                let bytes = next(part)?;
                hashes.extend_from_slice(blake3::hash(&bytes).as_bytes());
                Ok(bytes)
            }
            None => Ok(Cow::Owned(std::mem::take(&mut hashes))),
        })
    }
}
