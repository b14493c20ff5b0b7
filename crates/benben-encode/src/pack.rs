//! The pass over a model: reads a tensor, rewrites it as an expression, writes it, forgets it.

use crate::coder::{Coder, DataFree, Task};
use crate::lowrank::has_rank;
use crate::method::Method;
use crate::plan::{DIRECTORY_ENTRY, Plan, Treatment, file_leaf, out_of_reach};
use crate::quantize::has_feedback;
use crate::recipe::Recipe;
use crate::report::{PackReport, TensorReport};
use benben_codec::{Fit, Target, raw};
use benben_format::{
    Dtype, EncodedLeaf, Error, Expr, Observer, Origin, Progress, Result, Writer, element_count, hex,
    in_memory, layout,
};
use benben_io::{ModelSource, TensorInfo};
use std::collections::HashMap;
use std::io::{Seek, Write};

/// What a pack says of the program that wrote it.
pub const GENERATOR: &str = concat!("benben ", env!("CARGO_PKG_VERSION"));

/// A copy of the index goes to the front where it is at most this part of the pack: a file that is cut short
/// can then say what is missing.
const FRONT_INDEX_SHARE: f64 = 0.005;

/// Packs `model` as `plan` says into `out`. Holds one tensor at a time; the bytes depend on the model, the recipe and
/// its seed, and on nothing else.
///
/// # Errors
/// What the model's reader reports; InvalidArgument for a target out of reach; Interrupted, where `observer` says
/// so; Io. Tensor errors carry the tensor's name.
pub fn pack(
    model: &dyn ModelSource,
    plan: &Plan,
    out: impl Write + Seek,
    observer: &mut Observer<'_>,
) -> Result<PackReport> {
    pack_with(model, plan, &DataFree, out, observer)
}

/// As [`pack`], with tensors coded by `coder`: with statistics of calibration data, or from levels that are there.
///
/// # Errors
/// As [`pack`]; InvalidArgument where the recipe was made with other statistics than the coder has.
pub fn pack_with(
    model: &dyn ModelSource,
    plan: &Plan,
    coder: &dyn Coder,
    out: impl Write + Seek,
    observer: &mut Observer<'_>,
) -> Result<PackReport> {
    same_calibration(plan.recipe.calibration.as_deref(), coder.calibration().as_deref())?;
    same_samples(plan.recipe.sequential.as_deref(), coder.sequential().as_deref())?;
    write_pack(model, plan, coder, out, observer)
}

/// The pack itself; where a plan is sequential, with tensors that need not be: they take as many bytes.
pub(crate) fn write_pack(
    model: &dyn ModelSource,
    plan: &Plan,
    coder: &dyn Coder,
    out: impl Write + Seek,
    observer: &mut Observer<'_>,
) -> Result<PackReport> {
    let mut writer = Writer::new(out, GENERATOR, front_index(plan))?;
    model.metadata().iter().for_each(|(key, value)| writer.metadata(key, value));
    // What follows the packing notes itself.
    writer.recipe(&Recipe { recovery: Vec::new(), ..plan.recipe.clone() }.to_toml()?);
    for file in model.files() {
        writer.file(file.name(), file_leaf(&file.read()?)?)?;
    }
    let budget = Budget::new(plan, &writer)?;
    let mut packer = Packer { plan, coder, writer, budget, seen: HashMap::new(), tensors: Vec::new() };
    let total = plan.weights();
    let mut done = 0;
    for (i, planned) in plan.tensors.iter().enumerate() {
        let info = &model.tensors()[planned.position];
        if observer(Progress { item: &info.name, done, total }).is_break() {
            return Err(Error::interrupted());
        }
        let bytes = model.read(planned.position)?;
        packer.tensor(i, info, &bytes).map_err(|e| e.in_tensor(&info.name))?;
        done += planned.elements;
    }
    let (_, written) = packer.writer.finish_in_place()?;
    let _ = observer(Progress { item: "", done: total, total });
    Ok(PackReport {
        source_bytes: model.total_bytes(),
        packed_bytes: written.bytes,
        weights: total,
        bits_per_weight: written.bytes as f64 * 8.0 / total.max(1) as f64,
        file_bytes: plan.file_bytes,
        root: hex(&written.root),
        tensors: packer.tensors,
    })
}

/// Bytes to keep for a copy of the index: more than it will need, or none where that would be a visible part.
fn front_index(plan: &Plan) -> u64 {
    let entry = |name: &str, elements: u64| {
        let chunks = 6 + 2 * elements.div_ceil(u64::from(benben_codec::entropy::CHUNK_ITEMS));
        name.len() as u64 / 2
            + DIRECTORY_ENTRY
            + layout::SEGMENT_ENTRY as u64
            + chunks * layout::CHUNK_ENTRY as u64
    };
    let room = 1024 + plan.tensors.iter().map(|t| entry(&t.name, t.elements)).sum::<u64>();
    if room as f64 <= plan.predicted_bytes as f64 * FRONT_INDEX_SHARE { room } else { 0 }
}

