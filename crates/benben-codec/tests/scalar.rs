//! The `scalar` codec: rates, distortions, ranges, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

use benben_codec::entropy::{self, SideWriter, Table};
use benben_codec::{Importance, Target, scalar};
use benben_format::{EncodedLeaf, ErrorKind, LeafSpec};
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
        let settings = scalar::Settings { max_classes, ..scalar::Settings::new(Target::RelativeMse(0.01)) };
        scalar::encode(&values, &[512, 512], &settings).unwrap().1.bits_per_weight
    };
    let (one, many) = (at(1), at(16));
    assert!(many < one - 0.2, "{many} bits with classes, {one} without");
}

/// Columns of which most are nearly empty, and rows that differ: both together name a table.
#[test]
fn classes_of_columns_pay_where_columns_differ() {
    let mut values = gaussian(1 << 18, 12);
    for (i, x) in values.iter_mut().enumerate() {
        *x *= if i % 512 % 9 == 4 { 1.0 } else { 0.05 } * if i / 512 % 3 == 0 { 1.0 } else { 0.4 };
    }
    let settings = scalar::Settings::new(Target::RelativeMse(0.1));
    let (leaf, fit) = scalar::encode(&values, &[512, 512], &settings).unwrap();
    let params: Params = leaf.spec.params().unwrap();
    assert!(params.column_classes > 1 && !leaf.chunks[1].is_empty(), "{params:?}");
    let rows: Vec<f32> = (0..512).flat_map(|c| values.iter().skip(c).step_by(512).copied()).collect();
    let (_, turned) = scalar::encode(&rows, &[512, 512], &settings).unwrap();
    assert!((fit.bits_per_weight / turned.bits_per_weight - 1.0).abs() < 0.05, "{fit:?}, turned {turned:?}");
    let row_alone = scalar::Settings { max_classes: 1, ..settings };
    let (_, one) = scalar::encode(&values, &[512, 512], &row_alone).unwrap();
    assert!(fit.bits_per_weight < 0.75 * one.bits_per_weight, "{fit:?}, one table {one:?}");
}

/// Columns that count four times as much get less error at the same rate.
#[test]
fn importance_moves_the_error_to_where_it_counts_less() {
    let values = gaussian(1 << 16, 6);
    let columns: Vec<f32> = (0..256).map(|c| if c < 128 { 4.0 } else { 1.0 }).collect();
    let elements: Vec<f32> = (0..values.len()).map(|i| columns[i % 256]).collect();
    let error = |importance: Importance<'_>| {
        let usual = scalar::Settings::new(Target::BitsPerWeight(1.5));
        let (leaf, fit) =
            scalar::encode(&values, &[256, 256], &scalar::Settings { importance, ..usual }).unwrap();
        assert!((fit.bits_per_weight - 1.5).abs() < 0.02, "{fit:?}");
        let decoded = decode(&leaf);
        (0..values.len()).map(|i| f64::from(elements[i] * (values[i] - decoded[i]).powi(2))).sum::<f64>()
    };
    let uniform = error(Importance::Uniform);
    let weighted = error(Importance::Columns(&columns));
    println!("{weighted} of {uniform}");
    assert!(weighted < 0.97 * uniform, "{weighted} of {uniform}");
    assert_eq!(weighted, error(Importance::Elements(&elements)));
    assert_eq!(uniform, error(Importance::Columns(&[0.0; 256])));
    let refused = scalar::Settings {
        importance: Importance::Columns(&columns[1..]),
        ..scalar::Settings::new(Target::BitsPerWeight(2.0))
    };
    assert_eq!(
        scalar::encode(&values, &[256, 256], &refused).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
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
fn outliers_come_back_bit_for_bit() {
    let mut values = gaussian(600_000, 4);
    for i in [0, 5, 77_777, 300_000, 599_999] {
        values[i] = 4000.0 * if i % 2 == 0 { 1.0 } else { -1.0 };
    }
    let settings = scalar::Settings::new(Target::RelativeMse(1e-9));
    let (leaf, _) = scalar::encode(&values, &[600, 1000], &settings).unwrap();
    let whole = decode(&leaf);
    assert!(relative_mse(&values, &whole) < 1e-9);
    for i in [0, 5, 77_777, 300_000, 599_999] {
        assert_eq!(whole[i], values[i]);
    }
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
        (vec![1e-42, -3e-42, 2e-42, 7e-43], vec![2, 2]),
        (gaussian(4000, 7).iter().map(|x| x.clamp(-1.0, 1.0) * 3.3e38).collect(), vec![40, 100]),
        (gaussian(31, 9), vec![31]),
        (gaussian(64, 9), vec![1, 2, 32]),
        ((0..4000).map(|i| 2f32.powi(i % 250 - 125)).collect(), vec![4, 1000]),
    ] {
        let settings = scalar::Settings::new(Target::RelativeMse(1e-4));
        let (leaf, fit) = scalar::encode(&values, &shape, &settings).unwrap();
        assert!(fit.relative_mse <= 1e-4, "{} of {shape:?}: {fit:?}", values.len());
        assert_eq!(decode(&leaf).len(), values.len());
    }
}

