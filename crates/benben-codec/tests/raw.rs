//! Codec `raw`: every dtype comes back bit for bit, in whatever layout, at about its entropy.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "tests")]

use benben_codec::raw::{self, Layout};
use benben_format::{Dtype, EncodedLeaf, ErrorKind};
use proptest::prelude::*;

/// SplitMix64.
fn noise(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes of elements of a kind: 0 any bits, 1 weights whose rows differ, 2 weights with special values, 3 small
/// integers, 4 one value, 5 weights that have been coarser, 6 few values, 7 small signed integers with a few large ones.
fn tensor(dtype: Dtype, n: usize, row: usize, kind: u8, seed: u64) -> Vec<u8> {
    let size = dtype.size();
    let any = |i: usize| noise(seed.wrapping_add(i as u64));
    let weight = |i: usize| {
        let sum: u32 = any(i).to_le_bytes().iter().map(|&b| u32::from(b)).sum();
        let fine = any(i + 1) as f64 / 2f64.powi(64);
        (f64::from(sum) + fine - 1020.5) / 1e4 * (1.0 + (any(i / row) % 5) as f64)
    };
    let float = |x: f64| -> u64 {
        match dtype {
            Dtype::F64 => x.to_bits(),
            Dtype::F16 | Dtype::BF16 | Dtype::F32 => {
                let bytes = dtype.from_f32(&[x as f32]).unwrap();
                bytes.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b))
            }
            _ => (x * 100.0) as i64 as u64,
        }
    };
    let value = |i: usize| match kind {
        0 => any(i),
        1 => float(weight(i)),
        2 => match any(i) % 97 {
            0 => float(f64::NAN) | any(i + 1) & 3,
            1 => float(f64::NEG_INFINITY),
            2 => float(-0.0),
            3 => 1,
            _ => float(weight(i)),
        },
        3 => any(i) % 30,
        5 => float(weight(i)) & u64::MAX << (4 * size),
        6 => float(weight((any(i) % 16) as usize)),
        7 => {
            let small = (any(i).count_ones() as i64) - 32;
            if any(i) % 101 == 0 { any(i + 1).cast_signed() >> 36 } else { small }.cast_unsigned()
        }
        _ => any(0),
    };
    (0..n).flat_map(|i| value(i).to_le_bytes().into_iter().take(size)).collect()
}

fn layout(leaf: &EncodedLeaf) -> Layout {
    leaf.spec.params().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_dtype_comes_back(
        dtype in prop::sample::select(&Dtype::ALL[..]), rows in 0usize..40, row in 1usize..130, kind in 0u8..8, seed: u64,
        chunk_items in 1u32..4000, cut in (any::<u16>(), any::<u16>()),
    ) {
        let n = rows * row;
        let bytes = tensor(dtype, n, row, kind, seed);
        let chunk_items = chunk_items.max(n as u32 / 20 + 1);
        let leaf = raw::encode_in_chunks(&bytes, dtype, &[rows as u64, row as u64], chunk_items).unwrap();
        let (a, b) = (usize::from(cut.0) % (n + 1), usize::from(cut.1) % (n + 1));
        for (a, b) in [(0, n), (a.min(b), a.max(b))] {
            let mut out = vec![0xaa; (b - a) * dtype.size()];
            raw::decode_bytes(&leaf, a as u64..b as u64, &mut out).unwrap();
            prop_assert_eq!(&out, &bytes[a * dtype.size()..b * dtype.size()]);
        }
        // Never much larger than the bytes themselves.
        prop_assert!(leaf.payload_bytes() <= bytes.len() as u64);
    }
}

/// Layout of `n` elements of a kind, and stored bits of an element.
fn bits(dtype: Dtype, n: usize, kind: u8) -> (Layout, f64) {
    let leaf = raw::encode(&tensor(dtype, n, 100, kind, 7), dtype, &[n as u64 / 100, 100]).unwrap();
    (layout(&leaf), leaf.stored_bytes() as f64 * 8.0 / n as f64)
}

