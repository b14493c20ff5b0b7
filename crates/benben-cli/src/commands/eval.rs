//! `benben eval`

use crate::args::{Eval, Global, ScoreArg};
use crate::draw::{self, Bar, complain, say};
use crate::exit::{self, Exit};
use benben::llm::{Chunk, Distance, Estimate, Model, Protocol, Score, distance, evaluate, perplexity};
use benben::{AtomicFile, Error, ErrorKind, Progress, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// What `--resume` keeps: results of chunks, and what they are results of.
#[derive(Serialize, Deserialize)]
struct Saved {
    about: About,
    chunks: Vec<Chunk>,
}

/// What must be the same for results to be joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct About {
    model: String,
    reference: Option<String>,
    data: String,
    context: usize,
    score: Score,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    device: String,
    tokens: usize,
    context: usize,
    score: Score,
    chunks: usize,
    resumed_chunks: usize,
    scored_tokens: u64,
    perplexity: Estimate,
    reference: Option<Distance>,
    seconds: f64,
}

pub(crate) fn run(args: &Eval, global: &Global) -> Result<Exit> {
    let text = super::text(&args.data)?;
    let model = args.model_args.open(&args.model)?;
    let reference = args.reference.as_deref().map(|path| args.model_args.open_reference(path)).transpose()?;
    let protocol = Protocol {
        context: args.context,
        score: match args.score {
            ScoreArg::All => Score::All,
            ScoreArg::Half => Score::Half,
        },
        chunks: args.chunks.map(|n| n as usize),
    };
    let tokens = model.tokenizer()?.encode(&text, false)?;
    let total = protocol.cut(&tokens)?.len();
    let about = match args.resume {
        Some(_) => Some(About::new(&model, reference.as_ref(), &text, &protocol)?),
        None => None,
    };
    let mut chunks = match (&args.resume, &about) {
        (Some(path), Some(about)) => resume(path, about)?,
        _ => Vec::new(),
    };
    chunks.truncate(total);
    let resumed = chunks.len();
    let device = args.model_args.device_name()?;
    let mut network = args.model_args.network(&model)?;
    let mut other = reference.as_ref().map(|r| args.model_args.network(r)).transpose()?;
    let started = Instant::now();
    let bar = Bar::new("scoring", global);
    exit::listen();
    let outcome = evaluate(
        &mut *network,
        other.as_deref_mut().map(|r| r as _),
        &tokens,
        &protocol,
        &mut chunks,
        &mut |chunks| {
            if let (Some(path), Some(about)) = (&args.resume, &about) {
                save(path, about, chunks)?;
            }
            let item = format!("perplexity {:.3} so far", perplexity(chunks).value);
            // The bar itself never stops anything.
            let _ = bar.show(Progress { item: &item, done: chunks.len() as u64, total: total as u64 });
            Ok(if exit::stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        },
    );
    drop(bar);
    match outcome {
        Err(e) if e.kind() == ErrorKind::Interrupted => {
            complain!("interrupted: {} of {total} chunks are scored", chunks.len());
            complain!(
                "\nhint: {}",
                match &args.resume {
                    Some(path) => format!("the same command goes on from {}", path.display()),
                    None => "with --resume FILE the next run goes on where this one ended".into(),
                }
            );
            return Ok(Exit::Interrupted);
        }
        other => other?,
    }
    let report = Report {
        device,
        tokens: tokens.len(),
        context: protocol.context,
        score: protocol.score,
        chunks: chunks.len(),
        resumed_chunks: resumed,
        scored_tokens: chunks.iter().map(|c| c.scored).sum(),
        perplexity: perplexity(&chunks),
        reference: distance(&chunks),
        seconds: started.elapsed().as_secs_f64(),
    };
    if global.json {
        draw::json(&report)?;
    } else if !global.quiet {
        report.show()?;
    }
    Ok(Exit::Ok)
}

impl About {
    fn new(model: &Model, reference: Option<&Model>, text: &str, protocol: &Protocol) -> Result<Self> {
        let name = |model: &Model| model.identity().map(|hash| benben::hex(&hash));
        Ok(Self {
            model: name(model)?,
            reference: reference.map(name).transpose()?,
            data: blake3::hash(text.as_bytes()).to_hex().to_string(),
            context: protocol.context,
            score: protocol.score,
        })
    }
}

/// The chunks that are scored already; none where there is no such file yet.
fn resume(path: &Path, about: &About) -> Result<Vec<Chunk>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::from(e).context(path.display())),
    };
    let saved: Saved = serde_json::from_slice(&bytes).map_err(|e| {
        Error::invalid(format!("{} holds no results of an evaluation: {e}", path.display()))
            .with_hint("give --resume another file; it is made where there is none")
    })?;
    if saved.about != *about {
        let differs = [
            ("model", saved.about.model != about.model),
            ("reference", saved.about.reference != about.reference),
            ("text", saved.about.data != about.data),
            ("context", saved.about.context != about.context),
            ("--score", saved.about.score != about.score),
        ];
        let differs: Vec<_> = differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
        let message = format!("{} holds results of another {}", path.display(), differs.join(", "));
        return Err(Error::invalid(message).with_hint("give --resume another file"));
    }
    Ok(saved.chunks)
}

fn save(path: &Path, about: &About, chunks: &[Chunk]) -> Result<()> {
    let saved = Saved { about: about.clone(), chunks: chunks.to_vec() };
    let json = serde_json::to_vec(&saved).map_err(|e| Error::io(format!("JSON: {e}")))?;
    let mut file = AtomicFile::create(path, true)?;
    file.write_all(&json)?;
    file.commit()
}

impl Report {
    fn show(&self) -> Result<()> {
        say!(
            "{} tokens in {} chunks of {}, {} of them scored, in {:.1} s",
            draw::count(self.tokens as u64),
            self.chunks,
            self.context,
            draw::count(self.scored_tokens),
            self.seconds
        )?;
        if self.resumed_chunks > 0 {
            say!("{} chunks were scored by earlier runs", self.resumed_chunks)?;
        }
        say!("device                {}", self.device)?;
        say!("perplexity            {}", with_error(self.perplexity, 4))?;
        let Some(found) = &self.reference else { return Ok(()) };
        say!("reference             {}", with_error(found.reference_perplexity, 4))?;
        say!("ratio                 {}", with_error(found.perplexity_ratio, 4))?;
        say!("KL divergence, nats   {}", with_error(found.divergence, 5))?;
        let percent = |x: f64| 100.0 * x;
        let same = found.same_top;
        let same = Estimate { value: percent(same.value), error: same.error.map(percent) };
        say!("same likeliest token  {} %", with_error(same, 2))
    }
}

/// `16.1634 ± 0.2104`.
fn with_error(estimate: Estimate, digits: usize) -> String {
    let error = estimate.error.map_or(String::new(), |e| format!(" ± {e:.digits$}"));
    format!("{:.digits$}{error}", estimate.value)
}
