//! Leaves that contradict their codec's page.

use super::MustFail;
use super::leaves::{Params, leaf, push, raw_integer, raw_palette, table};
use super::trellis_leaves::{Path, trellis};
use super::vector_leaves::{Pulses, Pvq, Stage, Ternary, pulses, pvq, rvq, ternary};
use super::wrong::{CORRUPTION, of_leaf, read};
use benben::codec::entropy::{Model, SideWriter, encode_bytes, encode_symbols, encode_words};
use benben::{Dtype, Error, Result};
use benben_format::{Chunk, EncodedLeaf, StreamSpec};
use ciborium::cbor;

fn symbols_of(values: &[u8]) -> Result<(StreamSpec, Vec<Chunk<'static>>)> {
    encode_symbols(values, &Model::none(), 1 << 18)
}

/// Leaves of codec `raw` that contradict themselves.
pub(super) fn raw() -> Result<Vec<MustFail>> {
    let with = |name, why, dtype, params: Params, streams: &[&[u8]]| -> Result<MustFail> {
        let mut side = SideWriter::new();
        side.tables(&[table([1, 2, 3])])?;
        side.tables(&[])?; // of the one plane
        let mut broken = leaf("raw", dtype, &[4], params)?;
        push(&mut broken, encode_bytes(&side.into_bytes(), 1, 1 << 18)?);
        for s in streams {
            push(&mut broken, symbols_of(s)?);
        }
        Ok(read(name, CORRUPTION, why, of_leaf(broken)?))
    };
    let float =
        |m: u64, lowest: u64| cbor!({"layout" => "float", "mantissa" => m, "lowest" => lowest, "run" => 4});
    let integer = |offset: u64, low: u64| cbor!({"layout" => "integer", "zigzag" => false, "offset" => offset, "low" => low, "run" => 1});
    let in_chunks = |chunk| raw_integer(Dtype::U16, &[4], &[1, 2, 3, 4, 5, 6, 7, 8], (false, 0, 8), chunk);
    let (chunked, mut uneven) = (in_chunks(4)?, in_chunks(2)?);
    uneven.chunks[3] = chunked.chunks[3].clone();
    uneven.spec.streams[3] = chunked.spec.streams[3];
    let mut palette = raw_palette(Dtype::U16, &[4], &[1, 2, 1, 2, 3, 4, 3, 4], 4)?;
    (palette.spec.streams[2], palette.chunks[2]) = symbols_of(&[0, 1, 2, 0])?;
    Ok(vec![
        with(
            "raw-layout",
            "a layout that is not known",
            Dtype::U8,
            cbor!({"layout" => "zigzag"}),
            &[&[1; 4]],
        )?,
        with(
            "raw-float-dtype",
            "layout float of integers",
            Dtype::U16,
            float(1, 1),
            &[&[], &[1; 4], &[0; 4]],
        )?,
        with(
            "raw-float-mantissa",
            "more leading bits than 3",
            Dtype::BF16,
            float(4, 1),
            &[&[], &[1; 4], &[0; 4]],
        )?,
        with(
            "raw-float-lowest",
            "a lowest exponent past the type",
            Dtype::BF16,
            float(2, 256),
            &[&[], &[1; 4], &[0; 4]],
        )?,
        with(
            "raw-float-symbol",
            "an exponent past the type",
            Dtype::BF16,
            float(2, 255),
            &[&[], &[1, 2, 3, 4], &[0; 4]],
        )?,
        with(
            "raw-float-rest",
            "a rest of too many bits",
            Dtype::BF16,
            float(2, 1),
            &[&[], &[1, 2, 3, 1], &[0, 64, 0, 0]],
        )?,
        with(
            "raw-float-classes",
            "classes of one table",
            Dtype::BF16,
            float(2, 1),
            &[&[0], &[1, 2, 3, 1], &[0; 4]],
        )?,
        with(
            "raw-integer-low",
            "more low bits than leave a symbol",
            Dtype::U16,
            integer(0, 9),
            &[&[], &[1; 4], &[0; 4], &[0; 4]],
        )?,
        with(
            "raw-integer-offset",
            "an offset past the type",
            Dtype::U16,
            integer(1 << 16, 8),
            &[&[], &[1; 4], &[0; 4]],
        )?,
        with(
            "raw-integer-rest",
            "a rest of too many bits",
            Dtype::U16,
            integer(0, 3),
            &[&[], &[1; 4], &[0, 8, 0, 0]],
        )?,
        read("raw-palette-symbol", CORRUPTION, "a symbol past the palette", of_leaf(palette)?),
        read("raw-chunks-uneven", CORRUPTION, "planes of different chunks", of_leaf(uneven)?),
    ])
}

