//! Block by block: each is tuned until its output is that of the dense network, on inputs from the tuned blocks
//! before it. What the earlier blocks left over is part of the error that the later ones repair.

use super::parameter::rate;
use super::student::{Block, Student, add, gradients};
use super::values;
use benben_format::Result;
use benben_models::llm::graph::{Layer, Network};
use burn::tensor::Tensor;

/// Streams before a block: of the dense network and of the tuned one, for chunks to tune on and one held out.
pub(super) struct Streams {
    dense: Vec<Tensor<3>>,
    tuned: Vec<Tensor<3>>,
    /// How many of them are tuned on; the others are held out.
    training: usize,
}

/// How a block is tuned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) passes: usize,
    pub(super) rate: f32,
    /// How many times as fast codewords move.
    pub(super) words: f32,
    /// Share of the vectors of each matrix of codewords whose codes move after a pass.
    pub(super) codes: f32,
    /// How much larger each may become.
    pub(super) growth: f32,
}

/// How often a step of codes is tried with the same gradients, each time with half the share.
pub(super) const HALVINGS: u32 = 4;

impl Streams {
    pub(super) fn new(
        network: &Network,
        student: &Student<'_>,
        training: &[&[u32]],
        held_out: &[&[u32]],
    ) -> Result<Self> {
        let all = || training.iter().chain(held_out);
        Ok(Self {
            dense: all().map(|chunk| network.embed(chunk)).collect::<Result<_>>()?,
            tuned: all().map(|chunk| student.embed(chunk)).collect::<Result<_>>()?,
            training: training.len(),
        })
    }

    /// Tunes block `index`, unless `pace` is none, and moves behind it.
    pub(super) fn pass(
        &mut self,
        network: &Network,
        student: &mut Student<'_>,
        index: usize,
        plain: &Layer<'_>,
        tracked: &Layer<'_>,
        pace: Option<Pace>,
    ) -> Result<()> {
        let dense = network.block(index)?;
        self.dense = self.dense.iter().map(|x| dense.forward(plain, x.clone())).collect();
        if let Some(pace) = pace {
            self.tune(student, index, plain, tracked, pace)?;
        }
        let block = &student.blocks[index];
        let constants = block.constants(&student.device);
        self.tuned = self.tuned.iter().map(|x| block.forward(plain, x.clone(), &constants)).collect();
        Ok(())
    }

    fn tune(
        &self,
        student: &mut Student<'_>,
        index: usize,
        plain: &Layer<'_>,
        tracked: &Layer<'_>,
        pace: Pace,
    ) -> Result<()> {
        let (device, reader) = (student.device.clone(), student.pack.reader());
        let block = &mut student.blocks[index];
        let mut best = self.held_out(block, plain, &device)?;
        let mut kept = (block.parameters.clone(), block.coded.clone());
        let mut share = pace.codes;
        let total = pace.passes * self.training;
        let mut number = 0;
        for _ in 0..pace.passes {
            let mut matrices = Vec::new();
            for (x, target) in self.tuned.iter().zip(&self.dense).take(self.training) {
                number += 1;
                let tensors = block.tracked(&device);
                let found = block.forward(tracked, x.clone().autodiff(), &tensors);
                let (weight, target) = (weight(target), target.clone());
                let apart = found - target.autodiff();
                let loss = (apart.clone() * apart * weight.autodiff()).sum();
                let found = loss.backward();
                let rate = rate(pace.rate, number as f32 / total as f32);
                let mut by_parameters = gradients(&tensors, &found)?;
                let mut of_chunk = (pace.codes > 0.0).then(Vec::new);
                block.by_parameters(&mut by_parameters, of_chunk.as_mut());
                of_chunk.into_iter().for_each(|found| add(&mut matrices, found));
                for (parameter, gradient) in block.parameters.iter_mut().zip(by_parameters) {
                    let words = if parameter.is_words() { pace.words } else { 1.0 };
                    parameter.step(&gradient, words * rate, number);
                }
            }
            let error = self.held_out(block, plain, &device)?;
            if error < best {
                best = error;
                kept = (block.parameters.clone(), block.coded.clone());
            }
            if matrices.is_empty() {
                continue;
            }
            for _ in 0..HALVINGS {
                let before = block.coded.clone();
                block.step_codes(&matrices, (share, pace.growth), reader)?;
                let moved = self.held_out(block, plain, &device)?;
                if moved < error {
                    if moved < best {
                        best = moved;
                        kept = (block.parameters.clone(), block.coded.clone());
                    }
                    break;
                }
                block.coded = before;
                share *= 0.5;
            }
        }
        (block.parameters, block.coded) = kept;
        block.parameters.iter_mut().for_each(super::parameter::Parameter::restart);
        Ok(())
    }

    /// Error of the held-out chunks relative to what the block's output is.
    fn held_out(&self, block: &Block, layer: &Layer<'_>, device: &burn::tensor::Device) -> Result<f64> {
        let constants = block.constants(device);
        let mut sum = 0.0;
        for (x, target) in self.tuned.iter().zip(&self.dense).skip(self.training) {
            let apart = block.forward(layer, x.clone(), &constants) - target.clone();
            let error = (apart.clone() * apart * weight(target)).sum();
            sum += values(error)?.iter().map(|x| f64::from(*x)).sum::<f64>();
        }
        Ok(if sum.is_finite() { sum } else { f64::INFINITY })
    }
}

/// One over the squared length of each token's target: what comes next norms the stream, and the first token of a text,
/// whose stream is a thousand times longer than others, would else be all that counts.
fn weight(target: &Tensor<3>) -> Tensor<3> {
    let [_, length, _] = target.dims();
    ((target.clone() * target.clone()).sum_dim(2) * length as f32).recip()
}
