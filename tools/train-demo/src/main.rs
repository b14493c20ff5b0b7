//! Command line of the demo trainer: flags in, a folder of model files out, progress on standard error.

use anyhow::Result;
use burn::module::Module;
use burn::tensor::Device;
use clap::Parser;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use train_demo::config::LlamaConfig;
use train_demo::model::CausalLm;
use train_demo::record::{FILE, REPRODUCIBLE, Record};
use train_demo::tokenizer::Vocabulary;
use train_demo::train::{Event, Plan};
use train_demo::{evaluate, export, sample, text, train, weights};

/// First words of the sample.
const PROMPT: &str = "Alice looked up, and";
/// Tokens of the sample.
const SAMPLE: usize = 120;

/// Trains Benben's demo language model (Llama architecture, about two million parameters) from text.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Folder of `.txt` files to learn from
    #[arg(long)]
    text: PathBuf,
    /// Folder for the model, its tokenizer and the record of the run
    #[arg(long)]
    out: PathBuf,
    /// Seed of the weights, the order of the batches and the dropout
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of steps
    #[arg(long, default_value_t = 3000)]
    steps: usize,
    /// Stop after so many minutes, whatever the number of steps
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Windows in a batch
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Tokens in a window, and the longest context of the model
    #[arg(long, default_value_t = 128)]
    sequence: usize,
    /// Number of tokens in the vocabulary
    #[arg(long, default_value_t = 1024)]
    vocabulary: usize,
    /// Peak of the learning rate
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    /// Weight decay
    #[arg(long, default_value_t = 0.1)]
    decay: f32,
    /// Dropout
    #[arg(long, default_value_t = 0.15)]
    dropout: f64,
    /// Measure the held-out loss every so many steps
    #[arg(long, default_value_t = 100)]
    measure: usize,
    /// Part of each file that is held out
    #[arg(long, default_value_t = 0.05)]
    held_out: f64,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let books = text::read(&flags.text, flags.held_out)?;
    let vocabulary = Vocabulary::train(&books, flags.vocabulary)?;
    let tokens = vocabulary.encode_books(&books)?;
    let config = LlamaConfig::demo(flags.vocabulary, flags.sequence);
    export::describe(&flags.out, &config, &vocabulary)?;
    say(&format!("{} tokens to learn, {} held out", tokens.training.len(), tokens.held_out.len()));

    let plan = flags.plan();
    let mut history = Vec::new();
    let outcome = train::run(&plan, &config, &vocabulary, &tokens, &mut |event| {
        match event {
            Event::Step { step, loss, left } if step.is_multiple_of(10) => say(&format!(
                "step {step}/{}  loss {loss:.4}  {} min left",
                plan.steps,
                left.as_secs().div_ceil(60)
            )),
            Event::Step { .. } => {}
            Event::Measured { step, loss, best } => {
                history.push((step, loss.nats_per_token));
                let (nats, bits) = (loss.nats_per_token, loss.bits_per_byte);
                say(&format!("step {step}  held out {nats:.4} nats/token, {bits:.4} bits/byte"));
                if let Some(model) = best {
                    export::write_weights(&flags.out, &weights::collect(model)?)?;
                }
            }
        }
        Ok(())
    })?;

    // The record tells of the weights as stored, so they are read back.
    let device = Device::flex();
    let model = weights::restore(CausalLm::new(&config, 0.0, &device), &export::read_weights(&flags.out)?)?;
    let held_out = evaluate::held_out(&model, &config, &vocabulary, &tokens.held_out, flags.batch, &device)?;
    let sample = sample::continue_text(&model, &config, &vocabulary, PROMPT, SAMPLE, flags.seed, &device)?;
    let file = std::fs::read(flags.out.join(export::WEIGHTS))?;
    let seen = outcome.steps * flags.batch * flags.sequence;
    let record = Record {
        command: command(),
        trainer: format!("{} {}, burn 0.22.1 (flex)", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
        seed: flags.seed,
        reproducible: REPRODUCIBLE,
        text: books.iter().map(|book| book.source.clone()).collect(),
        held_out_part: flags.held_out,
        training_tokens: tokens.training.len(),
        parameters: model.num_params(),
        model: config,
        batch: flags.batch,
        sequence_length: flags.sequence,
        peak_learning_rate: flags.rate,
        weight_decay: flags.decay,
        dropout: flags.dropout,
        steps: outcome.steps,
        epochs: seen as f64 / tokens.training.len() as f64,
        final_training_loss: outcome.final_loss(),
        held_out_history: history,
        weights_of_step: outcome.best.0,
        held_out,
        wall_seconds: outcome.wall.as_secs_f64(),
        weights_bytes: file.len(),
        weights_sha256: text::sha256(&file),
        sample,
    };
    export::write_json(&flags.out.join(FILE), &record)?;
    say(&format!("held out, as stored: {held_out:?}\n{}", record.sample));
    Ok(())
}

impl Flags {
    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed,
            steps: self.steps,
            limit: Duration::from_secs(60 * self.minutes),
            batch: self.batch,
            rate: self.rate,
            warm_up: (self.steps / 20).max(1),
            decay: self.decay,
            dropout: self.dropout,
            measure: self.measure.max(1),
        }
    }
}

/// The command as someone else would give it: without the path of the program.
fn command() -> String {
    let given: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -- {}", given.join(" "))
}

/// Progress that nobody can read any more is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
