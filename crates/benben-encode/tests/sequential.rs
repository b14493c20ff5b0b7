//! Coding in line on the demo model: nearer to it than each tensor for itself, at the same size, the same every time.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

use benben_decode::Options;
use benben_encode::calibrate::{About, Calibration};
use benben_encode::quantize::{Calibrated, Sequential};
use benben_encode::{Coder, PackReport, Plan, Recipe, pack_with};
use benben_format::{ErrorKind, Progress, Result, ignore};
use benben_io::ModelSource;
use benben_models::Sample;
use benben_models::llm::{LanguageModel, Model, Wanted, samples};
use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

struct Demo {
    source: Box<dyn ModelSource>,
    model: Model,
    samples: Vec<Sample>,
    calibration: Calibration,
    recipe: Recipe,
}

impl Demo {
    fn new() -> Self {
        let model = Model::open(&example("models/demo"), &Options::default()).unwrap();
        let samples = chunks(&model, 64, 48, 1);
        let about = About { context: 64, ..About::new(&[1; 32], &[2; 32]) };
        let calibration = Calibration::collect(
            &mut model.blocks().unwrap(),
            &*model.weights(),
            &samples,
            &about,
            &mut ignore,
        )
        .unwrap();
        let mut recipe = Recipe::preset("balanced").unwrap();
        recipe.default = "scalar:bpw=2".parse().unwrap();
        recipe.calibration = Calibrated(&calibration).calibration();
        let source = benben_io::open(&example("models/demo")).unwrap();
        Self { source, model, samples, calibration, recipe }
    }

    fn plan(&self, sequential: bool) -> Plan {
        let sequential = sequential.then(|| Sequential::name(&self.samples));
        Plan::new(&*self.source, &Recipe { sequential, ..self.recipe.clone() }).unwrap()
    }

    fn in_line<'a>(
        &self,
        plan: &Plan,
        rest: &'a dyn Coder,
        observer: &mut benben_format::Observer<'_>,
    ) -> Result<Sequential<'a>> {
        let (mut network, weights) = (self.model.blocks()?, self.model.weights());
        let calibrated = Calibrated(&self.calibration);
        Sequential::new(
            &*self.source,
            plan,
            &calibrated,
            rest,
            &mut network,
            &*weights,
            &self.samples,
            observer,
        )
    }

    fn packed(&self, plan: &Plan, coder: &dyn Coder) -> Result<(Vec<u8>, PackReport)> {
        let mut out = Cursor::new(Vec::new());
        let report = pack_with(&*self.source, plan, coder, &mut out, &mut ignore)?;
        Ok((out.into_inner(), report))
    }

    fn sequential(&self) -> (Vec<u8>, PackReport) {
        let (plan, rest) = (self.plan(true), Calibrated(&self.calibration));
        self.packed(&plan, &self.in_line(&plan, &rest, &mut ignore).unwrap()).unwrap()
    }

    /// The divergence of a pack from the model, on chunks that it was mostly not coded on.
    fn divergence(&self, pack: &[u8]) -> f64 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.benben");
        let mut file = benben_format::AtomicFile::create(&path, false).unwrap();
        file.write_all(pack).unwrap();
        file.commit().unwrap();
        let packed = Model::open(&path, &Options::default()).unwrap();
        let (mut before, mut after) = (self.model.network().unwrap(), packed.network().unwrap());
        let classes = self.model.config().vocabulary;
        let (mut sum, mut rows) = (0.0, 0.0);
        for sample in chunks(&self.model, 64, 24, 9) {
            let Sample::Tokens(tokens) = &sample else { unreachable!() };
            before.truncate(0);
            after.truncate(0);
            let expected = before.forward(tokens, Wanted::Every).unwrap().to_vec();
            let found = after.forward(tokens, Wanted::Every).unwrap();
            for (p, q) in expected.chunks(classes).zip(found.chunks(classes)) {
                let (p, q) = (logs(p), logs(q));
                sum += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
                rows += 1.0;
            }
        }
        sum / rows
    }
}

fn logs(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    logits.iter().map(|&x| f64::from(x) - sum.ln()).collect()
}

fn chunks(model: &Model, context: usize, count: usize, seed: u64) -> Vec<Sample> {
    let text = std::fs::read_to_string(example("text/alice.txt")).unwrap();
    let tokens = model.tokenizer().unwrap().encode(&text, false).unwrap();
    samples(&tokens, context, Some(count), Some(seed)).unwrap()
}

#[test]
fn in_line_is_nearer_at_the_same_size() {
    let demo = Demo::new();
    let (alone, report) = demo.packed(&demo.plan(false), &Calibrated(&demo.calibration)).unwrap();
    let (in_line, own) = demo.sequential();
    let (before, after) = (demo.divergence(&alone), demo.divergence(&in_line));
    assert!(after < 0.97 * before, "divergence {after} in line, {before} alone");
    let size = in_line.len() as f64 / alone.len() as f64;
    assert!(size <= 1.0 && size > 0.995, "{} bytes in line, {} alone", in_line.len(), alone.len());
    // Errors count from the model's weights, not from what was coded in their place.
    let pack = benben_decode::Pack::from_source(std::sync::Arc::new(in_line), Default::default()).unwrap();
    for (t, planned) in own.tensors.iter().zip(&demo.plan(true).tensors) {
        let values = |bytes: &[u8], dtype: benben_format::Dtype, n: usize| {
            let mut values = vec![0f32; n];
            dtype.to_f32(bytes, &mut values).unwrap();
            values
        };
        let info = &demo.source.tensors()[planned.position];
        let n = usize::try_from(planned.elements).unwrap();
        let original = values(&demo.source.read(planned.position).unwrap(), info.dtype, n);
        let stored = pack.tensor(&t.name).unwrap().to_f32().unwrap();
        let square = |x: f32| f64::from(x) * f64::from(x);
        let error: f64 = original.iter().zip(&stored).map(|(x, y)| square(x - y)).sum();
        let expected = error / original.iter().map(|&x| square(x)).sum::<f64>();
        let found = t.relative_mse.unwrap();
        assert!((found - expected).abs() <= 1e-3 * expected, "{}: {found} {expected}", t.name);
    }
    assert_eq!(report.tensors.len(), own.tensors.len());
}

#[test]
fn threads_change_no_byte() {
    let demo = Demo::new();
    let bytes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| demo.sequential().0)
    };
    assert!(bytes(1) == bytes(3));
}

#[test]
fn recipes_and_coders_that_do_not_fit_are_refused_and_it_stops_when_told_to() {
    let demo = Demo::new();
    let (plan, rest) = (demo.plan(true), Calibrated(&demo.calibration));
    // A recipe that names samples, a coder that ran on none.
    let error = demo.packed(&plan, &rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("sequential") && error.hint().is_some(), "{error}");
    let error = demo.in_line(&demo.plan(false), &rest, &mut ignore).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let mut other = demo.recipe.clone();
    other.sequential = Some("00".into());
    let other = Plan::new(&*demo.source, &other).unwrap();
    let error = demo.in_line(&other, &rest, &mut ignore).err().unwrap();
    assert!(error.message().contains("other samples"), "{error}");
    let mut shared = demo.plan(true).recipe;
    (shared.default.bpw, shared.bits_per_weight) = (None, Some(4.0));
    let shared = Plan::new(&*demo.source, &shared).unwrap();
    let error = demo.in_line(&shared, &rest, &mut ignore).err().unwrap();
    assert!(error.message().contains("share"), "{error}");
    let mut calls = 0;
    let mut observer = |_: Progress<'_>| {
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = demo.in_line(&plan, &rest, &mut observer).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}
