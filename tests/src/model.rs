//! Models made on the spot.

use crate::random::Random;
use benben::{Dtype, Method, ModelSource, Plan, Recipe, Result, SideFile, TensorInfo, pack};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Cursor;

type Change = Box<dyn Fn(&dyn Fn(usize) -> Vec<u8>, usize) -> Vec<u8> + Send + Sync>;

/// A model whose tensors are generated when they are read: it can be larger than memory.
pub struct MadeModel {
    tensors: Vec<TensorInfo>,
    change: Change,
    metadata: BTreeMap<String, String>,
    files: Vec<SideFile>,
}

impl MadeModel {
    /// Tensors of these names, types and shapes, filled with seeded Gaussian values (integers: with small ones).
    pub fn new(tensors: &[(&str, Dtype, &[u64])]) -> Self {
        let info = |&(name, dtype, shape): &(&str, Dtype, &[u64])| TensorInfo {
            name: name.into(),
            dtype,
            shape: shape.into(),
            source_type: dtype.to_string(),
            source_bytes: shape.iter().product::<u64>() * dtype.size() as u64,
        };
        Self {
            tensors: tensors.iter().map(info).collect(),
            change: Box::new(|made, index| made(index)),
            metadata: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// The same with other bytes: `change` is given what would be made of any tensor, and the tensor asked for.
    pub fn changed(
        mut self,
        change: impl Fn(&dyn Fn(usize) -> Vec<u8>, usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.change = Box::new(change);
        self
    }

    /// The same with a free text pair.
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The same with a file that travels along.
    ///
    /// # Errors
    /// InvalidArgument for a name that leaves its folder.
    pub fn with_file(mut self, name: &str, bytes: &'static [u8]) -> Result<Self> {
        self.files.push(SideFile::made(name, move || Ok(bytes.to_vec()))?);
        self.metadata.insert("made".into(), "for a test".into());
        Ok(self)
    }
}

impl ModelSource for MadeModel {
    fn format(&self) -> &'static str {
        "made"
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        Ok(Cow::Owned((self.change)(&|index| made(&self.tensors[index], index), index)))
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn files(&self) -> &[SideFile] {
        &self.files
    }

    fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.source_bytes).sum()
    }
}

/// Seeded bytes of one tensor.
fn made(info: &TensorInfo, seed: usize) -> Vec<u8> {
    let n = usize::try_from(info.shape.iter().product::<u64>()).unwrap_or(usize::MAX);
    if !info.dtype.is_float() || info.dtype.size() == 1 {
        let width = info.dtype.size();
        return (0..n * width).map(|i| u8::from(i % width == 0 && i % 3 == 0)).collect();
    }
    let columns = usize::try_from(*info.shape.last().unwrap_or(&1)).unwrap_or(1).max(1);
    let mut values = Random::new(seed as u64).gaussian(n);
    // Rows of different energy, as in real matrices.
    for (i, row) in values.chunks_mut(columns).enumerate() {
        let scale = 0.02 * (1.0 + (i % 7) as f32);
        row.iter_mut().for_each(|x| *x *= scale);
    }
    info.dtype.from_f32(&values).unwrap_or_default()
}

/// A model of a few kilobytes with every dtype family, and a recipe that uses every codec.
///
/// # Errors
/// None, unless the recipes of this crate are wrong.
pub fn small_model() -> Result<(MadeModel, Recipe)> {
    let model = MadeModel::new(&[
        ("scalar.weight", Dtype::F32, &[12, 40]),
        ("pvq.weight", Dtype::F16, &[32, 64]),
        ("rvq.weight", Dtype::F32, &[32, 64]),
        ("ternary.weight", Dtype::BF16, &[20, 50]),
        ("turned.weight", Dtype::F32, &[4, 32]),
        ("raw.f32", Dtype::F32, &[3, 70]),
        ("raw.f16", Dtype::F16, &[150]),
        ("raw.bf16", Dtype::BF16, &[11, 13]),
        ("raw.i64", Dtype::I64, &[1, 33]),
        ("raw.bool", Dtype::Bool, &[9]),
        ("scalar", Dtype::F32, &[]),
        ("empty", Dtype::F32, &[0, 4]),
    ])
    .with_file("config.json", br#"{"model_type": "made", "layers": 1}"#)?;
    let mut recipe = Recipe::preset("lossless")?;
    for rule in ["scalar.weight=scalar:4", "pvq.weight=pvq:3", "rvq.weight=rvq:4", "ternary.weight=ternary:3"]
    {
        recipe.set(rule)?;
    }
    recipe.set("turned.weight=scalar:bpw=5,rotate=true")?;
    Ok((model, recipe))
}

/// Packs into memory.
///
/// # Errors
/// As [`Plan::new`] and [`pack`].
pub fn pack_to_memory(model: &dyn ModelSource, recipe: &Recipe) -> Result<Vec<u8>> {
    let plan = Plan::new(model, recipe)?;
    let mut out = Cursor::new(Vec::new());
    pack(model, &plan, &mut out, &mut benben::ignore)?;
    Ok(out.into_inner())
}

/// The usual recipe with every matrix by `method`.
///
/// # Errors
/// InvalidArgument where `method` does not parse.
pub fn recipe_with(method: &str) -> Result<Recipe> {
    let mut recipe = Recipe::preset("balanced")?;
    recipe.default = method.parse::<Method>()?;
    Ok(recipe)
}
