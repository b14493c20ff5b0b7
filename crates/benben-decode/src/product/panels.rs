//! A matrix in groups of 16 rows, each in the packing that takes the least room.

use super::Kernel;
use super::outliers::{self, Outlier, Outliers};
use super::packing::{
    FAR, INTEGERS, LANES, Line, Packing, View, by_packing, lead, table, tables, unit, unit_lines,
};
use super::portable::{self, Lanes};
use super::turned::Turned;
use benben_codec::lattice::Lattice;
use rayon::prelude::*;
use std::ops::Range;

/// What an outlier counts for when packings are compared, in bytes beside the 8 that it takes.
const OUTLIER_COST: usize = 2;
/// Weights of a slab, within a group.
const SLAB: usize = 1 << 18;

/// 16 rows.
#[derive(Debug)]
struct Group {
    packing: Packing,
    /// Where its lines are: of codes, then of outliers.
    slab: u32,
    first: u32,
    outliers: u32,
}

/// A group by itself.
struct Packed {
    packing: Packing,
    lines: Vec<Line>,
    outliers: usize,
}

/// A matrix in memory.
#[derive(Debug)]
pub(crate) struct Panels {
    rows: usize,
    columns: usize,
    groups: Vec<Group>,
    /// Lines of about [`SLAB`] weights each, those of a group after those of the one before. In allocations of their own
    /// each group would begin with misses of the cache that no prefetcher foresees: a quarter of the time of a product.
    slabs: Vec<Box<[Line]>>,
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
        let groups = Vec::with_capacity(rows.div_ceil(LANES));
        Self { rows, columns, groups, slabs: Vec::new(), tables, far }
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

    /// Bytes of codes, outliers and tables; the 16 of each group around them are not counted.
    pub(crate) fn bytes(&self) -> usize {
        self.slabs.iter().map(|s| size_of_val(&**s)).sum::<usize>() + size_of_val(&*self.tables)
    }

    /// Appends groups `0..count`, each as `pack` gives it; slabs are filled side by side, group after group.
    fn push(&mut self, count: usize, pack: impl Fn(usize) -> Packed + Sync) {
        let most = (SLAB / (LANES * self.columns)).max(1);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let fill = |slab: usize| {
            let own = slab * most..count.min((slab + 1) * most);
            let (mut lines, mut groups) = (Vec::new(), Vec::with_capacity(own.len()));
            for i in own.clone() {
                let packed = pack(i);
                if lines.is_empty() {
                    // Groups of one matrix are about as long.
                    lines.reserve_exact(packed.lines.len() * own.len());
                }
                let (first, outliers) = (number(lines.len()), number(packed.outliers));
                groups.push(Group { packing: packed.packing, slab: 0, first, outliers });
                lines.extend_from_slice(&packed.lines);
            }
            (lines.into_boxed_slice(), groups)
        };
        let filled: Vec<_> = (0..count.div_ceil(most)).into_par_iter().map(fill).collect();
        for (slab, groups) in filled {
            let slab_number = number(self.slabs.len());
            self.groups.extend(groups.into_iter().map(|g| Group { slab: slab_number, ..g }));
            self.slabs.push(slab);
        }
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
        let group = |i: usize| {
            let rows = part(integers, i, size);
            let start = first + (i * size) as u64;
            let from = exceptions.partition_point(|e| e.0 < start);
            let to = exceptions.partition_point(|e| e.0 < start + rows.len() as u64);
            let own = exceptions[from..to].iter().map(|&(at, value)| {
                #[allow(clippy::cast_possible_truncation, reason = "an element of these rows")]
                let at = (at - start) as usize;
                Outlier::new(at % columns, at / columns, value)
            });
            #[allow(clippy::cast_possible_truncation, reason = "integers of a lattice fit ten bits")]
            pack_integers(transpose(rows, columns, |q| q as i32), lattice, own.collect())
        };
        self.push(integers.len().div_ceil(size), group);
    }

    /// Appends all groups, of integers that lie column after column. `exceptions` count elements of the matrix by row.
    pub(crate) fn push_turned(&mut self, integers: &Turned, lattice: &Lattice, exceptions: &[(u64, f32)]) {
        let columns = self.columns;
        let size = (LANES * columns) as u64;
        self.push(self.rows.div_ceil(LANES), |i| {
            let start = i as u64 * size;
            let from = exceptions.partition_point(|e| e.0 < start);
            let to = exceptions.partition_point(|e| e.0 < start + size);
            let own = exceptions[from..to].iter().map(|&(at, value)| {
                #[allow(clippy::cast_possible_truncation, reason = "an element of these rows")]
                let at = (at - start) as usize;
                Outlier::new(at % columns, at / columns, value)
            });
            pack_integers(integers.group(i), lattice, own.collect())
        });
    }

