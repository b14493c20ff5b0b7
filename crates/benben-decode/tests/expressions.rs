//! Every node: rows are slices of the whole, and the whole is what a plain dense evaluation gives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

use benben_codec::raw;
use benben_decode::{Dtype, ErrorKind, Form, Limits, Pack, Resident, hadamard_rows};
use benben_format::{EncodedLeaf, Expr, Origin, Result, Writer};
use proptest::prelude::*;
use std::sync::Arc;

type Tree = Expr<EncodedLeaf>;

/// A small generator of numbers, so that a tree is a function of one seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).collect()
    }
}

fn leaf(values: &[f32], shape: &[u64]) -> Tree {
    Expr::Leaf(raw::encode(&Dtype::F32.from_f32(values).unwrap(), Dtype::F32, shape).unwrap())
}

fn positions(order: &[u32]) -> Tree {
    let bytes: Vec<u8> = order.iter().flat_map(|p| p.to_le_bytes()).collect();
    Expr::Leaf(raw::encode(&bytes, Dtype::U32, &[order.len() as u64]).unwrap())
}

/// A random tree of `m` rows and `n` columns, and its dense value by plain loops in f64.
fn tree(numbers: &mut Numbers, m: usize, n: usize, depth: usize) -> (Tree, Vec<f64>) {
    let shape = [m as u64, n as u64];
    let kind = if depth == 0 { 0 } else { numbers.below(10) };
    let below = depth.saturating_sub(1);
    match kind {
        1 => {
            let (a, x) = tree(numbers, m, n, below);
            let (b, y) = tree(numbers, m, n, below);
            (Expr::Sum(vec![a, b]), x.iter().zip(y).map(|(x, y)| x + y).collect())
        }
        2 => {
            let k = 1 + numbers.below(4);
            let (a, x) = tree(numbers, m, k, below);
            let (b, y) = tree(numbers, k, n, below);
            let dense =
                (0..m * n).map(|i| (0..k).map(|l| x[i / n * k + l] * y[l * n + i % n]).sum()).collect();
            (Expr::Product(vec![a, b]), dense)
        }
        3 | 4 => {
            let (of, x) = tree(numbers, m, n, below);
            let (r, c) = (numbers.values(m), numbers.values(n));
            let rows = (kind == 3).then(|| Box::new(leaf(&r, &[m as u64])));
            let columns = Some(Box::new(leaf(&c, &[n as u64])));
            let factor = |i: usize| if kind == 3 { f64::from(r[i / n]) } else { 1.0 } * f64::from(c[i % n]);
            let dense = x.iter().enumerate().map(|(i, x)| x * factor(i)).collect();
            (Expr::Scale { rows, columns, of: Box::new(of) }, dense)
        }
        5 => {
            let axis = numbers.below(2) as u8;
            let (of, x) = tree(numbers, m, n, below);
            let len = if axis == 0 { m } else { n };
            let order: Vec<u32> = (0..len).map(|_| numbers.below(len) as u32).collect();
            let from = |i: usize| match axis {
                0 => order[i / n] as usize * n + i % n,
                _ => i / n * n + order[i % n] as usize,
            };
            let dense = (0..m * n).map(|i| x[from(i)]).collect();
            (Expr::Permute { axis, order: Box::new(positions(&order)), of: Box::new(of) }, dense)
        }
        6 => {
            let block = 1 << n.trailing_zeros();
            let (of, x) = tree(numbers, m, n, below);
            let seed = numbers.below(1000) as u64;
            // The inverse of an orthogonal transform, found by transforming unit vectors forwards: A^T x.
            let forward: Vec<Vec<f32>> = (0..n)
                .map(|j| {
                    let mut unit = vec![0.0; n];
                    unit[j] = 1.0;
                    hadamard_rows(&mut unit, n, seed, block);
                    unit
                })
                .collect();
            let dense = (0..m * n)
                .map(|i| (0..n).map(|l| x[i / n * n + l] * f64::from(forward[i % n][l])).sum())
                .collect();
            (Expr::Rotate { seed, block: block as u32, of: Box::new(of) }, dense)
        }
        7 => {
            let divisor = |numbers: &mut Numbers, n: usize| {
                let divisors: Vec<usize> = (1..=n).filter(|d| n.is_multiple_of(*d)).collect();
                divisors[numbers.below(divisors.len())]
            };
            let (g, h) = (divisor(numbers, m), divisor(numbers, n));
            let across = n / h;
            let mask: Vec<u8> = (0..m / g * across).map(|_| numbers.below(2) as u8).collect();
            let kept = mask.iter().filter(|k| **k == 1).count();
            let (values, x) = tree(numbers, kept.max(1), g * h, below);
            if kept == 0 {
                return (leaf(&vec![0.0; m * n], &shape), vec![0.0; m * n]);
            }
            let rank = |group: usize| mask[..group].iter().filter(|k| **k == 1).count();
            let dense = (0..m * n)
                .map(|i| {
                    let (r, c) = (i / n, i % n);
                    let group = r / g * across + c / h;
                    if mask[group] == 1 { x[rank(group) * g * h + r % g * h + c % h] } else { 0.0 }
                })
                .collect();
            let mask = Expr::Leaf(raw::encode(&mask, Dtype::U8, &[mask.len() as u64]).unwrap());
            let node = Expr::Sparse {
                shape: shape.into(),
                group: [g as u32, h as u32],
                mask: Box::new(mask),
                values: Box::new(values),
            };
            (node, dense)
        }
        9 => {
            let (of, x) = tree(numbers, n, m, below);
            let dense = (0..m * n).map(|i| x[i % n * m + i / n]).collect();
            (Expr::Transpose(Box::new(of)), dense)
        }
        8 => {
            let (operand, x) = tree(numbers, m, n, below);
            (Expr::Unknown { node: "later".into(), version: 7, ancillary: true, operands: vec![operand] }, x)
        }
        _ => {
            let values = numbers.values(m * n);
            (leaf(&values, &shape), values.iter().map(|&x| f64::from(x)).collect())
        }
    }
}

