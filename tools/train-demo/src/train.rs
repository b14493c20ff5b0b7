//! The steps: AdamW (Loshchilov and Hutter, 2019, <https://arxiv.org/abs/1711.05101>) with a linear
//! warm-up and a cosine decay.

use crate::config::LlamaConfig;
use crate::data::{self, Shuffled};
use crate::evaluate::{self, HeldOut};
use crate::model::CausalLm;
use crate::tokenizer::{Tokens, Vocabulary};
use anyhow::{Result, ensure};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Device;
use std::time::{Duration, Instant};

/// Reported training losses are means of that many steps: one batch alone says little.
const SMOOTHED: usize = 50;
/// The cosine ends at this part of the peak.
const FLOOR: f64 = 0.1;

/// How to train.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// Number of steps.
    pub steps: usize,
    /// Stop early after this time; the learning rate still follows `steps`.
    pub limit: Duration,
    /// Windows in a batch.
    pub batch: usize,
    /// Peak of the learning rate.
    pub rate: f64,
    /// Steps of warm-up.
    pub warm_up: usize,
    /// Decoupled weight decay.
    pub decay: f32,
    /// Part of the residual writes dropped while training.
    pub dropout: f64,
    /// Measure the held-out loss every so many steps.
    pub measure: usize,
}

/// What happened, for the caller to show or to store.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is done.
    Step {
        /// Its number, from 1.
        step: usize,
        /// Mean loss of the last steps, in nats per token.
        loss: f64,
        /// Time that the other steps will take.
        left: Duration,
    },
    /// The held-out loss was measured.
    Measured {
        /// After which step.
        step: usize,
        /// The loss.
        loss: HeldOut,
        /// The network, where it is better than at every earlier measurement.
        best: Option<&'a CausalLm>,
    },
}

/// A finished run.
#[derive(Debug)]
pub struct Outcome {
    /// Steps done: fewer than planned when time ran out.
    pub steps: usize,
    /// Loss of each step, in nats per token.
    pub losses: Vec<f64>,
    /// The best measurement, and the step that it follows.
    pub best: (usize, HeldOut),
    /// Time from the first step to the last measurement.
    pub wall: Duration,
}

impl Outcome {
    /// Mean training loss of the last steps.
    #[must_use]
    pub fn final_loss(&self) -> f64 {
        recent(&self.losses)
    }
}

/// Trains a new network and tells `observe` each [`Event`].
///
/// # Errors
///
/// When the text is too short, when the loss is not finite, or when `observe` fails.
pub fn run(
    plan: &Plan,
    config: &LlamaConfig,
    vocabulary: &Vocabulary,
    tokens: &Tokens,
    observe: &mut dyn FnMut(Event<'_>) -> Result<()>,
) -> Result<Outcome> {
    config.check()?;
    let length = config.max_position_embeddings;
    ensure!(plan.steps > 0 && plan.batch > 0, "nothing to train: {} steps of {}", plan.steps, plan.batch);
    ensure!(
        tokens.training.len() > length * (plan.batch + 2),
        "{} tokens do not fill a batch of {} windows of {length}",
        tokens.training.len(),
        plan.batch
    );
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    device.seed(plan.seed);
    let mut model = CausalLm::new(config, plan.dropout, &device);
    let mut optimizer = AdamWConfig::new()
        .with_beta_2(0.95)
        .with_epsilon(1e-8)
        .with_weight_decay(plan.decay)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    let mut order = Shuffled::new(tokens.training.len(), length, plan.batch, plan.seed);
    let mut losses = Vec::with_capacity(plan.steps);
    let mut best: Option<(usize, HeldOut)> = None;
    let start = Instant::now();

    for step in 1..=plan.steps {
        let batch = data::batch(&tokens.training, &order.next_starts(), length, &device);
        let loss = model.losses(config, batch.tokens, batch.targets).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(rate(plan, step), model, gradients);
        let loss = f64::from(loss.try_into_scalar::<f32>()?);
        ensure!(loss.is_finite(), "the loss of step {step} is not finite: try a lower learning rate");
        losses.push(loss);

        let each = start.elapsed().div_f64(step as f64);
        let left = each.mul_f64((plan.steps - step) as f64).min(plan.limit.saturating_sub(start.elapsed()));
        observe(Event::Step { step, loss: recent(&losses), left })?;

        let last = step == plan.steps || start.elapsed() >= plan.limit;
        if last || step.is_multiple_of(plan.measure) {
            let tested = model.valid();
            let loss = evaluate::held_out(&tested, config, vocabulary, &tokens.held_out, plan.batch, &plain)?;
            let better = best.is_none_or(|(_, best)| loss.nats_per_token < best.nats_per_token);
            if better {
                best = Some((step, loss));
            }
            observe(Event::Measured { step, loss, best: better.then_some(&tested) })?;
        }
        if last {
            break;
        }
    }
    let best = best.ok_or_else(|| anyhow::anyhow!("the held-out loss was never measured"))?;
    Ok(Outcome { steps: losses.len(), losses, best, wall: start.elapsed() })
}

/// Learning rate of a step: up in a line, down along half a cosine.
fn rate(plan: &Plan, step: usize) -> f64 {
    if step <= plan.warm_up {
        return plan.rate * step as f64 / plan.warm_up as f64;
    }
    let done = (step - plan.warm_up) as f64 / (plan.steps - plan.warm_up).max(1) as f64;
    let cosine = f64::midpoint(1.0, (std::f64::consts::PI * done).cos());
    plan.rate * (FLOOR + (1.0 - FLOOR) * cosine)
}

fn recent(losses: &[f64]) -> f64 {
    let last = &losses[losses.len().saturating_sub(SMOOTHED)..];
    last.iter().sum::<f64>() / last.len().max(1) as f64
}
