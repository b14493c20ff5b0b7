//! The solver against what is known of it, and methods with a rank as they are stored.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use benben_codec::Target;
use benben_decode::{Form, Pack, Resident};
use benben_encode::lowrank::{Metric, Side, factorize};
use benben_encode::{Coder, DataFree, Method, Task};
use benben_format::{Dtype, EncodedLeaf, Expr, Limits, Origin, Writer};
use proptest::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

/// Numbers that look normal, from one seed.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..n).map(|_| unit() + unit() + unit() - unit() - unit() - unit()).collect()
}

/// `a` (m x k) times `b` (k x n), in f64.
fn product(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..k).map(|t| f64::from(a[i * k + t]) * f64::from(b[t * n + j])).sum();
    (0..m * n).map(|p| at(p / n, p % n)).collect()
}

/// Second moment of `count` inputs of `n` values, some of them loud, and their mean.
fn moment(n: usize, count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut x = numbers(n * count, seed);
    for row in x.chunks_mut(n) {
        for (j, v) in row.iter_mut().enumerate() {
            *v = (*v + 0.3 * (j % 3) as f32) * if j % 7 == 2 { 100.0 } else { 1.0 };
        }
    }
    let mut moment = vec![0f64; n * n];
    let mut mean = vec![0f64; n];
    for row in x.chunks(n) {
        for i in 0..n {
            mean[i] += f64::from(row[i]) / count as f64;
            for j in 0..n {
                moment[i * n + j] += f64::from(row[i]) * f64::from(row[j]) / count as f64;
            }
        }
    }
    let short = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    (short(moment), short(mean))
}

/// `sum over i of rows_i e_i C e_iᵀ`.
fn cost(errors: &[f64], n: usize, rows: &Side<'_>, columns: &Side<'_>) -> f64 {
    let weight = |side: &Side<'_>, n: usize, i: usize, j: usize| match side {
        Side::Plain => f64::from(u8::from(i == j)),
        Side::Diagonal(d) => {
            if i == j {
                f64::from(d[i])
            } else {
                0.0
            }
        }
        Side::Moment(m) => f64::from(m[i * n + j]),
    };
    let m = errors.len() / n.max(1);
    let mut sum = 0.0;
    for i in 0..m {
        for k in 0..m {
            let outer = weight(rows, m, i, k);
            if outer != 0.0 {
                for j in 0..n {
                    for l in 0..n {
                        sum += outer * errors[i * n + j] * weight(columns, n, j, l) * errors[k * n + l];
                    }
                }
            }
        }
    }
    sum
}

