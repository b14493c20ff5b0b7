//! Tunes what is continuous in a pack against the model that it was made from, and writes it again.
//!
//! `cargo run --release -p benben-encode --features recover --example recover -- MODEL PACK TEXT OUT [NAME=VALUE ...]`
//!
//! Names are those of the settings: chunks (of text), block_chunks, block_passes, block_rate, steps, rate, measure,
//! add_rows, seconds.
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

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pack, text, out, rest @ ..] = arguments.as_slice() else {
        return Err(Error::invalid("expected MODEL PACK TEXT OUT [NAME=VALUE ...]"));
    };
    let (mut settings, mut count) = (Settings::default(), 64);
    for argument in rest {
        set(&mut settings, &mut count, argument)?;
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
    println!(
        "\ndivergence {:.5} -> {:.5} on held-out chunks, {} -> {} bytes, {} blocks, {} steps, {:.0} s",
        found.before,
        found.after,
        pack.reader().len(),
        written.bytes,
        found.blocks,
        found.steps,
        start.elapsed().as_secs_f64()
    );
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
        "seconds" => settings.limit = Some(Duration::from_secs(number(value)?)),
        other => return Err(Error::invalid(format!("unknown setting {other:?}"))),
    }
    Ok(())
}