/// Leaves of codec `scalar` that contradict themselves.
pub(super) fn scalars() -> Result<Vec<MustFail>> {
    let one = u64::from(1f32.to_bits());
    let with = |name,
                why,
                params: Params,
                centroids: u64,
                of_columns: &[u8],
                kept: [&[u64]; 2]|
     -> Result<MustFail> {
        let mut side = SideWriter::new();
        side.varint(centroids);
        (0..centroids).for_each(|_| side.u8(1));
        side.tables(&[table([1, 2, 255])])?;
        let mut broken = leaf("scalar", Dtype::F32, &[4], params)?;
        push(&mut broken, encode_bytes(&side.into_bytes(), 1, 1 << 18)?);
        push(&mut broken, symbols_of(&[])?);
        push(&mut broken, symbols_of(of_columns)?);
        push(&mut broken, symbols_of(&[1, 255, 255, 2])?);
        push(&mut broken, encode_words(&[], 1 << 18));
        push(&mut broken, encode_words(kept[0], 1 << 18));
        push(&mut broken, encode_words(kept[1], 1 << 18));
        Ok(read(name, CORRUPTION, why, of_leaf(broken)?))
    };
    let params = |step: f32, low: u64, run: u64, columns: u64| cbor!({"step" => step, "low_bits" => low, "run" => run, "column_classes" => columns});
    let usual = || params(1.0, 0, 1, 1);
    Ok(vec![
        with("scalar-step-0", "a step of 0", params(0.0, 0, 1, 1), 0, &[], [&[], &[]])?,
        with("scalar-step-nan", "a step that is no number", params(f32::NAN, 0, 1, 1), 0, &[], [&[], &[]])?,
        with("scalar-step-large", "values beyond f32", params(3e36, 0, 1, 1), 0, &[], [&[], &[]])?,
        with(
            "scalar-step-integer",
            "a step that is an integer",
            cbor!({"step" => 1, "low_bits" => 0, "run" => 1, "column_classes" => 1}),
            0,
            &[],
            [&[], &[]],
        )?,
        with("scalar-low-17", "17 low bits", params(1.0, 17, 1, 1), 0, &[], [&[], &[]])?,
        with("scalar-run-0", "runs of no rows", params(1.0, 0, 0, 1), 0, &[], [&[], &[]])?,
        with("scalar-columns-0", "no class of columns", params(1.0, 0, 1, 0), 0, &[], [&[], &[]])?,
        with(
            "scalar-columns-2",
            "a table for two classes of columns",
            params(1.0, 0, 1, 2),
            0,
            &[0, 1, 0, 0],
            [&[], &[]],
        )?,
        with(
            "scalar-columns-left",
            "classes of columns for one table",
            usual(),
            0,
            &[0, 0, 0, 0],
            [&[], &[]],
        )?,
        with("scalar-centroids-16", "16 centroids", usual(), 16, &[], [&[], &[]])?,
        with("scalar-exception-values", "exceptions without values", usual(), 0, &[], [&[1], &[]])?,
        with(
            "scalar-exception-order",
            "exceptions that do not rise",
            usual(),
            0,
            &[],
            [&[1, 1], &[one, one]],
        )?,
        with("scalar-exception-past", "an exception past the end", usual(), 0, &[], [&[4], &[one]])?,
        with("scalar-exception-large", "an exception of 33 bits", usual(), 0, &[], [&[1], &[1 << 32]])?,
    ])
}

