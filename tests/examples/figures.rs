//! Prints the figures that the project claims, ours beside the limit, everything stored counted.
//!
//! ```console
//! python3 tools/fetch_assets.py minilm
//! cargo run --release -p benben-tests --example figures            # all of them, about ten minutes
//! cargo run --release -p benben-tests --example figures -- sizes   # or: distortion, targets
//! ```
#![allow(clippy::print_stdout, reason = "an example that prints")]

use benben::codec::{Fit, Target, pvq, rvq, scalar, ternary};
use benben::{Dtype, Limits, ModelSource, Pack, PackedModel, Recipe, Result, SideFile, TensorInfo, compare};
use benben_tests::assets;
use benben_tests::model::{pack_to_memory, recipe_with};
use benben_tests::random::Random;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let asked = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let minilm = match assets::find("minilm") {
        Ok(folder) => Some(benben::open_model(&folder)?),
        Err(skipped) => {
            println!("{skipped}\n");
            None
        }
    };
    if let (Some(model), true) = (&minilm, asked("sizes")) {
        sizes(&**model)?;
    }
    if asked("distortion") {
        distortion(minilm.as_deref())?;
    }
    if let (Some(model), true) = (&minilm, asked("targets")) {
        targets(&**model)?;
    }
    Ok(())
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn open(bytes: Vec<u8>) -> Result<PackedModel> {
    PackedModel::new(Pack::from_source(Arc::new(bytes), Limits::default())?)
}

fn weights(model: &dyn ModelSource) -> u64 {
    model.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum()
}

/// Lossless and balanced packs of all-MiniLM-L6-v2.
fn sizes(model: &dyn ModelSource) -> Result<()> {
    println!("all-MiniLM-L6-v2, whole files, configuration and tokenizer included");
    let cast = Cast::new(model);
    for (name, model, limit) in [("f32", model, 82.5), ("bf16 cast", &cast as &dyn ModelSource, 67.2)] {
        let bytes = pack_to_memory(model, &Recipe::preset("lossless")?)?;
        let share = 100.0 * bytes.len() as f64 / model.total_bytes() as f64;
        let exact = compare(model, &open(bytes)?, |_| true, &mut benben::ignore)?.is_identical();
        let [plain, planes] = zstd_shares(model)?;
        println!("  zstd -3 {name:<11} {plain:6.2} % of the source; on byte planes {planes:.2} %");
        println!(
            "  lossless {name:<10} {share:6.2} % of the source, bit-exact {exact}; at most {limit} %: {}",
            verdict(share <= limit && exact)
        );
    }
    for preset in ["near-lossless", "balanced", "small", "tiny"] {
        let started = Instant::now();
        let bytes = pack_to_memory(model, &Recipe::preset(preset)?)?;
        let seconds = started.elapsed().as_secs_f64();
        let bits = bytes.len() as f64 * 8.0 / weights(model) as f64;
        let worst = compare(model, &open(bytes)?, |_| true, &mut benben::ignore)?.worst_relative_mse;
        let check = match preset {
            "balanced" => format!("; below 6 bits at 1e-3: {}", verdict(bits < 6.0 && worst < 1e-3)),
            _ => String::new(),
        };
        println!(
            "  {preset:<19} {bits:6.3} bits per weight, relative MSE {worst:.2e} at worst, {seconds:.1} s{check}"
        );
    }
    println!();
    Ok(())
}

/// What zstd -3 makes of the tensors, as they are and with their bytes sorted by significance, in % of the source.
fn zstd_shares(model: &dyn ModelSource) -> Result<[f64; 2]> {
    let mut sums = [0; 2];
    for (i, info) in model.tensors().iter().enumerate() {
        let bytes = model.read(i)?;
        let size = info.dtype.size();
        let planes: Vec<u8> = (0..size).flat_map(|p| bytes.iter().skip(p).step_by(size).copied()).collect();
        for (sum, bytes) in sums.iter_mut().zip([&bytes[..], &planes]) {
            *sum += zstd::bulk::compress(bytes, 3)?.len();
        }
    }
    Ok(sums.map(|sum| 100.0 * sum as f64 / model.total_bytes() as f64))
}

/// A model whose f32 tensors are rounded to bf16, without its files.
struct Cast<'a> {
    inner: &'a dyn ModelSource,
    tensors: Vec<TensorInfo>,
}

impl<'a> Cast<'a> {
    fn new(inner: &'a dyn ModelSource) -> Self {
        let cast = |t: &TensorInfo| match t.dtype {
            Dtype::F32 => TensorInfo { dtype: Dtype::BF16, source_bytes: t.source_bytes / 2, ..t.clone() },
            _ => t.clone(),
        };
        Self { inner, tensors: inner.tensors().iter().map(cast).collect() }
    }
}

