//! Every kernel of the rANS decoder against the portable one and the reference: sound streams, damaged ones, noise.
#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test"
)]

use benben_codec::entropy::{self, Columns, Kernel, Model, Rows, Table, Trellis, Values, rans, reference};
use benben_format::{Dtype, EncodedLeaf, LeafSpec};
use proptest::prelude::*;

/// SplitMix64.
fn noise(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A model with everything that it can have, and symbols that it codes.
#[derive(Debug, Clone)]
struct Case {
    tables: Vec<Table>,
    rows: Vec<u8>,
    run: u64,
    columns: Vec<u8>,
    count: u8,
    trellis: Trellis,
    first: u64,
    symbols: Vec<u8>,
}

impl Case {
    fn model(&self) -> Model<'_> {
        Model {
            tables: &self.tables,
            rows: Rows { of: &self.rows, run: self.run },
            columns: Columns { of: &self.columns, count: self.count },
            trellis: self.trellis,
        }
    }

    fn values(&self) -> Values {
        let row = |r: u64| std::array::from_fn(|s| (noise(r << 8 | s as u64) as i32) as f32);
        if self.trellis == Trellis::None { Values::new(row(0)) } else { Values::of_unions(row(0), row(1)) }
    }

    /// The values by a plain walk.
    fn expected(&self) -> Vec<f32> {
        let mut states = [0u32; 32];
        let value = |state: u32, s: u8| {
            let row = u64::from(state & 1);
            (noise(row << 8 | u64::from(s)) as i32) as f32
        };
        let each = self.symbols.iter().enumerate().map(|(i, &s)| {
            let state = &mut states[i % 32];
            let v = value(if self.trellis == Trellis::None { 0 } else { *state }, s);
            *state = Trellis::next(*state, s);
            v
        });
        each.collect()
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let trellis = prop_oneof![Just(Trellis::None), Just(Trellis::Unions), Just(Trellis::States)];
    let sizes = prop_oneof![0usize..70, 0usize..9000];
    (
        sizes,
        1u8..=4,
        0usize..70,
        1u8..=2,
        trellis,
        prop_oneof![1u64..70, 30u64..3000],
        any::<u64>(),
        1u64..200,
        any::<bool>(),
    )
        .prop_map(|(n, classes, width, count, trellis, run, seed, alphabet, peaked)| {
            let classes = if trellis == Trellis::States { classes.min(2) } else { classes };
            let first = seed % 5 * run;
            let runs = (first + n as u64).div_ceil(run);
            let rows = if classes == 1 {
                vec![]
            } else {
                (0..runs).map(|r| (noise(seed ^ r) % u64::from(classes)) as u8).collect()
            };
            let columns =
                (0..width as u64).map(|c| (noise(seed ^ c << 20) % u64::from(count)) as u8).collect();
            let tables = (0..usize::from(classes) * usize::from(count) * trellis.tables()).map(|t| {
                // Exponents of weights: halves on both sides, rare ones at the ends.
                let halves = |s: u64| (1u64 << 40) >> (2 * s.abs_diff(alphabet / 2)).min(40);
                let steps = |s: u64| noise(seed ^ s << 8 ^ t as u64) % (1 << (s * 7 % 11));
                let counts: Vec<u64> =
                    (0..alphabet).map(|s| 1 + if peaked { halves(s) } else { steps(s) }).collect();
                Table::from_counts(&counts)
            });
            // Low symbols often, so that few words are taken and many are.
            let symbol = |i: u64| ((noise(seed ^ i) % alphabet) >> (noise(seed ^ i << 1) % 5)) as u8;
            let symbols = (0..n as u64).map(symbol).collect();
            Case { tables: tables.collect(), rows, run, columns, count, trellis, first, symbols }
        })
}

proptest! {
    #[test]
    fn kernels_give_what_was_coded(case in cases()) {
        let model = case.model();
        let payload = rans::encode(&case.symbols, case.first, &model).unwrap();
        prop_assert_eq!(&payload, &reference::encode(&case.symbols, case.first, &model).unwrap());
        let mut out = vec![0xaa; case.symbols.len()];
        reference::decode(&payload, case.first, &model, &mut out).unwrap();
        prop_assert_eq!(&out, &case.symbols);
        for kernel in Kernel::available() {
            out.fill(0xaa);
            rans::decode_by(kernel, &payload, case.first, &model, &mut out).unwrap();
            prop_assert_eq!(&out, &case.symbols, "{}", kernel);
            let mut values = vec![f32::NAN; out.len()];
            rans::decode_values_by(kernel, &payload, case.first, &model, &case.values(), &mut values).unwrap();
            prop_assert_eq!(&values, &case.expected(), "{}", kernel);
        }
    }

    #[test]
    fn kernels_agree_on_damaged_streams(case in cases(), at in any::<u32>(), kind in 0..4, seed: u64) {
        let model = case.model();
        let mut payload = rans::encode(&case.symbols, case.first, &model).unwrap();
        let at = at as usize % payload.len();
        match kind {
            0 => payload[at] ^= 1 << (seed % 8),
            1 => payload.truncate(at),
            2 => payload.extend(seed.to_le_bytes()),
            // Noise from here on: states of any size, words without end.
            _ => payload.iter_mut().enumerate().skip(at).for_each(|(i, b)| *b = noise(seed ^ i as u64) as u8),
        }
        let decode = |kernel| {
            let mut out = vec![0xaa; case.symbols.len()];
            let symbols = rans::decode_by(kernel, &payload, case.first, &model, &mut out);
            let mut values = vec![0.0; out.len()];
            let outcome = rans::decode_values_by(kernel, &payload, case.first, &model, &case.values(), &mut values);
            assert_eq!(symbols.is_ok(), outcome.is_ok());
            (out, values, outcome.map_err(|e| e.to_string()))
        };
        let expected = decode(Kernel::Portable);
        for kernel in Kernel::available() {
            prop_assert_eq!(&decode(kernel), &expected, "{}", kernel);
        }
    }
}

proptest! {
    #[test]
    fn chunks_side_by_side_are_each_for_itself(
        case in cases(), chunk in 1u32..2000, damaged in prop::collection::vec(any::<(u16, u16)>(), 0..3),
    ) {
        let case = Case { first: 0, ..case };
        let model = case.model();
        let n = case.symbols.len() as u64;
        let (spec, chunks) = entropy::encode_symbols(&case.symbols, &model, chunk).unwrap();
        let mut leaf = EncodedLeaf::new(LeafSpec::new("test", 1, Dtype::U8, &[n], &()).unwrap());
        leaf.push(spec, chunks);
        let sound = leaf.clone();
        for (at, byte) in damaged {
            let chunks = &mut leaf.chunks[0];
            if chunks.is_empty() {
                break;
            }
            let chunk = at as usize % chunks.len();
            let bytes = chunks[chunk].bytes.to_mut();
            let byte = byte as usize % bytes.len();
            bytes[byte] ^= 1;
        }
        let decode = |kernel, leaf: &EncodedLeaf, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0xaa; n as usize];
            let model = &model;
            let outcome = pool.install(|| entropy::decode_symbols_by(kernel, leaf, 0, 0..n, model, &mut out));
            outcome.map(|()| out).map_err(|e| e.to_string())
        };
        let expected = decode(Kernel::Portable, &leaf, 3);
        for kernel in Kernel::available() {
            prop_assert_eq!(decode(kernel, &sound, 1), Ok(case.symbols.clone()), "{}", kernel);
            prop_assert_eq!(&decode(kernel, &leaf, 1), &expected, "{}", kernel);
        }
    }
}

#[test]
fn what_this_machine_lacks_is_said() {
    for kernel in Kernel::ALL.into_iter().filter(|k| !k.is_available()) {
        println!("skipped: {kernel} is not available on this machine");
    }
    assert!(Kernel::Portable.is_available() && Kernel::fastest().is_available());
}
