//! Codec `pvq`: round trips, ranges, targets, and leaves that lie.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "tests")]

use benben_codec::{Fit, Target, pvq, squared_error};
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
            let size = 1.0 + (noise(seed.wrapping_add((i / row) as u64)) % 8) as f32;
            (sum - 1020) as f32 / 209.0 * size * 0.02
        })
        .collect()
}

fn settings(target: Target, dim: u8, chunk_groups: u32) -> pvq::Settings {
    pvq::Settings { dim, chunk_groups, ..pvq::Settings::new(target) }
}

fn form() -> impl Strategy<Value = Option<pvq::Form>> {
    prop_oneof![Just(None), Just(Some(pvq::Form::Numbered)), Just(Some(pvq::Form::Pulses))]
}

fn decode(leaf: &EncodedLeaf) -> Vec<f32> {
    let mut out = vec![f32::NAN; leaf.spec.elements().unwrap() as usize];
    pvq::decode(leaf, 0..out.len() as u64, &mut out).unwrap();
    out
}

/// The fit must be that of the decoded values.
fn check(values: &[f32], leaf: &EncodedLeaf, fit: Fit) -> Vec<f32> {
    let out = decode(leaf);
    let (error, energy) = squared_error(values, &out);
    let mse = if energy > 0.0 { error / energy } else { error };
    assert!((mse - fit.relative_mse).abs() <= 1e-9 * mse, "{mse} {fit:?}");
    if !values.is_empty() {
        let bits = leaf.stored_bytes() as f64 * 8.0 / values.len() as f64;
        assert!((bits - fit.bits_per_weight).abs() < 1e-12, "{bits} {fit:?}");
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn leaves_come_back_whole_and_in_part(
        rows in 1usize..40, columns in 1usize..200, seed: u64, dim in 1u8..=32,
        error in 0.5f64..14.0, chunk_groups in prop_oneof![1u32..9, 9u32..2000], form in form(), from: u64, to: u64,
    ) {
        let values = weights(rows * columns, columns, seed);
        let target = Target::RelativeMse((-2.0 * error).exp2());
        let settings = pvq::Settings { form, ..settings(target, dim, chunk_groups) };
        let (leaf, fit) = pvq::encode(&values, &[rows as u64, columns as u64], &settings).unwrap();
        let out = check(&values, &leaf, fit);
        // Pulses go to 127 steps, about 6 bits.
        prop_assert!(
            fit.relative_mse <= (-2.0 * error).exp2() || (form == Some(pvq::Form::Pulses) && error > 4.0)
        );
        let count = values.len() as u64;
        let (from, to) = (from % (count + 1), to % (count + 1));
        let (from, to) = (from.min(to), from.max(to));
        let mut part = vec![f32::NAN; (to - from) as usize];
        pvq::decode(&leaf, from..to, &mut part).unwrap();
        prop_assert_eq!(&part[..], &out[from as usize..to as usize]);
    }

    #[test]
    fn damaged_leaves_never_panic(
        seed: u64, dim in 1u8..=32, bits in 3.0f64..9.0, chunk_groups in 50u32..3000, form in form(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..5, any::<u8>()), 1..4),
    ) {
        let values = weights(60 * 100, 100, seed);
        let target = Target::RelativeMse((-2.0 * bits).exp2());
        let settings = pvq::Settings { form, ..settings(target, dim, chunk_groups) };
        let (mut leaf, _) = pvq::encode(&values, &[60, 100], &settings).unwrap();
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
        let mut out = vec![0.0; values.len()];
        let _ = pvq::decode(&leaf, 0..6000, &mut out);
        let _ = pvq::decode(&leaf, 3001..3002, &mut out[..1]);
    }
}

#[test]
fn rates_are_met_within_one_percent_from_below() {
    let values = weights(512 * 384, 384, 7);
    for bits in [1.0, 1.5, 2.0, 2.7, 3.3, 4.0, 5.0, 6.0, 8.0] {
        let encode = |form| {
            let settings = pvq::Settings { form, ..pvq::Settings::new(Target::BitsPerWeight(bits)) };
            let (leaf, fit) = pvq::encode(&values, &[512, 384], &settings).unwrap();
            check(&values, &leaf, fit);
            assert!(fit.bits_per_weight <= bits && fit.bits_per_weight > 0.99 * bits, "{bits}: {fit:?}");
            fit.db_above_gaussian_bound()
        };
        let (smaller, numbered) = (encode(None), encode(Some(pvq::Form::Numbered)));
        assert!(numbered < 1.8 && smaller <= numbered + 0.02, "{bits}: {smaller} of {numbered} dB");
        if bits < 5.5 {
            let pulses = encode(Some(pvq::Form::Pulses));
            assert!(smaller == pulses && pulses < numbered - 0.05, "{bits}: {pulses} of {numbered} dB");
        }
    }
}

