//! Packs that every reader decodes: one for each codec, and for each layout of `raw`.

use super::good::leaf;
use super::leaves::{Scalar, raw_bytes, raw_float, raw_integer, raw_palette, scalar};
use super::trellis_leaves::{Path, trellis};
use super::vector_leaves::{Pulses, Pvq, Stage, Ternary, pulses, pvq, rvq, ternary};
use super::{Tensor, noise, pack, pack_with, peaked};
use benben::{Dtype, Result};
use benben_format::{Expr, Writer};

/// Each by its name.
pub(super) fn packs() -> Result<Vec<(&'static str, Vec<u8>)>> {
    Ok(vec![
        ("raw-bytes", raw_bytes_pack()?),
        ("raw-integer", raw_integer_pack()?),
        ("raw-palette", raw_palette_pack()?),
        ("raw-float", raw_float_pack()?),
        ("scalar", scalar_pack()?),
        ("trellis", trellis_pack()?),
        ("pvq", pvq_pack()?),
        ("rvq", rvq_pack()?),
        ("ternary", ternary_pack()?),
    ])
}

fn raw_bytes_pack() -> Result<Vec<u8>> {
    let words: Vec<u8> = [1.0f32.to_bits(), 0x8000_0000, 0x7fc0_1234, 0xff80_0000, 1, 0x7fa0_0001]
        .iter()
        .flat_map(|b| b.to_le_bytes())
        .collect();
    let integers: Vec<u8> = [i64::MIN, -1, 0, i64::MAX].iter().flat_map(|i| i.to_le_bytes()).collect();
    let raw = |name, dtype, shape: &'static [u64], bytes: &[u8]| -> Result<Tensor<'static>> {
        Ok(leaf(name, dtype, shape, raw_bytes(dtype, shape, bytes)?))
    };
    let tensors = [
        raw("f32", Dtype::F32, &[2, 3], &words)?,
        raw("i64", Dtype::I64, &[4], &integers)?,
        raw("bool", Dtype::Bool, &[2, 2], &[1, 0, 0, 1])?,
        raw("scalar", Dtype::F16, &[], &[0, 0x3c])?,
        raw("none", Dtype::F32, &[0, 3], &[])?,
        raw("constant", Dtype::BF16, &[5, 7], &[0x80, 0x3f].repeat(35))?,
        raw("name with spaces, \u{e9} and \u{1f355}", Dtype::U8, &[3], &[1, 2, 3])?,
    ];
    let files = |writer: &mut Writer<_>| {
        writer.metadata("license", "none");
        writer.recipe("version = 1\n");
        writer.file("config.json", raw_bytes(Dtype::U8, &[2], b"{}")?)?;
        let text = b"a file in a folder, a file in a folder, a file in a folder\n";
        writer.file("folder/notes.txt", raw_bytes(Dtype::U8, &[59], text)?)
    };
    pack_with(0, files, tensors)
}

fn raw_integer_pack() -> Result<Vec<u8>> {
    let words: Vec<u8> = (0..100).flat_map(|i| i64::from(peaked(i) * 50).to_le_bytes()).collect();
    let halves: Vec<u8> = (0..300).flat_map(|i| (1000 + (noise(i) as u16 & 0x3ff)).to_le_bytes()).collect();
    let bytes: Vec<u8> = (0..300).map(|i| peaked(i) as u8).collect();
    let zigzag = raw_integer(Dtype::I64, &[10, 10], &words, (true, 0, 56), 64)?;
    pack([
        leaf("i64-zigzag", Dtype::I64, &[10, 10], zigzag),
        leaf(
            "u16-offset",
            Dtype::U16,
            &[300],
            raw_integer(Dtype::U16, &[300], &halves, (false, 1000, 3), 1 << 18)?,
        ),
        leaf(
            "i8-negative-offset",
            Dtype::I8,
            &[300],
            raw_integer(Dtype::I8, &[300], &bytes, (false, 0xf0, 0), 100)?,
        ),
    ])
}

fn raw_palette_pack() -> Result<Vec<u8>> {
    let values: Vec<f32> = (0..300).map(|i| peaked(i) as f32 * 0.0117).collect();
    let floats = |dtype: Dtype| raw_palette(dtype, &[30, 10], &dtype.from_f32(&values)?, 200);
    pack([
        leaf("f32", Dtype::F32, &[30, 10], floats(Dtype::F32)?),
        leaf("bf16", Dtype::BF16, &[30, 10], floats(Dtype::BF16)?),
    ])
}

