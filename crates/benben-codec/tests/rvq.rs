//! Round trips, targets and attacks of codec `rvq`.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "tests")]

use benben_codec::rvq::{self, Params, Settings};
use benben_codec::{Target, entropy, squared_error};
use benben_format::{Chunk, Dtype, EncodedLeaf, ErrorKind, LeafSource, LeafSpec, StreamKind};
use proptest::prelude::*;
use std::borrow::Cow;

/// SplitMix64: number `i` of a noise.
fn noise(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Nearly Gaussian values of variance 1: sums of twelve uniform ones.
fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let value = |i: usize| {
        (0..12).map(|j| noise(seed ^ (i as u64 * 12 + j)) as f64 / 2f64.powi(64)).sum::<f64>() - 6.0
    };
    (0..n).map(|i| value(i) as f32).collect()
}

fn decode(leaf: &EncodedLeaf) -> Vec<f32> {
    let mut out = vec![f32::NAN; leaf.spec.elements().unwrap() as usize];
    rvq::decode(leaf, 0..out.len() as u64, &mut out).unwrap();
    out
}

fn quick(target: Target) -> Settings<'static> {
    Settings { beam: 2, iterations: 3, ..Settings::new(target) }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Noise,
    Zero,
    Constant,
    Few,
    Outlier,
    Tiny,
}