fn positive(n: usize, seed: u64) -> Vec<f32> {
    numbers(n, seed).into_iter().map(|x| x * x).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_other_matrix_of_the_rank_is_better(
        (m, n) in (1usize..14, 1usize..14),
        rank in 1usize..16,
        (left, right) in (0u8..3, 0u8..3),
        seed: u64,
    ) {
        let weights = numbers(m * n, seed);
        let (of_rows, of_columns) = (positive(m, seed ^ 1), positive(n, seed ^ 2));
        let ((rows, _), (columns, _)) = (moment(m, 3 * m, seed ^ 3), moment(n, 3 * n, seed ^ 4));
        let side = |kind: u8, d: &'static str, diagonal, moment| match kind {
            0 => Side::Plain,
            1 => Side::Diagonal(diagonal),
            _ if d.is_empty() => Side::Plain,
            _ => Side::Moment(Cow::Borrowed(moment)),
        };
        let metric = Metric {
            rows: side(left, "rows", &of_rows[..], &rows[..]),
            columns: side(right, "columns", &of_columns[..], &columns[..]),
            mean: None,
        };
        let found = factorize(&weights, m, n, rank, &metric).unwrap();
        let of = |left: &[f32], right: &[f32], rank: usize| {
            let made = product(left, right, m, rank, n);
            let errors: Vec<f64> = weights.iter().zip(made).map(|(w, v)| f64::from(*w) - v).collect();
            cost(&errors, n, &metric.rows, &metric.columns)
        };
        let energy = of(&[], &[], 0);
        let error = of(&found.left, &found.right, found.rank);
        // The tail of the singular values, as it says; f32 factors leave a little.
        prop_assert!((error - found.error).abs() <= 1e-5 * energy, "{error} {}", found.error);
        prop_assert!((energy - found.energy).abs() <= 1e-5 * energy, "{energy} {}", found.energy);
        prop_assert!(found.rank <= rank.min(m).min(n));
        if rank >= m.min(n) {
            prop_assert!(error <= 1e-5 * energy, "{error} of {energy}");
        }
        let product = found.product();
        let own = product.iter().zip(&weights).map(|(v, w)| f64::from(*w) - f64::from(*v)).collect::<Vec<_>>();
        prop_assert!((cost(&own, n, &metric.rows, &metric.columns) - error).abs() <= 1e-5 * energy);
        // Others: at random, and near the best one.
        for trial in 0..4u64 {
            let mut left = numbers(m * found.rank, seed ^ (10 + trial));
            let mut right = numbers(found.rank * n, seed ^ (20 + trial));
            if trial > 0 {
                let near = 0.1f32.powi(trial as i32);
                left.iter_mut().zip(&found.left).for_each(|(x, best)| *x = best * (1.0 + near * *x));
                right.iter_mut().zip(&found.right).for_each(|(x, best)| *x = best * (1.0 + near * *x));
            }
            prop_assert!(of(&left, &right, found.rank) >= error - 1e-5 * energy);
        }
    }

    #[test]
    fn inputs_are_principal_outputs(
        (m, n) in (2usize..12, 2usize..12),
        rank in 1usize..6,
        centred: bool,
        seed: u64,
    ) {
        let weights = numbers(m * n, seed);
        let (moment, mean) = moment(n, 3 * n, seed ^ 3);
        let metric = if centred { Metric::outputs(&moment, &mean) } else { Metric::inputs(&moment, None) };
        let found = factorize(&weights, m, n, rank, &metric).unwrap();
        // U of W C Wᵀ by power iteration with deflation, in f64.
        let Side::Moment(inner) = &metric.columns else { unreachable!() };
        let half = product(&weights, inner, m, n, n);
        let mut outputs = vec![0f64; m * m];
        for i in 0..m {
            for k in 0..m {
                outputs[i * m + k] = (0..n).map(|j| half[i * n + j] * f64::from(weights[k * n + j])).sum();
            }
        }
        let energy: f64 = (0..m).map(|i| outputs[i * m + i]).sum();
        let mut taken = 0.0;
        for r in 0..rank.min(m) {
            let mut u: Vec<f64> = (0..m).map(|i| 1.0 + ((i * 7 + r) % 5) as f64).collect();
            for _ in 0..3000 {
                let mut next: Vec<f64> =
                    (0..m).map(|i| (0..m).map(|k| outputs[i * m + k] * u[k]).sum()).collect();
                let norm = next.iter().map(|x| x * x).sum::<f64>().sqrt();
                if norm < 1e-14 * energy {
                    break;
                }
                next.iter_mut().for_each(|x| *x /= norm);
                u = next;
            }
            let norm2 = u.iter().map(|x| x * x).sum::<f64>();
            let value = (0..m * m).map(|p| u[p / m] * outputs[p] * u[p % m]).sum::<f64>() / norm2;
            taken += value;
            for p in 0..m * m {
                outputs[p] -= value * u[p / m] * u[p % m] / norm2;
            }
        }
        prop_assert!((found.error - (energy - taken)).abs() <= 2e-3 * energy, "{} {}", found.error, energy - taken);
        if let Some(bias) = &found.bias {
            // With its bias the product is right on the mean input.
            let made = found.product();
            for i in 0..m {
                let of = |w: &[f32]| (0..n).map(|j| f64::from(w[i * n + j]) * f64::from(mean[j])).sum::<f64>();
                let size = (0..n).map(|j| f64::from((weights[i * n + j] * mean[j]).abs())).sum::<f64>();
                prop_assert!((of(&weights) - of(&made) - f64::from(bias[i])).abs() <= 1e-3 * (1.0 + size));
            }
        } else {
            prop_assert!(!centred);
        }
    }
}