fn pack_of(tensors: Vec<(&str, Dtype, Vec<u64>, Tree)>) -> Result<Pack> {
    let mut writer = Writer::new(Vec::new(), "test", 0)?;
    for (name, dtype, shape, expr) in tensors {
        writer.tensor(name, dtype, &shape, Origin::default(), expr)?;
    }
    Pack::from_source(Arc::new(writer.finish()?.0), Limits::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_are_slices_of_the_whole_and_the_whole_is_right(
        seed: u64, m in 1usize..9, n in 1usize..17, a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let (expr, dense) = tree(&mut Numbers(seed), m, n, 3);
        let pack = pack_of(vec![("t", Dtype::F32, vec![m as u64, n as u64], expr)]).unwrap();
        let tensor = pack.tensor("t").unwrap();
        let whole = tensor.to_f32().unwrap();
        for (x, y) in whole.iter().zip(&dense) {
            prop_assert!((f64::from(*x) - y).abs() <= 1e-4 * y.abs().max(1.0), "{x} instead of {y}");
        }
        let (a, b) = (a.index(m + 1), b.index(m + 1));
        let (a, b) = (a.min(b), a.max(b));
        prop_assert_eq!(&tensor.rows(a as u64..b as u64).unwrap()[..], &whole[a * n..b * n]);
    }

    #[test]
    fn in_memory_every_node_multiplies_as_its_values_do(
        seed: u64, m in 1usize..40, n in 1usize..17, vectors in 1usize..6,
    ) {
        let (expr, dense) = tree(&mut Numbers(seed), m, n, 3);
        let pack = pack_of(vec![("t", Dtype::F32, vec![m as u64, n as u64], expr)]).unwrap();
        let tensor = pack.tensor("t").unwrap();
        let x = Numbers(seed ^ 1).values(vectors * n);
        for form in [Form::Codes, Form::Dense] {
            let resident = Resident::load(&tensor, form).unwrap();
            prop_assert!(resident.bytes() <= Resident::predicted_bytes(&tensor, form).unwrap());
            prop_assert_eq!(resident.to_f32(), tensor.to_f32().unwrap());
            let mut out = vec![0.0; vectors * m];
            Resident::products(&[&resident], &x, vectors, &mut [&mut out]).unwrap();
            for (i, y) in out.iter().enumerate() {
                let (row, x) = (&dense[i % m * n..][..n], &x[i / m * n..][..n]);
                let terms = row.iter().zip(x).map(|(w, x)| w * f64::from(*x));
                let (sum, size) = terms.fold((0.0, 1.0), |(s, a): (f64, f64), t| (s + t, a + t.abs()));
                prop_assert!((f64::from(*y) - sum).abs() <= 1e-4 * size, "{y} instead of {sum}");
            }
        }
    }
}

#[test]
fn a_reference_gives_the_value_and_the_bytes_of_its_target() {
    let values = Numbers(3).values(12);
    let same = Expr::Ref { tensor: "a".into(), shape: vec![3, 4], dtype: Dtype::F32 };
    let twice = Expr::Sum(vec![same.clone(), same.clone()]);
    let pack = pack_of(vec![
        ("a", Dtype::F32, vec![3, 4], leaf(&values, &[3, 4])),
        ("b", Dtype::F32, vec![3, 4], same),
        ("c", Dtype::F32, vec![3, 4], twice),
    ])
    .unwrap();
    assert_eq!(pack.tensor("b").unwrap().to_bytes().unwrap(), pack.tensor("a").unwrap().to_bytes().unwrap());
    let doubled: Vec<f32> = values.iter().map(|x| x + x).collect();
    assert_eq!(pack.tensor("c").unwrap().to_f32().unwrap(), doubled);
}

#[test]
fn references_that_do_not_end_or_do_not_fit_are_refused() {
    let a_ref = |tensor: &str, shape: &[u64]| Expr::Ref {
        tensor: tensor.into(),
        shape: shape.into(),
        dtype: Dtype::F32,
    };
    for (tensors, word) in [
        (vec![("a", Dtype::F32, vec![2], a_ref("a", &[2]))], "reference itself"),
        (
            vec![("a", Dtype::F32, vec![2], a_ref("b", &[2])), ("b", Dtype::F32, vec![2], a_ref("a", &[2]))],
            "reference itself",
        ),
        (vec![("a", Dtype::F32, vec![2], a_ref("gone", &[2]))], "not in the pack"),
        (
            vec![
                ("a", Dtype::F32, vec![2], a_ref("b", &[2])),
                ("b", Dtype::F32, vec![1], leaf(&[1.0], &[1])),
            ],
            "refers to b",
        ),
    ] {
        let e = pack_of(tensors).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corruption);
        assert!(e.to_string().contains(word), "{e}");
    }
}