/// Leaves of codec `trellis` that contradict themselves.
pub(super) fn trellises() -> Result<Vec<MustFail>> {
    let p = Path {
        shape: &[2, 2],
        step: 1.0,
        zero: false,
        states: false,
        shifts: [&[3], &[]],
        integers: &[1, 0, -1, 0],
        classes: &[],
        of_columns: &[],
        run: 1,
        columns: 2,
        exceptions: &[(1, 0x4000_0000)],
        chunk: 1 << 18,
    };
    let case = |name, why, p: &Path<'_>| -> Result<MustFail> {
        Ok(read(name, CORRUPTION, why, of_leaf(trellis(p)?)?))
    };
    let with = |name, why, change: &dyn Fn(&mut EncodedLeaf) -> Result<()>| -> Result<MustFail> {
        let mut broken = trellis(&p)?;
        change(&mut broken)?;
        Ok(read(name, CORRUPTION, why, of_leaf(broken)?))
    };
    let with_params = |name, why, params: Params| {
        let params = params.map_err(|e| Error::invalid(e.to_string()))?;
        with(name, why, &|leaf| {
            leaf.spec.params = params.clone();
            Ok(())
        })
    };
    let side = |counts: [u64; 2], tables: usize| -> Result<(StreamSpec, Vec<Chunk<'static>>)> {
        let mut side = SideWriter::new();
        for count in counts {
            side.varint(count);
            (0..count).for_each(|_| side.u8(1));
        }
        side.tables(&vec![table([0, 1, 2]); tables])?;
        encode_bytes(&side.into_bytes(), 1, 1 << 18)
    };
    let with_side = |name, why, counts, tables| {
        with(name, why, &|leaf| {
            (leaf.spec.streams[0], leaf.chunks[0]) = side(counts, tables)?;
            Ok(())
        })
    };
    let many: Vec<(u64, u64)> = (0..17).map(|i| (i, 0)).collect();
    Ok(vec![
        case("trellis-step-0", "a step of 0", &Path { step: 0.0, ..p })?,
        case("trellis-step-large", "a step of 2^120", &Path { step: 2f32.powi(120), ..p })?,
        case("trellis-classes", "classes where there is one", &Path { classes: &[0, 0], ..p })?,
        with_params(
            "trellis-states",
            "no word on states",
            cbor!({"step" => 1.0, "run" => 1, "columns" => 1, "zero" => false}),
        )?,
        with_params(
            "trellis-run-0",
            "runs of no rows",
            cbor!({"step" => 1.0, "run" => 0, "columns" => 1, "zero" => false, "states" => false}),
        )?,
        with_params(
            "trellis-columns-0",
            "no class of columns",
            cbor!({"step" => 1.0, "run" => 1, "columns" => 0, "zero" => false, "states" => false}),
        )?,
        with_params(
            "trellis-columns-2",
            "two classes of columns, tables for one",
            cbor!({"step" => 1.0, "run" => 1, "columns" => 2, "zero" => false, "states" => false}),
        )?,
        case(
            "trellis-column",
            "a class for each of two columns, where there are three",
            &Path { shape: &[1, 3], integers: &[1, 0, -1], of_columns: &[0, 1], ..p },
        )?,
        with_side("trellis-shifts-16", "16 shifts", [16, 0], 2)?,
        with_side("trellis-tables-3", "three tables for two codebooks", [0, 0], 3)?,
        with_side("trellis-tables-0", "no table", [0, 0], 0)?,
        case("trellis-exceptions", "more exceptions than allowed", &Path { exceptions: &many, ..p })?,
        case(
            "trellis-positions",
            "positions that do not rise",
            &Path { exceptions: &[(2, 0), (2, 0)], ..p },
        )?,
        case("trellis-position-4", "an exception past the end", &Path { exceptions: &[(4, 0)], ..p })?,
        case(
            "trellis-exception-nan",
            "an exception that is no number",
            &Path { exceptions: &[(0, 0x7fc0_0000)], ..p },
        )?,
        case(
            "trellis-exception-large",
            "an exception of 33 bits",
            &Path { exceptions: &[(0, 1 << 32)], ..p },
        )?,
    ])
}

