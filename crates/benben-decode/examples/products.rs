//! How fast products run from codes: `cargo run --release -p benben-decode --example products [PACK]`.
//!
//! Without an argument, one matrix of a small language model and its head, by codec; with a pack, all of its matrices
//! one after the other, as a token takes them. Medians; one thread by its own CPU time, two by the clock on the wall;
//! 1, 4, 16 and 512 vectors.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "prints what it measures, and has no user to tell of errors"
)]

use benben_codec::{Target, pvq, raw, rvq, scalar, ternary, trellis};
use benben_decode::{Dtype, Form, Limits, Pack, Resident};
use benben_format::{EncodedLeaf, Expr, Origin, Writer};
use nix::time::ClockId;
use std::sync::Arc;
use std::time::{Duration, Instant};

const VECTORS: [usize; 4] = [1, 4, 16, 512];

/// Seconds of this thread, or of the clock on the wall.
fn now(wall: bool) -> f64 {
    let clock = if wall { ClockId::CLOCK_MONOTONIC } else { ClockId::CLOCK_THREAD_CPUTIME_ID };
    Duration::from(clock.now().unwrap()).as_secs_f64()
}

fn median(mut run: impl FnMut(), wall: bool, least: f64) -> f64 {
    run();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed().as_secs_f64() < least {
        let start = now(wall);
        run();
        times.push(now(wall) - start);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Sum of four Irwin-Hall numbers: near enough to normal, of variance 1.
fn normal(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (0..4).map(|_| number()).sum::<f32>() * 3f32.sqrt()).collect()
}

fn line(name: &str, bits: f64, matrices: &[&Resident]) {
    let weights: usize = matrices.iter().map(|m| m.shape()[0] * m.shape()[1]).sum();
    let bytes: usize = matrices.iter().map(|m| m.bytes()).sum();
    print!("{name:26} {bits:5.2} {:6.2} |", bytes as f64 * 8.0 / weights as f64);
    for threads in [1, 2] {
        let pool = pool(threads);
        for vectors in VECTORS {
            let most = matrices.iter().map(|m| m.shape()[1]).max().unwrap_or(0);
            let x = normal(vectors * most);
            let mut out: Vec<Vec<f32>> = matrices.iter().map(|m| vec![0.0; vectors * m.shape()[0]]).collect();
            let time = pool.install(|| {
                median(
                    || {
                        for (matrix, out) in matrices.iter().zip(&mut out) {
                            let x = &x[..vectors * matrix.shape()[1]];
                            Resident::products(&[matrix], x, vectors, &mut [out]).unwrap();
                        }
                    },
                    threads > 1,
                    0.2,
                )
            });
            let rate = (weights * vectors) as f64 / time / 1e9;
            if vectors == 1 {
                print!(" {:7.3} ms {rate:5.1} G/s {:5.1} GB/s", time * 1e3, bytes as f64 / time / 1e9);
            } else {
                print!(" {rate:6.1}");
            }
        }
        print!(" |");
    }
    println!();
}

fn of_leaf(leaf: Vec<EncodedLeaf>, shape: &[u64], form: Form) -> (f64, Resident) {
    let mut writer = Writer::new(Vec::new(), "measured", 0).unwrap();
    let mut leaves: Vec<_> = leaf.into_iter().map(Expr::Leaf).collect();
    let expr = if leaves.len() == 1 { leaves.remove(0) } else { Expr::Sum(leaves) };
    writer.tensor("t", Dtype::F32, shape, Origin::default(), expr).unwrap();
    let pack = Pack::from_source(Arc::new(writer.finish().unwrap().0), Limits::default()).unwrap();
    let tensor = pack.tensor("t").unwrap();
    let bits = tensor.stored_bytes() as f64 * 8.0 / tensor.elements() as f64;
    (bits, Resident::load(&tensor, form).unwrap())
}

fn heading() {
    println!(
        "{:26} {:>5} {:>6} | one thread: 1 vector; G weights x vectors/s for 4, 16, 512 | two threads",
        "", "file", "memory"
    );
}

fn main() {
    if let Some(path) = std::env::args().nth(1) {
        return of_pack(&path);
    }
    let block = vec![1u64; 1 << 25];
    for threads in [1, 2] {
        let pool = pool(threads);
        let read = || {
            use rayon::prelude::*;
            std::hint::black_box(
                block.par_chunks(1 << 16).map(|c| c.iter().fold(0u64, |s, x| s ^ x)).sum::<u64>(),
            );
        };
        let time = pool.install(|| median(read, threads > 1, 0.3));
        println!("memory is read at {:.1} GB/s by {threads} threads", 8.0 * block.len() as f64 / time / 1e9);
    }
    for shape in [[1536u64, 576], [49152, 576]] {
        let values = normal(usize::try_from(shape[0] * shape[1]).unwrap());
        println!("\n{} x {}", shape[0], shape[1]);
        heading();
        let half = raw::encode(&Dtype::F16.from_f32(&values).unwrap(), Dtype::F16, &shape).unwrap();
        let (bits, dense) = of_leaf(vec![half.clone()], &shape, Form::Dense);
        line("f32", bits, &[&dense]);
        drop(dense);
        let (bits, halves) = of_leaf(vec![half], &shape, Form::Codes);
        line("f16", bits, &[&halves]);
        for rate in [3.5, 5.3] {
            let target = Target::BitsPerWeight(rate);
            let leaf = scalar::encode(&values, &shape, &scalar::Settings::new(target)).unwrap().0;
            let (bits, held) = of_leaf(vec![leaf], &shape, Form::Codes);
            line("scalar", bits, &[&held]);
            let leaf = trellis::encode(&values, &shape, &trellis::Settings::new(target)).unwrap().0;
            let (bits, held) = of_leaf(vec![leaf], &shape, Form::Codes);
            line("trellis", bits, &[&held]);
            let leaf = pvq::encode(&values, &shape, &pvq::Settings::new(target)).unwrap().0;
            let (bits, held) = of_leaf(vec![leaf], &shape, Form::Codes);
            line("pvq", bits, &[&held]);
            if rate > 4.0 || shape[0] > 10_000 {
                continue;
            }
            let leaf = rvq::encode(&values, &shape, &rvq::Settings::new(target)).unwrap().0;
            let (bits, held) = of_leaf(vec![leaf], &shape, Form::Codes);
            line("rvq", bits, &[&held]);
            let leaves = ternary::encode_planes(&values, &shape, &ternary::Settings::new(target)).unwrap().0;
            let planes = leaves.len();
            let (bits, held) = of_leaf(leaves, &shape, Form::Codes);
            line(&format!("ternary, {planes} planes"), bits, &[&held]);
        }
    }
}

fn of_pack(path: &str) {
    let pack = Pack::open(path.as_ref()).unwrap();
    let matrices: Vec<_> = pack.tensors().filter(|t| t.shape().len() == 2).collect();
    let file: u64 = matrices.iter().map(|t| t.stored_bytes()).sum();
    let weights: u64 = matrices.iter().map(|t| t.elements()).sum();
    let start = Instant::now();
    let held: Vec<Resident> = matrices.iter().map(|t| Resident::load(t, Form::Codes).unwrap()).collect();
    let (loaded, bytes) = (start.elapsed(), held.iter().map(Resident::bytes).sum::<usize>());
    let most: usize = matrices.iter().map(|t| Resident::predicted_bytes(t, Form::Codes).unwrap()).sum();
    println!(
        "{} matrices, {weights} weights, {file} bytes in the file, {bytes} in memory, at most {most} foreseen; loaded in {loaded:.2?}",
        matrices.len(),
    );
    let start = Instant::now();
    for tensor in &matrices {
        std::hint::black_box(tensor.to_f32().unwrap());
    }
    println!("decoded to f32, tensor by tensor, in {:.2?}", start.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|l| l.starts_with("VmHWM")).for_each(|l| println!("{l}"));
    heading();
    line("all matrices", file as f64 * 8.0 / weights as f64, &held.iter().collect::<Vec<_>>());
}
