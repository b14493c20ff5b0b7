//! Rows of tables that are not in memory as a whole.

use std::collections::HashMap;

/// Most bytes of rows that are kept: 1700 rows of a table 576 wide.
const MOST: usize = 4 << 20;
/// Part of the budget that rows may take.
const SHARE: usize = 16;
/// Counted for the entry of one row besides its values.
const ENTRY: usize = 64;

type Rows = HashMap<(usize, u32), Box<[f32]>>;

/// Rows that were decoded by themselves, the most recently used of them.
///
/// Getting one row costs decoding its chunk, of 64 to 256 Ki symbols; words of a text repeat. In two generations: a row
/// that is used moves to the young ones; when these are half of the room, the old ones are forgotten and the young are
/// the old. That is close to the least recently used, in constant time.
#[derive(Debug, Default)]
pub(super) struct RowCache {
    young: Rows,
    old: Rows,
    young_bytes: usize,
    old_bytes: usize,
    room: usize,
}

impl RowCache {
    /// A cache within a share of `budget` bytes.
    pub(super) fn new(budget: usize) -> Self {
        Self { room: MOST.min(budget / SHARE), ..Self::default() }
    }

    pub(super) fn bytes_of(values: &[f32]) -> usize {
        values.len() * 4 + ENTRY
    }

    pub(super) fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// Whether something of this size is kept at all.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        bytes <= self.room / 2
    }

    pub(super) fn get(&mut self, tensor: usize, row: u32) -> Option<&[f32]> {
        let key = (tensor, row);
        if let Some(values) = self.old.remove(&key) {
            let bytes = Self::bytes_of(&values);
            self.old_bytes -= bytes;
            self.young_bytes += bytes;
            self.young.insert(key, values);
        }
        self.young.get(&key).map(|values| &**values)
    }

    /// Keeps a row; gives the bytes that were let go of for it.
    pub(super) fn put(&mut self, tensor: usize, row: u32, values: &[f32]) -> usize {
        let bytes = Self::bytes_of(values);
        let mut gone = 0;
        if self.young_bytes + bytes > self.room / 2 {
            gone += self.old_bytes;
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        self.young_bytes += bytes;
        for (rows, total) in [(&mut self.old, &mut self.old_bytes), (&mut self.young, &mut self.young_bytes)]
        {
            if let Some(before) = rows.remove(&(tensor, row)) {
                *total -= Self::bytes_of(&before);
                gone += Self::bytes_of(&before);
            }
        }
        self.young.insert((tensor, row), values.into());
        gone
    }

    /// Forgets all rows; gives their bytes.
    pub(super) fn clear(&mut self) -> usize {
        let gone = self.bytes();
        *self = Self { room: self.room, ..Self::default() };
        gone
    }
}

/// Cuts ascending row numbers into runs that are decoded together: within one run from the first to the last are at
/// most `window` rows.
pub(super) fn runs(ids: &[u32], window: u32) -> Vec<&[u32]> {
    let mut runs = Vec::new();
    let mut rest = ids;
    while let Some(&first) = rest.first() {
        let end = rest.partition_point(|&id| id - first < window.max(1));
        let (run, others) = rest.split_at(end);
        runs.push(run);
        rest = others;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_within_their_room_and_are_counted() {
        let mut cache = RowCache::new(32 * 1024);
        assert_eq!(cache.room, 2048);
        let mut held = 0;
        for i in 0..200u32 {
            let row = i * 7 % 23;
            match cache.get(3, row) {
                Some(values) => assert_eq!(values, [row as f32; 16]),
                None => {
                    held += RowCache::bytes_of(&[0.0; 16]);
                    held -= cache.put(3, row, &[row as f32; 16]);
                }
            }
            assert!(cache.get(3, row).is_some(), "the last row is there");
            assert!(cache.get(4, row).is_none(), "rows belong to a tensor");
            assert_eq!(cache.bytes(), held);
            assert!(held <= 2048 + RowCache::bytes_of(&[0.0; 16]), "{held}");
        }
        assert_eq!(cache.clear(), held);
        assert_eq!(cache.bytes(), 0);
        assert!(!RowCache::new(0).takes(64));
    }

    #[test]
    fn runs_cover_all_rows_in_order() {
        assert_eq!(runs(&[1, 2, 9, 10, 11, 30], 10), [&[1, 2, 9, 10][..], &[11], &[30]]);
        assert_eq!(runs(&[5, 6], 0), [&[5][..], &[6]]);
        assert!(runs(&[], 4).is_empty());
    }
}
