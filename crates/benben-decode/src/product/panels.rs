//! A matrix in groups of 16 rows, each in the packing that takes the least room.

use super::Kernel;
use super::packing::{
    FAR, INTEGERS, LANES, Line, Packing, View, bits, by_packing, lead, per_line, table, tables,
};
use super::portable::{self, Lanes};
use benben_codec::lattice::Lattice;
use rayon::prelude::*;
use std::ops::Range;

/// What an outlier counts for when packings are compared, in bytes. It takes 8, and a product spends on it what it
/// spends on 20 codes.
const OUTLIER_COST: usize = 10;

/// A weight that the codes of its group do not reach. Its code is 0, whose value is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outlier {
    /// `column * 16 + lane`.
    at: u32,
    value: f32,
}

impl Outlier {
    #[allow(clippy::cast_possible_truncation, reason = "below MAX_COLUMNS * 16 = 2^31")]
    fn new(column: usize, lane: usize, value: f32) -> Self {
        Self { at: (column * LANES + lane) as u32, value }
    }

    pub(crate) fn column(self) -> usize {
        self.at as usize / LANES
    }

    pub(crate) fn lane(self) -> usize {
        self.at as usize % LANES
    }

    pub(crate) fn value(self) -> f32 {
        self.value
    }
}

/// 16 rows.
#[derive(Debug)]
struct Group {
    packing: Packing,
    lines: Box<[Line]>,
    /// By column, then by lane.
    outliers: Box<[Outlier]>,
}

/// A matrix in memory.
#[derive(Debug)]
pub(crate) struct Panels {
    rows: usize,
    columns: usize,
    groups: Vec<Group>,
    /// Values of integers, by packing; empty for floats.
    tables: Box<[f32]>,
    /// See [`View::far`].
    far: Option<f32>,
}

/// Most columns: places within a group are 32 bits.
pub(crate) const MAX_COLUMNS: usize = 1 << 27;

impl Panels {
    /// Zeros that kernels want after a vector.
    pub(crate) const PADDING: usize = 16;