/// Leaves of codecs `pvq`, `rvq` and `ternary` that contradict themselves.
pub(super) fn vectors() -> Result<Vec<MustFail>> {
    let p = Pvq {
        shape: &[4],
        dim: 2,
        step: 0.5,
        head_bits: 0,
        classes: &[(1, 2)],
        groups: &[(3, 0, 4), (1, 0, 7)],
        bands: &[],
        run: 16,
        chunk: 1 << 16,
    };
    // V(2, 3) is 12, which leaves four indices of four bits without a point.
    let over = Pvq { classes: &[(1, 3)], groups: &[(3, 0, 4), (1, 0, 12)], ..p };
    let coded = |p: &Pvq<'_>| pvq(p).and_then(of_leaf);
    let mut head = pvq(&p)?;
    head.chunks[3] = symbols_of(&[0, 1])?.1;
    let mut tails = pvq(&p)?;
    tails.chunks[5] = Vec::new();
    tails.spec.streams[5].items = 0;
    let mut dim = pvq(&p)?;
    let params = |params: Params| params.map_err(|e| Error::invalid(e.to_string()));
    dim.spec.params = params(cbor!({"dim" => 33, "form" => "numbered"}))?;
    let mut form = pvq(&p)?;
    form.spec.params = params(cbor!({"dim" => 2, "form" => "counted"}))?;
    let loud = Pulses {
        shape: &[4],
        dim: 2,
        step: 0.5,
        shifts: &[],
        integers: &[1, 0, 3, -2],
        classes: &[0, 1],
        tabled: false,
        run: 1,
        chunk: 1 << 16,
    };
    let mut class = pulses(&loud)?;
    class.chunks[1] = symbols_of(&[0, 2])?.1;
    let mut runs = pulses(&loud)?;
    runs.chunks[1] = symbols_of(&[0])?.1;
    runs.spec.streams[1].items = 1;
    let silent = Pulses { step: 0.0, ..loud };
    let shifted = Pulses { shifts: &[0; 16], ..loud };
    let without_run = Pulses { run: 0, classes: &[], ..loud };

    let book = [vec![-3, 1], vec![2, 0]];
    let stage = Stage { step: 0.5, rice: [2, 1], words: &book, noise: None, tabled: false, symbols: &[1, 2] };
    let good = Stage { symbols: &[1, 0], ..stage };
    let mut extra = rvq(&[4], 2, 1, &[good])?;
    push(&mut extra, symbols_of(&[0, 0])?);
    let zero = Stage { step: 0.0, ..good };
    let entry = [vec![0, (1 << 23) + 1], vec![2, 0]];
    let large = Stage { rice: [2, 20], words: &entry, ..good };
    let endless = Stage { step: f32::MAX, ..good };
    let mut heavy = rvq(&[4], 2, 1, &[good])?;
    // One byte more than codebooks of one stage of two vectors of two elements may take.
    let (spec, chunks) = encode_bytes(&[0; 67], 1, 1 << 18)?;
    (heavy.spec.streams[0], heavy.chunks[0]) = (spec, chunks);
    let mapped = Stage { noise: Some((0, 2)), ..good };
    let mut seed = rvq(&[4], 2, 1, &[mapped])?;
    let mut untrue = rvq(&[4], 2, 1, &[mapped])?;
    untrue.spec.params = cbor!({"dim" => 2, "groups" => 1, "stages" => 1, "mapped" => 1})
        .map_err(|e| benben::Error::invalid(e.to_string()))?;
    // The seed in one byte more than it needs.
    let (spec, chunks) = encode_bytes(&[1, 0, 0, 0, 0x3f, 0x80, 0, 1, 0x9b, 1, 0], 1, 1 << 18)?;
    (seed.spec.streams[0], seed.chunks[0]) = (spec, chunks);

    let t = Ternary {
        shape: &[2, 3],
        unit: 0.5,
        level_run: 3,
        levels: &[1, 2, 3, 4],
        trits: &[0, 1, 3, 0, 0, 2],
        run: 3,
        bands: &[],
    };
    let trits = Ternary { trits: &[0, 1, 2, 0, 0, 2], ..t };
    let mut over_end = ternary(&trits, true)?;
    over_end.chunks[4] = encode_words(&[9], 1 << 18).1;
    let mut short = ternary(&trits, true)?;
    // Two strings of one pair for a block of three trits, then none.
    short.chunks[4] = encode_words(&[0], 1 << 18).1;
    let unit = Ternary { unit: 0.0, ..trits };
    Ok(vec![
        read("pvq-index", CORRUPTION, "an index without a point", coded(&over)?),
        read(
            "pvq-classes",
            CORRUPTION,
            "classes whose first symbols do not rise",
            coded(&Pvq { classes: &[(1, 2), (1, 3)], ..p })?,
        ),
        read(
            "pvq-points",
            CORRUPTION,
            "more points than 2^64",
            coded(&Pvq { dim: 32, classes: &[(1, 30)], shape: &[64], groups: &[(0, 0, 0); 2], ..p })?,
        ),
        read("pvq-step", CORRUPTION, "a step of 2^112", coded(&Pvq { step: 2f32.powi(112), ..p })?),
        read("pvq-run", CORRUPTION, "runs of no groups", coded(&Pvq { run: 0, ..p })?),
        read("pvq-head", CORRUPTION, "a head where there are none", of_leaf(head)?),
        read("pvq-tails", CORRUPTION, "tails past the last word", of_leaf(tails)?),
        read("pvq-dim", CORRUPTION, "groups of 33", of_leaf(dim)?),
        read("pvq-form", CORRUPTION, "a form that there is not", of_leaf(form)?),
        read("pvq-pulse-class", CORRUPTION, "a class without a table of pulses", of_leaf(class)?),
        read("pvq-pulse-classes", CORRUPTION, "a run without a class", of_leaf(runs)?),
        read("pvq-pulse-step", CORRUPTION, "a step of 0", of_leaf(pulses(&silent)?)?),
        read("pvq-pulse-shifts", CORRUPTION, "16 shifts", of_leaf(pulses(&shifted)?)?),
        read("pvq-pulse-run", CORRUPTION, "runs of no groups", of_leaf(pulses(&without_run)?)?),
        read("rvq-symbol", CORRUPTION, "a symbol without a codeword", of_leaf(rvq(&[4], 2, 1, &[stage])?)?),
        read("rvq-stream", CORRUPTION, "a stream too many", of_leaf(extra)?),
        read("rvq-step", CORRUPTION, "a step of 0", of_leaf(rvq(&[4], 2, 1, &[zero])?)?),
        read("rvq-entry", CORRUPTION, "an entry above 2^23", of_leaf(rvq(&[4], 2, 1, &[large])?)?),
        read("rvq-range", CORRUPTION, "a codeword that is infinite", of_leaf(rvq(&[4], 2, 1, &[endless])?)?),
        read("rvq-side", CORRUPTION, "more side information than two vectors warrant", of_leaf(heavy)?),
        read("rvq-seed", CORRUPTION, "a seed with a needless byte", of_leaf(seed)?),
        read("rvq-mapped", CORRUPTION, "a form that is no truth value", of_leaf(untrue)?),
        read("ternary-trit", CORRUPTION, "a trit of 3", of_leaf(ternary(&t, false)?)?),
        read("ternary-unit", CORRUPTION, "a unit of 0", of_leaf(ternary(&unit, false)?)?),
        read("ternary-start", CORRUPTION, "a block that begins past the codewords", of_leaf(over_end)?),
        read("ternary-block", CORRUPTION, "codewords that do not fill their block", of_leaf(short)?),
    ])
}
