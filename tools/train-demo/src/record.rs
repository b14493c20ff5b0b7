//! How the weights were made: `training.json`, beside them.

use crate::config::LlamaConfig;
use crate::evaluate::HeldOut;
use crate::text::Source;
use serde::Serialize;

/// Name of the file.
pub const FILE: &str = "training.json";

/// What someone needs to train the same network again, and what came out.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The command line.
    pub command: String,
    /// The trainer and its version.
    pub trainer: String,
    /// Seed of the run.
    pub seed: u64,
    /// How far the result can be repeated.
    pub reproducible: &'static str,
    /// The files of text.
    pub text: Vec<Source>,
    /// Their end was held out: this part of each.
    pub held_out_part: f64,
    /// Tokens to train on.
    pub training_tokens: usize,
    /// The shape of the network.
    pub model: LlamaConfig,
    /// Number of parameters.
    pub parameters: usize,
    /// Windows of each step.
    pub batch: usize,
    /// Tokens of each window.
    pub sequence_length: usize,
    /// Peak of the learning rate.
    pub peak_learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Dropout of the residual writes.
    pub dropout: f64,
    /// Steps done.
    pub steps: usize,
    /// How often the network has seen the text.
    pub epochs: f64,
    /// Mean loss of the last 50 steps, in nats per token; with dropout, so above what the network can do.
    pub final_training_loss: f64,
    /// Held-out loss at every measurement: the step and the nats per token.
    pub held_out_history: Vec<(usize, f64)>,
    /// Step after which the weights were taken: the best of the history.
    pub weights_of_step: usize,
    /// Held-out loss of the weights as stored, in half precision.
    pub held_out: HeldOut,
    /// Time that training took.
    pub wall_seconds: f64,
    /// Length of the file of weights.
    pub weights_bytes: usize,
    /// Its digest.
    pub weights_sha256: String,
    /// What the network writes after the first words.
    pub sample: String,
}

/// The value of [`Record::reproducible`].
pub const REPRODUCIBLE: &str = "The vocabulary, the initial weights, the order of the batches and the dropout follow \
    from the seed. On one processor, runs with one and with two threads gave the same file, bit for bit. A processor \
    with another vector width may round sums differently, and the losses then part slowly.";
