//! Speed of codec `pvq` on a million Gaussian weights, by form, one thread: M weights/s of encoding and of decoding
//! whole, microseconds of decoding a row.
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
            let mut made = None;
            let encode = mean(1, |_| {
                made = Some(pvq::encode(&values, &[SIDE as u64; 2], &settings)?);
                Ok(())
            })?;
            let Some((leaf, fit)) = made else { continue };
            let mut out = vec![0.0; values.len()];
            let whole = mean(20, |_| pvq::decode(&leaf, 0..out.len() as u64, &mut out))?;
            let row = mean(64, |row| {
                let span = u64::from(row) * SIDE as u64..u64::from(row + 1) * SIDE as u64;
                pvq::decode(&leaf, span, &mut out[..SIDE])
            })? * 1e6;
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

/// Mean seconds of `count` runs: of this thread's own time where the system tells it, so that what others take from the
/// machine is left out.
fn mean(count: u32, mut run: impl FnMut(u32) -> Result<()>) -> Result<f64> {
    let (clock, own) = (Instant::now(), own_nanoseconds());
    (0..count).try_for_each(&mut run)?;
    let nanoseconds = own.zip(own_nanoseconds()).map(|(from, to)| to - from);
    let seconds = nanoseconds.map_or(clock.elapsed().as_secs_f64(), |n| n as f64 / 1e9);
    Ok(seconds / f64::from(count))
}

fn own_nanoseconds() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
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