#[test]
fn threads_change_nothing() {
    let values = gaussian(400_000, 10);
    let at = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let settings = scalar::Settings::new(Target::BitsPerWeight(1.5));
        pool.install(|| scalar::encode(&values, &[400, 1000], &settings).unwrap())
    };
    let (one, many) = (at(1), at(5));
    assert!(one.1 == many.1 && one.0.spec.params == many.0.spec.params);
    let bytes = |leaf: &EncodedLeaf| -> Vec<Vec<u8>> {
        leaf.chunks.iter().flatten().map(|c| c.bytes.to_vec()).collect()
    };
    assert!(bytes(&one.0) == bytes(&many.0));
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Params {
    step: f32,
    low_bits: u8,
    run: u64,
    column_classes: u8,
}

/// Rows, columns, low bits and an exception.
fn a_leaf() -> EncodedLeaf {
    let mut values = gaussian(20_000, 5);
    for (i, x) in values.iter_mut().enumerate() {
        *x *= if i % 100 % 7 == 3 { 1.0 } else { 0.01 };
    }
    values[7] = 1e6;
    scalar::encode(&values, &[200, 100], &scalar::Settings::new(Target::RelativeMse(1e-13))).unwrap().0
}

#[test]
fn what_contradicts_itself_is_refused() {
    let whole = a_leaf();
    let corrupt = |what: &str, change: &dyn Fn(&mut EncodedLeaf)| {
        let mut leaf = whole.clone();
        change(&mut leaf);
        let e = scalar::decode(&leaf, 0..20_000, &mut vec![0.0; 20_000]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corruption, "{what}: {e}");
    };
    let with = |leaf: &mut EncodedLeaf, change: &dyn Fn(&mut Params)| {
        let mut params: Params = leaf.spec.params().unwrap();
        change(&mut params);
        leaf.spec.params =
            LeafSpec::new("scalar", 1, leaf.spec.dtype, &leaf.spec.shape, &params).unwrap().params;
    };
    let replace = |leaf: &mut EncodedLeaf, at: usize, (spec, chunks)| {
        leaf.spec.streams[at] = spec;
        leaf.chunks[at] = chunks;
    };
    let words = |w: &[u64]| entropy::encode_words(w, entropy::CHUNK_ITEMS);
    let one = u64::from(1f32.to_bits());
    corrupt("no exceptions' values", &|l| replace(l, 6, words(&[])));
    corrupt("positions that do not rise", &|l| {
        replace(l, 5, words(&[9, 8]));
        replace(l, 6, words(&[one; 2]));
    });
    corrupt("low bits that do not fit", &|l| replace(l, 4, words(&[1 << 17; 20_000])));
    corrupt("no low bits", &|l| replace(l, 4, words(&[])));
    corrupt("streams missing", &|l| {
        l.spec.streams.truncate(6);
        l.chunks.truncate(6);
    });
    let classes = |of: &[u8]| entropy::encode_symbols(of, &entropy::Model::none(), 1 << 18).unwrap();
    corrupt("a class of columns that is not there", &|l| {
        with(l, &|p| p.column_classes = 2);
        replace(l, 2, classes(&[2; 100]));
    });
    corrupt("too few classes of columns", &|l| {
        with(l, &|p| p.column_classes = 2);
        replace(l, 2, classes(&[1; 99]));
    });
    let table = Table::from_counts(&[5; 256]);
    corrupt("no table", &|l| {
        let mut side = SideWriter::new();
        side.varint(0);
        side.tables(&[]).unwrap();
        replace(l, 0, entropy::encode_bytes(&side.into_bytes(), 1, 1 << 18).unwrap());
    });
    corrupt("three tables for two classes of columns", &|l| {
        with(l, &|p| p.column_classes = 2);
        replace(l, 2, classes(&[1; 100]));
        let mut side = SideWriter::new();
        side.varint(0);
        side.tables(&vec![table.clone(); 3]).unwrap();
        replace(l, 0, entropy::encode_bytes(&side.into_bytes(), 1, 1 << 18).unwrap());
    });
    for step in [0.0, -1.0, f32::NAN, f32::INFINITY, 3e36] {
        corrupt("a step out of range", &|l| with(l, &|p| p.step = step));
    }
    corrupt("17 low bits", &|l| with(l, &|p| p.low_bits = 17));
    corrupt("no class of columns", &|l| with(l, &|p| p.column_classes = 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranges_are_slices_of_the_whole(
        rows in 1usize..90, columns in 1usize..200, seed: u64, bits in 0.5f64..10.0, spread in 0i32..4, a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let mut values = gaussian(rows * columns, seed);
        for (i, x) in values.iter_mut().enumerate() {
            *x *= 2f32.powi((i / columns + i % columns) as i32 % 4 * spread);
        }
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
    fn damaged_leaves_never_panic(stream in 0usize..7, at: prop::sample::Index, value: u8, cut: bool) {
        thread_local!(static LEAF: EncodedLeaf = a_leaf());
        let mut leaf = LEAF.with(Clone::clone);
        if let Some(chunk) = leaf.chunks[stream].first_mut() {
            let bytes = chunk.bytes.to_mut();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] = value }
            }
        }
        let mut out = vec![0.0; 20_000];
        let _ = scalar::decode(&leaf, 0..20_000, &mut out);
        prop_assert!(out.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn damaged_parameters_never_panic(step: f32, low_bits: u8, run: u64, column_classes: u8) {
        thread_local!(static LEAF: EncodedLeaf = a_leaf());
        let mut leaf = LEAF.with(Clone::clone);
        let params = Params { step, low_bits, run, column_classes };
        leaf.spec.params = LeafSpec::new("scalar", 1, leaf.spec.dtype, &leaf.spec.shape, &params).unwrap().params;
        let _ = scalar::decode(&leaf, 0..20_000, &mut vec![0.0; 20_000]);
    }
}
