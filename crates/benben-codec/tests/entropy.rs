//! Round trips of streams, and the rANS coder against its reference.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "tests")]

use benben_codec::entropy::{
    self, Model, Preference, SideReader, SideWriter, Table, rans, reference, write_tables,
};
use benben_format::{Chunk, Dtype, EncodedLeaf, ErrorKind, LeafSpec, Mode, StreamSpec};
use proptest::prelude::*;

fn leaf(stream: (StreamSpec, Vec<Chunk<'static>>)) -> EncodedLeaf {
    let mut leaf = EncodedLeaf::new(LeafSpec::new("test", 1, Dtype::U8, &[stream.0.items], &()).unwrap());
    leaf.push(stream.0, stream.1);
    leaf
}

fn counts(symbols: &[u8]) -> Vec<u64> {
    let mut counts = vec![0; 256];
    symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
    counts
}

/// SplitMix64: number `i` of a noise that no coder finds a pattern in.
fn noise(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A symbol of a peaked distribution whose width the class decides.
fn peaked(seed: u64, class: u8) -> u8 {
    let sum: i32 = noise(seed).to_le_bytes()[..4].iter().map(|&b| i32::from(b)).sum();
    (128 + (sum - 510) / (8 << class)) as u8
}

/// A stream with classes: symbols, class of each run, run.
fn classed() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, u64)> {
    let sizes = prop_oneof![0usize..80, 0usize..5000];
    (sizes, 1u8..=4, prop_oneof![1u64..70, 30u64..2000], any::<u64>(), any::<bool>()).prop_map(
        |(n, classes, run, seed, single)| {
            let runs = n.div_ceil(run as usize);
            let class: Vec<u8> = (0..runs as u64).map(|r| (peaked(seed ^ r, 0) / 3) % classes).collect();
            let symbols =
                (0..n).map(|i| peaked(seed.wrapping_add(i as u64), class[i / run as usize])).collect();
            let symbols: Vec<u8> = if single { vec![7; n] } else { symbols };
            (symbols, class, run)
        },
    )
}

fn tables(symbols: &[u8], classes: &[u8], run: u64) -> Vec<Table> {
    let used = classes.iter().max().map_or(1, |m| m + 1);
    (0..used)
        .map(|class| {
            let own = symbols.iter().enumerate().filter(|(i, _)| classes[i / run as usize] == class);
            Table::from_counts(&counts(&own.map(|s| *s.1).collect::<Vec<_>>()))
        })
        .collect()
}

proptest! {
    #[test]
    fn rans_is_bit_identical_to_its_reference((symbols, classes, run) in classed(), first_run in 0u64..3) {
        let tables = tables(&symbols, &classes, run);
        let first = first_run * run;
        let classes: Vec<u8> = std::iter::repeat_n(0, first_run as usize).chain(classes).collect();
        let model = Model::by_rows(&tables, &classes, run);
        let payload = rans::encode(&symbols, first, &model).unwrap();
        prop_assert_eq!(&payload, &reference::encode(&symbols, first, &model).unwrap());
        let mut out = vec![0xaa; symbols.len()];
        rans::decode(&payload, first, &model, &mut out).unwrap();
        prop_assert_eq!(&out, &symbols);
        out.fill(0xaa);
        reference::decode(&payload, first, &model, &mut out).unwrap();
        prop_assert_eq!(&out, &symbols);
    }

    #[test]
    fn symbols_round_trip(
        (symbols, classes, run) in classed(), chunk_items in 1u32..3000, cut in (any::<u16>(), any::<u16>()),
    ) {
        let chunk_items = chunk_items.max(symbols.len() as u32 / 50 + 1);
        let tables = tables(&symbols, &classes, run);
        let model = Model::by_rows(&tables, &classes, run);
        let leaf = leaf(entropy::encode_symbols(&symbols, &model, chunk_items).unwrap());
        let n = symbols.len();
        let (a, b) = (usize::from(cut.0) % (n + 1), usize::from(cut.1) % (n + 1));
        for (a, b) in [(0, n), (a.min(b), a.max(b))] {
            let mut out = vec![0xaa; b - a];
            entropy::decode_symbols(&leaf, 0, a as u64..b as u64, &model, &mut out).unwrap();
            prop_assert_eq!(&out, &symbols[a..b]);
        }
        let mut out = vec![0; n + 1];
        let e = entropy::decode_symbols(&leaf, 0, 0..n as u64 + 1, &model, &mut out).unwrap_err();
        prop_assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        let e = entropy::decode_symbols(&leaf, 0, 0..n as u64, &model, &mut out).unwrap_err();
        prop_assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn words_round_trip(
        values in prop::collection::vec(any::<u64>(), 0..300), shift in 0u32..64, constant: bool,
        chunk_items in 1u32..200, cut in (any::<u16>(), any::<u16>()),
    ) {
        let values: Vec<u64> = values.iter().map(|v| if constant { values[0] } else { *v } >> shift).collect();
        let leaf = leaf(entropy::encode_words(&values, chunk_items));
        let n = values.len();
        let (a, b) = (usize::from(cut.0) % (n + 1), usize::from(cut.1) % (n + 1));
        for (a, b) in [(0, n), (a.min(b), a.max(b))] {
            let mut out = vec![1; b - a];
            entropy::decode_words(&leaf, 0, a as u64..b as u64, &mut out).unwrap();
            prop_assert_eq!(&out, &values[a..b]);
        }
    }

    #[test]
    fn bytes_round_trip(
        seed: u64, n in 0usize..400, width in 1u8..=8, kind in 0..3, chunk_items in 1u32..300,
        cut in (any::<u16>(), any::<u16>()),
    ) {
        let w = usize::from(width);
        let bytes: Vec<u8> = (0..n * w).map(|i| match kind {
            0 => (i % w) as u8,
            1 => (i / 40) as u8,
            _ => noise(seed.wrapping_add(i as u64)) as u8,
        }).collect();
        let leaf = leaf(entropy::encode_bytes(&bytes, width, chunk_items).unwrap());
        let (a, b) = (usize::from(cut.0) % (n + 1), usize::from(cut.1) % (n + 1));
        for (a, b) in [(0, n), (a.min(b), a.max(b))] {
            let mut out = vec![0xaa; (b - a) * w];
            entropy::decode_bytes(&leaf, 0, a as u64..b as u64, &mut out).unwrap();
            prop_assert_eq!(&out, &bytes[a * w..b * w]);
        }
    }

    #[test]
    fn tables_round_trip(counts in prop::collection::vec(
        prop::collection::vec(prop_oneof![3 => Just(0u64), 5 => 0u64..100, 2 => 0u64..1_000_000, 1 => any::<u64>()], 0..300), 0..=32,
    )) {
        let tables = entropy::fit_tables(&counts);
        for (table, counts) in tables.iter().zip(&counts) {
            prop_assert_eq!((0..=255).map(|s| table.freq(s)).sum::<u32>(), 4096);
            prop_assert!(counts.iter().take(256).enumerate().all(|(s, &n)| n == 0 || table.freq(s as u8) > 0));
        }
        let mut side = SideWriter::new();
        side.tables(&tables).unwrap();
        side.u8(0xff);
        let bytes = side.into_bytes();
        let mut reader = SideReader::new(&bytes);
        prop_assert_eq!(reader.tables().unwrap(), tables);
        prop_assert_eq!(reader.u8().unwrap(), 0xff);
        reader.finish().unwrap();
    }
}

#[test]
fn tables_of_smooth_histograms_are_small() {
    // 40 k integers in zigzag order, of a Gaussian and of a Laplace density; then the same a little wider.
    let bell = |width: f64, power: f64| -> Vec<u64> {
        let size = |s: u64| (s.div_ceil(2) as f64 / width).powf(power);
        (0..64).map(|s| (40_000.0 * (-size(s)).exp() / width) as u64).collect()
    };
    for power in [1.0, 2.0] {
        let counts = [bell(6.0, power), bell(6.5, power)];
        let tables = entropy::fit_tables(&counts);
        let symbols: usize = tables.iter().map(Table::alphabet).sum();
        let mut bytes = Vec::new();
        write_tables(&tables, &mut bytes).unwrap();
        assert!(bytes.len() * 8 <= 2 * symbols + 60, "{} bytes for {symbols} symbols", bytes.len());
        for (table, counts) in tables.iter().zip(&counts) {
            let total = counts.iter().sum::<u64>() as f64;
            let seen = counts.iter().filter(|c| **c > 0);
            let least: f64 = seen.map(|&c| c as f64 * (total / c as f64).log2()).sum();
            assert!(table.cost_bits(counts) < 1.004 * least);
        }
    }
}

#[test]
fn each_mode_is_chosen_where_it_is_smallest() {
    let mode = |symbols: &[u8], with_table: bool| {
        let table = Table::from_counts(&counts(symbols));
        let model = if with_table { Model::single(&table) } else { Model::none() };
        entropy::encode_symbols(symbols, &model, 1 << 18).unwrap().1[0].mode
    };
    assert_eq!(mode(&[9; 1000], true), Mode::Const);
    let each_byte_once: Vec<u8> = (0..=255).map(|i: u8| i.wrapping_mul(167) ^ 90).collect();
    assert_eq!(mode(&each_byte_once, true), Mode::Raw);
    let each_twice: Vec<u8> = (0..64).map(|i: u8| i.wrapping_mul(if i < 32 { 11 } else { 7 }) & 31).collect();
    assert_eq!(mode(&each_twice, true), Mode::BitPacked);
    let skewed: Vec<u8> = (0..100_000).map(|i| peaked(i, 2)).collect();
    assert_eq!(mode(&skewed, true), Mode::Rans);
    assert_eq!(mode(&skewed, false), Mode::Zstd);
}

#[test]
fn zstd_is_preferred_where_speed_is() {
    let symbols: Vec<u8> = (0..100_000).map(|i| peaked(i, 2)).collect();
    let table = Table::from_counts(&counts(&symbols));
    let encode = |preference| {
        let (_, mut chunks) =
            entropy::encode_symbols_by(&symbols, &Model::single(&table), 1 << 18, preference).unwrap();
        chunks.remove(0)
    };
    let (small, fast) = (encode(Preference::Smallest), encode(Preference::Fastest));
    assert_eq!((small.mode, fast.mode), (Mode::Rans, Mode::Zstd));
    assert!(fast.bytes.len() <= small.bytes.len() * 102 / 100);
}

#[test]
fn models_that_do_not_fit_are_refused() {
    let table = [Table::from_counts(&[1, 1])];
    let encode = |classes: &[u8], run| {
        entropy::encode_symbols(&[0, 1, 0, 1], &Model::by_rows(&table, classes, run), 4).unwrap_err().kind()
    };
    assert_eq!(encode(&[0, 1], 2), ErrorKind::InvalidArgument);
    assert_eq!(encode(&[0], 2), ErrorKind::InvalidArgument);
    assert_eq!(encode(&[0], 0), ErrorKind::InvalidArgument);
    let many = vec![table[0].clone(); 33];
    let model = Model::by_rows(&many, &[], 1);
    assert_eq!(entropy::encode_symbols(&[0], &model, 4).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_estimate_is_close() {
    let symbols: Vec<u8> = (0..200_000).map(|i| peaked(i, 2)).collect();
    let table = Table::from_counts(&counts(&symbols));
    let (_, chunks) = entropy::encode_symbols(&symbols, &Model::single(&table), 50_000).unwrap();
    let found: usize = chunks.iter().map(|c| c.bytes.len()).sum();
    let estimate = entropy::estimate_symbols_bytes(&[counts(&symbols)], &[table], 50_000);
    assert!((found as f64 / estimate - 1.0).abs() < 0.001, "found {found}, estimated {estimate}");
}
