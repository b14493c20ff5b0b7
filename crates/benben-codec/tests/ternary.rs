//! Codec `ternary`: round trips, ranges, stacks, both coders, and leaves that lie.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "tests")]

use benben_codec::{Fit, Target, squared_error, ternary};
use benben_format::{Chunk, EncodedLeaf, ErrorKind, Mode};
use proptest::prelude::*;

/// SplitMix64: number `i` of a noise.
fn noise(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Weights whose law is near a Gaussian (a sum of eight uniform bytes), in rows of unequal size.
fn weights(count: usize, row: usize, seed: u64) -> Vec<f32> {
    (0..count)
        .map(|i| {
            let sum: i32 = noise(seed ^ i as u64).to_le_bytes().iter().map(|&b| i32::from(b)).sum();
            let size = 1.0 + (noise(seed.wrapping_add((i / row) as u64)) % 4) as f32;
            (sum - 1020) as f32 / 209.0 * size * 0.02
        })
        .collect()
}

/// Weights of which all but `zeros` in a thousand are +-1.
fn sparse(count: usize, zeros: u64, seed: u64) -> Vec<f32> {
    (0..count as u64)
        .map(|i| match noise(seed ^ i) % 2000 {
            x if x / 2 < zeros => 0.0,
            x => {
                if x % 2 == 0 {
                    1.0
                } else {
                    -1.0
                }
            }
        })
        .collect()
}

fn sum(leaves: &[EncodedLeaf], count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count];
    for leaf in leaves {
        let mut own = vec![f32::NAN; count];
        ternary::decode(leaf, 0..count as u64, &mut own).unwrap();
        out.iter_mut().zip(own).for_each(|(o, v)| *o += v);
    }
    out
}

/// The fit must be that of the sum.
fn check(values: &[f32], leaves: &[EncodedLeaf], fit: Fit) {
    let (error, energy) = squared_error(values, &sum(leaves, values.len()));
    let mse = if energy > 0.0 { error / energy } else { error };
    assert!((mse - fit.relative_mse).abs() <= 1e-9 * mse, "{mse} {fit:?}");
    if !values.is_empty() {
        let bytes: u64 = leaves.iter().map(EncodedLeaf::stored_bytes).sum();
        assert!((bytes as f64 * 8.0 / values.len() as f64 - fit.bits_per_weight).abs() < 1e-9, "{fit:?}");
    }
}

fn coder(leaf: &EncodedLeaf) -> String {
    format!("{:?}", leaf.spec.params)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn planes_come_back_whole_and_in_part(
        rows in 1usize..40, columns in 1usize..300, seed: u64, error in 0.2f64..6.0, from: u64, to: u64,
    ) {
        let values = weights(rows * columns, columns, seed);
        let settings = ternary::Settings::new(Target::RelativeMse((-2.0 * error).exp2()));
        let (leaves, fit) = ternary::encode_planes(&values, &[rows as u64, columns as u64], &settings).unwrap();
        check(&values, &leaves, fit);
        prop_assert!(fit.relative_mse <= (-2.0 * error).exp2());
        let count = values.len() as u64;
        let (from, to) = (from % (count + 1), to % (count + 1));
        let (from, to) = (from.min(to), from.max(to));
        for leaf in &leaves {
            let mut whole = vec![f32::NAN; values.len()];
            ternary::decode(leaf, 0..count, &mut whole).unwrap();
            let mut part = vec![f32::NAN; (to - from) as usize];
            ternary::decode(leaf, from..to, &mut part).unwrap();
            prop_assert_eq!(&part[..], &whole[from as usize..to as usize]);
        }
    }

    #[test]
    fn damaged_leaves_never_panic(
        seed: u64, zeros in 0u64..1000, tiny: bool,
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..5, any::<u8>()), 1..4),
    ) {
        // Tiny tensors of many zeros are the dictionary's.
        let count = if tiny { 900 } else { 9000 };
        let values = sparse(count, if tiny { 880 } else { zeros }, seed);
        let settings = ternary::Settings::new(Target::RelativeMse(1e-2));
        let (mut leaf, _) = ternary::encode(&values, &[count as u64 / 100, 100], &settings).unwrap();
        for (stream, place, kind, byte) in hits {
            let stream = stream.index(leaf.chunks.len());
            let spec = &mut leaf.spec.streams[stream];
            if kind == 0 {
                spec.items = spec.items.wrapping_add(u64::from(byte % 3)).wrapping_sub(1);
                continue;
            }
            if kind == 1 {
                spec.chunk_items = spec.chunk_items / 2 + u32::from(byte % 3);
                continue;
            }
            let chunks = &mut leaf.chunks[stream];
            if chunks.is_empty() {
                continue;
            }
            let chunk = place.index(chunks.len());
            let mut bytes = chunks[chunk].bytes.to_vec();
            let mut mode = chunks[chunk].mode;
            match kind {
                2 if !bytes.is_empty() => {
                    let at = place.index(bytes.len());
                    bytes[at] = byte;
                }
                3 => bytes.truncate(place.index(bytes.len() + 1)),
                _ => mode = Mode::from_u8(byte % 5).unwrap(),
            }
            chunks[chunk] = Chunk::new(mode, bytes);
        }
        let mut out = vec![0.0; count];
        let _ = ternary::decode(&leaf, 0..count as u64, &mut out);
        let _ = ternary::decode(&leaf, 301..302, &mut out[..1]);
    }
}