#[test]
fn degenerate_metrics_and_matrices_have_answers() {
    let (m, n) = (6, 5);
    let weights = numbers(m * n, 7);
    // One input is never seen, another never differs from a third.
    let mut seen = moment(n, 40, 8).0;
    for i in 0..n {
        (seen[i * n + 1], seen[n + i]) = (0.0, 0.0);
    }
    for i in 0..n {
        seen[i * n + 4] = seen[i * n + 3];
    }
    for i in 0..n {
        seen[4 * n + i] = seen[3 * n + i];
    }
    for rank in [1, 2, 3, 5, 9] {
        for (m, weights) in [(m, &weights[..]), (3, &weights[..3 * n])] {
            let found = factorize(weights, m, n, rank, &Metric::inputs(&seen, None)).unwrap();
            assert!(
                found.left.iter().chain(&found.right).all(|x| x.is_finite() && x.abs() < 1e3),
                "{found:?}"
            );
            // Three directions are seen.
            assert!(found.rank <= 4 && (rank < 3 || found.error < 1e-6 * found.energy), "{found:?}");
        }
    }
    let none = factorize(&weights, m, n, 3, &Metric::fisher(Some(&[0.0; 6]), None)).unwrap();
    assert_eq!((none.rank, none.energy), (0, 0.0));
    assert_eq!(none.product(), vec![0.0; m * n]);
    let zeros = factorize(&vec![0.0; m * n], m, n, 3, &Metric::plain()).unwrap();
    assert_eq!((zeros.rank, zeros.product().len()), (0, m * n));
    assert_eq!(factorize(&[], 0, 4, 2, &Metric::plain()).unwrap().rank, 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let weights = numbers(12, 1);
    let plain = Metric::plain();
    let refused = |values: &[f32], rank, metric: &Metric<'_>| factorize(values, 3, 4, rank, metric).is_err();
    assert!(refused(&weights[..11], 2, &plain) && refused(&weights, 0, &plain));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut wrong = weights.clone();
        wrong[5] = bad;
        assert!(refused(&wrong, 2, &plain));
        assert!(refused(&weights, 2, &Metric::fisher(Some(&[1.0, bad, 1.0]), None)));
        assert!(refused(&weights, 2, &Metric::inputs(&[bad; 16], None)));
        assert!(refused(&weights, 2, &Metric::outputs(&[1.0; 16], &[bad; 4])));
    }
    assert!(refused(&weights, 2, &Metric::fisher(Some(&[1.0, -1.0, 1.0]), None)));
    assert!(refused(&weights, 2, &Metric::fisher(None, Some(&[1.0; 3]))));
    assert!(refused(&weights, 2, &Metric::inputs(&[1.0; 12], None)));
    assert!(!refused(&weights, 2, &plain));
}

fn pack(expr: Expr<EncodedLeaf>, shape: &[u64]) -> Pack {
    let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
    writer.tensor("t", Dtype::F32, shape, Origin::default(), expr).unwrap();
    Pack::from_source(Arc::new(writer.finish().unwrap().0), Limits::default()).unwrap()
}

/// A matrix of which half is of rank 3.
fn partly(m: usize, n: usize, seed: u64) -> Vec<f32> {
    let low = product(&numbers(m * 3, seed), &numbers(3 * n, seed ^ 1), m, 3, n);
    low.iter().zip(numbers(m * n, seed ^ 2)).map(|(l, x)| *l as f32 + 0.3 * x).collect()
}