/// Groups that hold one large value each are far from a law of pulses of their own, and a step for all of them would
/// need more than 127 pulses.
#[test]
fn wide_ranges_are_numbered() {
    let values: Vec<f32> =
        (0..4096u64).map(|i| (noise(i) % 1000) as f32 * if i / 16 % 5 == 0 { 1.0 } else { 1e-4 }).collect();
    let settings = pvq::Settings::new(Target::RelativeMse(1e-9));
    let (leaf, fit) = pvq::encode(&values, &[64, 64], &settings).unwrap();
    check(&values, &leaf, fit);
    assert_eq!(leaf.spec.streams.len(), 6);
    assert!(fit.relative_mse <= 1e-9);
}

#[test]
fn errors_are_met_with_few_bits() {
    let values = weights(256 * 256, 256, 3);
    for error in [0.3, 0.05, 1e-2, 1e-4, 1e-7] {
        let target = Target::RelativeMse(error);
        let (leaf, fit) = pvq::encode(&values, &[256, 256], &pvq::Settings::new(target)).unwrap();
        check(&values, &leaf, fit);
        assert!(fit.relative_mse <= error && fit.relative_mse > 0.9 * error, "{error}: {fit:?}");
        // Past 10 bits the largest number of pulses, 4096, begins to bind.
        let most = if error < 1e-6 { 3.0 } else { 1.9 };
        assert!(fit.db_above_gaussian_bound() < most, "{error}: {} dB", fit.db_above_gaussian_bound());
    }
}

#[test]
fn degenerate_tensors_come_back() {
    let near = Target::RelativeMse(1e-3);
    for (values, shape) in [
        (vec![], vec![0]),
        (vec![], vec![3, 0]),
        (vec![0.0; 1000], vec![10, 100]),
        (vec![2.5], vec![]),
        (vec![-1e-40; 7], vec![7]),
        (vec![1e33; 77], vec![7, 11]),
        (vec![0.25; 4000], vec![4000]),
        ((0..3000).map(|i| if i == 1234 { 1e6 } else { 1e-3 }).collect(), vec![3000]),
    ] {
        let (leaf, fit) = pvq::encode(&values, &shape, &pvq::Settings::new(near)).unwrap();
        check(&values, &leaf, fit);
        assert!(fit.relative_mse <= 1e-3);
    }
}

#[test]
fn outliers_do_not_silence_the_rest() {
    let mut values = weights(200 * 256, 256, 5);
    values[777] = 40.0;
    let (leaf, fit) =
        pvq::encode(&values, &[200, 256], &pvq::Settings::new(Target::BitsPerWeight(8.0))).unwrap();
    let out = check(&values, &leaf, fit);
    let (error, energy) = squared_error(&values[1024..], &out[1024..]);
    assert!(error / energy < 1e-3, "{}", error / energy);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let settings = pvq::Settings::new(Target::BitsPerWeight(3.0));
    let mut values = weights(1000, 100, 1);
    for bad in [f32::NAN, f32::INFINITY, -1e34] {
        values[321] = bad;
        let e = pvq::encode(&values, &[1000], &settings).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.message().contains("321"), "{e}");
    }
    values[321] = 0.0;
    let refused = |shape: &[u64], s: pvq::Settings| {
        assert_eq!(pvq::encode(&values, shape, &s).unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    refused(&[999], settings);
    refused(&[1000], pvq::Settings { dim: 0, ..settings });
    refused(&[1000], pvq::Settings { dim: 33, ..settings });
    refused(&[1000], pvq::Settings { chunk_groups: 0, ..settings });
    refused(&[1000], pvq::Settings::new(Target::BitsPerWeight(f64::NAN)));
    refused(&[1000], pvq::Settings::new(Target::RelativeMse(-1.0)));

    // Out of reach, the nearest is given: tables take what they take, and f32 leaves what it leaves.
    let nearest = |target| pvq::encode(&values, &[1000], &pvq::Settings::new(target)).unwrap().1;
    assert!(nearest(Target::BitsPerWeight(0.1)).bits_per_weight < 1.0);
    assert!(nearest(Target::RelativeMse(1e-30)).relative_mse < 1e-6);

    let (mut leaf, _) =
        pvq::encode(&values, &[1000], &pvq::Settings::new(Target::RelativeMse(0.01))).unwrap();
    let mut out = [0.0; 10];
    for range in [991..1001, 0..9, 0..11, u64::MAX - 10..u64::MAX] {
        assert_eq!(pvq::decode(&leaf, range, &mut out).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    leaf.spec.version = 2;
    assert_eq!(pvq::decode(&leaf, 0..10, &mut out).unwrap_err().kind(), ErrorKind::Compatibility);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let values = weights(300 * 300, 300, 11);
    for form in [None, Some(pvq::Form::Numbered), Some(pvq::Form::Pulses)] {
        let settings = pvq::Settings { form, ..settings(Target::BitsPerWeight(2.5), 16, 1000) };
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (leaf, fit) = pvq::encode(&values, &[300, 300], &settings).unwrap();
                let decoded = decode(&leaf);
                (leaf, fit, decoded)
            })
        };
        assert!(with(1) == with(3));
    }
}
