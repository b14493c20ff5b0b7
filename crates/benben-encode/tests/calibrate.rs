//! Calibration of the demo model: against plain sums, as a file, attacked, by threads, and step by step.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed assumption is a failed test"
)]

use benben_decode::{Options, Weights};
use benben_encode::calibrate::{About, Calibration, Walk, write};
use benben_format::{Dtype, ErrorKind, ignore};
use benben_io::safetensors::{self, TensorSpec};
use benben_models::llm::{LanguageModel, LlamaBlocks, Model, Wanted, samples};
use benben_models::{Network, Overlay, Sample};
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

const DOWN: &str = "model.layers.1.mlp.down_proj.weight";
const HEAD: &str = "model.embed_tokens.weight";

fn demo() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/demo");
    Model::open(&folder, &Options::default()).unwrap()
}

fn chunks(model: &Model, context: usize, count: usize) -> Vec<Sample> {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/text/alice.txt");
    let tokens = model.tokenizer().unwrap().encode(&std::fs::read_to_string(text).unwrap(), false).unwrap();
    samples(&tokens, context, Some(count), Some(1)).unwrap()
}

fn about() -> About {
    About { context: 100, ..About::new(&[1; 32], &[2; 32]) }
}

fn collect(model: &Model, samples: &[Sample]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut network = model.blocks().unwrap();
    write(&mut network, &*model.weights(), samples, &about(), &mut bytes, &mut ignore).unwrap();
    bytes
}

fn open(bytes: Vec<u8>) -> benben_format::Result<Calibration> {
    Calibration::from_source(Arc::new(bytes))
}

/// A small calibration, made once.
fn small() -> &'static [u8] {
    static SMALL: OnceLock<Vec<u8>> = OnceLock::new();
    SMALL.get_or_init(|| {
        let model = demo();
        collect(&model, &chunks(&model, 50, 2))
    })
}

/// Inputs of every stage, all samples one after the other, and the turn of every block.
fn inputs(
    network: &mut LlamaBlocks,
    weights: &dyn Weights,
    samples: &[Sample],
) -> (BTreeMap<usize, Vec<f32>>, Vec<f64>) {
    let mut all: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    let mut turns: Vec<(f64, f64)> = vec![(0.0, 0.0); network.blocks()];
    for sample in samples {
        let mut state = network.begin(weights, sample).unwrap();
        for (block, turn) in turns.iter_mut().enumerate() {
            let before = state.stream.clone();
            let mut tap = |stage: usize, input: &[f32]| {
                all.entry(stage).or_default().extend(input);
                Ok(())
            };
            network.run(weights, block, &mut state, &mut tap).unwrap();
            let rows = before.chunks(network.width()).zip(state.stream.chunks(network.width()));
            for (x, y) in rows {
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                turn.0 += 1.0 - dot(x, y) / (dot(x, x) * dot(y, y)).sqrt();
                turn.1 += 1.0;
            }
        }
        all.entry(network.stages().len() - 1).or_default().extend(&state.input);
    }
    (all, turns.into_iter().map(|(sum, count)| sum / count).collect())
}

#[test]
fn moments_are_plain_sums_over_the_inputs() {
    let model = demo();
    let (mut network, weights) = (model.blocks().unwrap(), model.weights());
    let samples = chunks(&model, 100, 4);
    let calibration = open(collect(&model, &samples)).unwrap();
    calibration.check_network(&network).unwrap();
    let (inputs, turns) = inputs(&mut network, &*weights, &samples);
    let near = |found: f32, expected: f64, scale: f64, what: &str| {
        assert!((f64::from(found) - expected).abs() < 1e-5 * scale, "{what}: {found} {expected}");
    };
    for (i, stage) in network.stages().iter().enumerate() {
        let (x, n) = (&inputs[&i], stage.columns);
        let count = x.len() / n;
        assert_eq!(count, 400);
        let layer = calibration.layer(&stage.names[0]).unwrap().unwrap();
        assert_eq!((layer.second_moment.columns, layer.second_moment.count), (n, 400));
        let column = |k: usize| x.iter().skip(k).step_by(n).map(|x| f64::from(*x));
        // Some rows of the matrix, all of their columns.
        for row in [0, 1, n / 2, n - 1] {
            let size = |k| (column(k).map(|x| x * x).sum::<f64>() / count as f64).sqrt();
            for other in 0..n {
                let expected = column(row).zip(column(other)).map(|(a, b)| a * b).sum::<f64>() / count as f64;
                near(layer.second_moment.row(row)[other], expected, size(row) * size(other), &stage.names[0]);
                assert_eq!(layer.second_moment.row(row)[other], layer.second_moment.row(other)[row]);
            }
            near(layer.mean[row], column(row).sum::<f64>() / count as f64, size(row), "mean");
            near(
                layer.absolute[row],
                column(row).map(f64::abs).sum::<f64>() / count as f64,
                size(row),
                "absolute",
            );
        }
        // Tensors of one input share its moment.
        for name in &stage.names[1..] {
            let other = calibration.layer(name).unwrap().unwrap();
            assert!(Arc::ptr_eq(&other.second_moment, &layer.second_moment));
        }
    }
    for (found, expected) in calibration.influence().unwrap().into_iter().zip(turns) {
        near(found, expected, 1.0, "influence");
        assert!(expected > 0.001);
    }
    assert!(calibration.layer("model.norm.weight").unwrap().is_none());
}