    /// Appends whole groups of f32 rows.
    pub(crate) fn push_values(&mut self, values: &[f32]) {
        let (columns, size) = (self.columns, LANES * self.columns);
        let group = |i: usize| {
            let panel = transpose(part(values, i, size), columns, |v| v);
            Packed::new(Packing::Full, panel.iter().map(|l| Line(l.map(f32::to_bits))).collect())
        };
        self.push(values.len().div_ceil(size), group);
    }

    /// Appends whole groups of rows of f16 (or bf16 where `brain`), little-endian.
    pub(crate) fn push_halves(&mut self, bytes: &[u8], brain: bool) {
        let (columns, size) = (self.columns, 2 * LANES * self.columns);
        let packing = if brain { Packing::Brain } else { Packing::Half };
        let group = |i: usize| {
            let mut lines = vec![Line([0; LANES]); packing.lines(columns)];
            for (lane, row) in part(bytes, i, size).chunks(2 * columns).enumerate() {
                for (line, pair) in lines.iter_mut().zip(row.chunks(4)) {
                    for (i, half) in pair.as_chunks::<2>().0.iter().enumerate() {
                        let half = u32::from(u16::from_le_bytes(*half));
                        line.0[i * 8 + lane / 2] |= half << (16 * (lane % 2));
                    }
                }
            }
            Packed::new(packing, lines)
        };
        self.push(bytes.len().div_ceil(size), group);
    }

    /// Appends whole groups of rows of trits (0, 1, 2), with the positive and the negative level of each row.
    pub(crate) fn push_trits(&mut self, trits: &[u8], levels: &[[f32; 2]]) {
        let (columns, size) = (self.columns, LANES * self.columns);
        let group = |i: usize| {
            let packing = Packing::Trits;
            let mut lines = vec![Line([0; LANES]); 2 + packing.lines(columns)];
            let rows = part(trits, i, size).chunks(columns).zip(part(levels, i, LANES));
            for (lane, (row, levels)) in rows.enumerate() {
                lines[0].0[lane] = levels[0].to_bits();
                lines[1].0[lane] = (-levels[1]).to_bits();
                for (line, part) in lines[2..].iter_mut().zip(row.chunks(unit(packing as u8))) {
                    let word = part.iter().enumerate().fold(0, |w, (i, &t)| w | u32::from(t) << (2 * i));
                    line.0[lane] = word;
                }
            }
            Packed::new(packing, lines)
        };
        self.push(trits.len().div_ceil(size).min(levels.len().div_ceil(LANES)), group);
    }

    /// The same matrix with every weight as f32, outliers among them.
    pub(crate) fn expanded(mut self, kernel: Kernel) -> Self {
        let mut dense = Self::new(self.rows, self.columns, None);
        let mut rest = 0..self.groups.len();
        for slab in 0..self.slabs.len() {
            let here = |g: &Group| g.slab as usize == slab;
            let own =
                rest.start..rest.start + self.groups[rest.clone()].iter().take_while(|g| here(g)).count();
            rest.start = own.end;
            dense.push(own.len(), |i| {
                let mut panel = vec![[0.0; LANES]; self.columns];
                self.panel(kernel, own.start + i, 0..self.columns, &mut panel);
                Packed::new(Packing::Full, panel.iter().map(|l| Line(l.map(f32::to_bits))).collect())
            });
            self.slabs[slab] = Box::default();
        }
        dense
    }

    /// One group.
    pub(crate) fn view(&self, group: usize) -> (View<'_>, Outliers<'_>) {
        let Group { packing, slab, first, outliers } = self.groups[group];
        let lines = &self.slabs[slab as usize][first as usize..];
        let (lines, rest) = lines.split_at(lead(packing as u8) + packing.lines(self.columns));
        let outliers = Outliers::new(&rest[..outliers::lines(outliers as usize)], outliers as usize);
        (View { packing, lines, columns: self.columns, tables: &self.tables, far: self.far }, outliers)
    }

