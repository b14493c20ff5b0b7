//! What calibration, quantizing and recovery ask of a network: to run stage by stage, its weights replaceable.
//!
//! A network is a chain of blocks, a block a chain of *stages*: linear layers that share an input. Between two stages a
//! sample is a [`State`]; [`Network::step`] computes a stage's linear layers and everything up to the input of the next.
//! So an engine sees every input of every layer, can replace weights between any two stages, and holds the weights of
//! one stage and the states of its samples, whatever the family.

use benben_decode::Weights;
use benben_format::{Error, Result};

/// One piece of data that a network is run on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Sample {
    /// A piece of text; attention stays inside.
    Tokens(Vec<u32>),
}

/// Linear layers that share an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The block that it belongs to; that of the head is the number of blocks.
    pub block: usize,
    /// Names of the weights, each a matrix of `columns` columns.
    pub names: Vec<String>,
    /// Width of the input.
    pub columns: usize,
}

/// A sample between two stages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// What blocks hand on, row by row: the residual stream of a transformer.
    pub stream: Vec<f32>,
    /// Input of the next stage: rows of its columns.
    pub input: Vec<f32>,
}

/// A network as a chain of stages. Results do not depend on the number of threads.
pub trait Network: Send {
    /// All stages in the order in which they run. The last one is the head, which makes predictions of the stream; its
    /// block holds nothing else.
    fn stages(&self) -> &[Stage];

    /// Number of blocks, the head not counted.
    fn blocks(&self) -> usize {
        self.stages().last().map_or(0, |head| head.block)
    }

    /// Width of a row of the stream.
    fn width(&self) -> usize;

    /// The state of `sample` before the first stage.
    ///
    /// # Errors
    /// InvalidArgument for a sample that this network cannot take; otherwise as the weights.
    fn begin(&mut self, weights: &dyn Weights, sample: &Sample) -> Result<State>;

    /// Sends a state that stands before stage `stage` through it, to the next one. The head is no step: see
    /// [`predict`](Self::predict).
    ///
    /// # Errors
    /// InvalidArgument for a stage that is none, or a state that does not stand before it; otherwise as the weights.
    fn step(&mut self, weights: &dyn Weights, stage: usize, state: &mut State) -> Result<()>;

    /// Sends a state through all stages of `block`, which it stands before. `tap` sees the input of each stage first.
    ///
    /// # Errors
    /// As [`step`](Self::step), and what `tap` answers.
    fn run(
        &mut self,
        weights: &dyn Weights,
        block: usize,
        state: &mut State,
        tap: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        if block >= self.blocks() {
            return Err(Error::invalid(format!("block {block} of {}", self.blocks())));
        }
        let own = self.stages().iter().enumerate().filter(|(_, s)| s.block == block).map(|(i, _)| i);
        for stage in own.collect::<Vec<_>>() {
            tap(stage, &state.input)?;
            self.step(weights, stage, state)?;
        }
        Ok(())
    }

    /// Number of classes among which the head predicts one for each row of its input: a vocabulary. None where the
    /// outputs are no distribution.
    fn classes(&self) -> Option<usize>;

    /// The head's logits for rows of its input, `rows.len() / columns * classes`, into `out`.
    ///
    /// # Errors
    /// InvalidArgument where sizes do not fit or there are no classes; otherwise as the weights.
    fn predict(&self, weights: &dyn Weights, rows: &[f32], out: &mut [f32]) -> Result<()>;

    /// The name and the number of rows of the table that samples are looked up in, if there is one.
    fn table(&self) -> Option<(&str, usize)>;

    /// Adds to `counts`, one for each row of the table, how often `sample` looks it up.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    fn count_rows(&self, sample: &Sample, counts: &mut [u64]) -> Result<()>;
}
