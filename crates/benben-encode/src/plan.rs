//! A recipe settled for one model: what each tensor gets, and what that is expected to come to.

use crate::method::{Codec, Method};
use crate::order::execution_order;
use crate::recipe::Recipe;
use benben_codec::{Target, raw};
use benben_format::{Dtype, EncodedLeaf, Error, Result, StreamSpec, element_count, layout};
use benben_io::{ModelSource, TensorInfo};
use serde::Serialize;

/// What one tensor gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Treatment {
    /// Stored bit-exactly.
    Lossless,
    /// Quantized to a target of its own.
    Quantize(Method, Target),
    /// Quantized to whatever share of the whole file's target is left for it.
    Share(Method),
}

/// One tensor of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// Position in the source.
    #[serde(skip)]
    pub position: usize,
    /// Its name.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// Element type.
    pub dtype: String,
    /// Type in the source.
    pub source_type: String,
    /// Bytes in the source.
    pub source_bytes: u64,
    /// Number of elements.
    pub elements: u64,
    /// What it gets.
    #[serde(skip)]
    pub treatment: Treatment,
    /// The treatment in the words of a recipe.
    pub method: String,
    /// Expected bytes. An estimate from a Gaussian source: nothing has been read yet.
    pub predicted_bytes: u64,
    /// Expected squared error relative to the squared norm.
    pub predicted_relative_mse: f64,
    /// What the tensor is expected to add to the loss of the network, in nats for each token, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_loss: Option<f64>,
}

/// What packing a model will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Where it came from.
    pub recipe: Recipe,
    /// Tensors in stored order.
    pub tensors: Vec<Planned>,
    /// Bytes that travelling files take.
    pub file_bytes: u64,
    /// Expected bytes of the pack.
    pub predicted_bytes: u64,
    /// The same in bits for each element.
    pub predicted_bits_per_weight: f64,
    /// Bytes of the weights in the source.
    pub source_bytes: u64,
    /// Expected loss of the network against the source, in nats for each token, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_loss: Option<f64>,
    /// Most bytes that packing is expected to hold at once, pages of the source included.
    pub predicted_peak_memory: u64,
    /// Time that packing is expected to take on one core like those that the codecs were measured on, in seconds.
    pub predicted_seconds: f64,
}

/// What packing holds besides the largest tensor: program, threads, tables.
const BASE_MEMORY: u64 = 40 << 20;
/// Bytes that the encoders hold for each weight of a tensor: its values, integers, symbols, and the trial of another
/// step (370 MB for the 28.3 M weights of SmolLM2's embedding).
const MEMORY_FOR_WEIGHT: u64 = 10;

/// Weights that one core codes in a second, in millions: SmolLM2-135M, everything counted. Ternary, pvq and rvq depend on
/// their parameters; these are their usual ones.
fn speed(codec: Codec) -> f64 {
    1e6 * match codec {
        Codec::Raw => 200.0,
        Codec::Scalar => 30.0,
        Codec::Trellis => 10.0,
        Codec::Pvq | Codec::Ternary => 5.0,
        Codec::Rvq => 1.0,
        // Eigenvectors of 576 x 1536.
        Codec::Lowrank => 1.0,
    }
}

/// Bytes of a tensor's entry in the directory, compressed; what MiniLM and the demo model come to.
pub(crate) const DIRECTORY_ENTRY: u64 = 72;

/// dB above the Gaussian bound that each codec is expected to be; the figures of the design.
fn excess_bits(codec: Codec) -> f64 {
    let db = match codec {
        Codec::Raw => 0.0,
        Codec::Scalar => 1.55,
        Codec::Trellis => 0.5,
        Codec::Pvq => 2.1,
        Codec::Rvq => 4.2,
        Codec::Ternary => 3.0,
        // What is left out depends on the matrix: no figure holds for all.
        Codec::Lowrank => 6.0,
    };
    db / (20.0 * std::f64::consts::LOG10_2)
}