#[test]
fn ranks_are_stored_counted_and_run() {
    let (m, n) = (96usize, 64usize);
    let shape = [m as u64, n as u64];
    let weights = partly(m, n, 5);
    for method in [
        "scalar:rank=4",
        "trellis:rank=3",
        "pvq:rank=2",
        "ternary:rank=4",
        "lowrank:rank=24",
        "scalar:rank=4,rotate",
    ] {
        for target in [Target::BitsPerWeight(2.5), Target::RelativeMse(0.12)] {
            let method: Method = method.parse().unwrap();
            let task = Task { name: "t", shape: &shape, values: &weights, method: &method, target, seed: 3 };
            let coded = DataFree.code(&task).unwrap();
            let stored: u64 = coded.expr.leaves().iter().map(|l| l.stored_bytes()).sum();
            let text = format!("{method} at {target:?}: {}", coded.expr.describe());
            assert!((coded.bits_per_weight - stored as f64 * 8.0 / (m * n) as f64).abs() < 1e-9, "{text}");
            assert!(coded.expr.describe().contains("product"), "{text}");
            match target {
                Target::BitsPerWeight(b) => assert!(
                    (coded.bits_per_weight / b - 1.0).abs() < 0.12,
                    "{text}: {}",
                    coded.bits_per_weight
                ),
                Target::RelativeMse(e) => assert!(coded.loss <= e * 1.02, "{text}: {}", coded.loss),
            }
            let pack = pack(coded.expr, &shape);
            let tensor = pack.tensor("t").unwrap();
            let values = tensor.to_f32().unwrap();
            let error: f64 = weights.iter().zip(&values).map(|(w, v)| f64::from(w - v).powi(2)).sum();
            let norm: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
            assert!((error / norm - coded.relative_mse).abs() < 1e-6, "{text}");
            // As it is run: by codes, without the matrix.
            let resident = Resident::load(&tensor, Form::Codes).unwrap();
            for vectors in [1, 5] {
                let x = numbers(vectors * n, 11);
                let mut found = vec![0f32; vectors * m];
                Resident::products(&[&resident], &x, vectors, &mut [&mut found[..]]).unwrap();
                for v in 0..vectors {
                    for i in 0..m {
                        let parts = (0..n).map(|j| f64::from(values[i * n + j]) * f64::from(x[v * n + j]));
                        let (sum, size) = parts.fold((0.0, 0.0), |(s, a), p| (s + p, a + p.abs()));
                        let own = f64::from(found[v * m + i]);
                        // Vectors are rounded to 8 bits or so where leaves are integers.
                        assert!((own - sum).abs() <= 0.02 * size, "{text}: {own} {sum}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_product_pays_where_there_is_one() {
    let (m, n) = (96usize, 64usize);
    let shape = [m as u64, n as u64];
    for (weights, pays) in [(partly(m, n, 5), true), (numbers(m * n, 9), false)] {
        let of = |method: &str| {
            let method: Method = method.parse().unwrap();
            let target = Target::BitsPerWeight(2.0);
            let task = Task { name: "t", shape: &shape, values: &weights, method: &method, target, seed: 3 };
            let coded = DataFree.code(&task).unwrap();
            let ranks = DataFree.promising(&task, &coded.expr, &[3, 8]).unwrap();
            (coded.loss, ranks)
        };
        let ((without, _), (with, _)) = (of("scalar"), of("scalar:rank=3"));
        assert_eq!(with < without, pays, "{with} {without}");
        if !pays {
            assert_eq!(of("scalar").1, Vec::<u16>::new());
        }
    }
}

#[test]
fn shapes_and_bits_out_of_reach_are_told() {
    let weights = numbers(96 * 64, 9);
    let code = |method: &str, shape: &[u64], target| {
        let method: Method = method.parse().unwrap();
        DataFree.code(&Task { name: "t", shape, values: &weights, method: &method, target, seed: 3 })
    };
    let bits = Target::BitsPerWeight;
    let message = code("scalar:rank=64", &[96, 64], bits(2.0)).unwrap_err().to_string();
    assert!(message.contains("rank 64 takes"), "{message}");
    assert!(code("lowrank:rank=60", &[96, 64], bits(0.1)).is_err());
    assert!(code("lowrank:rank=4", &[96, 64], Target::RelativeMse(0.01)).is_err());
    assert!(code("lowrank:rank=4", &[96, 8, 8], bits(1.0)).is_err());
    assert!(code("scalar:rank=4,metric=inputs", &[96, 64], bits(3.0)).is_err());
    // What is no matrix has no product.
    let plain = code("scalar:rank=4", &[96, 8, 8], bits(3.0)).unwrap();
    assert!(!plain.expr.describe().contains("product"));
}