/// Bits of the entropy of an element.
fn entropy(dtype: Dtype, n: usize, kind: u8) -> f64 {
    let mut counts = std::collections::BTreeMap::<Vec<u8>, f64>::new();
    let bytes = tensor(dtype, n, 100, kind, 7);
    bytes.chunks(dtype.size()).for_each(|b| *counts.entry(b.to_vec()).or_default() += 1.0);
    counts.values().map(|c| c * (n as f64 / c).log2()).sum::<f64>() / n as f64
}

#[test]
fn weights_take_layout_float() {
    for (dtype, most) in [(Dtype::F32, 0.835), (Dtype::BF16, 0.67), (Dtype::F16, 0.87), (Dtype::F64, 0.92)] {
        let (layout, bits) = bits(dtype, 100_000, 1);
        assert!(matches!(layout, Layout::Float(_)), "{dtype}: {layout:?}");
        assert!(bits / 8.0 < most * dtype.size() as f64, "{dtype}: {bits}");
    }
}

#[test]
fn what_was_coarser_is_stored_as_it_was() {
    // Half of the bits are zero: the rest takes as many bits as it did.
    for dtype in [Dtype::F32, Dtype::F64] {
        let (layout, found) = bits(dtype, 100_000, 5);
        assert!(matches!(layout, Layout::Float(_)), "{dtype}: {layout:?}");
        assert!(found < bits(dtype, 100_000, 1).1 - 3.98 * dtype.size() as f64, "{dtype}: {found}");
    }
    // 3 of 8 bits of a byte: a table, where bit-packing takes 8.
    let f16: Vec<u8> =
        tensor(Dtype::F32, 100_000, 100, 1, 7).chunks(4).flat_map(|b| [0, b[1] & 0xe0, b[2], b[3]]).collect();
    let leaf = raw::encode(&f16, Dtype::F32, &[1000, 100]).unwrap();
    let low: Vec<_> = leaf.chunks[4].iter().map(|c| (c.mode, c.bytes.len())).collect();
    assert!(low.iter().map(|c| c.1).sum::<usize>() < 100_000 * 3 / 8 + 500, "{low:?}");
}

#[test]
fn integers_are_stored_at_about_their_entropy() {
    for dtype in [Dtype::I8, Dtype::I16, Dtype::I32, Dtype::I64, Dtype::U8, Dtype::U32] {
        let (layout, bits) = bits(dtype, 100_000, 3);
        assert!(matches!(layout, Layout::Integer(d) if d.low == 0 && !d.zigzag), "{dtype}: {layout:?}");
        assert!(bits < entropy(dtype, 100_000, 3) * 1.01 + 0.03, "{dtype}: {bits}");
    }
    // A bell of 12 bits: cut below its 8 highest bits.
    let bell = |i: u64| (0..8).map(|k| (noise(i * 8 + k) % 500) as i32).sum::<i32>() - 2000;
    let bytes: Vec<u8> = (0..100_000).flat_map(|i| bell(i).to_le_bytes()).collect();
    let leaf = raw::encode(&bytes, Dtype::I32, &[1000, 100]).unwrap();
    let bits = leaf.stored_bytes() as f64 * 8.0 / 1e5;
    let sigma = 500.0 * (8.0f64 / 12.0).sqrt();
    let bound = (sigma * (2.0 * std::f64::consts::PI * std::f64::consts::E).sqrt()).log2();
    assert!(bits < bound * 1.01, "{bits}, {bound}");
    // Few large values among small ones.
    let (layout, bits) = self::bits(Dtype::I32, 100_000, 7);
    assert!(matches!(layout, Layout::Integer(d) if d.zigzag), "{layout:?}");
    // 4.0 bits of a binomial, 0.08 of which of 101 is large, 28 for each of those.
    assert!(bits < 4.36 * 1.12, "{bits}");
    let flags: Vec<u8> = (0..100_000).map(|i| noise(i).is_multiple_of(3).into()).collect();
    let leaf = raw::encode(&flags, Dtype::Bool, &[100_000]).unwrap();
    assert!((leaf.stored_bytes() as f64) < 0.918 * 12_500.0 + 250.0, "{}", leaf.stored_bytes());
}

