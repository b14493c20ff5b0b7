//! Tunes what is continuous in a pack against the model that it was made from, and writes it again.
//!
//! `cargo run --release -p benben-encode --features recover --example recover -- MODEL PACK TEXT OUT [NAME=VALUE ...]`
//!
//! Names are those of the settings: chunks (of text), block_chunks, block_passes, block_rate, steps, rate, measure,
//! add_rows, words, codes, codes_every, growth, held_out, seed, seconds; and check, another text, on whose first 8 chunks the
//! divergence before and after is measured.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use benben_decode::Pack;
use benben_encode::recover::{Settings, recover};
use benben_format::{AtomicFile, Error, Result};
use benben_models::llm::Model;
use benben_models::llm::graph::Network;
use burn::tensor::Device;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const LENGTH: usize = 512;
/// Chunks of another text that are measured.
const CHECKED: usize = 8;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pack, text, out, rest @ ..] = arguments.as_slice() else {
        return Err(Error::invalid("expected MODEL PACK TEXT OUT [NAME=VALUE ...]"));
    };
    let (mut settings, mut count, mut check) = (Settings::default(), 64, None);
    for argument in rest {
        match argument.strip_prefix("check=") {
            Some(path) => check = Some(path),
            None => set(&mut settings, &mut count, argument)?,
        }
    }
    let model = Model::open(model.as_ref(), &Default::default())?;
    let tokens = model.tokenizer()?.encode(&std::fs::read_to_string(text)?, false)?;
    let chunks: Vec<&[u32]> = tokens.chunks_exact(LENGTH).take(count).collect();
    let pack = Pack::open(pack.as_ref())?;
    let dense = Network::new(model.config().clone(), model.weights(), Device::flex());

    let start = Instant::now();
    let found = recover(&dense, &pack, &chunks, &settings, &mut |at| {
        eprint!(
            "\r{:6.0} s, {} of {}: {}        ",
            start.elapsed().as_secs_f64(),
            at.done,
            at.total,
            at.item
        );
        ControlFlow::Continue(())
    })?;
    let mut file = AtomicFile::create(out.as_ref(), true)?;
    let written = found.write(None, &mut file)?;
    file.commit()?;
    let bytes = pack.reader().len();
    println!(
        "\ndivergence {:.5} -> {:.5} on held-out chunks, {} -> {} bytes, {} blocks, {} steps, {:.0} s",
        found.before,
        found.after,
        bytes,
        written.bytes,
        found.blocks,
        found.steps,
        start.elapsed().as_secs_f64()
    );
    if let Some(check) = check {
        let tokens = model.tokenizer()?.encode(&std::fs::read_to_string(check)?, false)?;
        // The measurement wants a chunk that is not held out.
        let chunks: Vec<&[u32]> = tokens.chunks_exact(LENGTH).take(CHECKED).collect();
        let chunks: Vec<&[u32]> = chunks.first().into_iter().chain(&chunks).copied().collect();
        let measured = Settings { steps: 0, block_chunks: 0, held_out: CHECKED, ..Settings::default() };
        let again = Pack::open(out.as_ref())?;
        let of = |pack| {
            Ok::<_, Error>(recover(&dense, pack, &chunks, &measured, &mut benben_format::ignore)?.before)
        };
        println!(
            "divergence {:.5} -> {:.5} on the first {CHECKED} chunks of {check}",
            of(&pack)?,
            of(&again)?
        );
    }
    Ok(())
}

fn set(settings: &mut Settings, chunks: &mut usize, argument: &str) -> Result<()> {
    fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
        text.parse().map_err(|_| Error::invalid(format!("{text:?} is not a fitting number")))
    }
    let (name, value) =
        argument.split_once('=').ok_or_else(|| Error::invalid(format!("{argument}: expected NAME=VALUE")))?;
    match name {
        "chunks" => *chunks = number(value)?,
        "block_chunks" => settings.block_chunks = number(value)?,
        "block_passes" => settings.block_passes = number(value)?,
        "block_rate" => settings.block_rate = number(value)?,
        "steps" => settings.steps = number(value)?,
        "batch" => settings.batch = number(value)?,
        "rate" => settings.rate = number(value)?,
        "measure" => settings.measure = number(value)?,
        "add_rows" => settings.add_rows = number(value)?,
        "words" => settings.words = number(value)?,
        "codes" => settings.codes = number(value)?,
        "codes_every" => settings.codes_every = number(value)?,
        "growth" => settings.growth = number(value)?,
        "held_out" => settings.held_out = number(value)?,
        "seed" => settings.seed = number(value)?,
        "seconds" => settings.limit = Some(Duration::from_secs(number(value)?)),
        other => return Err(Error::invalid(format!("unknown setting {other:?}"))),
    }
    Ok(())
}