#[test]
fn an_unknown_critical_node_is_refused_by_name_and_the_rest_is_read() {
    let unknown = Expr::Unknown { node: "wavelet".into(), version: 2, ancillary: false, operands: vec![] };
    let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
    writer.tensor("good", Dtype::F32, &[2], Origin::default(), leaf(&[1.0, 2.0], &[2])).unwrap();
    // The writer does not know its shape and refuses it, as a reader does.
    let e = writer.tensor("new", Dtype::F32, &[2], Origin::default(), unknown).unwrap_err();
    assert!(e.to_string().contains("wavelet"), "{e}");
    let ancillary = Expr::Unknown {
        node: "note".into(),
        version: 2,
        ancillary: true,
        operands: vec![leaf(&[3.0], &[1])],
    };
    writer.tensor("noted", Dtype::F32, &[1], Origin::default(), ancillary).unwrap();
    let pack = Pack::from_source(Arc::new(writer.finish().unwrap().0), Limits::default()).unwrap();
    assert_eq!(pack.tensor("noted").unwrap().to_f32().unwrap(), [3.0]);
}

#[test]
fn an_unknown_codec_is_refused_by_name_and_the_rest_is_read() {
    let Expr::Leaf(mut later) = leaf(&[1.0, 2.0], &[2]) else { unreachable!() };
    later.spec.codec = "fractal".into();
    let pack = pack_of(vec![
        ("new", Dtype::F32, vec![2], Expr::Leaf(later)),
        ("good", Dtype::F32, vec![2], leaf(&[5.0, 6.0], &[2])),
    ])
    .unwrap();
    let e = pack.tensor("new").unwrap().to_f32().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Compatibility);
    assert!(e.to_string().contains("fractal") && e.tensor() == Some("new"), "{e}");
    assert_eq!(pack.tensor("good").unwrap().to_f32().unwrap(), [5.0, 6.0]);
    let report = pack.verify(&mut benben_format::ignore).unwrap();
    assert!(report.is_only_incompatible() && report.tensors == 1);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let two = || Box::new(leaf(&[1.0, 2.0], &[2]));
    let six = || leaf(&[1.0; 6], &[2, 3]);
    let wrong: Vec<(Tree, &str)> = vec![
        (Expr::Sum(vec![]), "no terms"),
        (Expr::Sum(vec![six(), leaf(&[1.0; 6], &[3, 2])]), "shape"),
        (Expr::Product(vec![six(), six()]), "inner dimension"),
        (
            Expr::Scale { rows: Some(Box::new(leaf(&[1.0; 3], &[3]))), columns: None, of: Box::new(six()) },
            "factors",
        ),
        (Expr::Permute { axis: 2, order: Box::new(positions(&[0, 1])), of: Box::new(six()) }, "axis"),
        (Expr::Permute { axis: 0, order: two(), of: Box::new(six()) }, "u32"),
        (Expr::Rotate { seed: 0, block: 2, of: Box::new(six()) }, "power of two"),
        (Expr::Transpose(two()), "two dimensions"),
        (Expr::Sparse { shape: vec![2, 3], group: [0, 1], mask: two(), values: two() }, "tile"),
    ];
    for (expr, word) in wrong {
        let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
        let e = writer.tensor("t", Dtype::F32, &[2, 3], Origin::default(), expr).unwrap_err();
        assert!(e.to_string().contains(word), "{word}: {e}");
    }
}

