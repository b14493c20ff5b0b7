//! Chunks and tables that contradict themselves, under checksums that fit.

use super::MustFail;
use super::chunks::{byte_leaf, four, symbol_leaf, symbol_leaf_with, symbols, words};
use super::leaves::{Scalar, scalar};
use super::wrong::{CORRUPTION, of_leaf, read};
use benben::codec::entropy::{Model, Table, rans};
use benben::{Dtype, Result};
use benben_format::{Chunk, Mode};

/// Payloads that contradict themselves; the checksums fit.
pub(super) fn chunks() -> Result<Vec<MustFail>> {
    let items: Vec<u8> = (0..70).map(|i| (i * i % 7 % 4) as u8).collect();
    let coded = symbols(Mode::Rans, &items, 8, &four())?.bytes.into_owned();
    let one = |mode, payload: Vec<u8>| -> Result<Vec<u8>> {
        of_leaf(symbol_leaf(70, vec![Chunk::new(mode, payload)])?)
    };
    let rans = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = coded.clone();
        edit(&mut payload);
        one(Mode::Rans, payload)
    };
    // Lane 31 codes symbol 31 alone: another first state leads to another last one.
    let lane_31 = |b: &mut Vec<u8>| b[4 * 31 + 2] ^= 4;
    // Enough symbols for some words.
    let long: Vec<u8> = items.repeat(8);
    let mut payload = symbols(Mode::Rans, &long, 8, &four())?.bytes.into_owned();
    payload.truncate(payload.len() - 2);
    let missing = of_leaf(symbol_leaf(560, vec![Chunk::new(Mode::Rans, payload)])?)?;
    let packed = symbols(Mode::BitPacked, &items, 3, &four())?.bytes.into_owned();
    let framed = symbols(Mode::Zstd, &items, 2, &four())?.bytes.into_owned();
    let edited = |bytes: &[u8], at: usize, mask: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= mask;
        bytes
    };
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    let with_words = |mode, payload: Vec<u8>| -> Result<Vec<u8>> {
        let plain = Scalar {
            shape: &[8],
            step: 1.0,
            low_bits: 2,
            centroids: &[],
            integers: &[1, 2, 3, 4, 5, 6, 7, 8],
            classes: &[],
            run: 1,
            columns: 8,
            column_classes: &[],
            exceptions: &[],
            chunk: 1 << 18,
        };
        let mut leaf = scalar(&plain)?;
        leaf.chunks[4] = vec![Chunk::new(mode, payload)];
        of_leaf(leaf)
    };
    let low = |values: &[u64], bits| words(values, bits).bytes.into_owned();
    Ok(vec![
        read("rans-last-state", CORRUPTION, "a lane that does not end at 2^16", rans(&lane_31)?),
        read("rans-first-state", CORRUPTION, "a lane that begins below 2^16", rans(&|b| b[2..4].fill(0))?),
        read(
            "rans-words-left",
            CORRUPTION,
            "a word that no symbol takes",
            rans(&|b| b.extend_from_slice(&[1, 2]))?,
        ),
        read("rans-words-odd", CORRUPTION, "half a word", rans(&|b| b.push(0))?),
        read("rans-words-missing", CORRUPTION, "a word is missing", missing),
        read(
            "rans-states-missing",
            CORRUPTION,
            "fewer bytes than the states take",
            rans(&|b| b.truncate(127))?,
        ),
        read("symbols-raw-short", CORRUPTION, "a symbol is missing", one(Mode::Raw, items[1..].to_vec())?),
        read("symbols-const-two", CORRUPTION, "a constant of two bytes", one(Mode::Const, vec![1, 1])?),
        read("symbols-const-none", CORRUPTION, "a constant of no bytes", one(Mode::Const, vec![])?),
        read("packed-width-0", CORRUPTION, "fields of no bits", one(Mode::BitPacked, vec![0])?),
        read("packed-width-9", CORRUPTION, "symbols of nine bits", one(Mode::BitPacked, low(&[0; 70], 9))?),
        read(
            "packed-padding",
            CORRUPTION,
            "bits after the last field",
            one(Mode::BitPacked, edited(&packed, 27, 128))?,
        ),
        read(
            "packed-long",
            CORRUPTION,
            "a byte after the last field",
            one(Mode::BitPacked, longer(&packed))?,
        ),
        read("zstd-after", CORRUPTION, "a byte after the frame", one(Mode::Zstd, longer(&framed))?),
        read("zstd-cut", CORRUPTION, "half a frame", one(Mode::Zstd, framed[..framed.len() / 2].to_vec())?),
        read("zstd-three", CORRUPTION, "three symbols to a byte", one(Mode::Zstd, edited(&framed, 0, 7))?),
        read(
            "zstd-larger",
            CORRUPTION,
            "a frame of 16 MiB for 70 symbols",
            one(Mode::Zstd, [vec![1], zstd::bulk::compress(&vec![0; 16 << 20], 3)?].concat())?,
        ),
        read(
            "bytes-rans",
            CORRUPTION,
            "bytes in mode rans",
            of_leaf(byte_leaf(Dtype::U8, 70, Chunk::new(Mode::Rans, coded.clone()))?)?,
        ),
        read(
            "bytes-packed",
            CORRUPTION,
            "bytes in mode bit-packed",
            of_leaf(byte_leaf(Dtype::U8, 70, Chunk::new(Mode::BitPacked, packed.clone()))?)?,
        ),
        read(
            "bytes-short",
            CORRUPTION,
            "a byte is missing",
            of_leaf(byte_leaf(Dtype::U16, 4, Chunk::new(Mode::Raw, vec![0; 7]))?)?,
        ),
        read("words-raw", CORRUPTION, "words in mode raw", with_words(Mode::Raw, vec![0; 64])?),
        read(
            "words-const-zero",
            CORRUPTION,
            "a constant with a needless zero",
            with_words(Mode::Const, vec![1, 0])?,
        ),
        read(
            "words-const-nine",
            CORRUPTION,
            "a constant of nine bytes",
            with_words(Mode::Const, vec![1; 9])?,
        ),
        read(
            "words-width-65",
            CORRUPTION,
            "words of 65 bits",
            with_words(Mode::BitPacked, [vec![65], vec![0; 65]].concat())?,
        ),
        read(
            "words-too-large",
            CORRUPTION,
            "low bits that do not fit",
            with_words(Mode::BitPacked, low(&[1, 2, 3, 4, 0, 0, 0, 0], 3))?,
        ),
    ])
}

