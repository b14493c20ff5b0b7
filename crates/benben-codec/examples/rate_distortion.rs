//! Rate and distortion of the leaf codecs on Gaussian weights, and on the matrices of a safetensors file.
//!
//! `cargo run --release -p benben-codec --example rate_distortion -- [CODEC] [FILE] [BITS,BITS,..]`
//!
//! Matrices are summed by kind: feed-forward (names with `.intermediate.`, `.output.dense`, `mlp`), attention,
//! embeddings, all.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_possible_truncation, reason = "a report")]

use benben_codec::{Fit, Target, pvq, rvq, scalar, ternary, trellis};
use benben_format::Result;
use std::time::Instant;

type Encode = fn(&[f32], &[u64], Target) -> Result<Fit>;

fn main() -> Result<()> {
    let codecs: [(&str, Encode); 5] = [
        ("scalar", |v, s, t| Ok(scalar::encode(v, s, &scalar::Settings::new(t))?.1)),
        ("trellis", |v, s, t| Ok(trellis::encode(v, s, &trellis::Settings::new(t))?.1)),
        ("pvq", |v, s, t| Ok(pvq::encode(v, s, &pvq::Settings::new(t))?.1)),
        ("rvq", |v, s, t| Ok(rvq::encode(v, s, &rvq::Settings::new(t))?.1)),
        ("ternary", |v, s, t| Ok(ternary::encode_planes(v, s, &ternary::Settings::new(t))?.1)),
    ];
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| args.first().is_none_or(|a| name == a);
    let bits: Vec<f64> = match args.get(2) {
        Some(list) => list.split(',').filter_map(|b| b.parse().ok()).collect(),
        None => vec![0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0],
    };
    for (name, encode) in codecs.iter().filter(|c| wanted(c.0)) {
        println!("{name}: dB above the bound 2^(-2R) of a Gaussian source, side information included");
        let gaussian = gaussian(1 << 22);
        for &bits in &bits {
            let mut sum = Sum::default();
            sum.add("", &gaussian, &[2048, 2048], bits, *encode)?;
            println!("{}", sum.line("4 M Gaussian samples"));
        }
        let Some(path) = args.get(1) else { continue };
        let matrices = matrices(&std::fs::read(path)?);
        for &bits in &bits {
            let mut sums: [(&str, Sum); 4] =
                ["feed-forward", "attention", "embeddings", "all matrices"].map(|n| (n, Sum::default()));
            for (name, shape, values) in &matrices {
                let attention = name.contains("attention") || name.contains("attn");
                let kind = match name {
                    n if n.contains("embed") => 2,
                    _ if attention => 1,
                    n if n.contains("dense") || n.contains("mlp") => 0,
                    _ => 3,
                };
                if sums[kind].1.add(name, values, shape, bits, *encode)? && kind != 3 {
                    let own = sums[kind].1.last;
                    sums[3].1.count(own);
                }
            }
            for (name, sum) in sums.iter().filter(|s| s.1.weights > 0.0) {
                println!("{}", sum.line(name));
            }
        }
    }
    Ok(())
}

/// Several tensors together.
#[derive(Default)]
struct Sum {
    weights: f64,
    bits: f64,
    error: f64,
    energy: f64,
    seconds: f64,
    last: [f64; 5],
}

impl Sum {
    fn add(&mut self, name: &str, values: &[f32], shape: &[u64], bits: f64, encode: Encode) -> Result<bool> {
        let from = Instant::now();
        let fit = match encode(values, shape, Target::BitsPerWeight(bits)) {
            Ok(fit) => fit,
            Err(e) => {
                println!("  {name} left out: {e}");
                return Ok(false);
            }
        };
        let n = values.len() as f64;
        let energy: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
        let seconds = from.elapsed().as_secs_f64();
        self.count([n, n * fit.bits_per_weight, fit.relative_mse * energy, energy, seconds]);
        Ok(true)
    }

    fn count(&mut self, own: [f64; 5]) {
        self.last = own;
        self.weights += own[0];
        self.bits += own[1];
        self.error += own[2];
        self.energy += own[3];
        self.seconds += own[4];
    }

    fn line(&self, name: &str) -> String {
        let fit = Fit { bits_per_weight: self.bits / self.weights, relative_mse: self.error / self.energy };
        let speed = self.weights / 1e6 / self.seconds;
        format!("{}  {speed:6.2} M weights/s", line(name, fit))
    }
}

fn line(name: &str, fit: Fit) -> String {
    let db = fit.db_above_gaussian_bound();
    format!("{name:21}{:7.4} bits  mse {:9.3e}  {db:5.2} dB", fit.bits_per_weight, fit.relative_mse)
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

/// Two-dimensional f32 tensors of a safetensors file: name, shape, values.
fn matrices(file: &[u8]) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap_or_default()) as usize;
    let header = String::from_utf8_lossy(&file[8..8 + len]).into_owned();
    let numbers = |from: &str, key: &str| -> Vec<u64> {
        let list = from.split(key).nth(1).and_then(|s| s.split(']').next()).unwrap_or_default();
        list.split(',').filter_map(|n| n.trim_matches(['[', ':', '"', ' ']).parse().ok()).collect()
    };
    let mut found = Vec::new();
    for entry in header.split("},") {
        let name = entry.trim_start_matches('{').split('"').nth(1).unwrap_or_default().to_owned();
        let (shape, span) = (numbers(entry, "\"shape\""), numbers(entry, "\"data_offsets\""));
        if let ([_, _], [from, to], true) = (&shape[..], &span[..], entry.contains("\"F32\"")) {
            let bytes = &file[8 + len + *from as usize..8 + len + *to as usize];
            let values =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            found.push((name, shape, values));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
