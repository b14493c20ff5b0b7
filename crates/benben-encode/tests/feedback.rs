//! Quantizing with feedback: what is stored is what was chosen, it is better than without, and nothing else changes it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a failed assumption is a failed test"
)]

use benben_decode::{Dtype, ErrorKind, Limits, Pack};
use benben_encode::Method;
use benben_encode::quantize::{Aim, Metric, Options, Outcome, Problem, feedback, loss};
use benben_format::{EncodedLeaf, Expr, Origin, Writer};
use proptest::prelude::*;
use std::sync::Arc;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut unit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| unit() + unit() + unit() - unit() - unit() - unit()).collect()
}

/// Neighbouring inputs alike, some of them loud.
fn moment(n: usize, loud: f32) -> Vec<f32> {
    let gain = |i: usize| if i % 17 == 3 { loud } else { 1.0 + (i % 5) as f32 };
    (0..n * n).map(|i| 0.9f32.powi((i / n).abs_diff(i % n) as i32) * gain(i / n) * gain(i % n)).collect()
}

fn decoded(expr: Expr<EncodedLeaf>, shape: &[u64]) -> Vec<f32> {
    let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
    writer.tensor("t", Dtype::F32, shape, Origin::default(), expr).unwrap();
    let pack = Pack::from_source(Arc::new(writer.finish().unwrap().0), Limits::default()).unwrap();
    pack.tensor("t").unwrap().to_f32().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_reported_is_what_is_stored(
        codec in prop::sample::select(&["scalar", "trellis", "rvq", "pvq", "ternary"][..]),
        (rows, columns) in (1usize..100, 1usize..80),
        bits in 1.0f64..5.0,
        by_dial: bool,
        rotate: bool,
        importance: bool,
        loud in prop_oneof![Just(1.0f32), Just(3000.0)],
        seed: u64,
    ) {
        // Codebooks want some weights.
        let (rows, columns) = if codec.ends_with("vq") { (64 + rows / 2, 64 + columns / 4) } else { (rows, columns) };
        let weights = numbers(rows * columns, seed);
        let (moment, of_rows) = (moment(columns, loud), numbers(rows, seed ^ 1));
        let of_rows: Vec<f32> = of_rows.iter().map(|x| x.abs()).collect();
        let metric = Metric { second_moment: &moment, rows: importance.then_some(&of_rows[..]) };
        let shape = [rows as u64, columns as u64];
        let method: Method = format!("{codec}:rotate={rotate}").parse().unwrap();
        let aim = if by_dial { Aim::Dial(-2.0 * bits) } else { Aim::BitsPerWeight(bits) };
        let (expr, outcome) = feedback(&method, &weights, &shape, &metric, aim, 7).unwrap();
        let stored: u64 = expr.leaves().iter().map(|l| l.stored_bytes()).sum();
        prop_assert_eq!(stored as f64 * 8.0 / weights.len() as f64, outcome.bits_per_weight);
        let errors: Vec<f32> = weights.iter().zip(decoded(expr, &shape)).map(|(w, v)| w - v).collect();
        let found = loss(&errors, columns, &moment, metric.rows);
        let zeros = loss(&weights, columns, &moment, metric.rows);
        prop_assert!((found - outcome.error).abs() <= 1e-3 * found + 1e-6 * zeros, "{} {}", found, outcome.error);
        prop_assert!(outcome.loss < 1.2, "{:?}", outcome);
    }
}

fn outcome(method: &str, options: Options, aim: Aim) -> Outcome {
    let (rows, columns) = (192, 160);
    let (weights, moment) = (numbers(rows * columns, 3), moment(columns, 20.0));
    let metric = Metric { second_moment: &moment, rows: None };
    let problem = Problem::new(&weights, &[rows as u64, columns as u64], &metric, options).unwrap();
    problem.code(&method.parse().unwrap(), aim).unwrap().1
}

#[test]
fn each_ingredient_pays() {
    let aim = Aim::BitsPerWeight(3.0);
    let all = outcome("scalar", Options::default(), aim);
    let one_step = outcome("scalar", Options { steps: false, ..Options::default() }, aim);
    let path = outcome("trellis", Options::default(), aim);
    let plain = {
        let weights = numbers(192 * 160, 3);
        let method: Method = "scalar".parse().unwrap();
        let (expr, _) =
            method.encode(&weights, &[192, 160], benben_codec::Target::BitsPerWeight(3.0), 0).unwrap();
        let errors: Vec<f32> = weights.iter().zip(decoded(expr, &[192, 160])).map(|(w, v)| w - v).collect();
        let moment = moment(160, 20.0);
        loss(&errors, 160, &moment, None) / loss(&weights, 160, &moment, None)
    };
    assert!(all.loss < 0.8 * one_step.loss, "{} {}", all.loss, one_step.loss);
    assert!(one_step.loss < 0.8 * plain, "{} {plain}", one_step.loss);
    assert!(path.loss < 0.97 * all.loss, "{} {}", path.loss, all.loss);
}

