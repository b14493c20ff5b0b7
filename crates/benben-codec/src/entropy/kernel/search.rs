//! Tables of any number of symbols, and several at once, as levels of a binary search in registers.
//!
//! The first slots of a table's symbols are a sorted list. Level `k` of the search holds those of `2^k` symbols for each
//! table, a permutation picks each lane's, and the sign of `slot - first slot` goes to the end of the lane's index: 1
//! where the symbol is below. So an index is a table and the complement of a symbol, and tables cost nothing but
//! longer levels: lanes may each have their own. The least of all differences is the slot's place in its interval, the
//! largest (below 0, as an unsigned integer) the way to the interval's end; their difference is the frequency.
//!
//! Five instructions for each bit of a symbol and the same in any table, where a gather takes a look-up of the cache for
//! each lane, and 16 kB of it for each table.
#![allow(unsafe_code, reason = "vector instructions; `portable` is the twin that tests hold this against")]

use super::super::rans::LANES;
use super::halves::{GROUP_BYTES, Halves, load, narrowed, store, widened};
use super::{Item, Lanes, Lookup, Slots, Tables};
use crate::entropy::{Table, Trellis};
use std::arch::x86_64::*;

/// A register of 16-bit integers.
type Row = [u16; 32];
/// Registers of all levels at most: 3 bits of tables and 6 of symbols.
const ROWS: usize = 19;
/// Registers of half the bits of all values at most: two union codebooks of 256.
const VALUES: usize = 16;

/// Slots beyond a search, less one for each symbol, that a table may have.
const RARE: u32 = 4;

/// The tables of a model as searches.
#[derive(Debug)]
pub(in super::super) struct Searches {
    trellis: Trellis,
    /// Bits of a symbol.
    depth: u32,
    /// All lanes, where the last symbol of the search stands for itself and all above; else none.
    rest: __mmask32,
    /// For each row class, those of its tables.
    of: Vec<Search>,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Search([Row; ROWS]);

/// The halves of values, by union codebook and complement of the symbol.
#[derive(Debug)]
#[repr(C, align(64))]
pub(in super::super) struct Planes {
    low: [Row; VALUES],
    high: [Row; VALUES],
}

/// Registers of a level of `2^bits`.
const fn rows(bits: u32) -> usize {
    if bits < 5 { 1 } else { 1 << (bits - 5) }
}

/// Bits of the number of a class's table.
const fn start(trellis: Trellis) -> u32 {
    trellis.tables().ilog2()
}

impl Searches {
    /// `None` where the levels would be too long.
    pub(in super::super) fn new(tables: &[Table], trellis: Trellis) -> Option<Self> {
        let alphabet = tables.iter().map(Table::alphabet).max()?;
        // A symbol of frequency 1 hardly ever comes: its count may be any below 1 in 4096.
        let rare = |depth: u32| {
            let often = |t: &Table| {
                (alphabet.min((1 << depth) - 1)..alphabet)
                    .map(|s| t.freq(s as u8).saturating_sub(1))
                    .sum::<u32>()
            };
            alphabet <= 1 << depth || tables.iter().all(|t| often(t) <= RARE)
        };
        let depth = [5, 6].into_iter().find(|&depth| rare(depth)).unwrap_or(8);
        let rest = if alphabet <= 1 << depth { 0 } else { __mmask32::MAX };
        let length: usize = (0..depth).map(|k| rows(start(trellis) + k)).sum();
        let of = tables.chunks_exact(trellis.tables()).map(|tables| Search::new(tables, depth));
        (length <= ROWS).then(|| Self { trellis, depth, rest, of: of.collect() })
    }