/// The values of a tensor, or why they are kept as they are.
pub(crate) fn quantizable(info: &TensorInfo, bytes: &[u8]) -> Result<std::result::Result<Vec<f32>, String>> {
    let mut values = vec![0f32; in_memory(element_count(&info.shape)?)?];
    info.dtype.to_f32(bytes, &mut values)?;
    let strange = values.iter().filter(|x| !x.is_finite()).count();
    if strange > 0 {
        return Ok(Err(format!("kept lossless: {strange} values are not finite")));
    }
    // Such as masks hold: quantized, some would be rounded up to infinities.
    let most = if info.dtype == Dtype::F16 { 0.5 * 65504.0 } else { MOST };
    if values.iter().any(|x| x.abs() >= most) {
        return Ok(Err(format!("kept lossless: values of {most:.1e} or more")));
    }
    Ok(Ok(values))
}

/// Values from 2^112 on are not quantized: squares and sums on the way would leave f32.
const MOST: f32 = (1u128 << 112) as f32;

struct Packer<'a, W> {
    plan: &'a Plan,
    coder: &'a dyn Coder,
    writer: Writer<W>,
    budget: Budget,
    /// Name of the first tensor with these bytes, shape, dtype and treatment.
    seen: HashMap<blake3::Hash, String>,
    tensors: Vec<TensorReport>,
}

impl<W: Write + Seek> Packer<'_, W> {
    fn tensor(&mut self, index: usize, info: &TensorInfo, bytes: &[u8]) -> Result<()> {
        let mut note = None;
        let identity = identity(info, &self.plan.tensors[index].method, bytes);
        let (expr, relative_mse) = if let Some(first) = self.seen.get(&identity) {
            let same = Expr::Ref { tensor: first.clone(), shape: info.shape.clone(), dtype: info.dtype };
            let error = self.tensors.iter().find(|t| t.name == *first).and_then(|t| t.relative_mse);
            (same, error)
        } else {
            self.seen.insert(identity, info.name.clone());
            let (expr, fit, why) = self.code(index, info, bytes)?;
            note = why;
            (expr, Some(fit.relative_mse))
        };
        let leaves = expr.leaves();
        let stored: u64 = leaves.iter().map(|l| l.stored_bytes()).sum();
        self.tensors.push(TensorReport {
            name: info.name.clone(),
            shape: info.shape.clone(),
            dtype: info.dtype.to_string(),
            expression: expr.describe(),
            source_bytes: info.source_bytes,
            bytes: stored,
            bits_per_weight: stored as f64 * 8.0 / self.plan.tensors[index].elements.max(1) as f64,
            relative_mse,
            note,
        });
        let origin = Origin { dtype: info.source_type.clone(), bytes: info.source_bytes, relative_mse };
        self.writer.tensor(&info.name, info.dtype, &info.shape, origin, expr)
    }

    fn code(
        &mut self,
        index: usize,
        info: &TensorInfo,
        bytes: &[u8],
    ) -> Result<(Expr<EncodedLeaf>, Fit, Option<String>)> {
        let (method, target) = match self.plan.tensors[index].treatment {
            Treatment::Lossless => return lossless(info, bytes, None),
            Treatment::Quantize(method, target) => (method, target),
            Treatment::Share(method) => {
                (method, Target::BitsPerWeight(self.budget.share(index, self.plan, &self.writer)?))
            }
        };
        match quantizable(info, bytes)? {
            Ok(values) => self.quantize(&method, &values, info, target),
            Err(note) => lossless(info, bytes, Some(note)),
        }
    }

    fn quantize(
        &self,
        method: &Method,
        values: &[f32],
        info: &TensorInfo,
        target: Target,
    ) -> Result<(Expr<EncodedLeaf>, Fit, Option<String>)> {
        let (name, shape, seed) = (&info.name, &info.shape, self.plan.recipe.seed);
        let coded = self.coder.code(&Task { name, shape, values, method, target, seed })?;
        let fit = Fit { bits_per_weight: coded.bits_per_weight, relative_mse: coded.relative_mse };
        let without = self.coder.metric(name).is_some() && !method.plain && !has_feedback(method, shape);
        let note = match target {
            _ if without => {
                let codec = method.codec.name();
                Some(format!("coded from its values alone: {codec} has no feedback for tensors of this form"))
            }
            _ if method.rank.is_some() && !has_rank(shape) => {
                Some(format!("without a product of low rank: {} dimensions are no matrix", shape.len()))
            }
            Target::RelativeMse(y) if coded.loss > y * 1.01 => {
                Some(format!("asked for relative error {y:.1e}, reached {:.1e}", coded.loss))
            }
            Target::BitsPerWeight(b) if (fit.bits_per_weight / b - 1.0).abs() > 0.05 => {
                Some(format!("asked for {b:.2} bits per weight, reached {:.2}", fit.bits_per_weight))
            }
            _ => None,
        };
        Ok((coded.expr, fit, note))
    }
}

