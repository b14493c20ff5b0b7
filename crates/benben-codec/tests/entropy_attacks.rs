//! Hostile payloads: errors, never a panic, and never more work than what was asked for.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, reason = "tests")]

use benben_codec::entropy::{self, Model, SideReader, SideWriter, Table, rans, read_tables, write_tables};
use benben_format::{Chunk, Dtype, EncodedLeaf, ErrorKind, LeafSpec, Mode, Result, StreamKind, StreamSpec};
use proptest::prelude::*;

const N: usize = 300;

fn leaf(kind: StreamKind, items: u64, chunk_items: u32, chunk: Chunk<'static>) -> EncodedLeaf {
    let mut leaf = EncodedLeaf::new(LeafSpec::new("test", 1, Dtype::U8, &[items], &()).unwrap());
    leaf.spec.streams.push(StreamSpec { kind, items, chunk_items });
    leaf.chunks.push(vec![chunk]);
    leaf
}

fn symbols() -> Vec<u8> {
    (0..N as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .map(|s| s.trailing_zeros() as u8)
        .collect()
}

fn table() -> Table {
    let mut counts = [0; 16];
    symbols().iter().for_each(|&s| counts[usize::from(s)] += 1);
    Table::from_counts(&counts)
}

type Decode = fn(Chunk<'static>) -> Result<Vec<u8>>;

/// One payload of each mode, and what decodes a mutated one.
fn cases() -> Vec<(&'static str, Chunk<'static>, Decode)> {
    fn decode_symbols(chunk: Chunk<'static>) -> Result<Vec<u8>> {
        let (table, mut out) = (table(), vec![0; N]);
        let leaf = leaf(StreamKind::Symbols, N as u64, 1000, chunk);
        entropy::decode_symbols(&leaf, 0, 0..N as u64, &Model::single(&table), &mut out)?;
        let mut part = vec![0; 20];
        entropy::decode_symbols(&leaf, 0, 77..97, &Model::single(&table), &mut part)?;
        assert_eq!(part, out[77..97]);
        Ok(out)
    }
    fn decode_words(chunk: Chunk<'static>) -> Result<Vec<u8>> {
        let mut out = vec![0; N];
        entropy::decode_words(&leaf(StreamKind::Words, N as u64, 1000, chunk), 0, 0..N as u64, &mut out)?;
        Ok(out.iter().flat_map(|w| w.to_le_bytes()).collect())
    }
    fn decode_bytes(chunk: Chunk<'static>) -> Result<Vec<u8>> {
        let mut out = vec![0; 3 * N];
        let leaf = leaf(StreamKind::Bytes { width: 3 }, N as u64, 1000, chunk);
        entropy::decode_bytes(&leaf, 0, 0..N as u64, &mut out)?;
        Ok(out)
    }
    let text: Vec<u8> = (0..3 * N).map(|i| (i / 90) as u8).collect();
    let words: Vec<u64> = (0..N as u64).map(|i| i * i).collect();
    let table = table();
    let packed = |bits: u8| {
        let fields = entropy::bits::pack_symbols(&symbols(), bits);
        Chunk::new(Mode::BitPacked, [vec![bits], fields].concat())
    };
    let zstd =
        entropy::encode_bytes(&entropy::bits::pack_symbols(&symbols(), 4), 1, 1000).unwrap().1.remove(0);
    assert_eq!(zstd.mode, Mode::Zstd);
    vec![
        (
            "rans",
            Chunk::new(Mode::Rans, rans::encode(&symbols(), 0, &Model::single(&table)).unwrap()),
            decode_symbols,
        ),
        ("zstd symbols", Chunk::new(Mode::Zstd, [vec![2], zstd.bytes.to_vec()].concat()), decode_symbols),
        ("packed symbols", packed(5), decode_symbols),
        ("raw symbols", Chunk::new(Mode::Raw, symbols()), decode_symbols),
        ("constant symbol", Chunk::new(Mode::Const, vec![3]), decode_symbols),
        ("packed words", entropy::encode_words(&words, 1000).1.remove(0), decode_words),
        ("constant word", entropy::encode_words(&[1 << 40; N], 1000).1.remove(0), decode_words),
        ("zstd bytes", entropy::encode_bytes(&text, 3, 1000).unwrap().1.remove(0), decode_bytes),
        ("raw bytes", Chunk::new(Mode::Raw, vec![5; 3 * N]), decode_bytes),
        ("constant bytes", entropy::encode_bytes(&[7; 3 * N], 3, 1000).unwrap().1.remove(0), decode_bytes),
    ]
}

#[test]
fn every_truncation_and_extension_is_an_error() {
    for (name, chunk, decode) in cases() {
        decode(chunk.clone()).unwrap();
        for len in 0..chunk.bytes.len() {
            let e = decode(Chunk::new(chunk.mode, chunk.bytes[..len].to_vec()));
            // A constant word is as long as its highest byte needs.
            if name != "constant word" || len > 0 {
                assert_eq!(e.unwrap_err().kind(), ErrorKind::Corruption, "{name} cut to {len}");
            }
        }
        for tail in [&[0][..], &[0, 0], &[1, 2, 3]] {
            let longer = [&chunk.bytes, tail].concat();
            if name != "constant word" || tail == [0] {
                assert!(decode(Chunk::new(chunk.mode, longer)).is_err(), "{name} with {tail:?}");
            }
        }
    }
}

#[test]
fn every_mutation_is_an_error_or_another_valid_payload() {
    for (name, chunk, decode) in cases() {
        let original = decode(chunk.clone()).unwrap();
        let mut unseen = 0;
        for at in 0..chunk.bytes.len() {
            for change in [1, 2, 16, 128, 255] {
                let mut bytes = chunk.bytes.to_vec();
                bytes[at] ^= change;
                let Ok(out) = decode(Chunk::new(chunk.mode, bytes.clone())) else { continue };
                if name == "rans" {
                    // Every payload that is accepted is the one that its symbols have.
                    let table = table();
                    assert_eq!(rans::encode(&out, 0, &Model::single(&table)).unwrap(), bytes);
                } else if !name.starts_with("zstd") {
                    unseen += usize::from(out == original);
                }
            }
        }
        assert_eq!(unseen, 0, "{name}");
    }
}

#[test]
fn every_payload_in_every_other_mode_is_an_error_or_decodes() {
    for (_, chunk, decode) in cases() {
        for mode in [Mode::Raw, Mode::Const, Mode::BitPacked, Mode::Zstd, Mode::Rans] {
            let _ = decode(Chunk::new(mode, chunk.bytes.to_vec()));
            assert!(decode(Chunk::new(mode, Vec::new())).is_err() || mode == Mode::Const);
        }
    }
}

#[test]
fn wrong_lane_states_are_named() {
    let table = table();
    let payload = rans::encode(&symbols(), 0, &Model::single(&table)).unwrap();
    let decode = |bytes: &[u8]| rans::decode(bytes, 0, &Model::single(&table), &mut [0; N]).unwrap_err();
    let mut low = payload.clone();
    low[4 * 9..4 * 10].copy_from_slice(&0xffffu32.to_le_bytes());
    assert!(decode(&low).message().contains("lane 9 starts at state 65535"), "{}", decode(&low));
    let mut high = payload;
    let state = u32::from_le_bytes(high[..4].try_into().unwrap()) ^ 1 << 31;
    high[..4].copy_from_slice(&state.to_le_bytes());
    decode(&high);
}

#[test]
fn what_a_stream_claims_is_not_allocated() {
    let items = 1 << 50;
    let chunk = Chunk::new(Mode::Const, vec![5]);
    let leaf = leaf(StreamKind::Symbols, items, StreamSpec::MAX_CHUNK_ITEMS, chunk.clone());
    let mut out = [0; 3];
    entropy::decode_symbols(&leaf, 0, 10..13, &Model::none(), &mut out).unwrap();
    assert_eq!(out, [5; 3]);
    let e = entropy::decode_symbols(&leaf, 0, items - 3..items, &Model::none(), &mut out).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corruption);
    for chunk_items in [0, StreamSpec::MAX_CHUNK_ITEMS + 1, u32::MAX] {
        let leaf = self::leaf(StreamKind::Symbols, 100, chunk_items, chunk.clone());
        assert!(entropy::decode_symbols(&leaf, 0, 10..13, &Model::none(), &mut out).is_err());
        assert!(entropy::decode_words(&leaf, 0, 0..1, &mut [0]).is_err());
        assert!(entropy::decode_bytes(&leaf, 0, 0..1, &mut [0]).is_err());
        assert!(entropy::decode_bytes(&leaf, 1, 0..1, &mut [0]).is_err());
    }
    for width in [0, 9, 255] {
        let leaf = self::leaf(StreamKind::Bytes { width }, 100, 100, chunk.clone());
        assert!(entropy::decode_bytes(&leaf, 0, 0..1, &mut vec![0; width.into()]).is_err());
    }
}

#[test]
fn zstd_frames_that_decode_to_another_length_are_errors() {
    for n in [N - 1, N + 1, 1 << 20] {
        let text: Vec<u8> = (0..n).map(|i| (i % 7) as u8).collect();
        let chunk = entropy::encode_bytes(&text, 1, 1 << 20).unwrap().1.remove(0);
        assert_eq!(chunk.mode, Mode::Zstd);
        let leaf = leaf(StreamKind::Bytes { width: 1 }, N as u64, 1000, chunk);
        assert!(entropy::decode_bytes(&leaf, 0, 0..N as u64, &mut [0; N]).is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_no_tables_or_tables(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(table) = Table::read(&mut &bytes[..]) {
            prop_assert_eq!((0..=255).map(|s| table.freq(s)).sum::<u32>(), 4096);
        }
        if let Ok(tables) = read_tables(&mut &bytes[..]) {
            let mut again = Vec::new();
            write_tables(&tables, &mut again).unwrap();
            prop_assert_eq!(read_tables(&mut &again[..]).unwrap(), tables);
        }
        let mut reader = SideReader::new(&bytes);
        let _ = (reader.varint(), reader.f32(), reader.tables(), reader.u8(), reader.bytes(3));
    }

    #[test]
    fn tables_cut_short_are_errors(counts in prop::collection::vec(prop::collection::vec(0u64..50, 1..40), 1..16)) {
        let tables: Vec<Table> = counts.iter().map(|c| Table::from_counts(c)).collect();
        let mut side = SideWriter::new();
        side.tables(&tables).unwrap();
        let bytes = side.into_bytes();
        for len in 0..bytes.len() {
            prop_assert!(SideReader::new(&bytes[..len]).tables().is_err());
        }
    }

    #[test]
    fn any_words_are_refused_or_symbols(
        states in prop::collection::vec(any::<u32>(), 32..=32), words in prop::collection::vec(any::<u8>(), 0..400),
        n in 0usize..600,
    ) {
        let table = table();
        let payload: Vec<u8> = states.iter().flat_map(|s| (s | 1 << 16).to_le_bytes()).chain(words).collect();
        let mut out = vec![0; n];
        if rans::decode(&payload, 0, &Model::single(&table), &mut out).is_ok() {
            prop_assert_eq!(rans::encode(&out, 0, &Model::single(&table)).unwrap(), payload);
        }
    }
}
