//! Rate and distortion of codec `rvq` on Gaussian samples, and on the matrices of a safetensors file.
//!
//! `cargo run --release -p benben-codec --example rvq_rate_distortion -- [SAMPLES] [FILE]`
#![allow(clippy::print_stdout, clippy::cast_possible_truncation, reason = "a report")]

use benben_codec::{Fit, Target, rvq};
use benben_format::{Error, Result};
use std::time::Instant;

/// dB above the bound at 2, 3 and 4 bits of plain residual quantization of dimension 8: what is to be beaten.
const PLAIN: [f64; 3] = [2.60, 4.18, 6.05];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let samples = args.next().map_or(Ok(1 << 22), |n| n.parse());
    let samples: usize = samples.map_err(|e| Error::invalid(format!("SAMPLES: {e}")))?;
    if samples == 0 {
        return small();
    }
    println!("dB above the bound 2^(-2R) of a Gaussian source, side information included");
    let gaussian = gaussian(samples);
    for dim in [None, Some(8)] {
        for (bits, plain) in [2.0, 3.0, 4.0].into_iter().zip(PLAIN) {
            let settings = rvq::Settings { dim, ..rvq::Settings::new(Target::BitsPerWeight(bits)) };
            report("Gaussian", &gaussian, &[samples as u64], &settings)?;
            println!("    plain residual quantization of dimension 8: {plain} dB");
        }
    }
    for beam in [1, 4, 8] {
        let settings = rvq::Settings { dim: Some(8), beam, ..rvq::Settings::new(Target::BitsPerWeight(2.0)) };
        report(&format!("Gaussian, beam {beam}"), &gaussian, &[samples as u64], &settings)?;
    }
    small()?;
    let Some(path) = args.next() else {
        println!("matrices: skipped: no safetensors file given");
        return Ok(());
    };
    let matrices = matrices(&std::fs::read(path)?)?;
    for bits in [1.5, 2.0, 3.0, 4.0, 8.0] {
        let (mut weights, mut stored, mut error, mut energy) = (0.0, 0.0, 0.0, 0.0);
        let started = Instant::now();
        for (name, shape, values) in &matrices {
            let fit = report(name, values, shape, &rvq::Settings::new(Target::BitsPerWeight(bits)))?;
            let squares: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            weights += values.len() as f64;
            stored += fit.bits_per_weight * values.len() as f64;
            error += fit.relative_mse * squares;
            energy += squares;
        }
        let fit = Fit { bits_per_weight: stored / weights, relative_mse: error / energy };
        println!("{}  {:.1} s", line("all matrices", fit), started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Plain codebooks beside mapped noise on small tensors, whose codebooks are much of their bytes.
fn small() -> Result<()> {
    println!(
        "small tensors: bits for each weight and dB, plain codebooks / mapped noise / the encoder's choice"
    );
    let noise = gaussian(1 << 16);
    // Elements of a row of 8 follow each other with correlation 0.9.
    let mut chained = noise.clone();
    for row in chained.chunks_exact_mut(8) {
        (1..8).for_each(|i| row[i] = 0.9 * row[i - 1] + 0.19f32.sqrt() * row[i]);
    }
    for (name, values) in [("independent", &noise), ("correlation 0.9", &chained)] {
        for elements in [1 << 10, 1 << 12, 1 << 14, 1 << 16] {
            for bits in [1.0, 2.0, 3.0] {
                let mut text = format!("{name:16} {elements:6} elements, {bits} bits:");
                for mapped in [Some(false), Some(true), None] {
                    let from = Instant::now();
                    let settings =
                        rvq::Settings { mapped, ..rvq::Settings::new(Target::BitsPerWeight(bits)) };
                    let (leaf, fit) = rvq::encode(&values[..elements], &[elements as u64 / 8, 8], &settings)?;
                    let params: rvq::Params = leaf.spec.params()?;
                    let form = if params.mapped { "mapped" } else { "plain" };
                    let (bits, db) = (fit.bits_per_weight, fit.db_above_gaussian_bound());
                    let ms = from.elapsed().as_millis();
                    text += &format!("  {bits:.3} {db:6.2} dB ({form}, dim {}, {ms} ms)", params.dim);
                }
                println!("{text}");
            }
        }
    }
    Ok(())
}

fn report(name: &str, values: &[f32], shape: &[u64], settings: &rvq::Settings<'_>) -> Result<Fit> {
    let started = Instant::now();
    let (leaf, fit) = rvq::encode(values, shape, settings)?;
    let rvq::Params { dim, stages, .. } = leaf.spec.params()?;
    let seconds = started.elapsed().as_secs_f64();
    let speed = values.len() as f64 / 1e6 / seconds;
    println!("{}  {shape:?} dim {dim}, {stages} stages, {speed:.2} M weights/s", line(name, fit));
    Ok(fit)
}

fn line(name: &str, fit: Fit) -> String {
    let db = fit.db_above_gaussian_bound();
    format!("{name:58} {:7.4} bits  mse {:9.3e}  {db:6.3} dB", fit.bits_per_weight, fit.relative_mse)
}

/// SplitMix64 through Box and Muller.
fn gaussian(count: usize) -> Vec<f32> {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    (0..count).map(|_| normal() as f32).collect()
}

/// Name, shape and values.
type Matrix = (String, Vec<u64>, Vec<f32>);

/// Two-dimensional f32 tensors of a safetensors file.
fn matrices(file: &[u8]) -> Result<Vec<Matrix>> {
    let cut = || Error::insufficient("the safetensors file ends early");
    let (len, rest) = file.split_first_chunk::<8>().ok_or_else(cut)?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*len) as usize).ok_or_else(cut)?;
    let header = String::from_utf8_lossy(header);
    let numbers = |entry: &str, key: &str| -> Vec<usize> {
        let list = entry.split(key).nth(1).and_then(|s| s.split(']').next()).unwrap_or_default();
        list.split(',').filter_map(|n| n.trim_matches(['[', ':', '"', ' ']).parse().ok()).collect()
    };
    let mut found = Vec::new();
    for entry in header.split("},").filter(|e| e.contains("\"F32\"")) {
        let name = entry.trim_start_matches('{').split('"').nth(1).unwrap_or_default();
        let (shape, span) = (numbers(entry, "\"shape\""), numbers(entry, "\"data_offsets\""));
        if let ([rows, columns], [from, to]) = (&shape[..], &span[..]) {
            let bytes = data.get(*from..*to).ok_or_else(cut)?;
            let values = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            found.push((name.to_owned(), vec![*rows as u64, *columns as u64], values));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}
