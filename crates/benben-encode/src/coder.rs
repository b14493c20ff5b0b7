//! What turns the values of a tensor into an expression: with what is known of the tensor besides its values, or
//! without.

use crate::calibrate::Calibration;
use crate::method::{Codec, Method};
use crate::quantize::{Aim, Metric, feedback};
use benben_codec::Target;
use benben_format::{EncodedLeaf, ErrorKind, Expr, Result, hex, matrix};

/// One tensor that is to be coded.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Its name: what calibration knows it by.
    pub name: &'a str,
    /// Outermost dimension first.
    pub shape: &'a [u64],
    /// Its values, row-major, all finite.
    pub values: &'a [f32],
    /// How it is to be stored.
    pub method: &'a Method,
    /// What is to be reached.
    pub target: Target,
    /// Seed of everything random.
    pub seed: u64,
}

/// A coded tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Coded {
    /// The expression.
    pub expr: Expr<EncodedLeaf>,
    /// Stored bits for each weight.
    pub bits_per_weight: f64,
    /// Squared error relative to the squared norm.
    pub relative_mse: f64,
    /// What the coder made small, relative to what storing nothing would leave: the error of the layer's output where
    /// there are statistics of its input, otherwise `relative_mse`.
    pub loss: f64,
}

/// A way to code tensors. The same task must give the same bytes, whatever the number of threads.
pub trait Coder: Sync {
    /// Codes one tensor.
    ///
    /// # Errors
    /// InvalidArgument for what the method cannot do, or where a target is out of reach.
    fn code(&self, task: &Task<'_>) -> Result<Coded>;

    /// What besides the task decides the bytes of tensor `name`: a hash of its statistics. None: nothing does.
    fn metric(&self, name: &str) -> Option<[u8; 32]>;

    /// Name of all statistics together, in hexadecimal, as recipes keep it. None: there are none.
    fn calibration(&self) -> Option<String>;
}

/// Codes from the values alone.
#[derive(Debug, Clone, Copy)]
pub struct DataFree;

impl Coder for DataFree {
    fn code(&self, task: &Task<'_>) -> Result<Coded> {
        let (expr, fit) = task.method.encode(task.values, task.shape, task.target, task.seed)?;
        let (bits_per_weight, relative_mse) = (fit.bits_per_weight, fit.relative_mse);
        Ok(Coded { expr, bits_per_weight, relative_mse, loss: relative_mse })
    }

    fn metric(&self, _: &str) -> Option<[u8; 32]> {
        None
    }

    fn calibration(&self) -> Option<String> {
        None
    }
}

/// Codes linear layers with feedback, by the statistics of their inputs; everything else from the values alone.
#[derive(Debug)]
pub struct Calibrated {
    calibration: Calibration,
}

impl Calibrated {
    /// Codes by `calibration`.
    #[must_use]
    pub fn new(calibration: Calibration) -> Self {
        Self { calibration }
    }

    /// The statistics.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Bits for each weight that `task` asks for. An error relative to the weights says nothing of outputs: it stands for
    /// the bits that the values alone need for it.
    fn bits(task: &Task<'_>) -> Result<f64> {
        match task.target {
            Target::BitsPerWeight(bits) => Ok(bits),
            target @ Target::RelativeMse(_) => {
                Ok(task.method.encode(task.values, task.shape, target, task.seed)?.1.bits_per_weight)
            }
        }
    }
}

/// Whether the method has a form with feedback and may use it.
fn has_feedback(method: &Method) -> bool {
    matches!(method.codec, Codec::Scalar | Codec::Trellis) && !method.plain
}

impl Coder for Calibrated {
    fn code(&self, task: &Task<'_>) -> Result<Coded> {
        let columns = matrix(task.shape)?.1;
        let known = self.calibration.size(task.name).is_some_and(|(n, _)| n as u64 == columns);
        let layer =
            if known && has_feedback(task.method) { self.calibration.layer(task.name)? } else { None };
        let Some(layer) = layer else { return DataFree.code(task) };
        let metric = Metric { second_moment: &layer.second_moment.values, rows: layer.rows.as_deref() };
        let aim = Aim::BitsPerWeight(Self::bits(task)?);
        match feedback(task.method, task.values, task.shape, &metric, aim, task.seed) {
            Ok((expr, outcome)) => Ok(Coded {
                expr,
                bits_per_weight: outcome.bits_per_weight,
                relative_mse: outcome.relative_mse,
                loss: outcome.loss,
            }),
            // Shapes that the form with feedback has no room for.
            Err(e) if e.kind() == ErrorKind::Unsupported => DataFree.code(task),
            Err(e) => Err(e),
        }
    }

    fn metric(&self, name: &str) -> Option<[u8; 32]> {
        self.calibration.fingerprint(name)
    }

    fn calibration(&self) -> Option<String> {
        Some(hex(&self.calibration.identity()))
    }
}