/// The bytes of a pack depend on the statistics that its tensors were coded with: others would not make the same pack.
fn same_calibration(recipe: Option<&str>, coder: Option<&str>) -> Result<()> {
    let short = |name: &str| name.chars().take(16).collect::<String>();
    match (recipe, coder) {
        (Some(recipe), None) => Err(Error::invalid(format!(
            "the recipe was made with calibration {}, none is given",
            short(recipe)
        ))
        .with_hint("give --calib with the text or the calibration file that made the recipe")),
        (Some(recipe), Some(coder)) if recipe != coder => Err(Error::invalid(format!(
            "the recipe was made with calibration {}, found {}",
            short(recipe),
            short(coder)
        ))
        .with_hint("give --calib with the same text or file, and the same --seed")),
        (None, Some(_)) => Err(Error::invalid("the recipe was made without calibration, one is given")
            .with_hint("leave out --calib, or make a recipe with it by `benben plan`")),
        _ => Ok(()),
    }
}

/// The same of the samples of the sequential mode.
pub(crate) fn same_samples(recipe: Option<&str>, coder: Option<&str>) -> Result<()> {
    match (recipe, coder) {
        (Some(_), None) => {
            Err(Error::invalid("the recipe is sequential: the network must run on the text that it names")
                .with_hint("give --calib with that text; a file of statistics alone does not do"))
        }
        (None, Some(_)) => Err(Error::invalid("the recipe is not sequential, the coder is")),
        (Some(recipe), Some(coder)) if recipe != coder => {
            Err(Error::invalid("the recipe was made on other samples than those given")
                .with_hint("give --calib with the same text, and the same --seed"))
        }
        _ => Ok(()),
    }
}

fn lossless(
    info: &TensorInfo,
    bytes: &[u8],
    note: Option<String>,
) -> Result<(Expr<EncodedLeaf>, Fit, Option<String>)> {
    let leaf = raw::encode(bytes, info.dtype, &info.shape)?;
    Ok((Expr::Leaf(leaf), Fit { bits_per_weight: 0.0, relative_mse: 0.0 }, note))
}

/// What tensors that share one expression have in common. A rule may ask for more of one tensor than of its twin:
/// so the method belongs to it.
pub(crate) fn identity(info: &TensorInfo, method: &str, bytes: &[u8]) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    hash.update(format!("{} {:?} {method} ", info.dtype, info.shape).as_bytes());
    hash.update(bytes);
    hash.finalize()
}

/// Keeps the whole file on its target: what one tensor missed, the next ones make up for.
struct Budget {
    bytes: f64,
    /// Bytes of the directory before the first tensor: metadata, recipe and files.
    empty_directory: f64,
    /// Bytes of the whole directory, by the last measurement.
    directory: f64,
    measured_at: usize,
}

impl Budget {
    fn new<W: Write>(plan: &Plan, writer: &Writer<W>) -> Result<Self> {
        let empty_directory = directory_bytes(writer)?;
        let entries = plan.tensors.len() as u64 * DIRECTORY_ENTRY;
        Ok(Self {
            bytes: plan.budget().unwrap_or(f64::INFINITY),
            empty_directory,
            directory: empty_directory + entries as f64,
            measured_at: 0,
        })
    }

    /// Bits for each weight that tensor `index` may take, so that all tensors that share get the same.
    fn share<W: Write>(&mut self, index: usize, plan: &Plan, writer: &Writer<W>) -> Result<f64> {
        // Compressing the directory to see its size takes a while: often at first, then every 16th tensor.
        if index >= 4
            && (self.measured_at == 0 || index >= self.measured_at + 16 || index + 1 == plan.tensors.len())
        {
            // Only entries grow with the number of tensors.
            let entries = (directory_bytes(writer)? - self.empty_directory).max(0.0);
            self.directory = self.empty_directory + entries * plan.tensors.len() as f64 / index as f64;
            self.measured_at = index;
        }
        let (mut fixed, mut weights) = (0u64, 0u64);
        for t in &plan.tensors[index..] {
            match t.treatment {
                Treatment::Share(_) => weights += t.elements,
                _ => fixed += t.predicted_bytes,
            }
        }
        let taken = (writer.position() + writer.table_bytes() + layout::TRAILER as u64 + fixed) as f64
            + self.directory;
        let bits = (self.bytes - taken) * 8.0 / weights.max(1) as f64;
        if bits < 0.02 { Err(out_of_reach(self.bytes, taken, plan.weights())) } else { Ok(bits) }
    }
}

/// Bytes that the directory would take if the pack ended here.
fn directory_bytes<W: Write>(writer: &Writer<W>) -> Result<f64> {
    Ok(writer.index_bytes()?.saturating_sub(writer.table_bytes()) as f64)
}