#[test]
fn the_head_counts_by_its_predictions_and_the_table_by_its_look_ups() {
    let model = demo();
    let samples = chunks(&model, 100, 3);
    let calibration = open(collect(&model, &samples)).unwrap();
    let mut network = model.network().unwrap();
    let classes = model.config().vocabulary;
    let (mut expected, mut counts, mut rows) = (vec![0.0; classes], vec![0.0; classes], 0.0);
    for sample in &samples {
        let Sample::Tokens(tokens) = sample else { unreachable!() };
        network.truncate(0);
        for logits in network.forward(tokens, Wanted::Every).unwrap().chunks(classes) {
            let e: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
            let sum: f64 = e.iter().sum();
            expected.iter_mut().zip(e).for_each(|(s, e)| *s += e / sum * (1.0 - e / sum));
            rows += 1.0;
        }
        tokens.iter().for_each(|t| counts[*t as usize] += 1.0);
    }
    let found = calibration.rows(HEAD).unwrap().unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        let expected = expected / rows;
        assert!((f64::from(*found) - expected).abs() < 1e-4 * expected + 1e-9, "{found} {expected}");
    }
    let layer = calibration.layer(HEAD).unwrap().unwrap();
    let mean = layer.rows.unwrap().iter().map(|x| f64::from(*x)).sum::<f64>() / classes as f64;
    assert!((mean - 1.0).abs() < 1e-5, "{mean}");
    assert!((layer.rows_mean * classes as f64 - expected.iter().sum::<f64>() / rows).abs() < 1e-5);
    let (name, frequency) = calibration.frequency().unwrap().unwrap();
    assert_eq!(name, HEAD);
    for (found, count) in frequency.iter().zip(counts) {
        assert!((f64::from(*found) - count / rows).abs() < 1e-7);
    }
}

#[test]
fn threads_change_no_bit() {
    let model = demo();
    let samples = chunks(&model, 50, 2);
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| collect(&model, &samples)) == small(), "{threads} threads");
    }
}