/// Weights of rows of unequal size, exact in f32.
fn weights(n: u64, columns: u64) -> Vec<f32> {
    (0..n).map(|i| peaked(i) as f32 * 0.0117 * (1 << (3 * (i / columns % 2))) as f32).collect()
}

fn raw_float_pack() -> Result<Vec<u8>> {
    let values = weights(512, 64);
    let classes = [0, 1, 0, 1, 0, 1, 0, 1];
    let float = |name, dtype: Dtype, m, classes: &[u8]| -> Result<Tensor<'static>> {
        let bytes = match dtype {
            Dtype::F8E4M3 | Dtype::F8E5M2 => (0..512).map(|i| (noise(i) & 0xbf) as u8).collect(),
            d => d.from_f32(&values)?,
        };
        Ok(leaf(name, dtype, &[8, 64], raw_float(dtype, &[8, 64], &bytes, m, classes, 64, 200)?))
    };
    pack([
        float("f32", Dtype::F32, 2, &classes)?,
        float("f32-m0", Dtype::F32, 0, &[])?,
        float("f16", Dtype::F16, 3, &[])?,
        float("bf16", Dtype::BF16, 2, &classes)?,
        float("f64", Dtype::F64, 1, &[])?,
        float("f8e4m3", Dtype::F8E4M3, 3, &[])?,
        float("f8e5m2", Dtype::F8E5M2, 2, &[])?,
    ])
}

fn scalar_pack() -> Result<Vec<u8>> {
    let small: Vec<i32> = (0..300).map(peaked).collect();
    let wide: Vec<i32> = (0..600).map(|i| peaked(i) * 9 + (noise(i) % 9) as i32).collect();
    // One in 97 is an exception.
    let far: Vec<(u64, f32)> = (5..600).step_by(97).map(|i| (i, 0.7 - 1500.0 * i as f32)).collect();
    let of_columns: Vec<u8> = (0..30).map(|c| u8::from(c % 7 == 2)).collect();
    let plain = Scalar {
        shape: &[300],
        step: 0.0625,
        low_bits: 0,
        centroids: &[],
        integers: &small,
        classes: &[],
        run: 1,
        columns: 300,
        column_classes: &[],
        exceptions: &[],
        chunk: 1 << 18,
    };
    let full = Scalar {
        shape: &[20, 5, 6],
        step: 0.3,
        low_bits: 2,
        centroids: &[-9, 4, 0, 127, -128],
        integers: &wide,
        classes: &[0, 2, 1, 0, 1, 2, 2],
        run: 3,
        columns: 30,
        column_classes: &of_columns,
        exceptions: &far,
        chunk: 256,
    };
    let tied = Expr::Ref { tensor: "as-f16".into(), shape: vec![20, 5, 6], dtype: Dtype::F16 };
    let negative =
        Scalar { integers: &[-128, 127, 3, -3], shape: &[2, 2], columns: 2, centroids: &[1], ..plain };
    pack([
        leaf("plain", Dtype::F32, &[300], scalar(&plain)?),
        leaf("full", Dtype::F32, &[20, 5, 6], scalar(&full)?),
        leaf("as-f16", Dtype::F16, &[20, 5, 6], scalar(&full)?),
        ("as-f16-again", Dtype::F16, &[20, 5, 6][..], tied),
        leaf("symbol-255", Dtype::F32, &[2, 2], scalar(&negative)?),
    ])
}