/// Values, shape, settings.
fn case() -> impl Strategy<Value = (Vec<f32>, Vec<u64>, Settings<'static>)> {
    let kind = prop_oneof![
        4 => Just(Kind::Noise), 1 => Just(Kind::Zero), 1 => Just(Kind::Constant),
        1 => Just(Kind::Few), 1 => Just(Kind::Outlier), 1 => Just(Kind::Tiny),
    ];
    let target = prop_oneof![
        (1.0f64..8.0).prop_map(Target::BitsPerWeight),
        (0.00001f64..0.3).prop_map(Target::RelativeMse)
    ];
    let dim = proptest::option::of(prop_oneof![Just(1u8), Just(2), Just(3), Just(8)]);
    let codebooks = prop_oneof![4 => Just(None), 1 => Just(Some(&[7u16, 256, 2][..]))];
    let mapped = proptest::option::of(any::<bool>());
    (kind, target, (dim, mapped), codebooks, 0u64..12, 0u64..90, 1u16..4, any::<u64>()).prop_map(
        |(kind, target, (dim, mapped), codebooks, rows, columns, groups, seed)| {
            // One dimension has nothing to map.
            let dim = if mapped == Some(true) { Some(dim.unwrap_or(2).max(2)) } else { dim };
            // Groups need rows of whole vectors, at least one for each group.
            let columns = if groups > 1 { (columns + 3) * u64::from(dim.unwrap_or(1)) } else { columns };
            let n = (rows * columns) as usize;
            let mut values = gaussian(n, seed);
            match kind {
                Kind::Noise => {}
                Kind::Zero => values.fill(0.0),
                Kind::Constant => values.fill(-0.3),
                Kind::Few => values.iter_mut().for_each(|v| *v = v.round()),
                Kind::Outlier => values.iter_mut().step_by(50).for_each(|v| *v *= 1e4),
                Kind::Tiny => values.iter_mut().for_each(|v| *v *= 1e-25),
            }
            (
                values,
                vec![rows, columns],
                Settings { dim, groups, codebooks, mapped, seed, chunk_items: 100, ..quick(target) },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ranges_are_slices_of_the_whole((values, shape, settings) in case(), a in 0f64..1.0, b in 0f64..1.0) {
        let (leaf, fit) = rvq::encode(&values, &shape, &settings).unwrap();
        let whole = decode(&leaf);
        let (error, square) = squared_error(&values, &whole);
        prop_assert_eq!(fit.relative_mse, if error == 0.0 { 0.0 } else { error / square });
        prop_assert_eq!(fit.bits_per_weight, leaf.stored_bytes() as f64 * 8.0 / values.len().max(1) as f64);
        if let (Target::RelativeMse(y), None, None) = (settings.target, settings.codebooks, settings.mapped) {
            prop_assert!(fit.relative_mse <= y, "{} asked, {} reached", y, fit.relative_mse);
        }
        let (a, b) = ((a * values.len() as f64) as usize, (b * values.len() as f64) as usize);
        let range = a.min(b)..a.max(b);
        let mut part = vec![f32::NAN; range.len()];
        rvq::decode(&leaf, range.start as u64..range.end as u64, &mut part).unwrap();
        prop_assert_eq!(&part[..], &whole[range]);
    }

    #[test]
    fn any_side_information_is_read_or_refused(
        side in proptest::collection::vec(any::<u8>(), 0..300),
        params in (1u8..20, 1u16..3, 1u8..3, any::<bool>()),
    ) {
        let (dim, groups, stages, mapped) = params;
        let params = Params { dim, groups, stages, mapped };
        let width = u64::from(dim) * u64::from(groups);
        let streams = usize::from(groups) * usize::from(stages);
        let leaf = made(&params, &[5, width], &side, &vec![&[0u8, 1, 0, 2, 0][..]; streams]);
        let mut out = vec![0.0; 5 * width as usize];
        match rvq::decode(&leaf, 0..5 * width, &mut out) {
            Ok(()) => prop_assert!(!side.is_empty()),
            Err(e) => prop_assert_eq!(e.kind(), ErrorKind::Corruption),
        }
    }

    #[test]
    fn mutated_payloads_never_panic((values, shape, settings) in case(), at in any::<u64>(), byte in 1u8..) {
        let (mut leaf, _) = rvq::encode(&values, &shape, &settings).unwrap();
        let whole = decode(&leaf);
        let mut out = vec![0.0; values.len()];
        let stream = at as usize % leaf.chunks.len();
        let Some(chunk) = leaf.chunks[stream].first_mut().filter(|c| !c.bytes.is_empty()) else { return Ok(()) };
        let len = chunk.bytes.len();
        // The checksum above catches this; here it must end in values or in an error.
        chunk.bytes.to_mut()[(at >> 8) as usize % len] ^= byte;
        if rvq::decode(&leaf, 0..out.len() as u64, &mut out).is_err() {
            let chunk = leaf.chunks[stream][0].bytes.to_mut();
            chunk[(at >> 8) as usize % len] ^= byte;
            rvq::decode(&leaf, 0..out.len() as u64, &mut out).unwrap();
            prop_assert_eq!(&out, &whole);
        }
        leaf.chunks[stream][0].bytes.to_mut().truncate(len - 1);
        let _ = rvq::decode(&leaf, 0..out.len() as u64, &mut out);
    }
}

#[test]
fn bits_per_weight_are_met_on_small_matrices() {
    for (shape, seed) in [([384, 384], 1u64), ([1024, 128], 2)] {
        let values = gaussian((shape[0] * shape[1]) as usize, seed);
        for bits in [1.5, 2.5, 4.0, 8.0] {
            let settings = Settings::new(Target::BitsPerWeight(bits));
            let (_, fit) = rvq::encode(&values, &shape, &settings).unwrap();
            let found = fit.bits_per_weight;
            assert!((found / bits - 1.0).abs() < 0.02, "{bits} bits asked, {found} found");
            assert!(fit.db_above_gaussian_bound() < 1.8, "{bits}: {} dB", fit.db_above_gaussian_bound());
        }
    }
}

#[test]
fn forced_dimensions_meet_their_targets_too() {
    let values = gaussian(1 << 17, 3);
    for dim in [2, 4, 8] {
        for bits in [2.0, 3.0] {
            let settings = Settings { dim: Some(dim), ..quick(Target::BitsPerWeight(bits)) };
            let (leaf, fit) = rvq::encode(&values, &[1 << 17], &settings).unwrap();
            assert_eq!(leaf.spec.params::<Params>().unwrap().dim, dim);
            assert!((fit.bits_per_weight / bits - 1.0).abs() < 0.03, "dim {dim}, {bits} bits: {fit:?}");
        }
    }
}

#[test]
fn dependent_elements_are_worth_a_dimension() {
    // Pairs on a circle: one number tells both.
    let angles = gaussian(20_000, 4);
    let values: Vec<f32> = angles.iter().flat_map(|a| [(3.0 * a).sin(), (3.0 * a).cos()]).collect();
    let fit = |dim| {
        let settings = Settings { dim, ..quick(Target::BitsPerWeight(2.0)) };
        let (leaf, fit) = rvq::encode(&values, &[20_000, 2], &settings).unwrap();
        (leaf.spec.params::<Params>().unwrap().dim, fit)
    };
    let ((free, best), (_, single)) = (fit(None), fit(Some(1)));
    assert!(free > 1 && best.relative_mse < 0.6 * single.relative_mse, "dim {free}: {best:?}, {single:?}");
}

#[test]
fn groups_with_different_ranges_gain_from_books_of_their_own() {
    let mut values = gaussian(64 * 512, 5);
    values.chunks_mut(64).for_each(|row| row[32..].iter_mut().for_each(|v| *v *= 0.05));
    let error = |groups| {
        let settings = Settings { groups, dim: Some(4), ..quick(Target::BitsPerWeight(2.0)) };
        rvq::encode(&values, &[512, 64], &settings).unwrap().1.db_above_gaussian_bound()
    };
    assert!(error(2) < error(1) - 0.3, "{} against {}", error(2), error(1));
}

#[test]
fn important_elements_are_nearer() {
    let values = gaussian(1 << 14, 6);
    let weights: Vec<f32> = (0..values.len()).map(|i| if i % 4 == 0 { 30.0 } else { 1.0 }).collect();
    let share = |weights| {
        let settings = Settings { weights, dim: Some(4), ..quick(Target::BitsPerWeight(2.0)) };
        let decoded = decode(&rvq::encode(&values, &[1 << 14], &settings).unwrap().0);
        let errors = values.iter().zip(&decoded).map(|(a, b)| (a - b) * (a - b));
        let heavy: f32 = errors.clone().step_by(4).sum();
        heavy / errors.sum::<f32>()
    };
    assert!(share(Some(&weights[..])) < 0.5 * share(None), "{} {}", share(Some(&weights[..])), share(None));
}

#[test]
fn threads_and_repetition_change_nothing() {
    let values = gaussian(40_000, 7);
    let settings = Settings { dim: Some(4), ..quick(Target::BitsPerWeight(2.5)) };
    let encode = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| rvq::encode(&values, &[40_000], &settings).unwrap().0)
    };
    let one = encode(1);
    assert_eq!(one, encode(3));
    let other = rvq::encode(&values, &[40_000], &Settings { seed: 1, ..settings }).unwrap().0;
    assert_ne!(one, other);
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let usual = quick(Target::BitsPerWeight(3.0));
    let refused = |values: &[f32], shape: &[u64], settings: Settings<'_>, says: &str| {
        let e = rvq::encode(values, shape, &settings).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.message().contains(says), "{e}");
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        refused(&[0.0, 1.0, bad, 2.0], &[4], usual, "value 2");
    }
    let v = [1.0, 2.0, 3.0, 4.0];
    refused(&v, &[5], usual, "5 elements");
    refused(&v, &[4], Settings { dim: Some(0), ..usual }, "dim is 0");
    refused(&v, &[4], Settings { groups: 0, ..usual }, "groups is 0");
    refused(&v, &[4], Settings { groups: 5, ..usual }, "5 groups");
    refused(&v, &[4], Settings { groups: 2, dim: Some(3), ..usual }, "2 groups");
    refused(&v, &[4], Settings { codebooks: Some(&[]), ..usual }, "stages");
    refused(&v, &[4], Settings { codebooks: Some(&[257]), ..usual }, "257");
    refused(&v, &[4], Settings { beam: 9, ..usual }, "beam is 9");
    refused(&v, &[4], Settings { mapped: Some(true), dim: Some(1), ..usual }, "nothing to map");
    refused(&v, &[4], Settings { weights: Some(&[1.0]), ..usual }, "1 weights for 4");
    refused(&v, &[4], Settings { weights: Some(&[1.0, -1.0, 1.0, 1.0]), ..usual }, "weight 1");
    refused(&v, &[4], quick(Target::BitsPerWeight(f64::NAN)), "target");
    refused(&v, &[4], quick(Target::RelativeMse(0.0)), "target");
}