impl Plan {
    /// Settles `recipe` for `model`. Reads the travelling files, but no tensor.
    ///
    /// # Errors
    /// InvalidArgument for a rule that matches nothing or cannot apply, and for a target that is too small for
    /// what is stored losslessly.
    pub fn new(model: &dyn ModelSource, recipe: &Recipe) -> Result<Self> {
        recipe.check()?;
        let matchers = recipe.rules.iter().map(|r| Ok((r.matcher()?, r))).collect::<Result<Vec<_>>>()?;
        let mut matched = vec![false; matchers.len()];
        let mut tensors = Vec::with_capacity(model.tensors().len());
        let names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
        for position in execution_order(&names) {
            let info = &model.tensors()[position];
            let mut rule = None;
            for (i, (matcher, r)) in matchers.iter().enumerate() {
                if matcher.is_match(&info.name) {
                    matched[i] = true;
                    rule = Some(&r.method);
                }
            }
            let treatment = treatment(info, rule, recipe).map_err(|e| e.in_tensor(&info.name))?;
            tensors.push(Planned {
                position,
                name: info.name.clone(),
                shape: info.shape.clone(),
                dtype: info.dtype.to_string(),
                source_type: info.source_type.clone(),
                source_bytes: info.source_bytes,
                elements: element_count(&info.shape)?,
                method: describe(&treatment),
                treatment,
                predicted_bytes: 0,
                predicted_relative_mse: 0.0,
                predicted_loss: None,
            });
        }
        if let Some(i) = matched.iter().position(|m| !m) {
            return Err(Error::invalid(format!("no tensor matches {:?}", recipe.rules[i].tensors))
                .with_hint("`benben inspect` or `benben plan` lists the names"));
        }
        let mut file_bytes = 0;
        for file in model.files() {
            file_bytes += file_leaf(&file.read()?)?.stored_bytes() + DIRECTORY_ENTRY;
        }
        let mut plan = Self {
            recipe: recipe.clone(),
            tensors,
            file_bytes,
            predicted_bytes: 0,
            predicted_bits_per_weight: 0.0,
            source_bytes: model.total_bytes(),
            predicted_loss: None,
            predicted_peak_memory: 0,
            predicted_seconds: 0.0,
        };
        plan.predict()?;
        plan.predict_effort();
        Ok(plan)
    }

    /// Elements of all tensors.
    pub fn weights(&self) -> u64 {
        self.tensors.iter().map(|t| t.elements).sum()
    }

    /// Bytes that the whole file's target stands for, if there is one.
    pub(crate) fn budget(&self) -> Option<f64> {
        self.recipe.bits_per_weight.map(|b| b * self.weights() as f64 / 8.0)
    }

    fn predict(&mut self) -> Result<()> {
        let fixed = (layout::HEADER + layout::TRAILER) as u64 + self.file_bytes;
        let mut rest = fixed;
        let mut shared = 0;
        for t in &mut self.tensors {
            (t.predicted_bytes, t.predicted_relative_mse) = match t.treatment {
                Treatment::Lossless => (lossless_bytes(t), 0.0),
                Treatment::Quantize(method, target) => gaussian(t.elements, method.codec, target),
                Treatment::Share(_) => {
                    shared += t.elements;
                    (0, 0.0)
                }
            };
            rest += t.predicted_bytes + DIRECTORY_ENTRY;
        }
        if let Some(budget) = self.budget()
            && shared == 0
            && rest as f64 > budget
        {
            let bits = rest as f64 * 8.0 / self.weights().max(1) as f64;
            return Err(Error::invalid(format!(
                "the target of {budget:.0} bytes cannot be met: no tensor is free to be quantized to it, and what \
                 is stored takes about {rest} bytes ({bits:.2} bits per weight)"
            ))
            .with_hint("quantize more tensors: --quantizer scalar, or --set PATTERN=scalar"));
        }
        if let Some(budget) = self.budget()
            && shared > 0
        {
            let bits = (budget - rest as f64) * 8.0 / shared as f64;
            if bits < 0.05 {
                return Err(out_of_reach(budget, rest as f64, self.weights()));
            }
            for t in &mut self.tensors {
                if let Treatment::Share(method) = t.treatment {
                    (t.predicted_bytes, t.predicted_relative_mse) =
                        gaussian(t.elements, method.codec, Target::BitsPerWeight(bits));
                }
            }
        }
        let tensors: u64 = self.tensors.iter().map(|t| t.predicted_bytes + DIRECTORY_ENTRY).sum();
        self.predicted_bytes = fixed + tensors;
        self.predicted_bits_per_weight = self.predicted_bytes as f64 * 8.0 / self.weights().max(1) as f64;
        Ok(())
    }
}