impl ModelSource for Cast<'_> {
    fn format(&self) -> &'static str {
        "cast"
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        let bytes = self.inner.read(index)?;
        if self.tensors[index].dtype == self.inner.tensors()[index].dtype {
            return Ok(bytes);
        }
        let mut values = vec![0.0; bytes.len() / 4];
        Dtype::F32.to_f32(&bytes, &mut values)?;
        Dtype::BF16.from_f32(&values).map(Cow::Owned)
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.inner.metadata()
    }

    fn files(&self) -> &[SideFile] {
        &[]
    }

    fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.source_bytes).sum()
    }
}

/// Bits, and distance in dB from the Gaussian bound 2^(-2R) that the design gives, for 2, 3 and 4 bits.
const SCALAR: [f64; 3] = [1.53, 1.53, 1.52];
const PVQ: [f64; 3] = [2.02, 2.08, 2.12];
const RVQ: [f64; 3] = [2.60, 4.18, 6.05];

/// Distance from the rate-distortion bound of a Gaussian source, all side information counted.
fn distortion(model: Option<&dyn ModelSource>) -> Result<()> {
    println!("distance from 2^(-2R) in dB, the leaf's side information and table entries counted");
    println!("  {:<44} {:>7} {:>21} {:>21} {:>21}", "data", "codec", "2 bits", "3 bits", "4 bits");
    let samples = Random::new(7).gaussian(1 << 22);
    row("Gaussian, 4 M samples", &samples, &[2048, 2048])?;
    if let Some(model) = model {
        for (i, info) in model.tensors().iter().enumerate() {
            let first_layer = info.name.contains("layer.0.") || info.name.contains("word_embeddings");
            if info.shape.len() == 2 && first_layer && info.name.ends_with("weight") {
                let bytes = model.read(i)?;
                let mut values = vec![0.0; bytes.len() / info.dtype.size()];
                info.dtype.to_f32(&bytes, &mut values)?;
                row(&info.name, &values, &info.shape)?;
            }
        }
    }
    println!();
    Ok(())
}

fn row(name: &str, values: &[f32], shape: &[u64]) -> Result<()> {
    let name = name.rsplit_once("encoder.").map_or(name, |(_, rest)| rest);
    for (codec, table, slack) in
        [("scalar", SCALAR, 0.15), ("pvq", PVQ, 0.2), ("rvq", RVQ, 0.2), ("ternary", [f64::NAN; 3], 0.0)]
    {
        print!("  {name:<44} {codec:>7}");
        for (bits, table) in [2.0, 3.0, 4.0].into_iter().zip(table) {
            let fit = encode(codec, values, shape, Target::BitsPerWeight(bits))?;
            let db = fit.db_above_gaussian_bound();
            let check = if table.is_nan() { "" } else { verdict(db <= table + slack) };
            print!(" {:>6.3} b {db:>5.2} {check:>6}", fit.bits_per_weight);
        }
        println!();
    }
    Ok(())
}

fn encode(codec: &str, values: &[f32], shape: &[u64], target: Target) -> Result<Fit> {
    Ok(match codec {
        "scalar" => scalar::encode(values, shape, &scalar::Settings::new(target))?.1,
        "pvq" => pvq::encode(values, shape, &pvq::Settings::new(target))?.1,
        "rvq" => rvq::encode(values, shape, &rvq::Settings::new(target))?.1,
        _ => ternary::encode_planes(values, shape, &ternary::Settings::new(target))?.1,
    })
}

/// `--bpw X` on all-MiniLM-L6-v2: whole files against what was asked for.
fn targets(model: &dyn ModelSource) -> Result<()> {
    println!("all-MiniLM-L6-v2, --bpw X: bits per weight of the whole file, and the seconds it took");
    for (codec, tolerance) in [("scalar", 0.01), ("pvq", 0.03), ("ternary", 0.03), ("rvq", 0.03)] {
        for bits in [1.5, 2.0, 3.0, 4.0, 6.0, 8.0] {
            let mut recipe = recipe_with(codec)?;
            recipe.bits_per_weight = Some(bits);
            let started = Instant::now();
            let bytes = pack_to_memory(model, &recipe)?.len();
            let found = bytes as f64 * 8.0 / weights(model) as f64;
            println!(
                "  {codec:<8} asked {bits:.1}, found {found:.4} ({:+.2} %), {:.1} s; within {:.0} %: {}",
                100.0 * (found / bits - 1.0),
                started.elapsed().as_secs_f64(),
                100.0 * tolerance,
                verdict((found / bits - 1.0).abs() <= tolerance)
            );
        }
    }
    Ok(())
}
