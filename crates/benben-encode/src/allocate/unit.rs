//! The tensors that a plan may choose for, and the levels that are known of each.

use super::levels::{Level, Levels, settled};
use crate::coder::{Coder, Task};
use crate::method::{Codec, Method, rotation_block};
use crate::pack::{identity, quantizable};
use crate::plan::{Plan, Treatment};
use benben_codec::Target;
use benben_format::{Result, element_count};
use benben_io::ModelSource;
use std::collections::{BTreeMap, HashMap};

/// Most bits for each weight that are offered; more is better stored losslessly.
const MOST_BITS: f64 = 12.0;
/// Fewest bits for each weight that are offered.
const LEAST_BITS: f64 = 0.5;
/// Above this many bits a trellis has no integers left for large values: `scalar` takes over.
const TRELLIS_BITS: f64 = 5.0;
/// Elements of the largest tensor that products are tried on: time to take one apart grows with the cube of its side.
const MOST_RANKED: u64 = 1 << 24;

/// Tensors that are stored once, since their values are the same, and the levels of one.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// Their names.
    pub(super) names: Vec<String>,
    /// Position of the first in the source.
    pub(super) position: usize,
    /// Elements of one.
    pub(super) elements: u64,
    /// How they are stored where the bits allow it.
    pub(super) method: Method,
    /// Levels by the number of steps of the grid.
    pub(super) levels: BTreeMap<u32, Level>,
    /// Losses of the network with levels that were measured one by one, by their keys; of a table only.
    pub(super) measured: BTreeMap<String, f64>,
}

/// What levels of about as many bytes are compared by, in bits for each weight: a factor of 4 in the loss is worth one.
pub(super) fn score(level: &Level) -> f64 {
    level.loss.max(f64::MIN_POSITIVE).log2() / 2.0 + level.bits_per_weight
}

impl Unit {
    /// The tensors of `plan` that share its target, those with the same values together. Values that cannot be quantized
    /// are left out.
    pub(super) fn gather(model: &dyn ModelSource, plan: &Plan) -> Result<Vec<Self>> {
        let mut units: Vec<Self> = Vec::new();
        let mut seen: HashMap<blake3::Hash, usize> = HashMap::new();
        for planned in &plan.tensors {
            let Treatment::Share(method) = planned.treatment else { continue };
            let info = &model.tensors()[planned.position];
            let bytes = model.read(planned.position)?;
            if element_count(&info.shape)? == 0 || quantizable(info, &bytes)?.is_err() {
                continue;
            }
            let next = units.len();
            let unit = *seen.entry(identity(info, &planned.method, &bytes)).or_insert(next);
            if unit == next {
                units.push(Self {
                    names: Vec::new(),
                    position: planned.position,
                    elements: planned.elements,
                    method,
                    levels: BTreeMap::new(),
                    measured: BTreeMap::new(),
                });
            }
            units[unit].names.push(planned.name.clone());
        }
        Ok(units)
    }

    /// What the network loses by `level`, where `influence` is the unit's.
    pub(super) fn loss(&self, level: &Level, influence: f64) -> f64 {
        self.measured.get(&level.key).copied().unwrap_or(influence * level.loss)
    }

    /// Whether the level of `bits` can be had.
    pub(super) fn offers(bits: f64) -> bool {
        (LEAST_BITS..=MOST_BITS).contains(&bits)
    }

    /// Whether statistics of its layer could be left aside.
    pub(super) fn can_be_plain(&self) -> bool {
        matches!(self.method.codec, Codec::Scalar | Codec::Trellis) && !self.method.plain
    }

    /// The same tensors in a rotated basis, no levels known; none where the method has no choice, or nothing would mix.
    pub(super) fn rotated(&self, model: &dyn ModelSource) -> Result<Option<Self>> {
        let free = matches!(self.method.codec, Codec::Scalar | Codec::Trellis) && !self.method.rotate;
        let shape = &model.tensors()[self.position].shape;
        if !free || rotation_block(shape)?.is_none() {
            return Ok(None);
        }
        let method = Method { rotate: true, ..self.method };
        Ok(Some(Self { method, levels: BTreeMap::new(), ..self.clone() }))
    }

    /// The method of `bits` for each weight.
    pub(super) fn method(&self, bits: f64) -> Method {
        let codec = match self.method.codec {
            Codec::Trellis if bits > TRELLIS_BITS => Codec::Scalar,
            codec => codec,
        };
        settled(&Method { codec, ..self.method }, Target::BitsPerWeight(bits))
    }

    /// The level of `bits` for each weight, coded where it is not in the database: without a product of low rank, or with
    /// one of `ranks` where that makes the loss smaller in the same bytes.
    pub(super) fn code(
        &self,
        model: &dyn ModelSource,
        levels: &Levels<'_>,
        bits: f64,
        seed: u64,
        ranks: &[u16],
    ) -> Result<Level> {
        let info = &model.tensors()[self.position];
        let values = quantizable(info, &model.read(self.position)?)?;
        let values = values.map_err(benben_format::Error::invalid)?;
        let method = Method { bpw: None, mse: None, ..self.method(bits) };
        let task = Task {
            name: &info.name,
            shape: &info.shape,
            values: &values,
            method: &method,
            target: Target::BitsPerWeight(bits),
            seed,
        };
        self.best(levels, &task, ranks).map_err(|e| e.in_tensor(&info.name))
    }

    fn best(&self, levels: &Levels<'_>, task: &Task<'_>, ranks: &[u16]) -> Result<Level> {
        let plain = levels.level(task)?;
        let own = task.method.rank.is_some() || task.method.codec == Codec::Raw;
        if own || ranks.is_empty() || self.elements > MOST_RANKED {
            return Ok(plain);
        }
        let with =
            |rank: u16| levels.level(&Task { method: &Method { rank: Some(rank), ..*task.method }, ..*task });
        // What was found is kept: to see which ranks are worth trying takes as long as coding.
        let what = format!("rank:{ranks:?}:{}", plain.key).replace(' ', "");
        if let Some(known) = levels.measured(&what) {
            let rank = ranks.iter().copied().find(|r| f64::from(*r) == known);
            return rank.map_or(Ok(plain), with);
        }
        let mut best = (score(&plain), 0);
        for rank in levels.promising(task, &levels.expression(&plain)?, ranks)? {
            let found = score(&with(rank)?);
            if found < best.0 {
                best = (found, rank);
            }
        }
        levels.keep(&what, f64::from(best.1))?;
        if best.1 == 0 { Ok(plain) } else { with(best.1) }
    }
}
