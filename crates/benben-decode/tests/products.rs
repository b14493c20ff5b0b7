//! Products from every codec against a plain multiplication of the values, and that nothing else changes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a failed assumption is a failed test"
)]

use benben_codec::{Target, pvq, raw, rvq, scalar, ternary, trellis};
use benben_decode::{Dtype, ErrorKind, Form, Limits, Pack, Resident};
use benben_format::{EncodedLeaf, Expr, Origin, Result, Writer};
use proptest::prelude::*;
use std::sync::Arc;

/// Of a sum's terms in magnitude: 700 additions in f32 err by less.
const TOLERANCE: f64 = 1e-5;

fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn pack_of(expr: Expr<EncodedLeaf>, shape: &[u64]) -> Pack {
    let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
    writer.tensor("t", Dtype::F32, shape, Origin::default(), expr).unwrap();
    Pack::from_source(Arc::new(writer.finish().unwrap().0), Limits::default()).unwrap()
}

const KINDS: [&str; 11] = [
    "rvq groups",
    "scalar",
    "fine scalar",
    "trellis",
    "pulses",
    "numbered",
    "rvq",
    "ternary",
    "dictionary planes",
    "f16",
    "bf16",
];

fn encode(kind: &str, values: &[f32], shape: &[u64], bits: f64) -> Result<Expr<EncodedLeaf>> {
    let target = Target::RelativeMse(4f64.powf(-bits).max(1e-3));
    let leaf = |made: Result<(EncodedLeaf, benben_codec::Fit)>| made.map(|m| Expr::Leaf(m.0));
    let floats = |dtype: Dtype| raw::encode(&dtype.from_f32(values)?, dtype, shape).map(Expr::Leaf);
    match kind {
        "scalar" => leaf(scalar::encode(values, shape, &scalar::Settings::new(target))),
        "fine scalar" => {
            leaf(scalar::encode(values, shape, &scalar::Settings::new(Target::RelativeMse(1e-7))))
        }
        "trellis" => leaf(trellis::encode(values, shape, &trellis::Settings::new(target))),
        "pulses" => {
            let form = Some(pvq::Form::Pulses);
            leaf(pvq::encode(values, shape, &pvq::Settings { form, ..pvq::Settings::new(target) }))
        }
        "numbered" => {
            let form = Some(pvq::Form::Numbered);
            leaf(pvq::encode(values, shape, &pvq::Settings { form, ..pvq::Settings::new(target) }))
        }
        "rvq" => {
            leaf(rvq::encode(values, shape, &rvq::Settings { iterations: 1, ..rvq::Settings::new(target) }))
        }
        "ternary" => leaf(ternary::encode(values, shape, &ternary::Settings::new(Target::RelativeMse(0.5)))),
        "dictionary planes" => {
            let planes = ternary::encode_planes(values, shape, &ternary::Settings::new(target))?.0;
            Ok(Expr::Sum(planes.into_iter().map(Expr::Leaf).collect()))
        }
        "f16" => floats(Dtype::F16),
        _ => floats(Dtype::BF16),
    }
}

