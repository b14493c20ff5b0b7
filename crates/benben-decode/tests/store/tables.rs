//! Rows of tables.

use super::{dense, open, packed, values};
use benben_codec::{Target, scalar};
use benben_decode::store::Options;
use benben_decode::{Dtype, LayerStore, Weights};
use benben_format::{Expr, Origin, Writer};
use std::sync::Arc;

const ROWS: usize = 65536;
const COLUMNS: usize = 64;
const BYTES: usize = ROWS * COLUMNS * 4;

#[test]
fn a_table_is_read_by_rows_until_it_is_asked_for_whole() {
    let pack = open(packed(&[("table", &[ROWS as u64, COLUMNS as u64], true), ("m", &[8, 8], true)]));
    let table = pack.tensor("table").unwrap().to_f32().unwrap();
    let stored = pack.tensor("table").unwrap().stored_bytes();
    let row = |id: u32| &table[id as usize * COLUMNS..(id as usize + 1) * COLUMNS];
    let store = LayerStore::with_options(Arc::clone(&pack), &dense()).unwrap();
    let look_up = |ids: &[u32]| {
        let mut out = vec![0.0; ids.len() * COLUMNS];
        store.rows("table", ids, &mut out).unwrap();
        for (&id, out) in ids.iter().zip(out.chunks(COLUMNS)) {
            assert_eq!(out, row(id));
        }
        store.statistics()
    };
    let counts = look_up(&[7]);
    assert_eq!((counts.row_hits, counts.rows_decoded), (0, 1));
    assert!(counts.bytes_held < BYTES / 8, "{counts:?}");
    assert!(counts.bytes_read * 2 < stored, "{} of {stored} bytes read for a row", counts.bytes_read);
    // The same again, twice in one call, out of order, from both ends.
    let counts = look_up(&[7, 65535, 7, 0, 65535, 8]);
    assert_eq!((counts.row_hits, counts.rows_decoded), (2, 4));
    let before = counts.bytes_read;
    let counts = look_up(&[8, 0, 7, 65535]);
    assert_eq!((counts.row_hits, counts.rows_decoded, counts.bytes_read), (6, 4, before));
    store.rows("table", &[], &mut []).unwrap();
    assert_eq!(store.statistics().misses, 0, "rows do not make a table resident");
    // The head of the same network: from now on rows come from it.
    let mut y = vec![0.0; ROWS];
    store.product("table", &[1.0; COLUMNS], 1, &mut y).unwrap();
    let before = store.statistics();
    let counts = look_up(&[100, 200, 300]);
    assert_eq!((counts.rows_decoded, counts.bytes_read), (before.rows_decoded, before.bytes_read));
}

#[test]
fn a_table_that_is_read_all_over_is_taken_whole_where_there_is_room() {
    let pack = open(packed(&[("table", &[ROWS as u64, COLUMNS as u64], true), ("m", &[8, 8], true)]));
    let table = pack.tensor("table").unwrap().to_f32().unwrap();
    for (budget, whole) in
        [(None, true), (Some(BYTES + 4096), true), (Some(BYTES - 1), false), (Some(0), false)]
    {
        let options = Options { budget, prefetch: 0, ..dense() };
        let store = LayerStore::with_options(Arc::clone(&pack), &options).unwrap();
        // One after the other, or all at once.
        for ids in
            [&[0u32][..], &[20_000], &[5, 10_000, 20_000, 25_000, 30_000, 40_000, 50_000, 60_000, 65_535]]
        {
            let mut out = vec![0.0; ids.len() * COLUMNS];
            store.rows("table", ids, &mut out).unwrap();
            for (&id, out) in ids.iter().zip(out.chunks(COLUMNS)) {
                assert_eq!(out, &table[id as usize * COLUMNS..(id as usize + 1) * COLUMNS]);
            }
        }
        let counts = store.statistics();
        assert_eq!(counts.bytes_decoded as usize, if whole { BYTES } else { 0 }, "{budget:?}: {counts:?}");
        assert_eq!(counts.misses, u64::from(whole));
        assert!(counts.bytes_peak <= budget.unwrap_or(usize::MAX));
    }
}

/// One row of it takes all that is stored: it comes into memory for its first row, and takes no row twice.
#[test]
fn a_transposed_table_is_taken_whole() {
    let stored = values(0, ROWS * COLUMNS);
    let settings = scalar::Settings::new(Target::BitsPerWeight(4.0));
    let (leaf, _) = scalar::encode(&stored, &[COLUMNS as u64, ROWS as u64], &settings).unwrap();
    let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
    let turned = Expr::Transpose(Box::new(Expr::Leaf(leaf)));
    writer.tensor("table", Dtype::F32, &[ROWS as u64, COLUMNS as u64], Origin::default(), turned).unwrap();
    let pack = open(writer.finish().unwrap().0);
    let table = pack.tensor("table").unwrap().to_f32().unwrap();
    for (budget, stays) in [(None, true), (Some(0), false)] {
        let options = Options { budget, prefetch: 0, ..dense() };
        let store = LayerStore::with_options(Arc::clone(&pack), &options).unwrap();
        for ids in [&[9u32][..], &[65_535, 0, 9], &[70]] {
            let mut out = vec![0.0; ids.len() * COLUMNS];
            store.rows("table", ids, &mut out).unwrap();
            for (&id, out) in ids.iter().zip(out.chunks(COLUMNS)) {
                assert_eq!(out, &table[id as usize * COLUMNS..(id as usize + 1) * COLUMNS]);
            }
        }
        let counts = store.statistics();
        assert_eq!((counts.rows_decoded, counts.misses), (0, if stays { 1 } else { 3 }), "{counts:?}");
        assert!(counts.bytes_peak <= budget.unwrap_or(0) + BYTES);
    }
}

#[test]
fn rows_are_kept_within_the_budget() {
    let pack = open(packed(&[("table", &[ROWS as u64, COLUMNS as u64], true)]));
    let table = pack.tensor("table").unwrap().to_f32().unwrap();
    for budget in [0, 10_000, 100_000, 2 << 20] {
        let store = LayerStore::with_options(Arc::clone(&pack), &Options { budget: Some(budget), ..dense() })
            .unwrap();
        for i in 0..60u32 {
            let ids = [i * 1067 % 65536, i * 131 % 65536, 5];
            let mut out = vec![0.0; 3 * COLUMNS];
            store.rows("table", &ids, &mut out).unwrap();
            for (&id, out) in ids.iter().zip(out.chunks(COLUMNS)) {
                assert_eq!(out, &table[id as usize * COLUMNS..(id as usize + 1) * COLUMNS]);
            }
            if i % 20 == 19 {
                store.product("table", &[1.0; COLUMNS], 1, &mut vec![0.0; ROWS]).unwrap();
            }
            let counts = store.statistics();
            assert!(counts.bytes_held <= budget, "{counts:?} of {budget}");
        }
        let counts = store.statistics();
        assert!(counts.bytes_peak <= budget + BYTES);
        assert_eq!(counts.row_hits > 0, budget >= 100_000, "{budget}: {counts:?}");
    }
}

#[test]
fn vectors_are_handed_out() {
    let pack = open(packed(&[("norm", &[300], false), ("m", &[8, 8], true)]));
    for budget in [None, Some(0), Some(1 << 20)] {
        let options = Options { budget, ..dense() };
        let store = LayerStore::with_options(Arc::clone(&pack), &options).unwrap();
        for _ in 0..2 {
            assert_eq!(store.vector("norm").unwrap(), values(0, 300));
        }
        assert_eq!(store.statistics().hits, u64::from(budget != Some(0)));
    }
}
