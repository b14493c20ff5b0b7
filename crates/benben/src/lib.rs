//! Benben packs models: weights become small expressions over entropy-coded leaves, in one file that opens in
//! constant time and is decoded tensor by tensor, or row by row, while the model runs.
//!
//! ```no_run
//! let report = benben::pack_file("model.safetensors", "model.benben", &benben::Recipe::preset("balanced")?)?;
//! println!("{:.2} bits per weight", report.bits_per_weight);
//!
//! let pack = benben::open("model.benben")?;
//! let rows = pack.tensor("embeddings.word_embeddings.weight")?.rows(100..102)?;
//! # Ok::<(), benben::Error>(())
//! ```
//!
//! | to | use |
//! |---|---|
//! | make a pack | [`pack_file`], or [`Plan`] and [`pack`] for progress and any sink |
//! | make a pack of a size, or of a loss | [`allocate`] |
//! | read tensors, whole or by rows | [`open`], [`Pack`], [`Tensor`] |
//! | get model files back | [`unpack`] |
//! | learn what a model's layers see, for quantizing | [`calibrate`] |
//! | measure what was lost | [`compare()`] |
//! | see inside | [`Contents`] |
//! | use tensors of a pack within a budget of memory | [`LayerStore`] |
//! | weigh errors by gradients, tune a finished pack (feature `recover`) | `benben::recover` |
//! | run a language model (feature `llm`) | `benben::llm` |
//!
//! A device that only reads packs can depend on `benben-decode` alone. *Not for*: training, serving, or
//! compressing arbitrary files.

mod compare;
mod contents;
mod model;
mod output;
mod unpack;

pub use benben_codec as codec;
pub use benben_decode::{
    Fault, Form, LayerStore, Options, Pack, Report as VerifyReport, Resident, Tensor, Weights, store,
};
#[cfg(feature = "recover")]
pub use benben_encode::recover;
pub use benben_encode::{
    Codec, Coded, Coder, DataFree, GENERATOR, Method, PRESETS, PackReport, Plan, Planned, Preset, Recipe,
    Recovery, Rule, Task, TensorReport, Treatment, pack, pack_with,
};
pub use benben_encode::{allocate, calibrate, lowrank, quantize};
pub use benben_format::open as open_bytes;
pub use benben_format::{
    AtomicFile, Dtype, Error, ErrorKind, Limits, Observer, Progress, ReadAt, Result, Source, hex, ignore,
};
pub use benben_io::{ModelSource, SideFile, TensorInfo};
pub use compare::{Comparison, TensorComparison, compare};
pub use contents::{Contents, FileContents, TensorContents};
pub use model::{PackedModel, open_model};
pub use output::discard_unfinished;
pub use unpack::{Selection, Unpacked, unpack};

use std::path::Path;

/// Language models on packed weights.
///
/// ```no_run
/// use benben::llm::{Model, Sampling, Settings, generate};
///
/// let model = Model::open("model.benben".as_ref(), &benben::store::Options::default())?;
/// let (tokenizer, mut network) = (model.tokenizer()?, model.network()?);
/// let prompt = tokenizer.encode("Alice was", true)?;
/// let settings = Settings { tokens: 32, sampling: Sampling::default(), end: model.end_tokens(&tokenizer) };
/// let made = generate(&mut network, &tokenizer, &prompt, &settings, &mut |_| std::ops::ControlFlow::Continue(()))?;
/// println!("{}", made.text);
/// # Ok::<(), benben::Error>(())
/// ```
#[cfg(feature = "llm")]
pub mod llm {
    pub use benben_models::Sample;
    pub use benben_models::llm::*;
}

/// Opens the pack at `path`. The file must not be changed while it is open.
///
/// # Errors
/// Io, and every kind that [`Pack::from_source`] reports.
pub fn open(path: impl AsRef<Path>) -> Result<Pack> {
    let path = path.as_ref();
    output::require(path)?;
    Pack::open(path)
}

/// Packs the model at `source` into a new file at `destination`, which appears whole or not at all.
///
/// # Errors
/// InvalidArgument where `destination` exists; otherwise as [`Plan::new`] and [`pack`].
pub fn pack_file(
    source: impl AsRef<Path>,
    destination: impl AsRef<Path>,
    recipe: &Recipe,
) -> Result<PackReport> {
    let model = open_model(source.as_ref())?;
    let plan = Plan::new(&*model, recipe)?;
    let mut file = AtomicFile::create(destination.as_ref(), false)?;
    let report = pack(&*model, &plan, &mut file, &mut ignore)?;
    file.commit()?;
    Ok(report)
}
