//! The `trellis` codec: rates, distortions, ranges, the arithmetic of its values, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

use benben_codec::entropy::{self, SideReader, SideWriter, Table};
use benben_codec::{Fit, Importance, Target, scalar, trellis};
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
    trellis::decode(leaf, 0..out.len() as u64, &mut out).unwrap();
    out
}

fn relative_mse(a: &[f32], b: &[f32]) -> f64 {
    let (error, energy) = benben_codec::squared_error(a, b);
    error / energy
}

fn encode(values: &[f32], shape: &[u64], target: Target) -> (EncodedLeaf, Fit) {
    trellis::encode(values, shape, &trellis::Settings::new(target)).unwrap()
}

/// The bound of the literature for 8 states and entropy coding is 0.5 dB; 0.1 dB for all side information.
#[test]
fn gaussian_source_is_within_reach_of_the_bound_with_everything_counted() {
    let values = gaussian(1 << 20, 1);
    for bits in [0.5, 1.0, 2.0, 3.0, 4.0, 5.0] {
        let (leaf, fit) = encode(&values, &[1024, 1024], Target::BitsPerWeight(bits));
        let db = fit.db_above_gaussian_bound();
        println!("{bits} bits: {:.3} bits, {db:.3} dB above the bound", fit.bits_per_weight);
        assert!(fit.bits_per_weight <= bits && fit.bits_per_weight > 0.99 * bits, "{fit:?}");
        assert!(db < 0.6, "{bits} bits: {db}");
        assert!((relative_mse(&values, &decode(&leaf)) / fit.relative_mse - 1.0).abs() < 1e-9);
    }
}

#[test]
fn relative_mse_is_reached_and_not_overshot() {
    let values = gaussian(100_000, 3);
    for y in [0.5, 0.05, 1e-2, 1e-3, 2e-4] {
        let (_, fit) = encode(&values, &[100, 1000], Target::RelativeMse(y));
        assert!(fit.relative_mse <= y && fit.relative_mse > 0.98 * y, "{y}: {fit:?}");
    }
}

/// Rows of different energy, and weights of which most are 0: at equal error the trellis takes fewer bits than scalar.
#[test]
fn rows_that_differ_and_sparse_weights_take_fewer_bits_than_scalar() {
    let mut rows = gaussian(1 << 18, 2);
    for (i, row) in rows.chunks_mut(512).enumerate() {
        let scale = 2f32.powi((i % 5) as i32 - 2);
        row.iter_mut().for_each(|x| *x *= scale);
    }
    let mut sparse = gaussian(1 << 18, 5);
    sparse.iter_mut().enumerate().filter(|(i, _)| i * 7919 % 10 > 2).for_each(|(_, x)| *x = 0.0);
    for values in [rows, sparse] {
        let target = Target::RelativeMse(0.1);
        let (_, trellis) = encode(&values, &[512, 512], target);
        let (_, scalar) = scalar::encode(&values, &[512, 512], &scalar::Settings::new(target)).unwrap();
        let saved = scalar.bits_per_weight - trellis.bits_per_weight;
        println!("{:.3} bits, scalar {:.3}", trellis.bits_per_weight, scalar.bits_per_weight);
        assert!(saved > 0.0, "{trellis:?}, scalar {scalar:?}");
    }
}

