//! Leaves of codec `trellis` from the integers that they store, as `format-spec/codecs/trellis.md` has them.

use super::leaves::{CHUNK, leaf, push, table, zigzag};
use benben::codec::entropy::{
    Columns, Model, Rows, SideWriter, Trellis, encode_bytes, encode_symbols, encode_words,
};
use benben::{Dtype, Result};
use benben_format::EncodedLeaf;
use ciborium::cbor;

/// Lanes of a chunk, each with a path of its own.
const LANES: usize = 32;

/// What a `trellis` leaf is made of.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    pub(crate) shape: &'a [u64],
    pub(crate) step: f32,
    pub(crate) zero: bool,
    pub(crate) states: bool,
    /// Shifts of the first places of each codebook.
    pub(crate) shifts: [&'a [i8]; 2],
    pub(crate) integers: &'a [i32],
    /// Class of each run of `run` rows of `columns`, none for one class.
    pub(crate) classes: &'a [u8],
    /// Class of each column, none for one class.
    pub(crate) of_columns: &'a [u8],
    pub(crate) run: usize,
    pub(crate) columns: usize,
    pub(crate) exceptions: &'a [(u64, u64)],
    pub(crate) chunk: u32,
}

impl Path<'_> {
    fn column_classes(&self) -> usize {
        usize::from(self.of_columns.iter().max().map_or(1, |&c| c + 1))
    }
}

/// Number of the table of each symbol: the class's, and the state's of the symbol's lane.
fn table_of(p: &Path<'_>) -> Vec<usize> {
    const NEXT: [[usize; 8]; 2] = [[0, 2, 5, 7, 1, 3, 4, 6], [1, 3, 4, 6, 0, 2, 5, 7]];
    let mut found = Vec::with_capacity(p.integers.len());
    for (chunk, integers) in p.integers.chunks(p.chunk as usize).enumerate() {
        let mut states = [0; LANES];
        for (j, k) in integers.iter().enumerate() {
            let state = &mut states[j % LANES];
            let run = (chunk * p.chunk as usize + j) / (p.run * p.columns);
            let row = usize::from(p.classes.get(run).copied().unwrap_or(0));
            let column = (chunk * p.chunk as usize + j) % p.columns;
            let class =
                row * p.column_classes() + usize::from(p.of_columns.get(column).copied().unwrap_or(0));
            found.push(if p.states { class * 8 + *state } else { class * 2 + *state % 2 });
            *state = NEXT[k.rem_euclid(2) as usize][*state];
        }
    }
    found
}

pub(crate) fn trellis(p: &Path<'_>) -> Result<EncodedLeaf> {
    let symbols: Vec<u8> = p.integers.iter().map(|&k| zigzag(k) as u8).collect();
    let of = table_of(p);
    let trellis = if p.states { Trellis::States } else { Trellis::Unions };
    let classes = usize::from(p.classes.iter().max().map_or(1, |&c| c + 1)) * p.column_classes();
    let own = |t| symbols.iter().zip(&of).filter(move |(_, of)| **of == t).map(|s| *s.0);
    let tables: Vec<_> = (0..classes * if p.states { 8 } else { 2 }).map(|t| table(own(t))).collect();
    let mut side = SideWriter::new();
    for shifts in p.shifts {
        side.varint(shifts.len() as u64);
        shifts.iter().for_each(|s| side.u8(s.cast_unsigned()));
    }
    side.tables(&tables)?;
    let params = cbor!({"step" => p.step, "run" => p.run as u64, "columns" => p.column_classes() as u64, "zero" => p.zero, "states" => p.states});
    let mut leaf = leaf("trellis", Dtype::F32, p.shape, params)?;
    push(&mut leaf, encode_bytes(&side.into_bytes(), 1, CHUNK)?);
    push(&mut leaf, encode_symbols(p.classes, &Model::none(), CHUNK)?);
    push(&mut leaf, encode_symbols(p.of_columns, &Model::none(), CHUNK)?);
    let rows = Rows { of: p.classes, run: (p.run * p.columns) as u64 };
    let model = Model {
        tables: &tables,
        rows,
        columns: Columns { of: p.of_columns, count: p.column_classes() as u8 },
        trellis,
    };
    push(&mut leaf, encode_symbols(&symbols, &model, p.chunk)?);
    let (positions, bits): (Vec<u64>, Vec<u64>) = p.exceptions.iter().copied().unzip();
    push(&mut leaf, encode_words(&positions, CHUNK));
    push(&mut leaf, encode_words(&bits, CHUNK));
    Ok(leaf)
}
