//! What turns the values of a tensor into an expression: with what is known of the tensor besides its values, or
//! without.

use crate::lowrank::{self, Known};
use crate::method::Method;
use benben_codec::Target;
use benben_format::{EncodedLeaf, Expr, Result};

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
    /// By how much the loss of the network is expected to grow, in nats for each prediction, where it is known how much
    /// outputs count.
    pub cost: Option<f64>,
}

/// A way to code tensors. The same task must give the same bytes, whatever the number of threads.
pub trait Coder: Sync {
    /// Codes one tensor.
    ///
    /// # Errors
    /// InvalidArgument for what the method cannot do, or where a target is out of reach.
    fn code(&self, task: &Task<'_>) -> Result<Coded>;

    /// Those of `ranks` by which a product of low rank may pay beside `coded`, which the task came to without one: by the
    /// values alone, unless the coder knows more.
    ///
    /// # Errors
    /// As [`Coder::code`].
    fn promising(&self, task: &Task<'_>, coded: &Expr<EncodedLeaf>, ranks: &[u16]) -> Result<Vec<u16>> {
        lowrank::promising(task, Known::default(), coded, ranks)
    }

    /// What besides the task decides the bytes of tensor `name`: a hash of its statistics. None: nothing does.
    fn metric(&self, name: &str) -> Option<[u8; 32]>;

    /// Name of all statistics together, in hexadecimal, as recipes keep it. None: there are none.
    fn calibration(&self) -> Option<String>;

    /// Name of the samples that the network ran on while its tensors were coded one after the other, as recipes keep it.
    /// None: each tensor was coded for itself.
    fn sequential(&self) -> Option<String> {
        None
    }
}

/// Codes from the values alone.
#[derive(Debug, Clone, Copy)]
pub struct DataFree;

impl Coder for DataFree {
    fn code(&self, task: &Task<'_>) -> Result<Coded> {
        if task.method.rank.is_some() {
            return Ok(lowrank::compensate(task, Known::default(), &|task| self.code(task))?.0);
        }
        let (expr, fit) = task.method.encode(task.values, task.shape, task.target, task.seed)?;
        let (bits_per_weight, relative_mse) = (fit.bits_per_weight, fit.relative_mse);
        Ok(Coded { expr, bits_per_weight, relative_mse, loss: relative_mse, cost: None })
    }

    fn metric(&self, _: &str) -> Option<[u8; 32]> {
        None
    }

    fn calibration(&self) -> Option<String> {
        None
    }
}