fn sample() -> EncodedLeaf {
    let settings = Settings {
        dim: Some(2),
        groups: 2,
        codebooks: Some(&[9, 5]),
        mapped: Some(false),
        chunk_items: 100,
        ..quick(Target::BitsPerWeight(2.0))
    };
    rvq::encode(&gaussian(60 * 40, 8), &[60, 40], &settings).unwrap().0
}

/// A leaf of these codebooks and symbols.
fn made(params: &Params, shape: &[u64], side: &[u8], symbols: &[&[u8]]) -> EncodedLeaf {
    let spec = LeafSpec::new(rvq::CODEC, rvq::VERSION, Dtype::F32, shape, params).unwrap();
    let mut leaf = EncodedLeaf::new(spec);
    let (stream, chunks) = entropy::encode_bytes(side, 1, entropy::CHUNK_ITEMS).unwrap();
    leaf.push(stream, chunks);
    for symbols in symbols {
        let (stream, chunks) = entropy::encode_symbols(symbols, &entropy::Model::none(), 100).unwrap();
        leaf.push(stream, chunks);
    }
    leaf
}

#[test]
fn the_examples_of_the_specification() {
    let params = Params { dim: 2, groups: 1, stages: 1, mapped: false };
    let plain = [1, 0, 0, 0, 0x3f, 2, 1, 0x9b, 2, 0];
    assert_eq!(decode(&made(&params, &[2, 2], &plain, &[&[1, 0]])), [1.0, 0.0, -1.5, 0.5]);
    let params = Params { mapped: true, ..params };
    let mapped = [1, 0, 0, 0, 0x3f, 0, 1, 0x9b, 1, 0];
    assert_eq!(decode(&made(&params, &[2, 2], &mapped, &[&[1, 0]])), [761.0, -416.0, 90.0, -5.0]);
}

