//! Decoding by each kernel: `cargo bench -p benben-bench`, or `-- values` for some.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use benben::codec::entropy::Kernel;
use benben_bench::{Matrix, Rans, Sample};
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

fn decode(bencher: Bencher<'_, '_>, mut rans: Rans<'_>) {
    rans.encode().unwrap();
    bencher.counter(ItemsCount::new(SAMPLE.len())).bench_local(|| black_box(&mut rans).decode().unwrap());
}

#[divan::bench(args = Kernel::available())]
fn symbols(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Rans::to_symbols(kernel, &SAMPLE));
}

#[divan::bench(args = Kernel::available())]
fn values(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Rans::to_values(kernel, &SAMPLE));
}

#[divan::bench(args = Kernel::available())]
fn trellis(bencher: Bencher<'_, '_>, kernel: Kernel) {
    decode(bencher, Rans::trellis(kernel, &SAMPLE));
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let mut rans = Rans::to_symbols(Kernel::fastest(), &SAMPLE);
    bencher.counter(ItemsCount::new(SAMPLE.len())).bench_local(|| black_box(&mut rans).encode().unwrap());
}