    /// Values of columns `columns`, which begin a unit in every packing, of one group.
    pub(crate) fn panel(&self, kernel: Kernel, group: usize, columns: Range<usize>, out: &mut [Lanes]) {
        let (view, outliers) = self.view(group);
        kernel.expand(view, columns.start / unit(view.packing as u8), out);
        for outlier in outliers.within(columns.clone()) {
            out[outlier.column() - columns.start][outlier.lane()] = outlier.value();
        }
    }

    /// Row `row` into `out`; nothing else is looked at.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let (view, outliers) = self.view(row / LANES);
        let lane = row % LANES;
        by_packing!(view.packing, P => {
            let (levels, lines) = view.lines.split_at(lead(P));
            let values = &view.tables[table(P)];
            for (lines, out) in lines.chunks_exact(unit_lines(P)).zip(out.chunks_mut(unit(P))) {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = portable::one::<P>(lines, i, lane, levels, values);
                }
            }
        });
        outliers.iter().filter(|o| o.lane() == lane).for_each(|o| out[o.column()] = o.value());
    }
}

impl Packed {
    fn new(packing: Packing, lines: Vec<Line>) -> Self {
        Self { packing, lines, outliers: 0 }
    }
}

/// Part `i` of those of `size`.
fn part<T>(all: &[T], i: usize, size: usize) -> &[T] {
    &all[i * size..all.len().min((i + 1) * size)]
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
    // Where a packing with outliers is taken, it costs no more than one that has but the exceptions as such.
    let each = size_of::<Outlier>() + OUTLIER_COST;
    let begun = if exceptions > 0 { size_of::<Line>() } else { 0 };
    let groups = rows.div_ceil(LANES).saturating_mul(group + begun);
    groups.saturating_add(exceptions.saturating_mul(each)).saturating_add(tables)
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

/// One group in the packing that costs least: 16 rows of each column, and what `outliers` have in their place.
fn pack_integers(mut integers: Vec<[i32; LANES]>, lattice: &Lattice, mut outliers: Vec<Outlier>) -> Packed {
    let columns = integers.len();
    for outlier in &outliers {
        integers[outlier.column()][outlier.lane()] = 0;
    }
    let packing = cheapest(&integers, lattice, outliers.len());
    let reach = packing.reach();
    for (column, line) in integers.iter_mut().enumerate() {
        if line.iter().all(|q| reach.contains(q)) {
            continue;
        }
        for (lane, q) in line.iter_mut().enumerate() {
            if !reach.contains(q) {
                outliers.push(Outlier::new(column, lane, lattice.value(*q)));
                *q = 0;
            }
        }
    }
    let (count, codes) = (outliers.len(), packing.lines(columns));
    let mut lines = Vec::with_capacity(codes + outliers::lines(count));
    lines.resize(codes, Line([0; LANES]));
    let units = lines.chunks_mut(unit_lines(packing as u8)).zip(integers.chunks(unit(packing as u8)));
    by_packing!(packing, P => units.for_each(|(lines, columns)| {
        columns.iter().enumerate().for_each(|(i, column)| Packing::put::<P>(lines, i, column));
    }));
    outliers::append(outliers, &mut lines);
    Packed { packing, lines, outliers: count }
}

/// The packing in which `integers` and the outliers that it makes, besides `given`, take the least.
fn cheapest(integers: &[[i32; LANES]], lattice: &Lattice, given: usize) -> Packing {
    let mut best = (usize::MAX, usize::MAX, Packing::Bits8);
    let widest = |p: &Packing| lattice.lowest < -128 || *p != Packing::Bits10;
    for packing in INTEGERS.into_iter().rev().filter(widest) {
        let (lowest, highest) = packing.reach().into_inner();
        // One comparison, and counts that nobody else sees: all lanes at once.
        let span = highest.abs_diff(lowest);
        let mut count = [0u32; LANES];
        for line in integers {
            let far = line.map(|q| u32::from(q.wrapping_sub(lowest).cast_unsigned() > span));
            count.iter_mut().zip(far).for_each(|(count, far)| *count += far);
        }
        let beyond = count.iter().sum::<u32>() as usize;
        let all = given + beyond;
        let outliers = outliers::lines(all) * size_of::<Line>() + all * OUTLIER_COST;
        let cost = packing.lines(integers.len()) * size_of::<Line>() + outliers;
        // Of equals the narrowest, which comes last.
        if (cost, beyond) <= (best.0, best.1) {
            best = (cost, beyond, packing);
        } else if outliers >= best.0 {
            // Narrower ones have more of them.
            break;
        }
    }
    best.2
}
