//! `benben recover`, and what `pack` does after packing.

use crate::args::{Global, Recover};
use crate::draw::{self, Bar, complain, say};
use crate::exit::{self, Exit};
use benben::calibrate::Calibration;
use benben::llm::Model;
use benben::recover::{Settings, fisher, graph, recover};
use benben::{AtomicFile, Error, ErrorKind, Pack, Recovery, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Tokens of a chunk that is tuned on.
const CONTEXT: usize = 512;
/// Most chunks: of each the dense network's stream is kept, and sent through it first.
const CHUNKS: usize = 130;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// Divergence from the dense model on chunks that were not tuned on, in nats for each token.
    before: f64,
    after: f64,
    blocks: usize,
    steps: usize,
    bytes_before: u64,
    bytes: u64,
    seconds: f64,
}

/// Whether this build has gradients.
pub(crate) const BUILT: bool = true;

/// How a recovery ended.
enum Outcome {
    Done(Report),
    /// Ctrl-C: the checkpoint has what was done.
    Stopped,
}

/// Refuses what needs gradients, where they are not built.
#[allow(clippy::unnecessary_wraps, reason = "as in builds without")]
pub(crate) fn require(_: &str) -> Result<()> {
    Ok(())
}

pub(crate) fn run(args: &Recover, global: &Global) -> Result<Exit> {
    let text = super::text(&args.calib)?;
    let pack = benben::open(&args.pack)?;
    let model = Model::open(&args.model, &benben::store::Options::default())?;
    let output = args.output.clone().unwrap_or_else(|| super::beside(&args.pack, "recovered.benben"));
    if output.exists() && !args.force {
        return Err(Error::invalid(format!("{} exists", output.display()))
            .with_hint("-f replaces it; -o names another"));
    }
    // Where only the time is given, it alone decides.
    let steps = args.steps.or(args.seconds.map(|_| 100_000)).unwrap_or(super::planning::RECOVERY_STEPS);
    let mut recovery = about(&model, &text, steps as usize)?;
    recovery.seconds = args.seconds;
    if let Some(codes) = args.codes {
        recovery.codes = codes;
    }
    if let Some(chunks) = args.chunks {
        recovery.chunks = chunks as usize;
    }
    let checkpoint = args.checkpoint.clone().unwrap_or_else(|| checkpoint_of(&output));
    exit::listen();
    match tune(&model, pack, &text, &recovery, &output, &checkpoint, global)? {
        Outcome::Stopped => {
            complain!("interrupted: no pack was written");
            complain!("\nhint: the same command goes on from {}", checkpoint.display());
            Ok(Exit::Interrupted)
        }
        Outcome::Done(report) => {
            if global.json {
                draw::json(&report)?;
            } else if !global.quiet {
                report.show(&output, args.seconds)?;
            }
            Ok(Exit::Ok)
        }
    }
}

/// Where the state of a recovery that writes `output` is kept.
fn checkpoint_of(output: &Path) -> PathBuf {
    output.with_added_extension("checkpoint")
}

/// A recovery of `steps` on `text`.
pub(crate) fn about(model: &Model, text: &str, steps: usize) -> Result<Recovery> {
    let settings = Settings::default();
    Ok(Recovery {
        steps,
        chunks: (steps * settings.batch).max(settings.block_chunks).min(CHUNKS) + settings.held_out,
        context: CONTEXT.min(model.config().context),
        seed: settings.seed,
        data: blake3::hash(text.as_bytes()).to_hex().to_string(),
        codes: settings.codes,
        seconds: None,
    })
}

/// Importance of rows from gradients on `chunks`, as [`Calibration::set_rows`] takes it.
pub(crate) fn gradients(
    model: &Model,
    calibration: &mut Calibration,
    chunks: &[Vec<u32>],
    seed: u64,
    global: &Global,
) -> Result<()> {
    let chunks: Vec<&[u32]> = chunks.iter().map(Vec::as_slice).collect();
    let bar = Bar::new("gradients", global);
    fisher(&graph(model), &chunks, seed, &mut |p| super::planning::step(&bar, p))?.apply(calibration)
}

