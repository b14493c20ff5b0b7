//! Speed of codec `pvq` on a million Gaussian weights, by form, one thread: M weights/s of encoding, decoding whole (the
//! best of fifteen), and decoding row by row.
//!
//! `cargo run --release -p benben-codec --example pvq_speed`
#![allow(clippy::print_stdout, clippy::cast_possible_truncation, reason = "a report")]

use benben_codec::{Target, pvq};
use benben_format::Result;
use std::time::Instant;

const SIDE: usize = 1024;

fn main() -> Result<()> {
    let values = gaussian(SIDE * SIDE);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.map_err(|e| benben_format::Error::invalid(e.to_string()))?.install(|| {
        let forms = [Some(pvq::Form::Numbered), Some(pvq::Form::Pulses), None];
        for (form, bits) in forms.iter().flat_map(|f| [1.0, 2.0, 3.0, 4.0, 6.0, 8.0].map(|b| (*f, b))) {
            let settings = pvq::Settings { form, ..pvq::Settings::new(Target::BitsPerWeight(bits)) };
            let from = Instant::now();
            let (leaf, fit) = pvq::encode(&values, &[SIDE as u64; 2], &settings)?;
            let encode = from.elapsed().as_secs_f64();
            let mut out = vec![0.0; values.len()];
            let whole = least(|| pvq::decode(&leaf, 0..out.len() as u64, &mut out))?;
            let from = Instant::now();
            let rows = SIDE as u64 / 16;
            for row in 0..rows {
                let span = row * SIDE as u64..(row + 1) * SIDE as u64;
                pvq::decode(&leaf, span, &mut out[..SIDE])?;
            }
            let row = from.elapsed().as_secs_f64() * 1e6 / rows as f64;
            let speed = |seconds: f64| values.len() as f64 / 1e6 / seconds;
            println!(
                "{:8} {bits} bits: {:6.4} bits {:5.2} dB; encode {:6.2}, decode {:7.1} M weights/s; a row {row:7.1} us",
                form.map_or("smaller".into(), |f| format!("{f:?}").to_lowercase()),
                fit.bits_per_weight,
                fit.db_above_gaussian_bound(),
                speed(encode),
                speed(whole),
            );
        }
        Ok(())
    })
}

/// Least seconds of fifteen runs: what others take from the machine is left out.
fn least(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..15 {
        let from = Instant::now();
        run()?;
        least = least.min(from.elapsed().as_secs_f64());
    }
    Ok(least)
}

/// SplitMix64 through Box and Muller.
fn gaussian(count: usize) -> Vec<f32> {
    let mut state = 0u64;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count)
        .map(|_| ((-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
        .collect()
}
