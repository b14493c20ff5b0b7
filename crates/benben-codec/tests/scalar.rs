//! The `scalar` codec: rates, distortions, ranges, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

use benben_codec::{Target, scalar};
use benben_format::{EncodedLeaf, ErrorKind};
use proptest::prelude::*;

/// Gaussian samples by Box-Muller over a small congruential generator.
fn gaussian(n: usize, mut seed: u64) -> Vec<f32> {
    let mut uniform = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..n)
        .map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
        .collect()
}

fn decode(leaf: &EncodedLeaf) -> Vec<f32> {
    let mut out = vec![0.0; leaf.spec.elements().unwrap() as usize];
    scalar::decode(leaf, 0..out.len() as u64, &mut out).unwrap();
    out
}

fn relative_mse(a: &[f32], b: &[f32]) -> f64 {
    let (error, energy) = benben_codec::squared_error(a, b);
    error / energy
}

/// Distances of entropy-coded uniform quantization from the bound: 1.45, 1.53, 1.53 and 1.52 dB at 1 to 4 bits
/// (the design's table), with 0.15 dB for all side information.
#[test]
fn gaussian_source_is_within_reach_of_the_bound_with_everything_counted() {
    let values = gaussian(1 << 20, 1);
    for (bits, table) in [(1.0, 1.45), (2.0, 1.53), (3.0, 1.53), (4.0, 1.52), (8.0, 1.53)] {
        let settings = scalar::Settings::new(Target::BitsPerWeight(bits));
        let (leaf, fit) = scalar::encode(&values, &[1024, 1024], &settings).unwrap();
        println!(
            "{bits} bits: {:.3} bits, {:.3} dB above the bound",
            fit.bits_per_weight,
            fit.db_above_gaussian_bound()
        );
        assert!((fit.bits_per_weight / bits - 1.0).abs() < 0.005, "{fit:?}");
        assert!(
            fit.db_above_gaussian_bound() < table + 0.15,
            "{bits} bits: {}",
            fit.db_above_gaussian_bound()
        );
        assert!((relative_mse(&values, &decode(&leaf)) / fit.relative_mse - 1.0).abs() < 1e-9);
    }
}

/// Rows of different energy: classes win back what one table loses.
#[test]
fn classes_pay_for_themselves_where_rows_differ() {
    let mut values = gaussian(1 << 18, 2);
    for (i, row) in values.chunks_mut(512).enumerate() {
        let scale = 2f32.powi((i % 5) as i32 - 2);
        row.iter_mut().for_each(|x| *x *= scale);
    }
    let at = |max_classes| {
        let settings = scalar::Settings { max_classes, target: Target::RelativeMse(0.01) };
        scalar::encode(&values, &[512, 512], &settings).unwrap().1.bits_per_weight
    };
    let (one, many) = (at(1), at(16));
    assert!(many < one - 0.2, "{many} bits with classes, {one} without");
}

#[test]
fn relative_mse_is_reached_and_not_overshot() {
    let values = gaussian(100_000, 3);
    for y in [0.3, 0.05, 1e-2, 1e-3, 1e-5] {
        let (_, fit) =
            scalar::encode(&values, &[100, 1000], &scalar::Settings::new(Target::RelativeMse(y))).unwrap();
        assert!(fit.relative_mse <= y && fit.relative_mse > 0.95 * y, "{y}: {fit:?}");
    }
}

#[test]
fn outliers_escape_and_come_back() {
    let mut values = gaussian(600_000, 4);
    for i in [0, 5, 77_777, 300_000, 599_999] {
        values[i] = 4000.0 * if i % 2 == 0 { 1.0 } else { -1.0 };
    }
    let settings = scalar::Settings::new(Target::RelativeMse(1e-9));
    let (leaf, _) = scalar::encode(&values, &[600, 1000], &settings).unwrap();
    let whole = decode(&leaf);
    assert!(relative_mse(&values, &whole) < 1e-9);
    for range in [0..6, 77_770..77_780, 299_990..300_010, 599_999..600_000] {
        let mut part = vec![0.0; range.len()];
        scalar::decode(&leaf, range.start as u64..range.end as u64, &mut part).unwrap();
        assert_eq!(part, whole[range]);
    }
}

#[test]
fn values_that_are_not_finite_are_refused_by_index() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let e =
            scalar::encode(&[1.0, bad], &[2], &scalar::Settings::new(Target::RelativeMse(0.1))).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.message().contains("value 1"), "{e}");
    }
}

#[test]
fn degenerate_tensors_are_coded() {
    for (values, shape) in [
        (vec![], vec![0u64, 4]),
        (vec![0.0; 12], vec![3, 4]),
        (vec![0.25; 12], vec![12]),
        (vec![-3.0], vec![]),
        (vec![1e-38, -1e-38, 3e38], vec![3]),
    ] {
        let settings = scalar::Settings::new(Target::RelativeMse(1e-4));
        let (leaf, fit) = scalar::encode(&values, &shape, &settings).unwrap();
        assert!(fit.relative_mse <= 1e-4, "{values:?}: {fit:?}");
        assert_eq!(decode(&leaf).len(), values.len());
    }
}

fn a_leaf() -> EncodedLeaf {
    let mut values = gaussian(5000, 5);
    values[7] = 1000.0;
    scalar::encode(&values, &[50, 100], &scalar::Settings::new(Target::RelativeMse(1e-7))).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranges_are_slices_of_the_whole(
        rows in 1usize..40, columns in 1usize..200, seed: u64, bits in 0.5f64..10.0, a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let values = gaussian(rows * columns, seed);
        let settings = scalar::Settings::new(Target::BitsPerWeight(bits));
        let (leaf, fit) = scalar::encode(&values, &[rows as u64, columns as u64], &settings).unwrap();
        let whole = decode(&leaf);
        prop_assert!((relative_mse(&values, &whole) / fit.relative_mse - 1.0).abs() < 1e-6);
        let (a, b) = (a.index(values.len()), b.index(values.len()));
        let range = a.min(b)..a.max(b);
        let mut part = vec![0.0; range.len()];
        scalar::decode(&leaf, range.start as u64..range.end as u64, &mut part).unwrap();
        prop_assert_eq!(&part[..], &whole[range]);
    }

    /// Checksums above this crate catch such damage; the codec itself must stay in bounds whatever it meets.
    #[test]
    fn damaged_leaves_never_panic(stream in 0usize..6, at: prop::sample::Index, value: u8, cut: bool) {
        let mut leaf = a_leaf();
        if let Some(chunk) = leaf.chunks[stream].first_mut() {
            let bytes = chunk.bytes.to_mut();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] = value }
            }
        }
        let mut out = vec![0.0; 5000];
        let _ = scalar::decode(&leaf, 0..5000, &mut out);
    }

    #[test]
    fn damaged_parameters_never_panic(step: f32, low_bits: u8, run: u64) {
        let mut leaf = a_leaf();
        #[derive(serde::Serialize)]
        struct Params { step: f32, low_bits: u8, run: u64 }
        let spec = benben_format::LeafSpec::new("scalar", 1, leaf.spec.dtype, &leaf.spec.shape, &Params { step, low_bits, run });
        leaf.spec.params = spec.unwrap().params;
        let mut out = vec![0.0; 5000];
        let _ = scalar::decode(&leaf, 0..5000, &mut out);
    }
}