/// Tunes the pack at `output` in its place, as `recoveries` say one after the other.
pub(crate) fn after_packing(
    model: &Model,
    text: &str,
    recoveries: &[Recovery],
    output: &Path,
    global: &Global,
) -> Result<Exit> {
    for recovery in recoveries {
        let checkpoint = checkpoint_of(output);
        let pack = benben::open(output)?;
        match tune(model, pack, text, recovery, output, &checkpoint, global)? {
            Outcome::Stopped => {
                complain!("interrupted: {} is packed, and not recovered", output.display());
                complain!(
                    "\nhint: `benben recover {0} --model .. --calib .. -o {0} -f --steps {1}` goes on from {2}",
                    output.display(),
                    recovery.steps,
                    checkpoint.display()
                );
                return Ok(Exit::Interrupted);
            }
            Outcome::Done(report) if !global.json && !global.quiet => {
                report.show(output, recovery.seconds)?;
            }
            Outcome::Done(_) => {}
        }
    }
    Ok(Exit::Ok)
}

/// Tunes `pack` and puts the result at `output`, which it replaces. The checkpoint goes when that is done.
fn tune(
    model: &Model,
    pack: Pack,
    text: &str,
    recovery: &Recovery,
    output: &Path,
    checkpoint: &Path,
    global: &Global,
) -> Result<Outcome> {
    let data = blake3::hash(text.as_bytes()).to_hex();
    if *recovery.data != *data {
        return Err(Error::invalid("the recipe's recovery was made on another text")
            .with_hint("give --calib with the same text"));
    }
    let tokens = model.tokenizer()?.encode(text, false)?;
    let chunks = super::planning::chunks(&tokens, recovery.context, recovery.chunks, Some(recovery.seed))?;
    let chunks: Vec<&[u32]> = chunks.iter().map(Vec::as_slice).collect();
    let settings = Settings {
        steps: recovery.steps,
        seed: recovery.seed,
        codes: recovery.codes,
        limit: recovery.seconds.map(Duration::from_secs),
        checkpoint: Some(checkpoint.into()),
        ..Settings::default()
    };
    let started = Instant::now();
    let bar = Bar::new("recovering", global);
    let mut observer = |p: benben::Progress<'_>| super::planning::step(&bar, p);
    let found = match recover(&graph(model), &pack, &chunks, &settings, &mut observer) {
        Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(Outcome::Stopped),
        other => other?,
    };
    drop(bar);
    let mut file = AtomicFile::create(output, true)?;
    let written = found.write(Some(recovery), &mut file)?;
    let report = Report {
        before: found.before,
        after: found.after,
        blocks: found.blocks,
        steps: found.steps,
        bytes_before: pack.reader().len(),
        bytes: written.bytes,
        seconds: started.elapsed().as_secs_f64(),
    };
    drop(found);
    // Mapped files are not replaced everywhere.
    drop(pack);
    file.commit()?;
    match std::fs::remove_file(checkpoint) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(e).context(checkpoint.display()))
        }
        _ => Ok(Outcome::Done(report)),
    }
}

impl Report {
    /// Says what was gained, and whether a repeat would gain the same.
    fn show(&self, output: &Path, seconds: Option<u64>) -> Result<()> {
        say!("{}: {}, was {}", output.display(), draw::bytes(self.bytes), draw::bytes(self.bytes_before))?;
        say!(
            "divergence from the original {:.5}, was {:.5}, on text that was not tuned on; {} blocks and {} steps in {:.0} s",
            self.after,
            self.before,
            self.blocks,
            self.steps,
            self.seconds
        )?;
        match seconds {
            Some(limit) => {
                say!(
                    "note: {limit} s decided how many steps there were: --steps makes packs that can be repeated"
                )
            }
            None => Ok(()),
        }
    }
}