    /// Values, one row or two, as the searches ask for them.
    pub(in super::super) fn planes(&self, values: &[[f32; 256]]) -> Planes {
        let mut planes = Planes { low: [[0; 32]; VALUES], high: [[0; 32]; VALUES] };
        let size = 1 << self.depth;
        let (low, high) = (planes.low.as_flattened_mut(), planes.high.as_flattened_mut());
        let both = low.chunks_mut(size).zip(high.chunks_mut(size));
        for ((low, high), values) in both.zip(values) {
            for ((low, high), value) in low.iter_mut().zip(high).zip(values[..size].iter().rev()) {
                (*low, *high) = (value.to_bits() as u16, (value.to_bits() >> 16) as u16);
            }
        }
        planes
    }
}

impl Search {
    fn new(tables: &[Table], depth: u32) -> Self {
        let mut levels = [[0; 32]; ROWS];
        let mut rest = levels.as_mut_slice();
        let firsts: Vec<[u16; 256]> = tables.iter().map(firsts).collect();
        for level in 0..depth {
            let (own, others) = rest.split_at_mut(rows(tables.len().ilog2() + level));
            let nodes = own.as_flattened_mut().chunks_mut(1 << level);
            for (nodes, firsts) in nodes.zip(&firsts) {
                for (node, way) in
                    nodes.iter_mut().rev().enumerate().map(|(above, node)| (node, 2 * above + 1))
                {
                    *node = firsts[way << (depth - level - 1)];
                }
            }
            if own.as_flattened().len() == 32 && tables.len() << level == 1 {
                // All lanes begin here: no permutation.
                own[0] = [own[0][0]; 32];
            }
            rest = others;
        }
        Self(levels)
    }
}

/// First slot of each symbol, also of those without any.
fn firsts(table: &Table) -> [u16; 256] {
    let mut next = 0;
    std::array::from_fn(|symbol| {
        let first = next;
        next += table.freq(symbol as u8) as u16;
        first
    })
}

/// Decodes groups from the first on, until one whose symbols are of several row classes; `None` where this is not for
/// the model.
pub(super) fn run<I: Item, const N: usize>(
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    out: [&mut [I]; N],
) -> Option<usize> {
    let searches = lookup.searches.filter(|s| s.trellis == lookup.trellis)?;
    let planes = if I::VALUES { Some(lookup.planes?) } else { None };
    let job = Job { searches, planes, tables, lookup };
    // SAFETY: the caller has found AVX-512 F, BW, VL, VBMI and VBMI2 on this machine; tables of each symbol are as
    // many as `out` has symbols.
    unsafe {
        Some(match (lookup.trellis, searches.depth) {
            (Trellis::None, 5) => job.groups::<I, 0, 5>(lanes, words, out),
            (Trellis::None, 6) => job.groups::<I, 0, 6>(lanes, words, out),
            (Trellis::None, 8) => job.groups::<I, 0, 8>(lanes, words, out),
            (Trellis::Unions, 5) => job.groups::<I, 1, 5>(lanes, words, out),
            (Trellis::Unions, 6) => job.groups::<I, 1, 6>(lanes, words, out),
            (Trellis::Unions, 8) => job.groups::<I, 1, 8>(lanes, words, out),
            (Trellis::States, 5) => job.groups::<I, 3, 5>(lanes, words, out),
            (Trellis::States, 6) => job.groups::<I, 3, 6>(lanes, words, out),
            _ => return None,
        })
    }
}

struct Job<'a, const N: usize> {
    searches: &'a Searches,
    planes: Option<&'a Planes>,
    tables: [Tables<'a>; N],
    lookup: Lookup<'a>,
}

impl<const N: usize> Job<'_, N> {
    /// Decodes groups by searches of `START` bits of tables and `DEPTH` of symbols.
    ///
    /// # Safety
    /// The machine is one for it; there is a table for each symbol of `out`, and planes where values are written.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,popcnt,bmi2")]
    unsafe fn groups<I: Item, const START: u32, const DEPTH: u32>(
        &self,
        lanes: &mut [Lanes; N],
        words: &mut [&[u8]; N],
        mut out: [&mut [I]; N],
    ) -> usize {
        let Some(mut of) = self
            .tables
            .iter()
            .map(|t| self.class(t, 0, START))
            .collect::<Option<Vec<_>>>()
            .and_then(|of| <[&Search; N]>::try_from(of).ok())
        else {
            return 0;
        };
        let mut states = lanes.each_ref().map(|l| Halves::load(&l.coder));
        let mut paths = lanes.each_ref().map(|l| {
            let [a, b] = load(&l.trellis);
            narrowed(a, b)
        });
        // State after a symbol, by 4 * state + the last two bits of the symbol's complement.
        let branch: Row = std::array::from_fn(|i| Trellis::next(i as u32 / 4, 3 - (i % 4) as u8) as u16);
        let branch = row(&branch);
        let [first, second] = [0, 16].map(|from| {
            let pairs: Row = std::array::from_fn(|i| from + i as u16 / 2 + if i % 2 == 1 { 32 } else { 0 });
            row(&pairs)
        });
        let (in_slot, whole) = (_mm512_set1_epi16(0xfff), _mm512_set1_epi16(4096));
        let count = out.iter().map(|o| o.len()).min().unwrap_or(0);
        let to = out.each_mut().map(|o| o.as_mut_ptr());
        let (mut done, mut symbols) = (0, [0; LANES]);
        'groups: while done + LANES <= count && words.iter().all(|w| w.len() >= GROUP_BYTES) {
            for (of, tables) in of.iter_mut().zip(&self.tables) {
                if let Tables::Each(_) = tables {
                    let Some(class) = self.class(tables, done, START) else { break 'groups };
                    *of = class;
                }
            }
            for n in 0..N {
                let slot = _mm512_and_si512(states[n].low, in_slot);
                let (mut offset, mut beyond) = (slot, _mm512_sub_epi16(slot, whole));
                let mut index = match START {
                    0 => _mm512_setzero_si512(),
                    1 => _mm512_and_si512(paths[n], _mm512_set1_epi16(1)),
                    _ => paths[n],
                };
                let mut at = 0;
                for level in 0..DEPTH {
                    let way = _mm512_sub_epi16(slot, pick(&of[n].0[at..], START + level, index));
                    offset = _mm512_min_epu16(offset, way);
                    beyond = _mm512_max_epu16(beyond, way);
                    index = _mm512_shldi_epi16::<1>(index, way);
                    at += rows(START + level);
                }
                let in_depth = _mm512_set1_epi16((1 << DEPTH) - 1);
                let late = _mm512_testn_epi16_mask(index, in_depth) & self.searches.rest;
                if late != 0 {
                    let mut own = Late {
                        slot: of_row(slot),
                        offset: of_row(offset),
                        beyond: of_row(beyond),
                        index: of_row(index),
                        symbols,
                    };
                    own.find(self.lookup.slots, self.tables[n].first(done), late, DEPTH);
                    (offset, beyond, index, symbols) =
                        (row(&own.offset), row(&own.beyond), row(&own.index), own.symbols);
                }
                let freq = _mm512_sub_epi16(offset, beyond);
                // SAFETY: as many words are left.
                unsafe { states[n].step::<true>(freq, offset, &mut words[n]) };
                // SAFETY: a whole group is left of `count`.
                unsafe {
                    let to = to[n].add(done);
                    if let Some(planes) = self.planes {
                        let bits = if START == 0 { DEPTH } else { DEPTH + 1 };
                        let (low, high) = (pick(&planes.low, bits, index), pick(&planes.high, bits, index));
                        _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi16(low, first, high));
                        _mm512_storeu_si512(to.add(16).cast(), _mm512_permutex2var_epi16(low, second, high));
                    } else {
                        let below = _mm512_andnot_si512(index, in_depth);
                        _mm256_storeu_si256(to.cast(), _mm512_cvtepi16_epi8(below));
                    }
                }
                if late != 0 {
                    // SAFETY: a whole group is left of `count`, and has just been written.
                    let group = unsafe { std::slice::from_raw_parts_mut(to[n].add(done), LANES) };
                    overwrite(group, late, &symbols, self.lookup.values);
                }
                if START > 0 {
                    let last = _mm512_and_si512(index, _mm512_set1_epi16(3));
                    let turn = _mm512_or_si512(_mm512_slli_epi16::<2>(paths[n]), last);
                    paths[n] = _mm512_permutexvar_epi16(turn, branch);
                }
            }
            done += LANES;
        }
        for ((states, path), lanes) in states.iter().zip(paths).zip(lanes) {
            states.store(&mut lanes.coder);
            store(widened(path), &mut lanes.trellis);
        }
        done
    }

    /// The search of the group from symbol `at` on, where all of it have one.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    fn class(&self, tables: &Tables<'_>, at: usize, bits: u32) -> Option<&Search> {
        let table = match tables {
            Tables::Shared(table) => *table,
            Tables::Each(each) => {
                let group = each.get(at..at + LANES)?;
                // SAFETY: 32 bytes.
                let group = unsafe { _mm256_loadu_si256(group.as_ptr().cast()) };
                let first = _mm256_broadcastb_epi8(_mm256_castsi256_si128(group));
                if _mm256_cmpneq_epu8_mask(group, first) != 0 {
                    return None;
                }
                each[at]
            }
        };
        self.searches.of.get(usize::from(table) >> bits)
    }
}