#[test]
fn vectors_and_trits_gain_by_feedback() {
    let (rows, columns) = (192, 160);
    let (weights, moment) = (numbers(rows * columns, 3), moment(columns, 20.0));
    let shape = [rows as u64, columns as u64];
    for (codec, bits) in
        [("rvq", 2.0), ("rvq", 3.0), ("pvq", 2.0), ("pvq", 3.0), ("ternary", 1.5), ("ternary", 3.0)]
    {
        let method: Method = codec.parse().unwrap();
        let (expr, fit) =
            method.encode(&weights, &shape, benben_codec::Target::BitsPerWeight(bits), 0).unwrap();
        let errors: Vec<f32> = weights.iter().zip(decoded(expr, &shape)).map(|(w, v)| w - v).collect();
        let plain = loss(&errors, columns, &moment, None) / loss(&weights, columns, &moment, None);
        let found = outcome(codec, Options::default(), Aim::BitsPerWeight(bits));
        assert!(found.bits_per_weight <= fit.bits_per_weight * 1.02, "{found:?} {fit:?}");
        assert!(found.loss < 0.6 * plain, "{codec} {bits}: {found:?}, {plain} without");
    }
}

#[test]
fn codewords_that_cross_columns_are_refused() {
    let (weights, moment) = (numbers(99 * 60, 3), moment(60, 1.0));
    let metric = Metric { second_moment: &moment, rows: None };
    for method in ["rvq:dim=2", "rvq:groups=3", "pvq:dim=16"] {
        let method: Method = method.parse().unwrap();
        assert!(!benben_encode::quantize::has_feedback(&method, &[99, 60]));
        let e = feedback(&method, &weights, &[99, 60], &metric, Aim::BitsPerWeight(3.0), 0).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn few_rows_that_count_most_do_not_hold_up_the_others() {
    // As in a vocabulary of which a text uses few words.
    let (rows, columns) = (1024, 64);
    let (weights, moment) = (numbers(rows * columns, 5), moment(columns, 1.0));
    let of_rows: Vec<f32> = (0..rows).map(|i| if i % 100 == 7 { 16.0 } else { 0.03 }).collect();
    let metric = Metric { second_moment: &moment, rows: Some(&of_rows) };
    for codec in ["scalar", "trellis"] {
        let method: Method = codec.parse().unwrap();
        let at = |bits| {
            let aim = Aim::BitsPerWeight(bits);
            feedback(&method, &weights, &[rows as u64, columns as u64], &metric, aim, 0).unwrap().1
        };
        let (three, five) = (at(3.0), at(5.0));
        assert!(three.bits_per_weight > 2.95 && five.bits_per_weight > 4.9, "{codec}: {three:?} {five:?}");
        // Two bits more are a sixteenth of the loss, less what the rows that count most cannot use.
        assert!(five.loss < 0.12 * three.loss, "{codec}: {three:?} {five:?}");
    }
}

#[test]
fn aims_are_met() {
    for method in ["scalar", "trellis", "pvq"] {
        for bits in [1.5, 2.5, 4.0] {
            let found = outcome(method, Options::default(), Aim::BitsPerWeight(bits));
            let range = bits * 0.98..=bits * 1.002;
            assert!(range.contains(&found.bits_per_weight), "{method} {bits}: {found:?}");
            let same = outcome(method, Options::default(), Aim::Loss(found.loss));
            // So small a matrix answers to its dial by jumps, and its rule learns from try to try.
            assert!((same.loss / found.loss - 1.0).abs() < 0.06, "{method}: {same:?} {found:?}");
            let again = outcome(method, Options::default(), Aim::Dial(found.dial));
            assert!((again.bits_per_weight / bits - 1.0).abs() < 0.04, "{method} {bits}: {again:?}");
        }
    }
}

#[test]
fn planes_meet_aims() {
    for bits in [0.8, 1.5, 2.5, 4.0] {
        let found = outcome("ternary", Options::default(), Aim::BitsPerWeight(bits));
        let range = bits * 0.96..=bits * 1.002;
        assert!(range.contains(&found.bits_per_weight), "{bits}: {found:?}");
        let same = outcome("ternary", Options::default(), Aim::Loss(found.loss));
        assert!(same.loss <= found.loss * 1.01 && same.loss > found.loss * 0.8, "{same:?} {found:?}");
        // So many planes as are guessed for a dial.
        let again = outcome("ternary", Options::default(), Aim::Dial(found.dial));
        assert!((again.bits_per_weight / bits - 1.0).abs() < 0.25, "{bits}: {again:?}");
    }
}

#[test]
fn far_dials_and_zeros_are_coded() {
    let (rows, columns) = (64, 64);
    let (noise, moment) = (numbers(rows * columns, 3), moment(columns, 3000.0));
    let metric = Metric { second_moment: &moment, rows: None };
    for method in ["scalar", "trellis", "pvq", "ternary"] {
        for (weights, most) in [(noise.clone(), f64::INFINITY), (vec![0.0; rows * columns], 0.0)] {
            for aim in [Aim::Dial(-200.0), Aim::Dial(200.0), Aim::BitsPerWeight(2.0)] {
                let shape = [rows as u64, columns as u64];
                let (expr, found) = feedback(&method.parse().unwrap(), &weights, &shape, &metric, aim, 0)
                    .unwrap_or_else(|e| panic!("{method} {aim:?}: {e}"));
                assert!(found.loss.is_finite() && found.loss <= most, "{method} {aim:?}: {found:?}");
                assert!(decoded(expr, &shape).iter().all(|v| v.is_finite()), "{method} {aim:?}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (rows, columns) = (320, 130);
    let (weights, moment) = (numbers(rows * columns, 5), moment(columns, 20.0));
    let metric = Metric { second_moment: &moment, rows: None };
    let shape = [rows as u64, columns as u64];
    for method in ["scalar", "trellis", "trellis:rotate=true", "rvq", "pvq", "ternary"] {
        let by = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let method: Method = method.parse().unwrap();
            let code = || feedback(&method, &weights, &shape, &metric, Aim::BitsPerWeight(2.5), 0).unwrap();
            pool.install(code)
        };
        let one = by(1);
        assert!([2, 5].into_iter().all(|threads| by(threads) == one), "{method}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (weights, moment) = (numbers(12, 1), moment(3, 1.0));
    let scalar: Method = "scalar".parse().unwrap();
    let metric = Metric { second_moment: &moment, rows: None };
    let kind = |weights: &[f32], shape: &[u64], metric: &Metric<'_>, aim: Aim| {
        feedback(&scalar, weights, shape, metric, aim, 0).unwrap_err().kind()
    };
    let aim = Aim::BitsPerWeight(3.0);
    let invalid = ErrorKind::InvalidArgument;
    assert_eq!(kind(&weights[1..], &[4, 3], &metric, aim), invalid);
    assert_eq!(kind(&weights, &[3, 4], &metric, aim), invalid);
    assert_eq!(kind(&[], &[0, 3], &metric, aim), invalid);
    assert_eq!(kind(&[f32::NAN; 12], &[4, 3], &metric, aim), invalid);
    assert_eq!(kind(&weights, &[4, 3], &Metric { rows: Some(&[1.0; 3]), ..metric }, aim), invalid);
    assert_eq!(kind(&weights, &[4, 3], &Metric { rows: Some(&[-1.0; 4]), ..metric }, aim), invalid);
    assert_eq!(kind(&weights, &[4, 3], &Metric { second_moment: &[f32::NAN; 9], ..metric }, aim), invalid);
    assert_eq!(kind(&weights, &[4, 3], &metric, Aim::BitsPerWeight(-1.0)), invalid);
    assert_eq!(kind(&weights, &[4, 3], &metric, Aim::Loss(2.0)), invalid);
    let trellis: Method = "trellis".parse().unwrap();
    let e = feedback(&trellis, &weights, &[4, 3, 1], &metric, aim, 0).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    for method in ["scalar", "ternary"] {
        feedback(&method.parse().unwrap(), &weights, &[4, 3, 1], &metric, aim, 0).unwrap();
    }
    // Nothing to say is said in little.
    let (_, dead) = feedback(&scalar, &[0.0; 12], &[4, 3], &metric, aim, 0).unwrap();
    assert_eq!((dead.loss, dead.relative_mse), (0.0, 0.0));
}
