//! The store of layers: budgets, threads, walks, faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

mod faults;
mod interleavings;
mod tables;
mod threads;
mod walks;

use benben_codec::{Target, raw, scalar};
use benben_decode::store::{Event, Options, Watch};
use benben_decode::{Dtype, Form, Limits, Pack};
use benben_format::{Expr, Origin, Source, Writer};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Values that a seed and a size name.
fn values(seed: usize, n: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    // Sums of three are near enough to what weights look like.
    (0..n).map(|_| next() + next() + next() - 1.5).collect()
}

/// Name, shape, and whether it is coded with `scalar`, or stored as it is.
type Spec<'a> = (&'a str, &'a [u64], bool);

/// Bytes of a pack of these tensors.
fn packed(tensors: &[Spec<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
    for (seed, &(name, shape, coded)) in tensors.iter().enumerate() {
        let values = values(seed, shape.iter().product::<u64>() as usize);
        let leaf = if coded {
            scalar::encode(&values, shape, &scalar::Settings::new(Target::BitsPerWeight(4.0))).unwrap().0
        } else {
            raw::encode(&Dtype::F32.from_f32(&values).unwrap(), Dtype::F32, shape).unwrap()
        };
        writer.tensor(name, Dtype::F32, shape, Origin::default(), Expr::Leaf(leaf)).unwrap();
    }
    writer.finish().unwrap().0
}

fn open(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Arc<Pack> {
    let source: Source = Arc::new(bytes);
    Arc::new(Pack::from_source(source, Limits::default()).unwrap())
}

/// A pack of `n` equal matrices, named by number.
fn equal(n: usize, shape: &[u64]) -> (Arc<Pack>, Vec<String>) {
    let names: Vec<String> = (0..n).map(|i| format!("layer.{i}")).collect();
    let tensors: Vec<Spec<'_>> = names.iter().map(|name| (name.as_str(), shape, true)).collect();
    (open(packed(&tensors)), names)
}

/// Dense values: what they take is known without looking.
fn dense() -> Options {
    Options { form: Form::Dense, ..Options::default() }
}

/// A list of what happened, and who writes it.
fn log() -> (Arc<Mutex<Vec<String>>>, Watch) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&told);
    let watch = move |event: &Event<'_>| {
        let line = match event {
            Event::Loaded { tensor, ahead, .. } => {
                format!("loaded {tensor}{}", if *ahead { " ahead" } else { "" })
            }
            Event::Failed { tensor, .. } => format!("failed {tensor}"),
            Event::Evicted { tensor, wasted, .. } => {
                format!("evicted {tensor}{}", if *wasted { " wasted" } else { "" })
            }
            Event::Stalled { tensor, .. } => format!("stalled {tensor}"),
            other => format!("{other:?}"),
        };
        to.lock().unwrap().push(line);
    };
    (told, Arc::new(watch))
}

/// Runs `work` on a thread of its own and fails where it does not end: a deadlock must not hang the tests.
fn within_a_minute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || done.send(work()));
    match wait.recv_timeout(Duration::from_secs(60)) {
        Ok(value) => value,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("still at work after a minute: a deadlock"),
        Err(_) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(_) => unreachable!(),
        },
    }
}
