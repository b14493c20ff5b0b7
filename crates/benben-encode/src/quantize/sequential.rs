//! Tensors one after the other, in the order in which the network runs: each is coded by the inputs that it gets from
//! those before it as they are stored, and makes good what it can of their errors.
//!
//! With x the input of a layer in the network as it was and x̂ what it is now, H = E[x̂ x̂ᵀ] and C = E[x x̂ᵀ], the weights
//! whose outputs are nearest to W x are W C H⁻¹ = W + W (C - H) H⁻¹ (as in GPTAQ, Li et al., arXiv:2504.02692). What is coded is
//! V = W + α W (C - H) (H + λ)⁻¹ under H.

use super::coder::{Calibrated, has_feedback};
use super::factor::Factor;
use crate::calibrate::{Layer, Visit, Walk};
use crate::coder::{Coded, Coder, Task};
use crate::method::Method;
use crate::pack::{GENERATOR, quantizable, same_samples};
use crate::plan::{Plan, Treatment};
use benben_codec::Target;
use benben_decode::{Limits, Pack, Weights};
use benben_format::{Dtype, EncodedLeaf, Error, Expr, Observer, Origin, Progress, Result, Writer, hex};
use benben_io::{ModelSource, TensorInfo};
use benben_models::{Network, Sample};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// α: the part of the way to the best weights for x̂ that is gone. Divergence of the demo model at 2.1 bits with trellis, on the
/// text that it was coded on and on another: alone 0.076 and 0.152; 0: 0.077, 0.159; 1/4: 0.064, 0.143; 1/2: 0.055, 0.131;
/// 1: 0.050, 0.130, but the other text's perplexity is 1 % worse than with 1/2.
const PART: f32 = 0.5;
/// What is aimed at of the bits that a tensor may take: a pack is never larger for being sequential.
const AIM: f64 = 0.9995;
/// Most that a tensor gives up, or gets, for what tensors before it missed their bits by.
const MOST_MADE_UP: f64 = 0.02;
/// λ, as a part of the mean diagonal of H.
const DAMPING: f64 = 0.1;

/// The linear layers of a network, coded one after the other; all other tensors, and those that a plan keeps as they are,
/// as another coder does. Each tensor gets as many bits as that coder takes for it, so that a pack keeps its size.
/// Holds the coded tensors until they are packed, which is in the order of the plan.
pub struct Sequential<'a> {
    rest: &'a dyn Coder,
    name: String,
    coded: BTreeMap<String, (Method, Target, u64, Coded)>,
}

impl<'a> Sequential<'a> {
    /// Name of `samples`, as [`Recipe::sequential`](crate::Recipe::sequential) keeps it, in hexadecimal.
    #[must_use]
    pub fn name(samples: &[Sample]) -> String {
        let mut hash = blake3::Hasher::new();
        for sample in samples {
            hash.update(format!("{sample:?}\n").as_bytes());
        }
        hex(&hash.finalize().as_bytes()[..16])
    }

    /// Codes the linear layers of `network`, whose tensors are those of `model`, as `plan` says. `weights` are the
    /// network's own; `calibrated` knows how much outputs count, `rest` how many bits a tensor takes. Memory: as
    /// [`Walk`], one tensor, and all coded ones.
    ///
    /// # Errors
    /// InvalidArgument where the plan is not sequential, or was made on other samples, or shares bits among tensors;
    /// Interrupted where `observer` says so; otherwise as coding, and as the network.
    #[allow(clippy::too_many_arguments, reason = "a model, its network, and what both are coded by")]
    pub fn new(
        model: &dyn ModelSource,
        plan: &Plan,
        calibrated: &Calibrated<'_>,
        rest: &'a dyn Coder,
        network: &mut dyn Network,
        weights: &dyn Weights,
        samples: &[Sample],
        observer: &mut Observer<'_>,
    ) -> Result<Self> {
        let name = Self::name(samples);
        same_samples(plan.recipe.sequential.as_deref(), Some(&name))?;
        let linears = network.stages().iter().flat_map(|s| &s.names);
        let planned: BTreeMap<&str, usize> =
            plan.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let total = linears.filter_map(|n| planned.get(n.as_str())).map(|&i| plan.tensors[i].elements).sum();
        let mut line = Line {
            model,
            plan,
            planned,
            calibrated,
            observer,
            done: 0,
            total,
            left: 0.0,
            own: Self { rest, name, coded: BTreeMap::new() },
        };
        let table = network.table().map(|(name, _)| name.to_owned());
        let table = table.map(|name| line.tensor(&name, None)).transpose()?.flatten();
        let mut walk = match table {
            Some(table) => Walk::with_table(network, weights, samples, &table)?,
            None => Walk::new(network, weights, samples)?,
        };
        while let Some(visit) = walk.next()? {
            let mut replaced = Vec::new();
            for name in &visit.stage.names {
                // The table, where it is the head too.
                if line.own.coded.contains_key(name) {
                    continue;
                }
                if let Some(values) = line.tensor(name, Some(&visit))? {
                    replaced.push((name, values));
                }
            }
            for (name, values) in replaced {
                walk.replace(name, &values)?;
            }
        }
        Ok(line.own)
    }
}

/// Coding as it goes on.
struct Line<'a, 'b, 'o> {
    model: &'b dyn ModelSource,
    plan: &'b Plan,
    planned: BTreeMap<&'b str, usize>,
    calibrated: &'b Calibrated<'b>,
    observer: &'b mut Observer<'o>,
    done: u64,
    total: u64,
    /// Bits that tensors before took less than they may.
    left: f64,
    own: Sequential<'a>,
}