#[test]
fn few_values_take_a_palette() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::F64] {
        let (layout, bits) = bits(dtype, 100_000, 6);
        assert!(matches!(layout, Layout::Palette { .. }), "{dtype}: {layout:?}");
        assert!(bits < 4.05, "{dtype}: {bits}");
    }
}

#[test]
fn noise_and_one_value_are_stored_as_they_are() {
    for dtype in [Dtype::F32, Dtype::I32, Dtype::U8] {
        assert_eq!(bits(dtype, 10_000, 4), (Layout::Bytes, (dtype.size() + 64) as f64 * 8.0 / 10_000.0));
        assert_eq!(bits(dtype, 10_000, 0).0, Layout::Bytes);
        assert_eq!(bits(dtype, 100_000, 0).0, Layout::Bytes);
    }
    // Rows that repeat are found where they are far apart as well.
    let row = tensor(Dtype::F32, 3000, 100, 1, 7);
    let leaf = raw::encode(&row.repeat(50), Dtype::F32, &[50, 3000]).unwrap();
    assert!(leaf.stored_bytes() < 13_000, "{}", leaf.stored_bytes());
}

#[test]
fn rows_of_different_scale_get_classes() {
    let bytes = tensor(Dtype::BF16, 200_000, 400, 1, 3);
    let leaf = raw::encode(&bytes, Dtype::BF16, &[500, 400]).unwrap();
    assert_eq!(leaf.spec.streams[1].items, 500);
    let mut out = vec![0; 800];
    raw::decode_bytes(&leaf, 123 * 400..124 * 400, &mut out).unwrap();
    assert_eq!(out, bytes[123 * 800..124 * 800]);
}

#[test]
fn tiny_tensors_are_stored_as_they_are() {
    for n in [0, 1, 2, 50] {
        let bytes = tensor(Dtype::F32, n, 10, 1, 1);
        let leaf = raw::encode(&bytes, Dtype::F32, &[n as u64]).unwrap();
        assert_eq!(layout(&leaf), Layout::Bytes);
        assert_eq!(leaf.payload_bytes(), bytes.len() as u64);
    }
}