    /// An empty matrix to push groups to. Integers have the values of `lattice`.
    pub(crate) fn new(rows: usize, columns: usize, lattice: Option<&Lattice>) -> Self {
        let widest = lattice.map(|l| if l.lowest < -128 { Packing::Bits10 } else { Packing::Bits8 });
        let tables = match (lattice, widest) {
            (Some(lattice), Some(widest)) => tables(widest, |q| lattice.value(q)),
            _ => Box::default(),
        };
        let far = lattice.and_then(|l| far(|q| l.value(q)));
        Self { rows, columns, groups: Vec::with_capacity(rows.div_ceil(LANES)), tables, far }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Number of groups.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Bytes of codes, outliers and tables; the 40 of each group around them are not counted.
    pub(crate) fn bytes(&self) -> usize {
        let of = |g: &Group| size_of_val(&*g.lines) + size_of_val(&*g.outliers);
        self.groups.iter().map(of).sum::<usize>() + size_of_val(&*self.tables)
    }

    /// Appends whole groups of rows given as the integers of `lattice`, rows after one another; the last may be cut.
    /// `exceptions` are those of these rows, element numbers counted from `first`.
    pub(crate) fn push_integers(
        &mut self,
        integers: &[f32],
        lattice: &Lattice,
        exceptions: &[(u64, f32)],
        first: u64,
    ) {
        let columns = self.columns;
        let size = LANES * columns;
        let group = |(i, rows): (usize, &[f32])| {
            let start = first + (i * size) as u64;
            let from = exceptions.partition_point(|e| e.0 < start);
            let to = exceptions.partition_point(|e| e.0 < start + rows.len() as u64);
            let own = exceptions[from..to].iter().map(|&(at, value)| {
                #[allow(clippy::cast_possible_truncation, reason = "an element of these rows")]
                let at = (at - start) as usize;
                Outlier::new(at % columns, at / columns, value)
            });
            pack_integers(rows, columns, lattice, own.collect())
        };
        self.groups.par_extend(integers.par_chunks(size).enumerate().map(group));
    }

    /// Appends whole groups of f32 rows.
    pub(crate) fn push_values(&mut self, values: &[f32]) {
        let columns = self.columns;
        let group = |rows: &[f32]| {
            let lines = transpose(rows, columns, |v| v).iter().map(|l| Line(l.map(f32::to_bits))).collect();
            Group { packing: Packing::Full, lines, outliers: Box::default() }
        };
        self.groups.par_extend(values.par_chunks(LANES * columns).map(group));
    }

    /// Appends whole groups of rows of f16 (or bf16 where `brain`), little-endian.
    pub(crate) fn push_halves(&mut self, bytes: &[u8], brain: bool) {
        let columns = self.columns;
        let packing = if brain { Packing::Brain } else { Packing::Half };
        let group = |rows: &[u8]| {
            let mut lines = vec![Line([0; LANES]); packing.lines(columns)];
            for (lane, row) in rows.chunks(2 * columns).enumerate() {
                for (line, pair) in lines.iter_mut().zip(row.chunks(4)) {
                    for (i, half) in pair.as_chunks::<2>().0.iter().enumerate() {
                        let half = u32::from(u16::from_le_bytes(*half));
                        line.0[i * 8 + lane / 2] |= half << (16 * (lane % 2));
                    }
                }
            }
            Group { packing, lines: lines.into(), outliers: Box::default() }
        };
        self.groups.par_extend(bytes.par_chunks(2 * LANES * columns).map(group));
    }

    /// Appends whole groups of rows of trits (0, 1, 2), with the positive and the negative level of each row.
    pub(crate) fn push_trits(&mut self, trits: &[u8], levels: &[[f32; 2]]) {
        let columns = self.columns;
        let group = |(rows, levels): (&[u8], &[[f32; 2]])| {
            let packing = Packing::Trits;
            let mut lines = vec![Line([0; LANES]); 2 + packing.lines(columns)];
            for (lane, (row, levels)) in rows.chunks(columns).zip(levels).enumerate() {
                lines[0].0[lane] = levels[0].to_bits();
                lines[1].0[lane] = (-levels[1]).to_bits();
                for (line, part) in lines[2..].iter_mut().zip(row.chunks(per_line(packing as u8))) {
                    let word = part.iter().enumerate().fold(0, |w, (i, &t)| w | u32::from(t) << (2 * i));
                    line.0[lane] = word;
                }
            }
            Group { packing, lines: lines.into(), outliers: Box::default() }
        };
        let rows = trits.par_chunks(LANES * columns).zip(levels.par_chunks(LANES));
        self.groups.par_extend(rows.map(group));
    }

    /// The same matrix with every weight as f32, outliers among them.
    pub(crate) fn expanded(mut self, kernel: Kernel) -> Self {
        let columns = self.columns;
        let tables = std::mem::take(&mut self.tables);
        self.groups.par_iter_mut().for_each(|group| {
            let mut panel = vec![[0.0; LANES]; columns];
            kernel.expand(group.view(columns, &tables, None), 0, &mut panel);
            for outlier in std::mem::take(&mut group.outliers) {
                panel[outlier.column()][outlier.lane()] = outlier.value;
            }
            group.lines = panel.iter().map(|l| Line(l.map(f32::to_bits))).collect();
            group.packing = Packing::Full;
        });
        self
    }

    /// One group.
    pub(crate) fn view(&self, group: usize) -> (View<'_>, &[Outlier]) {
        let group = &self.groups[group];
        (group.view(self.columns, &self.tables, self.far), &group.outliers)
    }

    /// Values of columns `columns`, which begin a line in every packing, of one group.
    pub(crate) fn panel(&self, kernel: Kernel, group: usize, columns: Range<usize>, out: &mut [Lanes]) {
        let (view, outliers) = self.view(group);
        kernel.expand(view, columns.start / per_line(view.packing as u8), out);
        let from = outliers.partition_point(|o| o.column() < columns.start);
        for outlier in outliers[from..].iter().take_while(|o| o.column() < columns.end) {
            out[outlier.column() - columns.start][outlier.lane()] = outlier.value;
        }
    }

    /// Row `row` into `out`; nothing else is looked at.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let (view, outliers) = self.view(row / LANES);
        let lane = row % LANES;
        by_packing!(view.packing, P => {
            let (levels, lines) = view.lines.split_at(lead(P));
            let values = &view.tables[table(P)];
            for (line, out) in lines.iter().zip(out.chunks_mut(per_line(P))) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = portable::one::<P>(line, i, lane, levels, values);
                }
            }
        });
        outliers.iter().filter(|o| o.lane() == lane).for_each(|o| out[o.column()] = o.value);
    }
}

impl Group {
    fn view<'a>(&'a self, columns: usize, tables: &'a [f32], far: Option<f32>) -> View<'a> {
        View { packing: self.packing, lines: &self.lines, columns, tables, far }
    }
}

