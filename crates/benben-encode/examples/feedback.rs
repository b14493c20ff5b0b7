//! What each ingredient of quantizing with feedback buys, on Gaussian weights and inputs of a known second moment: dB of
//! output error above the rate-distortion limit.
//!
//! `cargo run --release -p benben-encode --example feedback [ROWS COLUMNS [CONDITION]]`
#![allow(clippy::print_stdout, clippy::cast_possible_truncation, reason = "a program that prints a table")]

use benben_codec::Target;
use benben_encode::Method;
use benben_encode::quantize::{Aim, Metric, Options, Problem, loss};
use benben_format::Result;
use std::time::Instant;

const BITS: [f64; 4] = [1.0, 2.0, 3.0, 4.0];

/// Standard Gaussian numbers.
fn gaussian(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let mut next = || (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos();
    (0..n).map(|_| next() as f32).collect()
}

/// Loss, relative to that of zeros, that no code of so many bits is below: reverse water-filling over the eigenvalues.
fn bound(eigenvalues: &[f64], bits: f64) -> f64 {
    let n = eigenvalues.len() as f64;
    let (mut low, mut high) = (-60.0f64, 60.0f64);
    for _ in 0..200 {
        let level = f64::midpoint(low, high).exp2();
        let rate: f64 = eigenvalues.iter().map(|e| (0.5 * (e / level).log2()).max(0.0)).sum();
        if rate / n > bits { low = level.log2() } else { high = level.log2() }
    }
    let level = low.exp2();
    eigenvalues.iter().map(|e| e.min(level)).sum::<f64>() / eigenvalues.iter().sum::<f64>()
}

/// Each group of 128 weights on the 2^bits levels between its least and largest, with both in f16.
fn nearest(weights: &[f32], bits: f64) -> (Vec<f32>, f64) {
    let levels = (bits.exp2() - 1.0) as f32;
    let group = |group: &[f32]| {
        let (low, high) = group.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
        let step = ((high - low) / levels).max(1e-12);
        group.iter().map(|x| low + ((x - low) / step).round() * step).collect::<Vec<f32>>()
    };
    (weights.chunks(128).flat_map(group).collect(), bits + 32.0 / 128.0)
}

fn main() -> Result<()> {
    let numbers: Vec<f64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (m, n) = (numbers.first().map_or(576, |&m| m as usize), numbers.get(1).map_or(576, |&n| n as usize));
    let condition = numbers.get(2).copied().unwrap_or(1e3);
    // Inputs whose neighbours are correlated: an autoregressive process of order 1.
    let rho = (condition.sqrt() - 1.0) / (condition.sqrt() + 1.0);
    let moment: Vec<f32> = (0..n * n).map(|i| rho.powi((i / n).abs_diff(i % n) as i32) as f32).collect();
    let eigenvalues: Vec<f64> = (0..n)
        .map(|j| (j as f64 + 0.5) * std::f64::consts::PI / n as f64)
        .map(|w| (1.0 - rho * rho) / (1.0 - 2.0 * rho * w.cos() + rho * rho))
        .collect();
    let weights = gaussian(m * n);
    let shape = [m as u64, n as u64];
    let metric = Metric { second_moment: &moment, rows: None };
    let zeros = loss(&weights, n, &moment, None);
    let relative = |decoded: &[f32]| {
        let errors: Vec<f32> = weights.iter().zip(decoded).map(|(w, v)| w - v).collect();
        loss(&errors, n, &moment, None) / zeros
    };
    println!("{m} x {n}, condition {condition}; dB above the limit (seconds)");
    print!("{:<24}", "");
    BITS.iter().for_each(|b| print!("{b:>16} bits"));
    println!();
    let line = |name: &str, of: &dyn Fn(f64) -> Result<(f64, f64)>| -> Result<()> {
        print!("{name:<24}");
        for bits in BITS {
            let started = Instant::now();
            let (loss, bits) = of(bits)?;
            let above = 10.0 * (loss / bound(&eigenvalues, bits)).log10();
            print!("{above:>8.2} ({:>4.1} s){bits:>6.2}", started.elapsed().as_secs_f64());
        }
        println!();
        Ok(())
    };
    line("round to nearest", &|bits| {
        let (decoded, bits) = nearest(&weights, bits);
        Ok((relative(&decoded), bits))
    })?;
    for codec in ["scalar", "trellis", "pvq", "rvq", "ternary"] {
        line(&format!("{codec}, entropy-coded"), &|bits| {
            let (expr, fit) =
                codec.parse::<Method>()?.encode(&weights, &shape, Target::BitsPerWeight(bits), 0)?;
            let mut decoded = vec![0.0; m * n];
            // Planes of trits are several.
            for leaf in expr.leaves() {
                let mut own = vec![0.0; m * n];
                benben_codec::decode(leaf, 0..(m * n) as u64, &mut own)?;
                decoded.iter_mut().zip(own).for_each(|(sum, v)| *sum += v);
            }
            Ok((relative(&decoded), fit.bits_per_weight))
        })?;
        for (name, steps, rotation) in
            [("+ feedback", false, None), ("+ steps", true, None), ("+ rotation", true, Some(1))]
        {
            let options = Options { rotation, steps, ..Options::default() };
            let problem = Problem::new(&weights, &shape, &metric, options)?;
            line(&format!("  {name}"), &|bits| {
                let (_, outcome) = problem.code(&codec.parse()?, Aim::BitsPerWeight(bits))?;
                Ok((outcome.loss, outcome.bits_per_weight))
            })?;
        }
    }
    Ok(())
}