#[test]
fn a_position_out_of_range_is_an_error_with_its_value() {
    let expr = Expr::Permute {
        axis: 0,
        order: Box::new(positions(&[0, 9])),
        of: Box::new(leaf(&[1.0; 6], &[2, 3])),
    };
    let pack = pack_of(vec![("t", Dtype::F32, vec![2, 3], expr)]).unwrap();
    let e = pack.tensor("t").unwrap().to_f32().unwrap_err();
    assert!(e.kind() == ErrorKind::Corruption && e.to_string().contains("position 9 of 2"), "{e}");
}

#[test]
fn nesting_beyond_the_limit_is_refused() {
    let mut expr = leaf(&[1.0], &[1]);
    for _ in 0..40 {
        expr = Expr::Sum(vec![expr]);
    }
    let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
    assert_eq!(
        writer.tensor("t", Dtype::F32, &[1], Origin::default(), expr).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn what_a_product_holds_on_the_way_counts_against_the_limit() {
    let of = |m: usize, n: usize| leaf(&vec![1.0; m * n], &[m as u64, n as u64]);
    let limits = Limits { tensor_bytes: 1 << 20, ..Limits::default() };
    let chain = Expr::Product(vec![of(1024, 1), of(1, 1024), of(1024, 1)]);
    // 1024 x 1024 on the way to 1024 x 1.
    assert_eq!(chain.signature(&limits).unwrap_err().kind(), ErrorKind::Limit);
    chain.signature(&Limits { tensor_bytes: 4 << 20, ..limits }).unwrap();
}

#[test]
fn a_product_that_begins_with_a_scalar_is_refused() {
    let chain = Expr::Product(vec![leaf(&[2.0], &[]), leaf(&[1.0, 2.0, 3.0], &[1, 3])]);
    assert_eq!(chain.signature(&Limits::default()).unwrap_err().kind(), ErrorKind::Corruption);
}