/// The step of integers of 8 bits from [`FAR`] on, where all their values are whole multiples of one.
pub(super) fn far(value: impl Fn(i32) -> f32) -> Option<f32> {
    let step = value(64) / 64.0;
    let whole = |q: i32| value(q).to_bits() == (q as f32 * step).to_bits();
    (FAR..=127).all(|q| whole(q) && whole(-q - 1)).then_some(step)
}

/// Most bytes of a matrix whose integers reach `reach` in magnitude with so many exceptions, or of floats of `size`
/// bytes.
pub(crate) fn most_bytes(rows: usize, columns: usize, integers: Option<(u32, u64)>, size: usize) -> usize {
    let packing = match (integers, size) {
        (Some((0..=128, _)), _) => Packing::Bits8,
        (Some(_), _) => Packing::Bits10,
        (None, 2) => Packing::Half,
        _ => Packing::Full,
    };
    let exceptions = integers.map_or(0, |i| usize::try_from(i.1).unwrap_or(usize::MAX));
    let tables = if integers.is_some() { table(packing as u8).end * size_of::<f32>() } else { 0 };
    let group = packing.lines(columns).saturating_mul(size_of::<Line>());
    let groups = rows.div_ceil(LANES).saturating_mul(group);
    groups.saturating_add(exceptions.saturating_mul(size_of::<Outlier>())).saturating_add(tables)
}

/// Up to 16 rows of `columns` as columns of 16; rows that are not there are 0.
fn transpose<T: Copy, U: Copy + Default>(rows: &[T], columns: usize, of: impl Fn(T) -> U) -> Vec<[U; LANES]> {
    let mut out = vec![[U::default(); LANES]; columns];
    for (lane, row) in rows.chunks(columns).enumerate() {
        for (out, &x) in out.iter_mut().zip(row) {
            out[lane] = of(x);
        }
    }
    out
}

/// One group in the packing that costs least.
fn pack_integers(rows: &[f32], columns: usize, lattice: &Lattice, exceptions: Vec<Outlier>) -> Group {
    #[allow(clippy::cast_possible_truncation, reason = "integers of a lattice fit ten bits")]
    let mut integers = transpose(rows, columns, |q| q as i32);
    let mut outliers = exceptions;
    for outlier in &outliers {
        integers[outlier.column()][outlier.lane()] = 0;
    }
    // Integers beyond each packing, negative ones folded: q fits b bits where q xor sign is below 2^(b - 1).
    let mut beyond = [[0u32; LANES]; INTEGERS.len()];
    for line in &integers {
        let folded = line.map(|q| q ^ (q >> 31));
        for (beyond, packing) in beyond.iter_mut().zip(INTEGERS) {
            let limit = 1 << (bits(packing as u8) - 1);
            for (count, q) in beyond.iter_mut().zip(folded) {
                *count += u32::from(q >= limit);
            }
        }
    }
    let cost = |(i, packing): (usize, Packing)| {
        let outliers = beyond[i].iter().sum::<u32>() as usize;
        (packing.lines(columns) * size_of::<Line>() + outliers * OUTLIER_COST, outliers, packing)
    };
    let allowed =
        INTEGERS.into_iter().enumerate().filter(|(_, p)| lattice.lowest < -128 || *p != Packing::Bits10);
    let best = allowed.map(cost).min_by_key(|&(cost, outliers, _)| (cost, outliers));
    let (_, count, packing) = best.unwrap_or((0, 0, Packing::Bits8));
    let bits = bits(packing as u8);
    if count > 0 {
        outliers.reserve_exact(count);
        let limit = 1 << (bits - 1);
        for (column, line) in integers.iter_mut().enumerate() {
            for (lane, q) in line.iter_mut().enumerate() {
                if *q ^ (*q >> 31) >= limit {
                    outliers.push(Outlier::new(column, lane, lattice.value(*q)));
                    *q = 0;
                }
            }
        }
    }
    outliers.sort_unstable_by_key(|o| o.at);
    let mask = (1u32 << bits) - 1;
    let lines = integers.chunks(per_line(packing as u8)).map(|columns| {
        let mut words = [0u32; LANES];
        for (i, column) in columns.iter().enumerate() {
            for (word, q) in words.iter_mut().zip(column) {
                *word |= (q.cast_unsigned() & mask) << (bits * i);
            }
        }
        Line(words)
    });
    Group { packing, lines: lines.collect(), outliers: outliers.into() }
}