#[test]
fn arguments_are_checked() {
    let e = raw::encode(&[0; 7], Dtype::F32, &[2]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    let mut leaf = raw::encode(&[0; 8], Dtype::F32, &[2]).unwrap();
    for (range, room) in [(0..3, 12), (0..2, 4), (3..3, 0)] {
        let e = raw::decode_bytes(&leaf, range, &mut vec![0; room]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
    leaf.spec.version = 2;
    assert_eq!(raw::decode_bytes(&leaf, 0..2, &mut [0; 8]).unwrap_err().kind(), ErrorKind::Compatibility);
}

#[test]
fn damaged_leaves_never_panic() {
    let leaves = [
        raw::encode_in_chunks(&tensor(Dtype::BF16, 1600, 100, 1, 1), Dtype::BF16, &[16, 100], 900).unwrap(),
        raw::encode_in_chunks(&tensor(Dtype::BF16, 32_000, 100, 1, 1), Dtype::BF16, &[320, 100], 20_000)
            .unwrap(),
        raw::encode_in_chunks(&tensor(Dtype::I32, 800, 100, 3, 1), Dtype::I32, &[8, 100], 500).unwrap(),
        raw::encode_in_chunks(&tensor(Dtype::I32, 20_000, 100, 7, 1), Dtype::I32, &[200, 100], 10_000)
            .unwrap(),
        raw::encode_in_chunks(&tensor(Dtype::F32, 20_000, 100, 5, 1), Dtype::F32, &[200, 100], 10_000)
            .unwrap(),
        raw::encode_in_chunks(&tensor(Dtype::F32, 8_000, 100, 6, 1), Dtype::F32, &[80, 100], 5_000).unwrap(),
    ];
    assert!(matches!(layout(&leaves[5]), Layout::Palette { .. }));
    for leaf in leaves {
        let n = leaf.spec.elements().unwrap();
        let mut out = vec![0; n as usize * leaf.spec.dtype.size()];
        for stream in 0..leaf.chunks.len() {
            for chunk in 0..leaf.chunks[stream].len() {
                let len = leaf.chunks[stream][chunk].bytes.len();
                for at in (0..len).step_by(1 + len / 60) {
                    let mut damaged = leaf.clone();
                    damaged.chunks[stream][chunk].bytes.to_mut()[at] ^= 1 << (at % 8);
                    let _ = raw::decode_bytes(&damaged, 0..n, &mut out);
                    damaged.chunks[stream][chunk].bytes.to_mut().truncate(at);
                    assert!(raw::decode_bytes(&damaged, 0..n, &mut out).is_err(), "{stream} {chunk} {at}");
                }
            }
            for change in 0..if leaf.spec.streams[stream].items > 0 { 3 } else { 1 } {
                let mut damaged = leaf.clone();
                let spec = &mut damaged.spec.streams[stream];
                match change {
                    0 => spec.items += 1,
                    1 => spec.chunk_items = 0,
                    _ => spec.items = u64::MAX,
                }
                assert!(raw::decode_bytes(&damaged, 0..n, &mut out).is_err(), "{stream} {change}");
            }
        }
    }
}

#[test]
fn parameters_are_checked_against_the_dtype() {
    let bytes = tensor(Dtype::BF16, 32_000, 100, 1, 1);
    let leaf = raw::encode(&bytes, Dtype::BF16, &[320, 100]).unwrap();
    let Layout::Float(split) = layout(&leaf) else { panic!("{:?}", leaf.spec.params) };
    let with = |change: fn(&mut raw::float::Split)| {
        let mut split = split;
        change(&mut split);
        let mut changed = leaf.clone();
        changed.spec.params =
            benben_format::LeafSpec::new("raw", 1, Dtype::BF16, &[1], &Layout::Float(split)).unwrap().params;
        raw::decode_bytes(&changed, 0..32_000, &mut vec![0; 64_000]).unwrap_err().kind()
    };
    assert_eq!(with(|s| s.mantissa = 8), ErrorKind::Corruption);
    assert_eq!(with(|s| s.mantissa = 4), ErrorKind::Corruption);
    assert_eq!(with(|s| s.lowest = 256), ErrorKind::Corruption);
    assert_eq!(with(|s| s.lowest = 254), ErrorKind::Corruption);
    assert_eq!(with(|s| s.run = 0), ErrorKind::Corruption);
}

#[test]
fn parameters_of_integers_are_checked_against_the_dtype() {
    let bytes = tensor(Dtype::I32, 32_000, 100, 3, 1);
    let leaf = raw::encode(&bytes, Dtype::I32, &[320, 100]).unwrap();
    let Layout::Integer(distance) = layout(&leaf) else { panic!("{:?}", leaf.spec.params) };
    let with = |change: fn(&mut raw::integer::Distance)| {
        let mut distance = distance;
        change(&mut distance);
        let mut changed = leaf.clone();
        changed.spec.params =
            benben_format::LeafSpec::new("raw", 1, Dtype::I32, &[1], &Layout::Integer(distance))
                .unwrap()
                .params;
        raw::decode_bytes(&changed, 0..32_000, &mut vec![0; 128_000]).unwrap_err().kind()
    };
    assert_eq!(with(|d| d.low = 25), ErrorKind::Corruption);
    assert_eq!(with(|d| d.low = 8), ErrorKind::Corruption);
    assert_eq!(with(|d| d.offset = 1 << 32), ErrorKind::Corruption);
}