#[test]
fn small_correlated_tensors_take_maps_and_others_words() {
    // Vectors of 8 whose elements follow each other with correlation 0.9.
    let independent = gaussian(1 << 16, 9);
    let mut values = independent[..1 << 14].to_vec();
    for row in values.chunks_exact_mut(8) {
        (1..8).for_each(|i| row[i] = 0.9 * row[i - 1] + 0.19f32.sqrt() * row[i]);
    }
    let encode = |values: &[f32], mapped| {
        let settings = Settings { mapped, ..Settings::new(Target::BitsPerWeight(2.0)) };
        let (leaf, fit) = rvq::encode(values, &[values.len() as u64], &settings).unwrap();
        (leaf.spec.params::<Params>().unwrap().mapped, fit.db_above_gaussian_bound())
    };
    let ((free, chosen), (none, plain)) = (encode(&values, None), encode(&values, Some(false)));
    assert!(free && !none && chosen < plain - 0.3, "{chosen} dB mapped, {plain} dB plain");
    assert!(!encode(&independent, None).0 && encode(&independent[..1 << 12], Some(true)).0);
}

#[test]
fn side_information_is_bounded_by_the_size_of_the_tensor() {
    let good = sample();
    let params: Params = good.spec.params().unwrap();
    // 60 x 40 elements, two groups of two stages over 600 vectors of 2: 4 (32 + 256 * 17).
    let most = |leaf: &EncodedLeaf| {
        let refused = |items: u64| {
            let mut leaf = leaf.clone();
            leaf.spec.streams[0].items = items;
            let e = rvq::decode(&leaf, 0..0, &mut []).unwrap_err();
            e.message().contains("bytes of codebooks")
        };
        (0..40).rev().fold(0, |most, bit| if refused(most + (1 << bit)) { most } else { most + (1 << bit) })
    };
    assert_eq!(most(&good), 4 * (32 + 256 * 17));
    let mut mapped = good.clone();
    let spec =
        LeafSpec::new(rvq::CODEC, rvq::VERSION, Dtype::F32, &[60, 40], &Params { mapped: true, ..params });
    mapped.spec = LeafSpec { streams: good.spec.streams.clone(), ..spec.unwrap() };
    assert_eq!(most(&mapped), 4 * (800 + 7 * 4));
    // Many stages of wide vectors: 4 n + 2^16 is the least.
    let params = Params { dim: 200, groups: 1, stages: 100, mapped: false };
    let symbols = [0; 50];
    let wide = made(&params, &[50, 200], &[0], &vec![&symbols[..]; 100]);
    assert_eq!(most(&wide), 4 * 10_000 + (1 << 16));
}

#[test]
fn codewords_out_of_range_are_refused() {
    for (mapped, side) in
        [(false, [1, 0, 0, 0, 0x3f, 2, 1, 0x9b, 2, 0]), (true, [1, 0, 0, 0, 0x3f, 0, 1, 0x9b, 1, 0])]
    {
        let params = Params { dim: 2, groups: 1, stages: 1, mapped };
        for (step, good) in
            [(1e34f32, true), (f32::MAX, false), (0.0, false), (-1.0, false), (f32::NAN, false)]
        {
            let mut side = side;
            side[1..5].copy_from_slice(&step.to_le_bytes());
            let leaf = made(&params, &[2, 2], &side, &[&[1, 0]]);
            match rvq::decode(&leaf, 0..4, &mut [0.0; 4]) {
                Ok(()) => assert!(good),
                Err(e) => assert!(!good && e.kind() == ErrorKind::Corruption, "{e}"),
            }
        }
    }
}