/// Columns that count four times as much get less error at the same rate.
#[test]
fn importance_moves_the_error_to_where_it_counts_less() {
    let values = gaussian(1 << 16, 6);
    let columns: Vec<f32> = (0..256).map(|c| if c < 128 { 4.0 } else { 1.0 }).collect();
    let elements: Vec<f32> = (0..values.len()).map(|i| columns[i % 256]).collect();
    let error = |importance: Importance<'_>| {
        let usual = trellis::Settings::new(Target::BitsPerWeight(2.0));
        let (leaf, fit) =
            trellis::encode(&values, &[256, 256], &trellis::Settings { importance, ..usual }).unwrap();
        assert!((fit.bits_per_weight - 2.0).abs() < 0.03, "{fit:?}");
        let decoded = decode(&leaf);
        (0..values.len()).map(|i| f64::from(elements[i] * (values[i] - decoded[i]).powi(2))).sum::<f64>()
    };
    let uniform = error(Importance::Uniform);
    let weighted = error(Importance::Columns(&columns));
    assert!(weighted < 0.97 * uniform, "{weighted} of {uniform}");
    assert_eq!(weighted, error(Importance::Elements(&elements)));
    let zeros = vec![0.0; 256];
    assert_eq!(uniform, error(Importance::Columns(&zeros)));
    let refused = trellis::Settings {
        importance: Importance::Columns(&columns[1..]),
        ..trellis::Settings::new(Target::BitsPerWeight(2.0))
    };
    assert_eq!(
        trellis::encode(&values, &[256, 256], &refused).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn outliers_come_back_bit_for_bit() {
    let mut values = gaussian(300_000, 4);
    for i in [0, 5, 77_777, 262_143, 262_144, 299_999] {
        values[i] = 4e6 * if i % 2 == 0 { 1.1 } else { -1.3 };
    }
    let (leaf, _) = encode(&values, &[300, 1000], Target::RelativeMse(1e-15));
    let whole = decode(&leaf);
    assert_eq!(
        (whole[0], whole[5], whole[77_777], whole[299_999]),
        (values[0], values[5], values[77_777], values[299_999])
    );
    for range in [0..6, 77_770..77_780, 262_140..262_150, 299_999..300_000] {
        let mut part = vec![0.0; range.len()];
        trellis::decode(&leaf, range.start as u64..range.end as u64, &mut part).unwrap();
        assert_eq!(part, whole[range]);
    }
}

/// A target beyond the codebooks gives the nearest that there is.
#[test]
fn targets_out_of_reach_give_the_nearest() {
    let values = gaussian(20_000, 8);
    let (_, fit) = encode(&values, &[100, 200], Target::RelativeMse(1e-12));
    assert!(fit.relative_mse < 1e-4 && fit.bits_per_weight < 14.0, "{fit:?}");
    let (_, fit) = encode(&values, &[100, 200], Target::BitsPerWeight(1e-3));
    assert!(fit.relative_mse <= 1.0 && fit.bits_per_weight < 0.2, "{fit:?}");
    let bad = trellis::encode(&values, &[100, 200], &trellis::Settings::new(Target::BitsPerWeight(-1.0)));
    assert_eq!(bad.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn degenerate_tensors_are_coded() {
    for (values, shape, most) in [
        (vec![], vec![0u64, 4], 0.0),
        (vec![0.0; 12], vec![3, 4], 0.0),
        (vec![0.25; 12], vec![12], 1e-2),
        (vec![-3.0], vec![], 1e-2),
        (vec![1e-38, -1e-38, 3e38], vec![3], 1e-2),
        (vec![1e-42, -3e-42, 2e-42, 7e-43], vec![2, 2], 1e-1),
        (gaussian(31, 9), vec![31], 1e-2),
        (gaussian(65, 9), vec![65, 1], 1e-2),
        (gaussian(64, 9), vec![1, 2, 32], 1e-2),
    ] {
        let (leaf, fit) = encode(&values, &shape, Target::RelativeMse(1e-2));
        assert!(fit.relative_mse <= most, "{values:?}: {fit:?}");
        assert_eq!(decode(&leaf).len(), values.len());
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let e = trellis::encode(&[1.0, bad], &[2], &trellis::Settings::new(Target::RelativeMse(0.1)));
        assert!(e.unwrap_err().message().contains("value 1"));
    }
}

#[test]
fn threads_change_nothing() {
    let values = gaussian(400_000, 10);
    let at = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| encode(&values, &[400, 1000], Target::BitsPerWeight(1.5)))
    };
    let (one, many) = (at(1), at(5));
    assert!(one.1 == many.1 && one.0.spec.params == many.0.spec.params);
    let bytes = |leaf: &EncodedLeaf| -> Vec<Vec<u8>> {
        leaf.chunks.iter().flatten().map(|c| c.bytes.to_vec()).collect()
    };
    assert!(bytes(&one.0) == bytes(&many.0));
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Copy, Debug)]
struct Params {
    step: f32,
    run: u64,
    columns: u8,
    zero: bool,
    states: bool,
}

