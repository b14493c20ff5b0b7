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

/// How the rows of a table lie in chunks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layout {
    /// Rows of the table.
    pub(super) rows: u64,
    /// Items of the stream that takes the most chunks, and of one of its chunks.
    pub(super) items: u64,
    pub(super) chunk_items: u64,
}

impl Layout {
    /// Chunks that the whole takes, one after the other.
    pub(super) fn chunks(&self) -> u64 {
        self.items.div_ceil(self.chunk_items.max(1)).max(1)
    }

    /// The chunk in which a row begins.
    fn chunk_of(&self, row: u32) -> u128 {
        u128::from(row) * u128::from(self.items)
            / u128::from(self.rows.max(1))
            / u128::from(self.chunk_items.max(1))
    }

    /// Cuts ascending row numbers into runs that are decoded together: those that begin in the same chunk.
    pub(super) fn runs(self, ids: &[u32]) -> impl Iterator<Item = &[u32]> {
        ids.chunk_by(move |&a, &b| self.chunk_of(a) == self.chunk_of(b))
    }
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
        let layout = Layout { rows: 40, items: 400, chunk_items: 95 };
        let cut = |ids| layout.runs(ids).map(<[u32]>::to_vec).collect::<Vec<_>>();
        // Row 9 begins at item 90, in the first chunk still; row 19 at item 190, the first of the third.
        assert_eq!(cut(&[1, 2, 9, 10, 18, 19, 39]), [vec![1, 2, 9], vec![10, 18], vec![19], vec![39]]);
        assert!(cut(&[]).is_empty());
        assert_eq!(layout.chunks(), 5);
        let each = Layout { rows: 7, items: 7, chunk_items: 1 };
        assert_eq!(each.runs(&[5, 6]).count(), 2);
    }
}