/// A group with lanes whose symbols are beyond the search.
struct Late {
    slot: Row,
    offset: Row,
    beyond: Row,
    index: Row,
    /// The symbol, and 256 for the odd union codebook.
    symbols: Row,
}

impl Late {
    /// Looks up the lanes of `late` among the slots of the tables from `first` on. An index gets the last two bits of the
    /// symbol's complement, which are all that a trellis asks for.
    #[cold]
    fn find(&mut self, slots: &[Slots], first: u8, late: __mmask32, depth: u32) {
        for lane in (0..LANES).filter(|lane| late >> lane & 1 == 1) {
            let table = self.index[lane] >> depth;
            let slot = slots[usize::from(first) + usize::from(table)][usize::from(self.slot[lane])];
            self.offset[lane] = (slot >> 20) as u16;
            self.beyond[lane] = self.offset[lane].wrapping_sub((slot >> 8 & 0xfff) as u16 + 1);
            self.index[lane] = table << depth | (3 - (slot & 3) as u16);
            self.symbols[lane] = (table & 1) << 8 | (slot & 0xff) as u16;
        }
    }
}

/// Writes what the lanes of `late` become.
#[cold]
fn overwrite<I: Item>(out: &mut [I], late: __mmask32, symbols: &Row, values: &[[f32; 256]]) {
    const NOTHING: [f32; 256] = [0.0; 256];
    for (lane, (o, symbol)) in out.iter_mut().zip(symbols).enumerate() {
        if late >> lane & 1 == 1 {
            *o = I::of(*symbol as u8, values.get(usize::from(symbol >> 8)).unwrap_or(&NOTHING));
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn of_row(of: __m512i) -> Row {
    let mut row = [0; 32];
    // SAFETY: 64 bytes.
    unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), of) };
    row
}

#[target_feature(enable = "avx512f")]
#[inline]
fn row(of: &Row) -> __m512i {
    // SAFETY: 64 bytes.
    unsafe { _mm512_loadu_si512(of.as_ptr().cast()) }
}

/// Integers number `index` of a list of `2^bits`; what is above those bits does not count, except below 5 where it is 0.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn pick(of: &[Row], bits: u32, index: __m512i) -> __m512i {
    match bits {
        0 => return row(&of[0]),
        1..=5 => return _mm512_permutexvar_epi16(index, row(&of[0])),
        _ => (),
    }
    let mut count = 1usize << (bits - 6);
    let mut found = [_mm512_setzero_si512(); 8];
    for (i, found) in found.iter_mut().enumerate().take(count) {
        *found = _mm512_permutex2var_epi16(row(&of[2 * i]), index, row(&of[2 * i + 1]));
    }
    let mut bit = 64;
    while count > 1 {
        let upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16(bit));
        for i in 0..count / 2 {
            found[i] = _mm512_mask_mov_epi16(found[2 * i], upper, found[2 * i + 1]);
        }
        (count, bit) = (count / 2, 2 * bit);
    }
    found[0]
}