/// The page's own words, read from the stored symbols one by one.
fn by_the_page(leaf: &EncodedLeaf) -> Vec<f32> {
    let params: Params = leaf.spec.params().unwrap();
    let mut bytes = vec![0; leaf.spec.streams[0].items as usize];
    entropy::decode_bytes(leaf, 0, 0..bytes.len() as u64, &mut bytes).unwrap();
    let mut side = SideReader::new(&bytes);
    let shifts: [Vec<i8>; 2] = [0, 1].map(|_| {
        let count = side.varint().unwrap() as usize;
        side.bytes(count).unwrap().iter().map(|b| b.cast_signed()).collect()
    });
    let tables = side.tables().unwrap();
    let mut classes = vec![0; leaf.spec.streams[1].items as usize];
    entropy::decode_symbols(leaf, 1, 0..classes.len() as u64, &entropy::Model::none(), &mut classes).unwrap();
    let n = leaf.spec.elements().unwrap();
    let columns = leaf.spec.shape[1..].iter().product::<u64>();
    let mut of_columns = vec![0; leaf.spec.streams[2].items as usize];
    entropy::decode_symbols(leaf, 2, 0..of_columns.len() as u64, &entropy::Model::none(), &mut of_columns)
        .unwrap();
    let model = entropy::Model {
        trellis: if params.states { entropy::Trellis::States } else { entropy::Trellis::Unions },
        columns: entropy::Columns { of: &of_columns, count: params.columns },
        ..entropy::Model::by_rows(&tables, &classes, params.run * columns)
    };
    let mut symbols = vec![0; n as usize];
    entropy::decode_symbols(leaf, 3, 0..n, &model, &mut symbols).unwrap();
    let mut out = Vec::new();
    for chunk in symbols.chunks(leaf.spec.streams[3].chunk_items as usize) {
        let mut states = [0u8; 32];
        for (i, &z) in chunk.iter().enumerate() {
            let s = &mut states[i % 32];
            let k = if z % 2 == 0 { i32::from(z) / 2 } else { -(i32::from(z) + 1) / 2 };
            let p = match (*s % 2, params.zero) {
                (0, _) => 2 * k,
                (_, false) => 2 * k + 1,
                (_, true) => 2 * k - k.signum(),
            };
            let a = p.abs();
            let l = ((a + 1) / 2) as usize;
            let t = if l == 0 { 0 } else { shifts[usize::from(*s % 2)].get(l - 1).copied().unwrap_or(0) };
            let v = (a as f32 + f32::from(t) / 64.0) * params.step;
            out.push(if p < 0 { -v } else { v });
            let flip = ((*s / 2) ^ (*s / 4)) & 1;
            *s = *s * 2 % 8 + ((k.rem_euclid(2) as u8) ^ flip);
        }
    }
    out
}

