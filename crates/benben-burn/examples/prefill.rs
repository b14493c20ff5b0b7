//! A prompt of 512 tokens: products from codes beside burn's on dense f32, and the whole forward pass.
//!
//! ```console
//! cargo run --release -p benben-burn --example prefill -- model.benben
//! ```
#![allow(clippy::print_stdout, reason = "a report")]

use benben_decode::{Form, Options, Pack, Resident};
use benben_models::llm::{LanguageModel, Model, Wanted};
use burn::tensor::{Device, Tensor, TensorData};
use std::error::Error;
use std::time::Instant;

const TOKENS: usize = 512;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: prefill MODEL.benben")?;
    let pack = Pack::open(path.as_ref())?;
    let layers = |t: &benben_decode::Tensor<'_>| t.name().contains(".layers.") && t.shape().len() == 2;
    let (mut ours, mut burns) = ([0f64; ROUNDS], [0f64; ROUNDS]);
    for matrix in pack.tensors().filter(layers) {
        let codes = Resident::load(&matrix, Form::Codes)?;
        let [rows, columns] = codes.shape();
        let x: Vec<f32> = (0..TOKENS * columns).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
        let mut out = vec![0.0; TOKENS * rows];
        let device = Device::flex();
        // burn's linear layers hold `[in, out]`; values do not matter for time, the order in memory does.
        let dense = TensorData::new(codes.to_f32(), [columns, rows]);
        let dense = Tensor::<2>::from_data(dense, &device);
        let input = Tensor::<2>::from_data(TensorData::new(x.clone(), [TOKENS, columns]), &device);
        for round in 0..ROUNDS {
            let begun = Instant::now();
            Resident::products(&[&codes], &x, TOKENS, &mut [&mut out])?;
            ours[round] += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            let _ = input.clone().matmul(dense.clone()).into_data();
            burns[round] += begun.elapsed().as_secs_f64();
        }
    }
    let model = Model::open(path.as_ref(), &Options::default())?;
    let mut network = model.network()?;
    let prompt: Vec<u32> = (0..TOKENS as u32).map(|i| i * 7 % 1000).collect();
    let mut whole = [0f64; ROUNDS];
    // Once for the weights, which are decoded when they are first used.
    network.forward(&prompt[..1], Wanted::Last)?;
    for seconds in &mut whole {
        network.truncate(0);
        let begun = Instant::now();
        network.forward(&prompt, Wanted::Last)?;
        *seconds = begun.elapsed().as_secs_f64();
    }
    let [ours, burns, whole] = [ours, burns, whole].map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    });
    println!("products of all layers with {TOKENS} vectors, medians of {ROUNDS} rounds");
    println!("burn, dense f32     {burns:.3} s");
    println!("ours, from codes    {ours:.3} s, {:.2} of burn's time", ours / burns);
    println!("ours, whole prefill {whole:.3} s, {:.0} tokens/s", TOKENS as f64 / whole);
    Ok(())
}
