//! Decoding by each kernel: `cargo bench -p benben-bench`, or `-- fused` for some.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use benben::codec::entropy::Kernel;
use benben_bench::{Constriction, Job, Matrix, Rans, Sample, Scratch};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use std::sync::LazyLock;

/// Four chunks: 4 MB of f32, which a second-level cache does not hold.
static SAMPLE: LazyLock<Sample> =
    LazyLock::new(|| Sample::quantize(&[Matrix::gaussian(1 << 20, 7)], 3.0).unwrap());

fn main() {
    // One thread: the figures are those of a core.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(divan::main);
}

fn decode(bencher: Bencher<'_, '_>, job: Job, kernel: Kernel) {
    let mut rans = Rans::new(kernel, job, &SAMPLE);
    rans.encode().unwrap();
    let mut scratch = Scratch::new(&SAMPLE);
    bencher
        .counter(ItemsCount::new(SAMPLE.len()))
        .bench_local(|| black_box(&rans).decode(black_box(&mut scratch)).unwrap());
}

#[divan::bench(args = Kernel::available())]
fn symbols(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Job::Symbols, kernel);
}

#[divan::bench(args = Kernel::available())]
fn fused(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Job::Fused, kernel);
}

#[divan::bench(args = Kernel::available())]
fn row_classes(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Job::Classes, kernel);
}

#[divan::bench(args = Kernel::available())]
fn trellis_unions(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Job::Unions, kernel);
}

#[divan::bench(args = Kernel::available())]
fn trellis_states(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Job::States, kernel);
}

#[divan::bench]
fn constriction(bencher: Bencher<'_, '_>) {
    let mut peer = Constriction::new(&SAMPLE).unwrap();
    peer.encode().unwrap();
    let mut scratch = Scratch::new(&SAMPLE);
    bencher
        .counter(ItemsCount::new(SAMPLE.len()))
        .bench_local(|| black_box(&mut peer).decode(black_box(&mut scratch)).unwrap());
}

#[divan::bench]
fn memcpy(bencher: Bencher<'_, '_>) {
    let source = vec![1.0f32; SAMPLE.len()];
    let mut out = vec![0.0f32; SAMPLE.len()];
    bencher.counter(ItemsCount::new(SAMPLE.len())).bench_local(|| {
        black_box(&mut out[..]).copy_from_slice(black_box(&source));
    });
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let mut rans = Rans::new(Kernel::fastest(), Job::Symbols, &SAMPLE);
    bencher.counter(ItemsCount::new(SAMPLE.len())).bench_local(|| black_box(&mut rans).encode().unwrap());
}