#[test]
fn values_are_those_of_the_page() {
    for (n, bits, sparse, loud) in [
        (300_000, 2.0, false, 0),
        (20_000, 0.7, false, 0),
        (20_000, 1.0, true, 0),
        (3_000, 5.0, false, 0),
        (30_000, 3.0, false, 20),
    ] {
        let mut values = gaussian(n, 11);
        values.iter_mut().enumerate().filter(|(i, _)| i % 100 < loud).for_each(|(_, x)| *x *= 8.0);
        if sparse {
            values.iter_mut().enumerate().filter(|(i, _)| i * 7919 % 10 > 2).for_each(|(_, x)| *x = 0.0);
        }
        let (leaf, _) = encode(&values, &[n as u64 / 100, 100], Target::BitsPerWeight(bits));
        let params: Params = leaf.spec.params().unwrap();
        println!("{params:?}");
        assert_eq!(params.columns > 1, loud > 0, "classes of columns where they differ");
        assert_eq!(params.zero, sparse, "zero in both codebooks is for sparse weights");
        assert_eq!(leaf.spec.streams[4].items, 0);
        let (page, decoded) = (by_the_page(&leaf), decode(&leaf));
        assert!(page.iter().zip(&decoded).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

fn a_leaf() -> EncodedLeaf {
    let mut values = gaussian(5000, 5);
    for row in values.chunks_mut(200) {
        row[..100].iter_mut().for_each(|x| *x *= 8.0);
    }
    for row in values.chunks_mut(100) {
        row[..30].iter_mut().for_each(|x| *x *= 5.0);
    }
    values[7] = 1e5;
    let leaf = encode(&values, &[50, 100], Target::RelativeMse(1e-8)).0;
    let items = |stream: usize| leaf.spec.streams[stream].items;
    assert!(items(4) > 0 && items(1) > 0 && items(2) == 100);
    leaf
}

fn refusal(leaf: &EncodedLeaf) -> benben_format::Error {
    trellis::decode(leaf, 0..5000, &mut vec![0.0; 5000]).unwrap_err()
}

#[test]
fn leaves_that_contradict_themselves_are_corrupt() {
    let whole = a_leaf();
    trellis::decode(&whole, 0..5000, &mut vec![0.0; 5000]).unwrap();
    let corrupt = |what: &str, change: &dyn Fn(&mut EncodedLeaf)| {
        let mut leaf = whole.clone();
        change(&mut leaf);
        let e = refusal(&leaf);
        assert_eq!(e.kind(), ErrorKind::Corruption, "{what}: {e}");
    };
    let replace = |leaf: &mut EncodedLeaf, at: usize, (spec, chunks)| {
        leaf.spec.streams[at] = spec;
        leaf.chunks[at] = chunks;
    };
    let words = |w: &[u64]| entropy::encode_words(w, entropy::CHUNK_ITEMS);
    let one = u64::from(1f32.to_bits());
    corrupt("no exceptions' values", &|l| replace(l, 5, words(&[])));
    corrupt("too many exceptions", &|l| {
        replace(l, 4, words(&(0..329).collect::<Vec<_>>()));
        replace(l, 5, words(&[one; 329]));
    });
    corrupt("positions that do not rise", &|l| {
        replace(l, 4, words(&[9, 8]));
        replace(l, 5, words(&[one; 2]));
    });
    corrupt("a position past the end", &|l| {
        replace(l, 4, words(&[5000]));
        replace(l, 5, words(&[one]));
    });
    corrupt("a value that is no f32", &|l| {
        replace(l, 4, words(&[8]));
        replace(l, 5, words(&[one << 32]));
    });
    corrupt("no classes", &|l| {
        let none = entropy::encode_symbols(&[], &entropy::Model::none(), 1 << 18).unwrap();
        replace(l, 1, none);
    });
    corrupt("no classes of columns", &|l| {
        let none = entropy::encode_symbols(&[], &entropy::Model::none(), 1 << 18).unwrap();
        replace(l, 2, none);
    });
    corrupt("streams missing", &|l| {
        l.spec.streams.truncate(5);
        l.chunks.truncate(5);
    });
    let table = Table::from_counts(&[5, 4, 3]);
    for tables in [0, 1, 3] {
        corrupt("a number of tables that does not fit", &|l| {
            let mut side = SideWriter::new();
            side.varint(0);
            side.varint(0);
            side.tables(&vec![table.clone(); tables]).unwrap();
            replace(l, 0, entropy::encode_bytes(&side.into_bytes(), 1, 1 << 18).unwrap());
        });
    }
    corrupt("too many shifts", &|l| {
        let mut side = SideWriter::new();
        side.varint(16);
        side.bytes(&[0; 16]);
        side.varint(0);
        side.tables(&[table.clone(), table.clone()]).unwrap();
        replace(l, 0, entropy::encode_bytes(&side.into_bytes(), 1, 1 << 18).unwrap());
    });
    for step in [0.0, -1.0, f32::NAN, f32::INFINITY, 7e35] {
        corrupt("a step out of range", &|l| {
            let params = Params { step, ..l.spec.params().unwrap() };
            l.spec.params = LeafSpec::new("trellis", 1, l.spec.dtype, &l.spec.shape, &params).unwrap().params;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ranges_are_slices_of_the_whole(
        rows in 1usize..40, columns in 1usize..200, seed: u64, bits in 0.3f64..7.0, spread in 0i32..4,
        a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let mut values = gaussian(rows * columns, seed);
        for (i, row) in values.chunks_mut(columns).enumerate() {
            let scale = 2f32.powi(i as i32 % 4 * spread);
            row.iter_mut().for_each(|x| *x *= scale);
        }
        let (leaf, fit) = encode(&values, &[rows as u64, columns as u64], Target::BitsPerWeight(bits));
        let whole = decode(&leaf);
        prop_assert!((relative_mse(&values, &whole) / fit.relative_mse - 1.0).abs() < 1e-6);
        let (a, b) = (a.index(values.len()), b.index(values.len()));
        let range = a.min(b)..a.max(b);
        let mut part = vec![0.0; range.len()];
        trellis::decode(&leaf, range.start as u64..range.end as u64, &mut part).unwrap();
        prop_assert_eq!(&part[..], &whole[range]);
    }

    #[test]
    fn damaged_leaves_never_panic(stream in 0usize..6, at: prop::sample::Index, value: u8, cut: bool) {
        thread_local!(static LEAF: EncodedLeaf = a_leaf());
        let mut leaf = LEAF.with(Clone::clone);
        if let Some(chunk) = leaf.chunks[stream].first_mut() {
            let bytes = chunk.bytes.to_mut();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] = value }
            }
        }
        let mut out = vec![0.0; 5000];
        let _ = trellis::decode(&leaf, 0..5000, &mut out);
        prop_assert!(out.iter().all(|v| v.is_finite()));
    }

    #[test]
    fn damaged_parameters_never_panic(step: f32, run: u64, columns in 0u8..40, zero: bool, states: bool) {
        thread_local!(static LEAF: EncodedLeaf = a_leaf());
        let mut leaf = LEAF.with(Clone::clone);
        let params = Params { step, run, columns, zero, states };
        let spec = LeafSpec::new("trellis", 1, leaf.spec.dtype, &leaf.spec.shape, &params);
        leaf.spec.params = spec.unwrap().params;
        let _ = trellis::decode(&leaf, 0..5000, &mut vec![0.0; 5000]);
    }
}