fn refused(leaf: &EncodedLeaf, kind: ErrorKind) {
    let mut out = vec![0.0; 80];
    let e = rvq::decode(leaf, 0..80, &mut out).unwrap_err();
    assert_eq!(e.kind(), kind, "{e}");
}

#[test]
fn specs_that_contradict_themselves_are_refused() {
    let good = sample();
    let with = |params: Params, shape: &[u64]| {
        let mut leaf = good.clone();
        let spec = LeafSpec::new(rvq::CODEC, rvq::VERSION, Dtype::F32, shape, &params).unwrap();
        leaf.spec = LeafSpec { streams: good.spec.streams.clone(), ..spec };
        leaf
    };
    let params: Params = good.spec.params().unwrap();
    for bad in [
        Params { dim: 0, ..params },
        Params { groups: 0, ..params },
        Params { stages: 0, ..params },
        Params { stages: 3, ..params },
        Params { dim: 4, ..params },
        Params { groups: 4, stages: 1, ..params },
        Params { groups: 1, stages: 4, ..params },
    ] {
        refused(&with(bad, &[60, 40]), ErrorKind::Corruption);
    }
    refused(&with(params, &[60, 42]), ErrorKind::Corruption);
    refused(&with(params, &[1 << 40, 40]), ErrorKind::Corruption);
    let mut leaf = good.clone();
    leaf.spec.version = 2;
    refused(&leaf, ErrorKind::Compatibility);
    let mut leaf = good.clone();
    leaf.spec.streams.pop();
    refused(&leaf, ErrorKind::Corruption);
    let mut leaf = good;
    leaf.spec.streams[0].items = 1 << 40;
    refused(&leaf, ErrorKind::Corruption);
}

#[test]
fn symbols_without_a_codeword_are_refused() {
    let mut leaf = sample();
    let items = leaf.spec.streams[1].items;
    let symbols: Vec<u8> = (0..items).map(|i| if i == 7 { 9 } else { 0 }).collect();
    let (spec, chunks) = entropy::encode_symbols(&symbols, &entropy::Model::none(), 100).unwrap();
    leaf.spec.streams[1] = spec;
    leaf.chunks[1] = chunks;
    refused(&leaf, ErrorKind::Corruption);
    // Where the bad symbol is not in the range, nothing is wrong.
    rvq::decode(&leaf, 40..80, &mut [0.0; 40]).unwrap();
}

#[test]
fn ranges_are_checked() {
    let leaf = sample();
    for range in [0..2401, 2401..2401, u64::MAX - 3..u64::MAX] {
        let mut out = vec![0.0; range.clone().count()];
        let e = rvq::decode(&leaf, range, &mut out).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
    assert!(rvq::decode(&leaf, 0..4, &mut [0.0; 3]).is_err());
}

/// Counts the chunks that a decoder asks for.
struct Counting<'a>(&'a EncodedLeaf, std::sync::Mutex<Vec<(usize, u64)>>);

impl LeafSource for Counting<'_> {
    fn spec(&self) -> &LeafSpec {
        self.0.spec()
    }
    fn chunk(&self, stream: usize, index: u64) -> benben_format::Result<Chunk<'_>> {
        self.1.lock().unwrap().push((stream, index));
        let chunk = self.0.chunk(stream, index)?;
        Ok(Chunk { mode: chunk.mode, bytes: Cow::Owned(chunk.bytes.into_owned()) })
    }
}

#[test]
fn a_row_reads_only_its_chunks() {
    let leaf = sample();
    assert!(leaf.spec.streams[1..].iter().all(|s| s.kind == StreamKind::Symbols && s.chunks() == 6));
    let source = Counting(&leaf, std::sync::Mutex::default());
    // Row 31: symbols 310 to 320 of each group.
    rvq::decode(&source, 31 * 40..32 * 40, &mut [0.0; 40]).unwrap();
    let mut read = source.1.into_inner().unwrap();
    read.sort_unstable();
    assert_eq!(read, [(0, 0), (1, 3), (2, 3), (3, 3), (4, 3)]);
}
