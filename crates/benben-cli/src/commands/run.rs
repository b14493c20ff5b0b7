//! `benben run`

use crate::args::{Global, Run};
use crate::draw::{self, complain};
use crate::exit::{self, Exit};
use crate::memory;
use benben::llm::{End, Generated, Message, Model, Sampling, Settings, Tokenizer, generate};
use benben::{Error, Result};
use serde::Serialize;
use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    text: String,
    end: End,
    device: String,
    prompt_tokens: usize,
    prompt_seconds: f64,
    prompt_tokens_per_second: f64,
    generated_tokens: usize,
    tokens_per_second: Option<f64>,
    first_token_seconds: f64,
    open_seconds: f64,
    peak_memory_bytes: Option<u64>,
    file_bytes: u64,
    bytes_read: u64,
    weights: Option<Weights>,
}

/// What the store of a pack says.
#[derive(Serialize)]
struct Weights {
    bytes_held: u64,
    bytes_peak: u64,
    hits: u64,
    misses: u64,
    stall_seconds: f64,
}

pub(crate) fn run(args: &Run, global: &Global) -> Result<Exit> {
    memory::one_heap();
    let prompt = prompt(args.prompt.as_deref())?;
    let started = Instant::now();
    let model = args.model_args.open(&args.model)?;
    let tokenizer = model.tokenizer()?;
    let mut network = args.model_args.network(&model)?;
    let opened = started.elapsed();
    let prompt = tokens(args, &model, &tokenizer, &prompt)?;
    let settings = Settings {
        tokens: args.tokens,
        sampling: Sampling { temperature: args.temperature, top_p: args.top_p, seed: args.seed },
        end: model.end_tokens(&tokenizer),
    };
    let to_terminal = std::io::stdout().is_terminal();
    let mut failed = None;
    let mut first = None;
    exit::listen();
    let made = generate(&mut *network, &tokenizer, &prompt, &settings, &mut |text| {
        if !text.is_empty() {
            first.get_or_insert_with(|| started.elapsed());
        }
        if !global.json
            && !text.is_empty()
            && let Err(e) = show(text, to_terminal)
        {
            failed = Some(e);
            return ControlFlow::Break(());
        }
        if exit::stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(e) = failed {
        return Err(e);
    }
    let report = Report::new(
        made,
        args.model_args.device_name()?,
        &model,
        opened,
        first.unwrap_or_else(|| started.elapsed()),
    );
    if global.json {
        draw::json(&report)?;
    } else {
        draw::text(b"\n")?;
        if !global.quiet {
            report.complain();
        }
    }
    Ok(if exit::stopped() { Exit::Interrupted } else { Exit::Ok })
}

/// The text of `-p`, or of stdin.
fn prompt(given: Option<&str>) -> Result<String> {
    match given {
        Some(text) if text != "-" => Ok(text.to_owned()),
        _ => {
            if std::io::stdin().is_terminal() {
                complain!("the prompt is read from the keyboard; end it with Ctrl-D");
            }
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|e| match e.kind() {
                std::io::ErrorKind::InvalidData => Error::invalid("the prompt on stdin is no UTF-8"),
                _ => Error::from(e).context("stdin"),
            })?;
            Ok(text)
        }
    }
}

/// The tokens that the model reads first.
fn tokens(args: &Run, model: &Model, tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    if args.chat {
        let system = args.system.iter().map(|text| Message::new("system", text));
        let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
        // The template spells the special tokens itself.
        return tokenizer.encode(&model.chat_template()?.render(&messages, true)?, false);
    }
    let mut tokens = tokenizer.encode(prompt, true)?;
    if tokens.is_empty() {
        // A model can begin by itself where its configuration says with what.
        tokens.extend(model.config().bos);
    }
    Ok(tokens)
}

/// Prints a piece of text at once; what would steer a terminal is spelled out.
fn show(text: &str, to_terminal: bool) -> Result<()> {
    if !to_terminal {
        return draw::text(text.as_bytes());
    }
    let pieces: Vec<_> = text.split('\t').map(draw::visible).collect();
    draw::text(pieces.join("\t").as_bytes())
}

impl Report {
    fn new(made: Generated, device: String, model: &Model, opened: Duration, first: Duration) -> Self {
        let seconds = made.step_time.as_secs_f64();
        let statistics = model.store().map(|store| store.statistics());
        Self {
            end: made.end,
            device,
            prompt_tokens: made.prompt_tokens,
            prompt_seconds: made.prompt_time.as_secs_f64(),
            prompt_tokens_per_second: made.prompt_tokens as f64 / made.prompt_time.as_secs_f64().max(1e-9),
            generated_tokens: made.tokens.len(),
            tokens_per_second: (made.steps > 0).then(|| made.steps as f64 / seconds.max(1e-9)),
            first_token_seconds: first.as_secs_f64(),
            open_seconds: opened.as_secs_f64(),
            peak_memory_bytes: memory::peak(),
            file_bytes: model.file_bytes(),
            bytes_read: model.bytes_read(),
            weights: statistics.map(|s| Weights {
                bytes_held: s.bytes_held as u64,
                bytes_peak: s.bytes_peak as u64,
                hits: s.hits,
                misses: s.misses,
                stall_seconds: s.stall.as_secs_f64(),
            }),
            text: made.text,
        }
    }

    /// The statistics on stderr.
    fn complain(&self) {
        let why = match self.end {
            End::Text => "the model ended the text",
            End::Length => "as many as asked for",
            End::Context => "the model's context is full",
            End::Stopped => "stopped",
        };
        complain!(
            "\nprompt     {} tokens in {:.2} s, {:.1} tokens/s",
            self.prompt_tokens,
            self.prompt_seconds,
            self.prompt_tokens_per_second
        );
        let rate = self.tokens_per_second.map_or(String::new(), |rate| format!(" at {rate:.1} tokens/s"));
        complain!(
            "generated  {} tokens{rate} ({why}), the first {:.2} s after opening",
            self.generated_tokens,
            self.first_token_seconds
        );
        let peak = self.peak_memory_bytes.map_or("peak not known".into(), draw::bytes);
        let held = self
            .weights
            .as_ref()
            .map_or(String::new(), |w| format!(", of it weights {} at most", draw::bytes(w.bytes_peak)));
        complain!("memory     {peak}{held}");
        if self.device != "cpu" {
            complain!("device     {}", self.device);
        }
        complain!(
            "read       {} of a file of {}",
            draw::bytes(self.bytes_read),
            draw::bytes(self.file_bytes)
        );
    }
}