#[test]
fn rates_of_one_plane_follow_the_threshold() {
    // Rows of one size: where they differ, all rows' best threshold is at a lower rate.
    let values = weights(300 * 512, 300 * 512, 1);
    let mut before = 1.0;
    for bits in [0.1, 0.3, 0.6, 1.0, 1.3, 1.5] {
        let settings = ternary::Settings::new(Target::BitsPerWeight(bits));
        let (leaf, fit) = ternary::encode(&values, &[300, 512], &settings).unwrap();
        check(&values, std::slice::from_ref(&leaf), fit);
        assert!(fit.bits_per_weight <= bits && fit.bits_per_weight > 0.97 * bits, "{bits}: {fit:?}");
        assert!(fit.relative_mse < before && fit.db_above_gaussian_bound() < 2.2, "{bits}: {fit:?}");
        before = fit.relative_mse;
        let (planes, same) = ternary::encode_planes(&values, &[300, 512], &settings).unwrap();
        assert!(planes == [leaf] && same == fit, "{bits}: one plane suffices, found {}", planes.len());
    }
}

#[test]
fn stacks_meet_rates_within_three_percent() {
    let values = weights(300 * 512, 512, 2);
    for bits in [1.5, 2.0, 3.0, 4.0, 5.5, 8.0] {
        let settings = ternary::Settings::new(Target::BitsPerWeight(bits));
        let (leaves, fit) = ternary::encode_planes(&values, &[300, 512], &settings).unwrap();
        check(&values, &leaves, fit);
        assert!(fit.bits_per_weight <= bits && fit.bits_per_weight > 0.97 * bits, "{bits}: {fit:?}");
        assert!(fit.db_above_gaussian_bound() < 3.5, "{bits}: {} dB", fit.db_above_gaussian_bound());
        assert!((leaves.len() as f64) < bits / 1.5 + 1.5, "{bits}: {} planes", leaves.len());
    }
}

#[test]
fn sparse_weights_take_less_than_a_bit_by_either_coder() {
    for (zeros, most) in [(830, 1.0), (885, 0.78), (950, 0.62)] {
        let values = sparse(512 * 1024, zeros, 3);
        let settings = ternary::Settings::new(Target::RelativeMse(1e-2));
        let (leaf, fit) = ternary::encode(&values, &[512, 1024], &settings).unwrap();
        check(&values, std::slice::from_ref(&leaf), fit);
        assert!(coder(&leaf).contains("symbols"), "{zeros}: rANS is the smaller");
        assert!(fit.bits_per_weight < most, "{zeros}: {fit:?}");
    }
}

