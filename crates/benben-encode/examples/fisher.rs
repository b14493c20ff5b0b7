//! Measures what the loss makes of errors of each output of each matrix, and writes it for calibration.
//!
//! `cargo run --release -p benben-encode --features recover --example fisher -- MODEL TEXT OUT [CHUNKS [CALIBRATION]]`
//!
//! With a file of `benben calibrate`, OUT is that calibration with the importance of rows beside it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use benben_encode::calibrate::Calibration;
use benben_encode::recover::fisher;
use benben_format::{AtomicFile, Error, Result};
use benben_models::llm::Model;
use benben_models::llm::graph::Network;
use burn::tensor::Device;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::Instant;

const LENGTH: usize = 512;
const SEED: u64 = 1;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, text, out, rest @ ..] = arguments.as_slice() else {
        return Err(Error::invalid("expected MODEL TEXT OUT [CHUNKS [CALIBRATION]]"));
    };
    let chunks: usize = rest.first().map_or(Ok(16), |n| n.parse()).map_err(|_| Error::invalid("CHUNKS"))?;
    let model = Model::open(model.as_ref(), &Default::default())?;
    let tokens = model.tokenizer()?.encode(&std::fs::read_to_string(text)?, false)?;
    let chunks: Vec<&[u32]> = tokens.chunks_exact(LENGTH).take(chunks).collect();
    let network = Network::new(model.config().clone(), model.weights(), Device::flex());

    let start = Instant::now();
    let found = fisher(&network, &chunks, SEED, &mut |at| {
        eprint!("\r{} of {}: {}        ", at.done, at.total, at.item);
        ControlFlow::Continue(())
    })?;
    eprintln!("\r{} chunks of {LENGTH} tokens in {:.1} s", chunks.len(), start.elapsed().as_secs_f64());

    println!("{:44} {:>10} {:>8} {:>8}", "matrix", "mean", "least", "most");
    for (name, rows) in &found.matrices {
        let least = rows.rows.iter().copied().fold(f32::INFINITY, f32::min);
        let most = rows.rows.iter().copied().fold(0.0, f32::max);
        println!("{name:44} {:10.3e} {least:8.3} {most:8.3}", rows.mean);
    }
    if let Some(path) = rest.get(1) {
        let mut calibration = Calibration::open(path.as_ref())?;
        found.apply(&mut calibration)?;
        return calibration.save(out.as_ref(), true);
    }
    let mut file = AtomicFile::create(out.as_ref(), true)?;
    found.save(&mut file)?;
    file.flush()?;
    file.commit()?;
    Ok(())
}