impl Line<'_, '_, '_> {
    /// Codes tensor `name`, in the network that `visit` saw or for itself; its values as stored. None where it is stored
    /// as it is.
    fn tensor(&mut self, name: &str, visit: Option<&Visit>) -> Result<Option<Vec<f32>>> {
        let missing = || Error::invalid("the model has no such tensor").in_tensor(name);
        let planned = &self.plan.tensors[*self.planned.get(name).ok_or_else(missing)?];
        let info = &self.model.tensors()[planned.position];
        if (self.observer)(Progress { item: name, done: self.done, total: self.total }).is_break() {
            return Err(Error::interrupted());
        }
        self.done = (self.done + planned.elements).min(self.total);
        let (method, target) = match planned.treatment {
            Treatment::Lossless => return Ok(None),
            Treatment::Quantize(method, target) => (method, target),
            Treatment::Share(_) => {
                return Err(Error::invalid("bits that tensors share are known only while packing")
                    .with_hint(
                        "in the sequential mode give each tensor its target: --size, or bpw of a codec",
                    ));
            }
        };
        self.coded(info, planned.position, method, target, visit).map_err(|e| e.in_tensor(name))
    }

    fn coded(
        &mut self,
        info: &TensorInfo,
        position: usize,
        method: Method,
        target: Target,
        visit: Option<&Visit>,
    ) -> Result<Option<Vec<f32>>> {
        let Ok(values) = quantizable(info, &self.model.read(position)?)? else { return Ok(None) };
        let (name, shape, seed) = (&info.name, &info.shape, self.plan.recipe.seed);
        let task = Task { name, shape, values: &values, method: &method, target, seed };
        let mut coded = self.own.rest.code(&task)?;
        let layer = self.calibrated.0.layer(name)?;
        if let (Some(visit), Some(layer)) = (visit, layer)
            && has_feedback(&method, shape)
            && !values.is_empty()
        {
            let (alone, count) = (coded.bits_per_weight, values.len() as f64);
            let most = MOST_MADE_UP * alone;
            let bits = AIM * alone + (self.left / count).clamp(-most, most);
            coded = self.in_line(&task, bits, &layer, visit)?;
            self.left += (AIM * alone - coded.bits_per_weight) * count;
        }
        let stored = decoded(info.dtype, shape, coded.expr.clone())?;
        coded.relative_mse = relative(&values, &stored);
        self.own.coded.insert(name.clone(), (method, target, seed, coded));
        Ok(Some(stored))
    }

    /// The tensor at `bits` for each weight.
    fn in_line(&self, task: &Task<'_>, bits: f64, layer: &Layer, visit: &Visit) -> Result<Coded> {
        let target = Target::BitsPerWeight(bits);
        let moment = &visit.second_moment.values;
        if Arc::ptr_eq(&visit.second_moment, &visit.cross) {
            return self.calibrated.code_under(&Task { target, ..*task }, layer, moment);
        }
        let values = drifted(task.values, visit)?;
        self.calibrated.code_under(&Task { target, values: &values, ..*task }, layer, moment)
    }
}

/// V = W + α W (C - H) (H + λ)⁻¹.
fn drifted(weights: &[f32], visit: &Visit) -> Result<Vec<f32>> {
    let columns = visit.stage.columns;
    let (moment, cross) = (&visit.second_moment.values, &visit.cross.values);
    // Transposed, so that a product is a dot of rows.
    let mut turned = vec![0f32; columns * columns];
    turned.par_chunks_mut(columns).enumerate().for_each(|(j, row)| {
        row.iter_mut().enumerate().for_each(|(i, x)| *x = cross[i * columns + j] - moment[i * columns + j]);
    });
    let mut out = vec![0f32; weights.len()];
    out.par_chunks_mut(columns).zip(weights.par_chunks(columns)).for_each(|(out, w)| {
        for (out, other) in out.iter_mut().zip(turned.chunks(columns)) {
            *out = dot(w, other);
        }
    });
    Factor::new(moment, columns, DAMPING)?.solve(&mut out);
    out.iter_mut().zip(weights).for_each(|(v, w)| *v = w + PART * *v);
    Ok(out)
}

/// In eight sums, which the compiler keeps in one register.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(s, (a, b))| *s += a * b);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// What a reader gets.
fn decoded(dtype: Dtype, shape: &[u64], expr: Expr<EncodedLeaf>) -> Result<Vec<f32>> {
    let mut writer = Writer::new(Vec::new(), GENERATOR, 0)?;
    writer.tensor("tensor", dtype, shape, Origin::default(), expr)?;
    let pack = Pack::from_source(Arc::new(writer.finish()?.0), Limits::default())?;
    pack.tensor("tensor")?.to_f32()
}

fn relative(values: &[f32], stored: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let norm: f64 = values.iter().map(|&x| square(x)).sum();
    let error: f64 = values.iter().zip(stored).map(|(x, y)| square(x - y)).sum();
    if norm > 0.0 { error / norm } else { 0.0 }
}

impl Coder for Sequential<'_> {
    /// What was coded in line is taken from there.
    fn code(&self, task: &Task<'_>) -> Result<Coded> {
        match self.coded.get(task.name) {
            None => self.rest.code(task),
            Some((method, target, seed, coded))
                if (method, *target, *seed) == (task.method, task.target, task.seed) =>
            {
                Ok(coded.clone())
            }
            Some(_) => Err(Error::invalid("this tensor was coded by another plan")),
        }
    }

    fn metric(&self, name: &str) -> Option<[u8; 32]> {
        self.rest.metric(name)
    }

    fn calibration(&self) -> Option<String> {
        self.rest.calibration()
    }

    fn sequential(&self) -> Option<String> {
        Some(self.name.clone())
    }
}