#[test]
fn small_sparse_tensors_go_to_the_dictionary_and_give_single_rows() {
    let values = sparse(20 * 71, 900, 4);
    let settings = ternary::Settings::new(Target::RelativeMse(1e-2));
    let (leaf, fit) = ternary::encode(&values, &[20, 71], &settings).unwrap();
    assert!(coder(&leaf).contains("dictionary"), "{fit:?}");
    check(&values, std::slice::from_ref(&leaf), fit);
    for row in 0..20u64 {
        let mut out = [f32::NAN; 71];
        ternary::decode(&leaf, row * 71..(row + 1) * 71, &mut out).unwrap();
        let expected = &values[row as usize * 71..(row as usize + 1) * 71];
        assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.04), "row {row}");
    }
}

#[test]
fn outliers_do_not_silence_the_rest() {
    let mut values = weights(200 * 256, 256, 5);
    values[777] = 40.0;
    let settings = ternary::Settings::new(Target::BitsPerWeight(8.0));
    let (leaves, fit) = ternary::encode_planes(&values, &[200, 256], &settings).unwrap();
    check(&values, &leaves, fit);
    let out = sum(&leaves, values.len());
    let (error, energy) = squared_error(&values[1024..], &out[1024..]);
    assert!(error / energy < 1e-2, "{}", error / energy);
}

#[test]
fn degenerate_tensors_come_back() {
    for (values, shape) in [
        (vec![], vec![0]),
        (vec![], vec![3, 0]),
        (vec![0.0; 1000], vec![10, 100]),
        (vec![2.5], vec![]),
        (vec![-1e-40; 7], vec![7]),
        (vec![1e33; 77], vec![7, 11]),
        (vec![0.25; 70_000], vec![70_000]),
    ] {
        let settings = ternary::Settings::new(Target::RelativeMse(1e-2));
        let (leaves, fit) = ternary::encode_planes(&values, &shape, &settings).unwrap();
        check(&values, &leaves, fit);
        assert!(fit.relative_mse <= 1e-2, "{shape:?}: {fit:?}");
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let near = ternary::Settings::new(Target::RelativeMse(0.3));
    let mut values = weights(1000, 100, 1);
    for bad in [f32::NAN, f32::NEG_INFINITY, 1e34] {
        values[321] = bad;
        let e = ternary::encode(&values, &[1000], &near).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.message().contains("321"), "{e}");
    }
    values[321] = 0.0;
    let refused = |shape: &[u64], target| {
        let e = ternary::encode(&values, shape, &ternary::Settings::new(target)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    };
    refused(&[999], Target::RelativeMse(0.3));
    refused(&[1000], Target::RelativeMse(f64::NAN));
    refused(&[1000], Target::BitsPerWeight(0.0));

    // Out of reach, the nearest is given: one plane leaves a fifth of a Gaussian, and tables take what they take.
    let nearest = |target| ternary::encode(&values, &[1000], &ternary::Settings::new(target)).unwrap().1;
    assert!(nearest(Target::RelativeMse(0.05)).relative_mse < 0.25);
    assert!(nearest(Target::BitsPerWeight(0.1)).bits_per_weight < 1.0);

    let (mut leaf, _) = ternary::encode(&values, &[1000], &near).unwrap();
    let mut out = [0.0; 10];
    for range in [991..1001, 0..9, 0..11, u64::MAX - 10..u64::MAX] {
        assert_eq!(ternary::decode(&leaf, range, &mut out).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    leaf.spec.version = 2;
    assert_eq!(ternary::decode(&leaf, 0..10, &mut out).unwrap_err().kind(), ErrorKind::Compatibility);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let values = weights(300 * 300, 300, 11);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let settings = ternary::Settings::new(Target::BitsPerWeight(2.5));
        pool.install(|| ternary::encode_planes(&values, &[300, 300], &settings).unwrap())
    };
    assert!(with(1) == with(3));
}