impl Plan {
    /// Memory and time, by tensors and codecs.
    fn predict_effort(&mut self) {
        let held = |t: &Planned| {
            t.source_bytes.saturating_add(match t.treatment {
                Treatment::Lossless => t.source_bytes,
                _ => t.elements.saturating_mul(MEMORY_FOR_WEIGHT),
            })
        };
        let most = self.tensors.iter().map(held).max().unwrap_or(0);
        self.predicted_peak_memory = BASE_MEMORY.saturating_add(most);
        let seconds = |t: &Planned| {
            let codec = match t.treatment {
                Treatment::Lossless => Codec::Raw,
                Treatment::Quantize(method, _) | Treatment::Share(method) => method.codec,
            };
            t.elements as f64 / speed(codec)
        };
        self.predicted_seconds = self.tensors.iter().map(seconds).sum();
    }
}

/// A travelling file as a leaf: its bytes, compressed.
pub(crate) fn file_leaf(bytes: &[u8]) -> Result<EncodedLeaf> {
    // Files are read whole: the longest chunks that there are compress best.
    raw::encode_in_chunks(bytes, Dtype::U8, &[bytes.len() as u64], StreamSpec::MAX_CHUNK_ITEMS)
}

/// The error of a target that what is stored anyway has used up.
pub(crate) fn out_of_reach(budget: f64, fixed: f64, weights: u64) -> Error {
    Error::invalid(format!(
        "the target of {budget:.0} bytes leaves nothing for the quantized tensors: everything else takes {fixed:.0} bytes"
    ))
    .with_hint(format!(
        "ask for more than {:.2} bits per weight, leave files out (--no-files), or quantize small tensors with --set",
        fixed * 8.0 / weights.max(1) as f64
    ))
}

fn treatment(info: &TensorInfo, rule: Option<&Method>, recipe: &Recipe) -> Result<Treatment> {
    let elements = element_count(&info.shape)?;
    let method = rule.unwrap_or(&recipe.default);
    if method.codec == Codec::Raw {
        return Ok(Treatment::Lossless);
    }
    if rule.is_some() && !info.dtype.is_weight() {
        return Err(Error::invalid(format!(
            "codec {} takes f32, f16 and bf16, found {}",
            method.codec.name(),
            info.dtype
        )));
    }
    let by_default = info.dtype.is_weight() && info.shape.len() >= 2 && elements >= recipe.least_elements;
    if rule.is_none() && !by_default {
        return Ok(Treatment::Lossless);
    }
    // A rule's own target comes first, then the whole file's, then the default method's.
    let own = rule.and_then(Method::target);
    Ok(match (own, recipe.bits_per_weight, recipe.default.target()) {
        (Some(target), _, _) | (None, None, Some(target)) => Treatment::Quantize(*method, target),
        (None, Some(_), _) => Treatment::Share(*method),
        (None, None, None) => {
            return Err(
                Error::invalid(format!("method {method} has no target")).with_hint("give it bpw or mse")
            );
        }
    })
}

fn describe(treatment: &Treatment) -> String {
    match treatment {
        Treatment::Lossless => Codec::Raw.name().into(),
        Treatment::Quantize(method, target) => {
            let (bpw, mse) = match *target {
                Target::BitsPerWeight(b) => (Some(b), None),
                Target::RelativeMse(m) => (None, Some(m)),
            };
            Method { bpw, mse, ..*method }.to_string()
        }
        Treatment::Share(method) => Method { bpw: None, mse: None, ..*method }.to_string(),
    }
}

/// What lossless coding is expected to take, by the ratios measured on real weights.
fn lossless_bytes(t: &Planned) -> u64 {
    let ratio = match t.dtype.parse() {
        Ok(Dtype::F32) => 0.83,
        Ok(Dtype::BF16) => 0.67,
        Ok(Dtype::F16) => 0.86,
        _ => 1.0,
    };
    let size = t.dtype.parse::<Dtype>().map_or(1, Dtype::size) as u64;
    ((t.elements.saturating_mul(size)) as f64 * ratio) as u64
        + (layout::SEGMENT_ENTRY + 2 * layout::CHUNK_ENTRY) as u64
}

fn gaussian(elements: u64, codec: Codec, target: Target) -> (u64, f64) {
    let excess = excess_bits(codec);
    let (bits, mse) = match target {
        Target::BitsPerWeight(b) => (b, (-2.0 * (b - excess).max(0.0)).exp2()),
        Target::RelativeMse(m) => (0.5 * (1.0 / m).log2() + excess, m),
    };
    ((elements as f64 * bits / 8.0) as u64, mse)
}