/// Packed fields of zeros and ones, first to last.
fn fields(bits: &str) -> Vec<u8> {
    let bits: Vec<u8> = bits.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |sum, bit| sum << 1 | bit)).collect()
}

/// Side information whose tables are wrong.
pub(super) fn tables() -> Result<Vec<MustFail>> {
    let items = vec![Chunk::new(Mode::Raw, vec![0, 1, 2, 3])];
    let coded =
        rans::encode(&[0, 1, 2, 3], 0, &Model::single(&Table::from_counts(&[1; 4]))).unwrap_or_default();
    let with = |name, why, side: &[u8]| -> Result<MustFail> {
        Ok(read(name, CORRUPTION, why, of_leaf(symbol_leaf_with(side, 4, items.clone())?)?))
    };
    // One table of a single symbol; another that goes by a table of which it has the symbols; a third, whose number of
    // the table gone by takes one bit; a fourth that goes by itself, table 3, in two.
    let itself = "00000000 00 00000000 00000000 1000 \
        00000000 00 1 00 1000 \
        00000000 00 0 1 00 1000 \
        00000000 00 11 1 00 1000";
    // The list of entropy.md: 01 20 01 08 4C 01.
    Ok(vec![
        with("tables-33", "a list of 33 tables", &[33, 0x20, 1, 8, 0x4c, 1])?,
        with("tables-cut", "a table that ends early", &[1, 0x20, 1, 8])?,
        with("tables-predictor", "a predictor that needs a table before", &[1, 0x30, 1, 8, 0x4c, 1])?,
        with("tables-pairs", "pairs of a third kind", &[1, 0x20, 3, 8, 0x4c, 1])?,
        with("tables-range", "a last symbol before the first", &[1, 0x20, 9, 4, 0x4c, 1])?,
        with("tables-level", "a level above the largest", &[1, 0, 0, 0, 0x38])?,
        with("tables-first-level", "a first symbol of level 0", &[1, 0x20, 1, 8, 0x40, 0])?,
        with("tables-padding", "bits after the last table", &[1, 0x20, 1, 8, 0x4c, 3])?,
        with("tables-after", "a byte after the tables", &[1, 0x20, 1, 8, 0x4c, 1, 0])?,
        with("tables-itself", "a table that goes by itself", &[vec![4], fields(itself)].concat())?,
        read(
            "tables-none",
            CORRUPTION,
            "a table is missing",
            of_leaf(symbol_leaf_with(&[0], 4, vec![Chunk::new(Mode::Rans, coded)])?)?,
        ),
    ])
}
