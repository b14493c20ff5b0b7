//! The sequential mode: a walk that stops at every stage, so that later layers see earlier ones quantized.

use super::gram::{Cross, Room, Sums};
use super::moment::Moment;
use benben_decode::Weights;
use benben_format::{Error, Result};
use benben_models::{Network, Overlay, Sample, Stage, State};
use std::sync::Arc;

/// A stage that the walk has stopped at.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The stage: replace its tensors, then go on.
    pub stage: Stage,
    /// H = E[x̂ x̂ᵀ] of its input x̂ in the network quantized so far.
    pub second_moment: Arc<Moment>,
    /// C = E[x x̂ᵀ], x being the input in the dense network. Of all weights V, W C H⁻¹ makes V x̂ nearest to W x.
    pub cross: Arc<Moment>,
}

/// A walk through a network in which the caller replaces weights. Holds for each sample two streams and two inputs of a
/// stage, dense and quantized, the sums of one stage, and the weights of one block.
///
/// ```no_run
/// # use benben_encode::calibrate::Walk;
/// # use benben_models::{Network, Sample};
/// # use benben_decode::Weights;
/// # fn quantized(weights: Vec<f32>) -> Vec<f32> { weights }
/// # fn all(network: &mut dyn Network, weights: &dyn Weights, samples: &[Sample]) -> benben_format::Result<()> {
/// let mut walk = Walk::new(network, weights, samples)?;
/// while let Some(visit) = walk.next()? {
///     for name in &visit.stage.names {
///         walk.replace(name, &quantized(weights.vector(name)?))?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Walk<'a> {
    network: &'a mut dyn Network,
    weights: &'a dyn Weights,
    overlay: Overlay<'a>,
    dense: Vec<State>,
    quantized: Vec<State>,
    room: Room,
    /// The stage that comes next.
    stage: usize,
    /// Whether anything was replaced: until then both streams are one.
    apart: bool,
}

impl<'a> Walk<'a> {
    /// Before the first stage.
    ///
    /// # Errors
    /// InvalidArgument for no samples, or one that the network cannot take; otherwise as the weights.
    pub fn new(network: &'a mut dyn Network, weights: &'a dyn Weights, samples: &[Sample]) -> Result<Self> {
        if samples.is_empty() {
            return Err(Error::invalid("no samples: expected one at least"));
        }
        let dense = samples.iter().map(|s| network.begin(weights, s)).collect::<Result<Vec<_>>>()?;
        let overlay = Overlay::new(weights);
        let room = Room::default();
        Ok(Self { network, weights, overlay, dense, quantized: Vec::new(), room, stage: 0, apart: false })
    }

    /// The same where the table that samples are looked up in is quantized already: `table` are its values. The
    /// quantized stream then starts apart.
    ///
    /// # Errors
    /// As [`Walk::new`]; InvalidArgument where the network has no table, or `table` is not as large.
    pub fn with_table(
        network: &'a mut dyn Network,
        weights: &'a dyn Weights,
        samples: &[Sample],
        table: &[f32],
    ) -> Result<Self> {
        let name = network.table().map(|(name, _)| name.to_owned());
        let name = name.ok_or_else(|| Error::invalid("the network looks nothing up"))?;
        let mut walk = Self::new(network, weights, samples)?;
        walk.overlay.replace(&name, table)?;
        let begin = |s| walk.network.begin(&walk.overlay, s);
        walk.quantized = samples.iter().map(begin).collect::<Result<_>>()?;
        walk.apart = true;
        Ok(walk)
    }

    /// Finishes the stage before with what [`replace`](Self::replace) was given, and stops at the next one; none behind
    /// the head.
    ///
    /// # Errors
    /// Corruption where an activation is no number; otherwise as the weights.
    #[allow(clippy::should_implement_trait, reason = "it can fail")]
    pub fn next(&mut self) -> Result<Option<Visit>> {
        let stages = self.network.stages().len();
        if self.stage > 0 && self.stage < stages {
            self.leave(self.stage - 1)?;
        }
        let Some(stage) = self.network.stages().get(self.stage).cloned() else { return Ok(None) };
        let mut sums = Sums::new(stage.columns);
        let mut cross = self.apart.then(|| Cross::new(stage.columns));
        for (i, dense) in self.dense.iter().enumerate() {
            let quantized = self.quantized.get(i).unwrap_or(dense);
            sums.add(&quantized.input, &mut self.room);
            if let Some(cross) = &mut cross {
                cross.add(&dense.input, &quantized.input, &mut self.room);
            }
        }
        let (moment, ..) = sums.means();
        let triangle = Moment { columns: stage.columns, count: sums.count, values: moment }.triangle();
        let second_moment = Arc::new(Moment::from_triangle(stage.columns, sums.count, &triangle)?);
        let cross = match cross {
            Some(cross) => {
                let (values, count) = cross.mean();
                Arc::new(Moment { columns: stage.columns, count, values })
            }
            None => Arc::clone(&second_moment),
        };
        self.stage += 1;
        Ok(Some(Visit { stage, second_moment, cross }))
    }

    /// Puts `values`, row-major, in the place of the tensor `name` for the rest of the walk: one of the stage that it
    /// has stopped at.
    ///
    /// # Errors
    /// InvalidArgument for a tensor of another stage, or where sizes do not fit.
    pub fn replace(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let current = self.stage.checked_sub(1).map(|i| &self.network.stages()[i]);
        if !current.is_some_and(|stage| stage.names.iter().any(|own| own == name)) {
            return Err(Error::invalid("the walk has not stopped at this tensor").in_tensor(name));
        }
        self.overlay.replace(name, values)?;
        if !self.apart {
            self.quantized = self.dense.clone();
            self.apart = true;
        }
        Ok(())
    }

    /// Sends both streams through `stage` and lets go of its weights.
    fn leave(&mut self, stage: usize) -> Result<()> {
        for state in &mut self.dense {
            self.network.step(self.weights, stage, state)?;
        }
        for state in &mut self.quantized {
            self.network.step(&self.overlay, stage, state)?;
        }
        for name in &self.network.stages()[stage].names {
            self.overlay.restore(name);
            self.weights.release(name);
        }
        Ok(())
    }
}