fn check(resident: &Resident, values: &[f32], x: &[f32], vectors: usize) {
    let [rows, columns] = resident.shape();
    let mut out = vec![f32::NAN; vectors * rows];
    Resident::products(&[resident], x, vectors, &mut [&mut out]).unwrap();
    for (i, y) in out.iter().enumerate() {
        let (x, row) = (&x[i / rows * columns..], &values[i % rows * columns..][..columns]);
        let terms = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
        let (sum, size) = terms.fold((0.0, 0.0), |(s, a): (f64, f64), t| (s + t, a + t.abs()));
        assert!((f64::from(*y) - sum).abs() <= TOLERANCE * size, "output {i}: {y} instead of {sum}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn products_are_those_of_the_values(
        kind in prop::sample::select(&KINDS[..]),
        bits in 1.0f64..5.0,
        (rows, columns) in (1u64..80, 1u64..150),
        vectors in 1usize..17,
        loud in 1.0f32..300.0,
        turned: bool,
        seed: u64,
    ) {
        let mut number = numbers(seed);
        let mut values: Vec<f32> = (0..rows * columns).map(|_| number() + number() * number()).collect();
        values[(rows * columns / 2) as usize] *= loud;
        let stored = if turned { [columns, rows] } else { [rows, columns] };
        let Ok(expr) = encode(kind, &values, &stored, bits) else { return Ok(()) };
        let expr = if turned { Expr::Transpose(Box::new(expr)) } else { expr };
        let pack = pack_of(expr, &[rows, columns]);
        let tensor = pack.tensor("t").unwrap();
        let values = tensor.to_f32().unwrap();
        let x: Vec<f32> = (0..vectors * columns as usize).map(|_| number()).collect();
        for form in [Form::Codes, Form::Dense] {
            let resident = Resident::load(&tensor, form).unwrap();
            let most = Resident::predicted_bytes(&tensor, form).unwrap();
            prop_assert!(resident.bytes() <= most, "{} bytes, foreseen {most}", resident.bytes());
            let found = resident.to_f32();
            prop_assert!(found.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", kind);
            let ids: Vec<u32> = [rows - 1, 0, rows / 2].map(|id| id as u32).into();
            let mut some = vec![0.0; 3 * columns as usize];
            resident.rows(&ids, &mut some).unwrap();
            for (row, id) in some.chunks(columns as usize).zip(ids) {
                prop_assert_eq!(row, &values[id as usize * columns as usize..][..columns as usize]);
            }
            check(&resident, &values, &x, vectors);
        }
    }
}

/// `kind` as the values of a `sparse` node that keeps groups of `group` at `density`.
fn sparse(
    kind: &str,
    number: &mut impl FnMut() -> f32,
    shape: [u64; 2],
    group: [u64; 2],
    density: f32,
    bits: f64,
) -> Result<Expr<EncodedLeaf>> {
    let groups = (shape[0] / group[0]) * (shape[1] / group[1]);
    let mut mask: Vec<u8> = (0..groups).map(|_| u8::from(number() * 0.5 + 0.5 < density)).collect();
    mask[groups as usize / 2] = 1;
    let kept = mask.iter().filter(|&&k| k > 0).count() as u64;
    let width = group[0] * group[1];
    let values: Vec<f32> = (0..kept * width).map(|_| number() + number()).collect();
    let values = encode(kind, &values, &[kept, width], bits)?;
    Ok(Expr::Sparse {
        shape: shape.into(),
        group: group.map(|g| g as u32),
        mask: Box::new(Expr::Leaf(raw::encode(&mask, Dtype::U8, &[groups])?)),
        values: Box::new(values),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn sparse_products_are_those_of_the_values(
        kind in prop::sample::select(&KINDS[..]),
        (rows, columns) in (1u64..40, 1u64..100),
        group in (1u64..4, 1u64..5),
        density in 0.0f32..1.0,
        vectors in 1usize..35,
        seed: u64,
    ) {
        let mut number = numbers(seed);
        let group = [group.0, group.1];
        let shape = [rows * group[0], columns * group[1]];
        let Ok(expr) = sparse(kind, &mut number, shape, group, density * density, 3.0) else { return Ok(()) };
        let pack = pack_of(expr, &shape);
        let tensor = pack.tensor("t").unwrap();
        let values = tensor.to_f32().unwrap();
        let x: Vec<f32> = (0..vectors as u64 * shape[1]).map(|_| number()).collect();
        for form in [Form::Codes, Form::Dense] {
            let resident = Resident::load(&tensor, form).unwrap();
            let most = Resident::predicted_bytes(&tensor, form).unwrap();
            prop_assert!(resident.bytes() <= most, "{} bytes, foreseen {most}", resident.bytes());
            let found = resident.to_f32();
            prop_assert!(found.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", kind);
            check(&resident, &values, &x, vectors);
        }
    }
}

#[test]
fn codes_take_less_than_values() {
    let mut number = numbers(3);
    let (shape, columns) = ([256u64, 256], 256u64);
    let values: Vec<f32> = (0..shape[0] * columns).map(|_| number() + number()).collect();
    let dense = 4 * values.len();
    let held = |expr: Expr<EncodedLeaf>| {
        let pack = pack_of(expr, &shape);
        let tensor = pack.tensor("t").unwrap();
        let [codes, values] = [Form::Codes, Form::Dense].map(|form| Resident::load(&tensor, form).unwrap());
        assert_eq!(codes.to_f32(), values.to_f32());
        codes.bytes()
    };
    for kind in KINDS {
        let bytes = held(encode(kind, &values, &shape, 3.0).unwrap_or_else(|e| panic!("{kind}: {e}")));
        assert!(10 * bytes <= 6 * dense, "{kind}: {bytes} bytes, {dense} as f32");
        let turned = Expr::Transpose(Box::new(encode(kind, &values, &shape, 3.0).unwrap()));
        let wide = ["ternary", "dictionary planes"].contains(&kind);
        assert!(wide || 10 * held(turned) <= 6 * dense, "{kind}, transposed");
        for (group, density, share) in [([1, 1], 0.05, 0.09), ([1, 4], 0.25, 0.24), ([4, 4], 0.5, 0.45)] {
            let bytes = held(sparse(kind, &mut number, shape, group, density, 3.0).unwrap());
            assert!((bytes as f64) < share * dense as f64, "{kind}, groups of {group:?}: {bytes} of {dense}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut number = numbers(5);
    let shapes = [[300u64, 512], [1000, 512], [33, 512], [300, 512], [200, 512], [300, 512]];
    let packs: Vec<Pack> = shapes
        .iter()
        .zip(["trellis", "scalar", "f16", "numbered", "sparse", "turned rvq"])
        .map(|(shape, kind)| {
            if kind == "sparse" {
                return pack_of(sparse("scalar", &mut number, *shape, [2, 1], 0.2, 3.0).unwrap(), shape);
            }
            let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| number()).collect();
            let expr = match kind.strip_prefix("turned ") {
                Some(kind) => {
                    Expr::Transpose(Box::new(encode(kind, &values, &[shape[1], shape[0]], 3.0).unwrap()))
                }
                None => encode(kind, &values, shape, 3.0).unwrap(),
            };
            pack_of(expr, shape)
        })
        .collect();
    let load = |p: &Pack| Resident::load(&p.tensor("t").unwrap(), Form::Codes).unwrap();
    let held: Vec<Resident> = packs.iter().map(load).collect();
    let held: Vec<&Resident> = held.iter().collect();
    for vectors in [1, 3, 40] {
        let x: Vec<f32> = (0..vectors * 512).map(|_| number()).collect();
        let by = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out: Vec<Vec<f32>> = shapes.iter().map(|s| vec![0.0; vectors * s[0] as usize]).collect();
            let mut slices: Vec<&mut [f32]> = out.iter_mut().map(|o| &mut o[..]).collect();
            pool.install(|| Resident::products(&held, &x, vectors, &mut slices)).unwrap();
            out.concat().iter().map(|y| y.to_bits()).collect::<Vec<_>>()
        };
        let one = by(1);
        assert!([2, 3, 4].into_iter().all(|threads| by(threads) == one), "{vectors} vectors");
    }
}

#[test]
fn bytes_become_a_matrix() {
    let mut number = numbers(9);
    for (rows, columns) in [(40, 33), (3, 70), (17, 1), (16, 0), (0, 5)] {
        let values: Vec<f32> = (0..rows * columns).map(|_| number()).collect();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64] {
            let bytes = dtype.from_f32(&values).unwrap();
            let mut rounded = vec![0.0; values.len()];
            dtype.to_f32(&bytes, &mut rounded).unwrap();
            let resident = Resident::from_bytes([rows, columns], dtype, &bytes).unwrap();
            assert_eq!((resident.shape(), resident.to_f32()), ([rows, columns], rounded.clone()));
            let x: Vec<f32> = (0..2 * columns).map(|_| number()).collect();
            check(&resident, &rounded, &x, 2);
        }
    }
    let e = Resident::from_bytes([2, 2], Dtype::F16, &[0; 7]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let held = Resident::from_bytes([20, 3], Dtype::F32, &[0; 240]).unwrap();
    let wrong = |x: usize, vectors: usize, out: usize| {
        let e = Resident::products(&[&held], &vec![0.0; x], vectors, &mut [&mut vec![0.0; out][..]]);
        assert_eq!(e.unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    wrong(2, 1, 20);
    wrong(3, 1, 19);
    wrong(3, 2, 40);
    wrong(6, usize::MAX, 40);
    assert_eq!(Resident::products(&[&held], &[], 0, &mut []).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(held.rows(&[20], &mut [0.0; 3]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(held.rows(&[1], &mut [0.0; 4]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn damaged_leaves_are_errors() {
    let mut number = numbers(11);
    let values: Vec<f32> = (0..40 * 64).map(|_| number()).collect();
    for kind in KINDS {
        let Expr::Leaf(leaf) =
            encode(kind, &values, &[40, 64], 2.0).unwrap_or_else(|e| panic!("{kind}: {e}"))
        else {
            continue;
        };
        let mut damaged = 0;
        for stream in 0..leaf.spec.streams.len() {
            let mut bad = leaf.clone();
            bad.spec.streams[stream].items += 1;
            let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
            if writer.tensor("t", Dtype::F32, &[40, 64], Origin::default(), Expr::Leaf(bad)).is_err() {
                damaged += 1;
                continue;
            }
            let Ok((bytes, ..)) = writer.finish() else { continue };
            let Ok(pack) = Pack::from_source(Arc::new(bytes), Limits::default()) else { continue };
            let tensor = pack.tensor("t").unwrap();
            let (codes, values) = (Resident::load(&tensor, Form::Codes), tensor.to_f32());
            damaged += usize::from(codes.is_err());
            assert_eq!(codes.is_err(), values.is_err(), "{kind}, stream {stream}");
        }
        assert!(damaged > 0, "{kind}");
    }
}