fn trellis_pack() -> Result<Vec<u8>> {
    let long: Vec<i32> = (0..3000).map(peaked).collect();
    let sparse: Vec<i32> =
        (0..3000).map(|i| if noise(i).is_multiple_of(3) { peaked(i) / 2 } else { 0 }).collect();
    let unions = Path {
        shape: &[3000],
        step: 0.0625,
        zero: false,
        states: false,
        shifts: [&[], &[]],
        integers: &long,
        classes: &[],
        of_columns: &[],
        run: 1,
        columns: 3000,
        exceptions: &[],
        chunk: 1 << 18,
    };
    let states = Path {
        shape: &[20, 5, 30],
        step: 0.3,
        zero: true,
        states: true,
        shifts: [&[-9, 4, 0, 127, -128], &[16, -16]],
        integers: &sparse,
        classes: &[0, 1, 1, 0, 1, 0, 0],
        of_columns: &[],
        run: 3,
        columns: 150,
        exceptions: &[(0, 0x7f7f_ffff), (1, 0xc2c8_0000), (1025, 0x8000_0000), (2999, 1)],
        chunk: 1024,
    };
    let same = Path {
        // A chunk of one symbol throughout, whose path moves all the same.
        integers: &[-1; 600],
        shape: &[6, 100],
        columns: 100,
        shifts: [&[8], &[]],
        chunk: 256,
        ..unions
    };
    let wide: Vec<i32> = (0..96).map(|i| if i % 2 == 0 { 127 - i } else { i - 128 }).collect();
    let wide = Path { integers: &wide, shape: &[96], columns: 96, zero: true, ..unions };
    let halves: Vec<u8> = (0..60).map(|column| u8::from(column % 7 > 2) + u8::from(column > 40)).collect();
    let both = Path {
        shape: &[50, 60],
        classes: &[0, 2, 1, 0, 1, 2, 2],
        of_columns: &halves,
        run: 8,
        columns: 60,
        shifts: [&[3, 2], &[-1]],
        ..unions
    };
    pack([
        leaf("both", Dtype::F32, &[50, 60], trellis(&both)?),
        leaf("unions", Dtype::F32, &[3000], trellis(&unions)?),
        leaf("states", Dtype::F32, &[20, 5, 30], trellis(&states)?),
        leaf("as-f16", Dtype::F16, &[6, 100], trellis(&same)?),
        leaf("wide", Dtype::F32, &[96], trellis(&wide)?),
    ])
}

fn pvq_pack() -> Result<Vec<u8>> {
    let mut p = Pvq {
        shape: &[13, 50],
        dim: 8,
        step: 0.125,
        head_bits: 5,
        classes: &[(2, 1), (5, 3), (20, 9), (70, 40)],
        groups: &[],
        bands: &[0, 1, 1, 0, 2, 0, 1, 2, 0],
        run: 10,
        chunk: 32,
    };
    // 650 elements: 82 groups, the last cut.
    let groups = |p: &Pvq<'_>| -> Vec<(u8, u64, u64)> {
        let group = |i: u64| {
            let symbol = (noise(i) % 24 + if i.is_multiple_of(9) { 60 } else { 0 }) as u8;
            let open = if symbol < 64 { 0 } else { noise(i + 1000) & ((1 << (symbol / 16 - 2)) - 1) };
            (symbol, open, noise(i + 2000) % p.points(p.class(symbol)))
        };
        (0..82).map(group).collect()
    };
    let coded = groups(&p);
    p.groups = &coded;
    let first = pvq(&p)?;
    let mut q =
        Pvq { head_bits: 0, bands: &[], shape: &[82, 3], dim: 3, step: 1e-3, run: 1, chunk: 1 << 16, ..p };
    q.classes = &[(1, 2), (10, 4096)];
    let coded = groups(&q);
    q.groups = &coded;
    let zeros = Pvq { shape: &[40], groups: &[(0, 0, 0); 5], classes: &[], bands: &[], head_bits: 0, ..q };
    let zeros = Pvq { dim: 8, ..zeros };
    // 3,000 integers in 429 groups, the last cut; every fifth run is loud.
    let classes: Vec<u8> = (0..143).map(|run| u8::from(run % 5 == 0)).collect();
    let integer = |i: u64| match classes[i as usize / 21] {
        0 => (noise(i) % 7 * (noise(i + 5000) % 2)) as i32 - 2,
        _ => (noise(i) % 255) as i32 - 127,
    };
    let integers: Vec<i32> = (0..3000).map(integer).collect();
    let loud = Pulses {
        shape: &[30, 100],
        dim: 7,
        step: 0.75,
        shifts: &[-30, 12, 0, 127, -128],
        integers: &integers,
        classes: &classes,
        tabled: true,
        run: 3,
        chunk: 700,
    };
    let few = Pulses { shape: &[5], shifts: &[], integers: &[-128, 0, 1, -1, 127], classes: &[], ..loud };
    let few = Pulses { tabled: false, run: 1, ..few };
    pack([
        leaf("heads", Dtype::F32, &[13, 50], first),
        leaf("tails", Dtype::F32, &[82, 3], pvq(&q)?),
        leaf("zeros", Dtype::F32, &[40], pvq(&zeros)?),
        leaf("pulses", Dtype::F32, &[30, 100], pulses(&loud)?),
        leaf("few-pulses", Dtype::F32, &[5], pulses(&few)?),
    ])
}

