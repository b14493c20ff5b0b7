//! Training of codebooks at scale: minibatches and an exact pass beside Lloyd's iteration, and the search by its beam.
//!
//! `cargo run --release -p benben-codec --example rvq_training -- [VECTORS]`
#![allow(clippy::print_stdout, clippy::cast_possible_truncation, reason = "a report")]

use benben_codec::rvq::{Codebooks, Training, train_codebooks};
use benben_format::{Error, Result};
use std::time::Instant;

/// Elements of a vector and codewords of the stages: two bits for each element.
const DIM: u8 = 8;
const SIZES: [u16; 2] = [256, 256];
/// Vectors that Lloyd's iteration passes over as well.
const FEW: usize = 500_000;

fn main() -> Result<()> {
    let vectors = std::env::args().nth(1).map_or(Ok(10_000_000), |n| n.parse());
    let vectors: usize = vectors.map_err(|e| Error::invalid(format!("VECTORS: {e}")))?;
    let values = correlated(vectors);
    let threads = rayon::current_num_threads();
    println!(
        "vectors of {DIM} (each element correlates 0.7 with the one before), {SIZES:?} words, {threads} threads"
    );
    let few = &values[..vectors.min(FEW) * usize::from(DIM)];
    let lloyd = report("Lloyd, 40 rounds", few, &Training::lloyd(40))?;
    let none = Training { passes: 0, ..Training::default() };
    for (name, training) in [("batches, no exact pass", none), ("batches, exact pass", Training::default())] {
        let books = report(name, few, &training)?;
        println!("    {:.4} of Lloyd's distortion", books.distortion() / lloyd.distortion());
    }
    let books = report("batches, exact pass", &values, &Training::default())?;
    for beam in [1, 2, 4, 8] {
        let from = Instant::now();
        let error = books.error(few, beam)?;
        let speed = few.len() as f64 / 1e6 / from.elapsed().as_secs_f64();
        let db = 10.0 * (error / books.error(few, 1)?).log10();
        println!("beam {beam}: {error:.5}, {db:+.3} dB against beam 1, {speed:.1} M elements/s");
    }
    Ok(())
}

fn report(name: &str, values: &[f32], training: &Training) -> Result<Codebooks> {
    let from = Instant::now();
    let books = train_codebooks(values, DIM, &SIZES, training)?;
    let (seconds, vectors) = (from.elapsed().as_secs_f64(), values.len() / usize::from(DIM));
    println!("{name:24} {vectors:9} vectors: distortion {:.6}, {seconds:6.2} s", books.distortion());
    Ok(books)
}

/// Vectors of variance 1: sums of twelve uniform numbers of SplitMix64, each element 0.7 of the one before.
fn correlated(vectors: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut normal = || {
        let mut sum = 0i64;
        for _ in 0..3 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            sum += (0..4).map(|i| (z >> (16 * i) & 0xffff) as i64).sum::<i64>();
        }
        (sum - 6 * 65535) as f32 / 65536.0
    };
    let mut values = Vec::with_capacity(vectors * usize::from(DIM));
    for _ in 0..vectors {
        let mut last = normal();
        values.push(last);
        for _ in 1..DIM {
            last = 0.7 * last + 0.51f32.sqrt() * normal();
            values.push(last);
        }
    }
    values
}