#[test]
fn a_file_keeps_everything_and_takes_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.calibration");
    let mut first = open(small().to_vec()).unwrap();
    first.save(&path, false).unwrap();
    assert!(std::fs::read(&path).unwrap() == small(), "nothing added, nothing changed");
    assert_eq!(first.save(&path, false).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let rows: Vec<f32> = (0..256).map(|i| i as f32 / 64.0).collect();
    first.set_rows(DOWN, rows.clone()).unwrap();
    first.set_rows(HEAD, vec![2.0; 1024]).unwrap();
    first.save(&path, true).unwrap();
    let second = Calibration::open(&path).unwrap();
    assert_eq!(second.about(), &About { samples: 2, ..about() });
    for calibration in [&first, &second] {
        assert_eq!(&*calibration.rows(DOWN).unwrap().unwrap(), &*rows);
        let layer = calibration.layer(DOWN).unwrap().unwrap();
        assert!((layer.rows_mean - 255.0 / 128.0).abs() < 1e-6);
        assert!((f64::from(layer.rows.unwrap()[64]) * layer.rows_mean - 1.0).abs() < 1e-6);
        assert!(calibration.layer(HEAD).unwrap().unwrap().rows.unwrap().iter().all(|x| *x == 1.0));
    }
    for name in first.names() {
        let [a, b] = [&first, &second].map(|c| c.layer(name).unwrap().unwrap());
        assert_eq!(a.second_moment, b.second_moment);
        assert_eq!(second.size(name), Some((a.second_moment.columns, 100)));
    }
    assert!(first.set_rows("nothing", vec![]).is_err());
    for wrong in [-1.0, f32::NAN] {
        let error = first.set_rows(DOWN, vec![wrong]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn importances_of_another_file_are_taken_by_name() {
    let spec = |name: &str, rows| TensorSpec { name: name.into(), dtype: Dtype::F32, shape: vec![rows] };
    let specs = [spec(DOWN, 256), spec("other", 3), spec(HEAD, 1024)];
    let mut bytes = Vec::new();
    let values = |i: usize| Dtype::F32.from_f32(&vec![3.0; specs[i].shape[0] as usize]).map(Cow::Owned);
    safetensors::write(&mut bytes, &specs, &BTreeMap::new(), values).unwrap();
    let file = safetensors::SafeTensors::new(Arc::new(bytes)).unwrap();
    let mut calibration = open(small().to_vec()).unwrap();
    assert_eq!(calibration.add_rows(&file).unwrap(), 2);
    for name in [DOWN, HEAD] {
        assert_eq!(calibration.layer(name).unwrap().unwrap().rows_mean, 3.0);
    }
    let mut bytes = Vec::new();
    safetensors::write(&mut bytes, &specs[1..2], &BTreeMap::new(), |_| values(1)).unwrap();
    let none = safetensors::SafeTensors::new(Arc::new(bytes)).unwrap();
    assert_eq!(calibration.add_rows(&none).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn another_model_and_other_files_are_refused_by_name() {
    let calibration = open(small().to_vec()).unwrap();
    calibration.check_model(&[1; 32]).unwrap();
    let error = calibration.check_model(&[3; 32]).unwrap_err();
    assert!(error.message().contains("010101") && error.message().contains("030303"), "{error}");
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/demo/model.safetensors");
    let error = Calibration::open(&weights).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("no calibration") && error.hint().is_some(), "{error}");
    let changed = |from: &str, to: &str| {
        let mut bytes = small().to_vec();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        open(bytes)
    };
    let error = changed("calibration 1", "calibration 2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compatibility, "{error}");
    for (from, to) in [
        (r#"\"columns\":256"#, r#"\"columns\":255"#),
        (r#"\"columns\":256"#, r#"\"columns\":000"#),
        (r#"\"block\":0"#, r#"\"block\":9"#),
        ("layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"),
        (r#""samples":"2""#, r#""samples":"-""#),
        ("stage.0.moment", "stage.0.nothin"),
        ("influence", "influencx"),
    ] {
        let error = changed(from, to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{from} {to}: {error}");
    }
}

#[test]
fn other_networks_are_told_apart() {
    let calibration = open(small().to_vec()).unwrap();
    let model = demo();
    calibration.check_network(&model.blocks().unwrap()).unwrap();
    let mut config = model.config().clone();
    config.layers -= 1;
    let fewer = LlamaBlocks::new(config, &*model.weights()).unwrap();
    assert_eq!(calibration.check_network(&fewer).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// Reads everything; the first error.
fn read_all(bytes: Vec<u8>) -> benben_format::Result<()> {
    let calibration = open(bytes)?;
    let names: Vec<String> = calibration.names().map(str::to_owned).collect();
    for name in names {
        calibration.layer(&name)?;
    }
    calibration.influence()?;
    calibration.frequency()?;
    Ok(())
}

#[test]
fn a_file_that_is_cut_short_says_so() {
    read_all(small().to_vec()).unwrap();
    let head = 8 + u64::from_le_bytes(*small().first_chunk().unwrap()) as usize;
    for cut in (0..head).step_by(97).chain([head, head + 1, small().len() / 2, small().len() - 1]) {
        let error = read_all(small()[..cut].to_vec()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::InsufficientData | ErrorKind::Corruption),
            "{cut}: {error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every byte behind the head is covered by a hash, and the hashes by each other's failure.
    #[test]
    fn a_changed_byte_is_found(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = small().to_vec();
        let head = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let at = head + at.index(bytes.len() - head);
        bytes[at] ^= flip;
        let error = read_all(bytes).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Corruption);
    }

    /// A changed head gives an error or another description, never a panic.
    #[test]
    fn a_changed_head_does_no_harm(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = small().to_vec();
        let head = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        bytes[at.index(head)] = to;
        let _ = read_all(bytes);
    }
}

#[test]
fn it_stops_when_told_to() {
    let model = demo();
    let samples = chunks(&model, 50, 2);
    let (mut network, mut calls) = (model.blocks().unwrap(), 0);
    let mut last = (0, 0);
    let mut observer = |p: benben_format::Progress<'_>| {
        last = (p.done, p.total);
        calls += 1;
        if calls == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = Calibration::collect(&mut network, &*model.weights(), &samples, &about(), &mut observer);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(last, (3, 2 * (network.blocks() as u64 + 1)));
    let none = Calibration::collect(&mut network, &*model.weights(), &[], &about(), &mut ignore);
    assert_eq!(none.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// Values with an error that is large enough to show.
fn coarse(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| (x * 16.0).round() / 16.0).collect()
}

#[test]
fn a_walk_without_changes_sees_what_calibration_sees() {
    let model = demo();
    let (mut network, weights) = (model.blocks().unwrap(), model.weights());
    let calibration = open(small().to_vec()).unwrap();
    let samples = chunks(&model, 50, 2);
    let mut walk = Walk::new(&mut network, &*weights, &samples).unwrap();
    let mut visits = 0;
    while let Some(visit) = walk.next().unwrap() {
        let layer = calibration.layer(&visit.stage.names[0]).unwrap().unwrap();
        assert_eq!(visit.second_moment, layer.second_moment);
        assert!(Arc::ptr_eq(&visit.second_moment, &visit.cross));
        visits += 1;
    }
    assert_eq!(visits, model.blocks().unwrap().stages().len());
}

#[test]
fn later_stages_see_what_was_replaced() {
    let model = demo();
    let (mut network, weights) = (model.blocks().unwrap(), model.weights());
    let samples = chunks(&model, 50, 2);
    // Everything replaced at once, by hand: what the last stage's input must be.
    let mut overlay = Overlay::new(&*weights);
    let stages = network.stages().to_vec();
    for name in stages[..stages.len() - 1].iter().flat_map(|s| &s.names) {
        overlay.replace(name, &coarse(&weights.vector(name).unwrap())).unwrap();
    }
    let (dense, _) = inputs(&mut network, &*weights, &samples);
    let (quantized, _) = inputs(&mut network, &overlay, &samples);
    let mut walk = Walk::new(&mut network, &*weights, &samples).unwrap();
    for (i, stage) in stages.iter().enumerate() {
        let visit = walk.next().unwrap().unwrap();
        assert_eq!(&visit.stage, stage);
        let n = stage.columns;
        let mean = |x: &[f32], y: &[f32], row: usize, column: usize| {
            let each = x.chunks(n).zip(y.chunks(n));
            each.map(|(x, y)| f64::from(x[row]) * f64::from(y[column])).sum::<f64>() / (x.len() / n) as f64
        };
        let (x, y) = (&dense[&i], &quantized[&i]);
        assert_eq!(x == y, i == 0, "stage {i} comes after a change");
        for (row, column) in [(0, 0), (1, 3), (3, 1), (n - 1, n / 2), (n / 3, n - 1)] {
            let scale = (mean(y, y, row, row) * mean(y, y, column, column)).sqrt();
            for (found, expected) in
                [(&visit.second_moment, mean(y, y, row, column)), (&visit.cross, mean(x, y, row, column))]
            {
                let found = f64::from(found.row(row)[column]);
                assert!((found - expected).abs() < 2e-5 * scale, "stage {i}: {found} {expected} {scale}");
            }
        }
        assert!(walk.replace("model.norm.weight", &[]).is_err());
        if i + 1 < stages.len() {
            for name in &stage.names {
                walk.replace(name, &coarse(&weights.vector(name).unwrap())).unwrap();
            }
        }
    }
    assert!(walk.next().unwrap().is_none());
}

#[test]
fn a_quantized_table_sets_the_streams_apart_from_the_start() {
    let model = demo();
    let (mut network, weights) = (model.blocks().unwrap(), model.weights());
    let samples = chunks(&model, 50, 2);
    let table = coarse(&weights.vector(HEAD).unwrap());
    let mut walk = Walk::with_table(&mut network, &*weights, &samples, &table).unwrap();
    let visit = walk.next().unwrap().unwrap();
    assert_ne!(visit.second_moment, visit.cross);
    assert!(Walk::with_table(&mut network, &*weights, &samples, &table[1..]).is_err());
}