/// `count` codewords of `dim` entries up to `most`, sorted.
fn codewords(seed: u64, count: u64, dim: u64, most: i64) -> Vec<Vec<i32>> {
    let entry = |i: u64| (noise(seed * 1000 + i) % (2 * most as u64 + 1)) as i64 - most;
    let mut words: Vec<Vec<i32>> =
        (0..count).map(|w| (0..dim).map(|i| entry(w * dim + i) as i32).collect()).collect();
    words.sort();
    words
}

fn rvq_pack() -> Result<Vec<u8>> {
    let symbols = |seed: u64, n: u64, size: u64| -> Vec<u8> {
        (0..n).map(|i| (noise(seed * 7919 + i) % size).min(noise(seed * 7907 + i) % size) as u8).collect()
    };
    // One group of three stages over vectors of 4 that cross rows; 225 elements, the last vector cut.
    let books = [codewords(1, 16, 4, 100), codewords(2, 5, 4, 40), codewords(3, 1, 4, 1 << 23)];
    let codes = [symbols(1, 57, 16), symbols(2, 57, 5), symbols(3, 57, 1)];
    let stage = |i: usize, step, rice, tabled| Stage {
        step,
        rice,
        words: &books[i],
        noise: None,
        tabled,
        symbols: &codes[i],
    };
    let stages =
        [stage(0, 0.01, [4, 6], true), stage(1, 0.003, [0, 5], false), stage(2, 1e-9, [20, 24], false)];
    let one = rvq(&[15, 15], 4, 1, &stages)?;
    // Three groups of two stages: rows of 7 vectors of 2, positions 0-1, 2-3, 4-6.
    let counts = [24, 24, 36];
    let books: Vec<_> = (0..6).map(|s| codewords(10 + s, 8, 2, 30)).collect();
    let codes: Vec<_> = (0..6).map(|s| symbols(10 + s, counts[s as usize / 2], 8)).collect();
    let stages: Vec<Stage<'_>> = (0..6)
        .map(|s| Stage {
            step: 0.25,
            rice: [2, 4],
            words: &books[s],
            noise: None,
            tabled: s % 2 == 0,
            symbols: &codes[s],
        })
        .collect();
    let grouped = rvq(&[3, 4, 14], 2, 3, &stages)?;
    // Two stages that map noise: one of 200 words by small integers, one of 3 by integers whose sums f32 rounds.
    let maps = [codewords(20, 4, 4, 30), codewords(21, 4, 4, 1 << 23)];
    let codes = [symbols(20, 57, 200), symbols(21, 57, 3)];
    let stage = |i: usize, step, rice, noise, tabled| Stage {
        step,
        rice,
        words: &maps[i],
        noise: Some(noise),
        tabled,
        symbols: &codes[i],
    };
    let stages = [stage(0, 1e-4, [0, 5], (300, 200), true), stage(1, 1e-12, [0, 24], (u64::MAX, 3), false)];
    let mapped = rvq(&[15, 15], 4, 1, &stages)?;
    pack([
        leaf("one-group", Dtype::F32, &[15, 15], one),
        leaf("groups", Dtype::F32, &[3, 4, 14], grouped),
        leaf("mapped", Dtype::F32, &[15, 15], mapped),
    ])
}

fn ternary_pack() -> Result<Vec<u8>> {
    let trit = |i: u64| if noise(i) % 1000 < 885 { 0 } else { 1 + (noise(i) >> 40) as u8 % 2 };
    let trits: Vec<u8> = (0..990).map(trit).collect();
    let levels: Vec<u8> = (0..20).map(|i| if i == 3 { 0 } else { 100 + (noise(i) % 40) as u8 }).collect();
    let symbols = Ternary {
        shape: &[30, 33],
        unit: 1e-4,
        level_run: 99,
        levels: &levels,
        trits: &trits,
        run: 330,
        bands: &[0, 1, 1],
    };
    let dictionary = Ternary { run: 33, bands: &[], unit: 0.001, ..symbols };
    let single = Ternary { bands: &[], ..symbols };
    pack([
        leaf("symbols", Dtype::F32, &[30, 33], ternary(&symbols, false)?),
        leaf("one-table", Dtype::F32, &[30, 33], ternary(&single, false)?),
        leaf("dictionary", Dtype::F32, &[30, 33], ternary(&dictionary, true)?),
    ])
}
