//! Speed of products straight from codes beside dense f32, for every matrix of a pack.
//!
//! ```console
//! cargo run --release -p benben-decode --example products -- model.benben
//! ```
//!
//! Prints, for 1, 4, 16 and 512 vectors: billions of weights a second, bytes in memory, the ratio to dense f32.
#![allow(clippy::print_stdout, reason = "a report")]

use benben_decode::{Form, Pack, Resident, Result};
use std::time::Instant;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "model.benben".into());
    let pack = Pack::open(path.as_ref())?;
    let matrices: Vec<_> = pack.tensors().filter(|t| t.shape().len() == 2).collect();
    let load = |form| matrices.iter().map(|t| Resident::load(t, form)).collect::<Result<Vec<_>>>();
    let weights: u64 = matrices.iter().map(|t| t.elements()).sum();
    let begun = Instant::now();
    let codes = load(Form::Codes)?;
    println!("{} matrices, {weights} weights, loaded in {:.2} s", codes.len(), begun.elapsed().as_secs_f64());
    let dense = load(Form::Dense)?;
    let bits = |of: &[Resident]| of.iter().map(Resident::bytes).sum::<usize>() as f64 * 8.0 / weights as f64;
    println!("bits for each weight in memory: {:.2} as codes, {:.2} dense", bits(&codes), bits(&dense));
    println!("{} threads", rayon::current_num_threads());
    for vectors in [1, 4, 16, 512] {
        let speed = |of: &[Resident]| -> Result<f64> {
            let mut rounds = Vec::new();
            for _ in 0..if vectors < 512 { 9 } else { 3 } {
                let mut seconds = 0.0;
                for matrix in of {
                    let [rows, columns] = matrix.shape();
                    let x: Vec<f32> = (0..vectors * columns).map(|i| (i % 17) as f32 - 8.0).collect();
                    let mut out = vec![0.0; vectors * rows];
                    let begun = Instant::now();
                    Resident::products(&[matrix], &x, vectors, &mut [&mut out])?;
                    seconds += begun.elapsed().as_secs_f64();
                }
                rounds.push(seconds);
            }
            rounds.sort_by(f64::total_cmp);
            Ok(weights as f64 * vectors as f64 / rounds[rounds.len() / 2] / 1e9)
        };
        let (codes, dense) = (speed(&codes)?, speed(&dense)?);
        println!("{vectors:4} vectors: codes {codes:6.2}, dense {dense:6.2} G multiplications/s, ratio {:.2}", codes / dense);
    }
    Ok(())
}
