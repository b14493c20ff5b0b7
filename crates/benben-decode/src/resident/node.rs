//! The tree of a tensor in memory: leaves that multiply, and nodes that pass a product on.

use super::codebooks::Codebooks;
use super::fine::Fine;
use super::sparse::Sparse;
use super::turned::{Stored, Turned};
use crate::hadamard::{hadamard_rows, inverse_hadamard_rows};
use crate::product::{Job, Kernel, LANES, MAX_COLUMNS, Panels, run};
use std::ops::Range;

/// Weights of one block, 3 MB as f32: memory that loading takes besides what it makes.
pub(super) const BLOCK: usize = 3 << 18;

/// Rows in blocks of whole groups.
pub(super) fn blocks(rows: usize, columns: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (BLOCK / columns.max(1)).max(1).next_multiple_of(LANES);
    (0..rows).step_by(size).map(move |start| start..rows.min(start + size))
}

/// A value in memory.
#[derive(Debug)]
pub(super) enum Node {
    /// Groups of 16 rows.
    Panels(Panels),
    /// Codewords and their numbers.
    Codebooks(Codebooks),
    /// Integers of 8 or 16 bits.
    Fine(Fine),
    /// Either of these, transposed.
    Turned(Turned),
    /// Groups that are not zero.
    Sparse(Box<Sparse>),
    /// Few rows, or none: values, row-major.
    Few {
        rows: usize,
        columns: usize,
        values: Vec<f32>,
    },
    Sum(Vec<Self>),
    Product(Vec<Self>),
    Scale {
        rows: Option<Vec<f32>>,
        columns: Option<Vec<f32>>,
        of: Box<Self>,
    },
    /// `value[i] = of[order[i]]`, by rows or by columns.
    PermuteRows {
        order: Vec<usize>,
        of: Box<Self>,
    },
    PermuteColumns {
        order: Vec<usize>,
        of: Box<Self>,
    },
    Rotate {
        seed: u64,
        block: usize,
        of: Box<Self>,
    },
}

/// Vectors with the zeros that kernels want after each.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) values: Vec<f32>,
    pub(super) stride: usize,
    columns: usize,
    vectors: usize,
}

impl Input {
    pub(super) fn new(x: &[f32], columns: usize, vectors: usize) -> Self {
        let stride = columns + Panels::PADDING;
        let mut values = vec![0.0; vectors * stride];
        for (own, x) in values.chunks_mut(stride).zip(x.chunks(columns.max(1))) {
            own[..columns].copy_from_slice(x);
        }
        Self { values, stride, columns, vectors }
    }

    pub(super) fn vectors(&self) -> usize {
        self.vectors
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.stride).map(|row| &row[..self.columns])
    }

    /// Vectors as `with(vector, its copy)` changes them.
    fn changed(&self, with: impl Fn(&[f32], &mut [f32])) -> Self {
        let mut values = vec![0.0; self.values.len()];
        for (own, x) in values.chunks_mut(self.stride).zip(self.rows()) {
            with(x, &mut own[..self.columns]);
        }
        Self { values, ..*self }
    }
}

impl Node {
    pub(super) fn shape(&self) -> [usize; 2] {
        match self {
            Self::Panels(panels) => [panels.rows(), panels.columns()],
            Self::Codebooks(books) => books.shape(),
            Self::Fine(fine) => fine.shape(),
            Self::Turned(turned) => turned.shape(),
            Self::Sparse(sparse) => sparse.shape(),
            Self::Few { rows, columns, .. } => [*rows, *columns],
            Self::Sum(terms) => terms.first().map_or([0, 0], Self::shape),
            Self::Product(factors) => {
                let of = |node: Option<&Self>| node.map_or([0, 0], Self::shape);
                [of(factors.first())[0], of(factors.last())[1]]
            }
            Self::Scale { of, .. }
            | Self::PermuteRows { of, .. }
            | Self::PermuteColumns { of, .. }
            | Self::Rotate { of, .. } => of.shape(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Panels(panels) => panels.bytes(),
            Self::Codebooks(books) => books.bytes(),
            Self::Fine(fine) => fine.bytes(),
            Self::Turned(turned) => turned.bytes(),
            Self::Sparse(sparse) => sparse.bytes(),
            Self::Few { values, .. } => size_of_val(&**values),
            Self::Sum(nodes) | Self::Product(nodes) => nodes.iter().map(Self::bytes).sum(),
            Self::Scale { rows, columns, of } => {
                [rows, columns].into_iter().flatten().map(|f| size_of_val(&**f)).sum::<usize>() + of.bytes()
            }
            Self::PermuteRows { order, of } | Self::PermuteColumns { order, of } => {
                size_of_val(&**order) + of.bytes()
            }
            Self::Rotate { of, .. } => of.bytes(),
        }
    }

    /// The same tree with f32 leaves.
    pub(super) fn expanded(self, kernel: Kernel) -> Self {
        let each = |nodes: Vec<Self>| nodes.into_iter().map(|n| n.expanded(kernel)).collect();
        let one = |of: Box<Self>| Box::new(of.expanded(kernel));
        match self {
            Self::Panels(panels) => Self::Panels(panels.expanded(kernel)),
            Self::Sum(terms) => Self::Sum(each(terms)),
            Self::Product(factors) => Self::Product(each(factors)),
            Self::Scale { rows, columns, of } => Self::Scale { rows, columns, of: one(of) },
            Self::PermuteRows { order, of } => Self::PermuteRows { order, of: one(of) },
            Self::PermuteColumns { order, of } => Self::PermuteColumns { order, of: one(of) },
            Self::Rotate { seed, block, of } => Self::Rotate { seed, block, of: one(of) },
            Self::Fine(fine) => Self::dense(fine.shape(), |row, out| fine.row(row, out)),
            Self::Sparse(sparse) => Self::dense(sparse.shape(), |row, out| sparse.row(row, out)),
            Self::Turned(turned) if matches!(turned.0, Stored::Fine(_)) => {
                Self::dense(turned.shape(), |row, out| turned.row(row, out))
            }
            // Tables would have to add up as codewords do: these stay what they are.
            same @ (Self::Codebooks(_) | Self::Turned(_) | Self::Few { .. }) => same,
        }
    }

    /// Whether a matrix is kept in groups: with fewer rows most of each would be padding.
    pub(super) fn fits(rows: usize, columns: usize) -> bool {
        rows >= LANES && (1..=MAX_COLUMNS).contains(&columns)
    }

    /// A matrix of f32, row by row.
    fn dense([rows, columns]: [usize; 2], row: impl Fn(usize, &mut [f32])) -> Self {
        let of = |range: Range<usize>| {
            let mut values = vec![0.0; range.len() * columns];
            values.chunks_mut(columns.max(1)).zip(range).for_each(|(out, id)| row(id, out));
            values
        };
        if !Self::fits(rows, columns) {
            return Self::Few { rows, columns, values: of(0..rows) };
        }
        let mut panels = Panels::new(rows, columns, None);
        blocks(rows, columns).for_each(|range| panels.push_values(&of(range)));
        Self::Panels(panels)
    }

    /// Rows `ids`, which are there, as the evaluator of expressions computes them.
    pub(super) fn rows_of(&self, ids: impl Iterator<Item = usize> + Clone) -> Vec<f32> {
        let columns = self.shape()[1];
        // A closure's type would grow with each level of the tree.
        let ids: Vec<usize> = ids.collect();
        self.rows_at(&ids, columns)
    }

    fn rows_at(&self, ids: &[usize], columns: usize) -> Vec<f32> {
        let mut out = vec![0.0; ids.len() * columns];
        if columns == 0 {
            return out;
        }
        match self {
            Self::Panels(panels) => {
                out.chunks_mut(columns).zip(ids).for_each(|(out, &id)| panels.row(id, out));
            }
            Self::Codebooks(books) => {
                out.chunks_mut(columns).zip(ids).for_each(|(out, &id)| books.row(id, out));
            }
            Self::Fine(fine) => {
                out.chunks_mut(columns).zip(ids).for_each(|(out, &id)| fine.row(id, out));
            }
            Self::Turned(turned) => {
                out.chunks_mut(columns).zip(ids).for_each(|(out, &id)| turned.row(id, out));
            }
            Self::Sparse(sparse) => {
                out.chunks_mut(columns).zip(ids).for_each(|(out, &id)| sparse.row(id, out));
            }
            Self::Few { values, .. } => {
                let row = |id: usize| &values[id * columns..][..columns];
                out.chunks_mut(columns).zip(ids).for_each(|(out, &id)| out.copy_from_slice(row(id)));
            }
            Self::Sum(terms) => {
                let mut terms = terms.iter().map(|t| t.rows_at(ids, columns));
                out = terms.next().unwrap_or(out);
                for term in terms {
                    out.iter_mut().zip(term).for_each(|(s, t)| *s += t);
                }
            }
            Self::Product(factors) => {
                let mut factors = factors.iter().map(|f| (f, f.shape()));
                let Some((first, [_, mut inner])) = factors.next() else { return out };
                out = first.rows_at(ids, inner);
                for (factor, [rows, columns]) in factors {
                    let right = factor.rows_of(0..rows);
                    let mut product = vec![0.0; ids.len() * columns];
                    for (to, left) in product.chunks_mut(columns.max(1)).zip(out.chunks(inner.max(1))) {
                        for (l, right) in left.iter().zip(right.chunks(columns.max(1))) {
                            to.iter_mut().zip(right).for_each(|(o, r)| *o += l * r);
                        }
                    }
                    (out, inner) = (product, columns);
                }
            }
            Self::Scale { rows, columns: factors, of } => {
                out = of.rows_at(ids, columns);
                for (row, &id) in out.chunks_mut(columns).zip(ids) {
                    if let Some(rows) = rows {
                        row.iter_mut().for_each(|x| *x *= rows[id]);
                    }
                    if let Some(factors) = factors {
                        row.iter_mut().zip(factors).for_each(|(x, f)| *x *= f);
                    }
                }
            }
            Self::PermuteRows { order, of } => {
                let ids: Vec<usize> = ids.iter().map(|&id| order[id]).collect();
                out = of.rows_at(&ids, columns);
            }
            Self::PermuteColumns { order, of } => {
                let source = of.rows_at(ids, columns);
                for (to, from) in out.chunks_mut(columns).zip(source.chunks(columns)) {
                    to.iter_mut().zip(order).for_each(|(t, &p)| *t = from[p]);
                }
            }
            Self::Rotate { seed, block, of } => {
                out = of.rows_at(ids, columns);
                inverse_hadamard_rows(&mut out, columns, *seed, *block);
            }
        }
        out
    }

    /// Products with all vectors of `x` into `out`, `vectors` rows of as many values as there are rows.
    pub(super) fn multiply(&self, kernel: Kernel, x: &Input, out: &mut [f32]) {
        let [rows, columns] = self.shape();
        match self {
            Self::Panels(panels) => {
                run(kernel, vec![Job { panels, x: &x.values, stride: x.stride, out }], x.vectors);
            }
            Self::Codebooks(books) => books.multiply(kernel, x, out),
            Self::Fine(fine) => fine.multiply(x, out),
            Self::Turned(turned) => turned.multiply(kernel, x, out),
            Self::Sparse(sparse) => sparse.multiply(x, out),
            Self::Few { values, .. } => {
                for (x, out) in x.rows().zip(out.chunks_mut(rows.max(1))) {
                    out.fill(0.0);
                    let rows = values.chunks(columns.max(1));
                    out.iter_mut().zip(rows).for_each(|(y, row)| *y = dot(row, x));
                }
            }
            Self::Sum(terms) => {
                let mut own = vec![0.0; out.len()];
                for (i, term) in terms.iter().enumerate() {
                    term.multiply(kernel, x, if i == 0 { &mut *out } else { &mut own });
                    if i > 0 {
                        out.iter_mut().zip(&own).for_each(|(s, t)| *s += t);
                    }
                }
            }
            Self::Product(factors) => {
                let mut inner: Option<Input> = None;
                for (i, factor) in factors.iter().enumerate().rev() {
                    let input = inner.as_ref().unwrap_or(x);
                    if i == 0 {
                        factor.multiply(kernel, input, out);
                    } else {
                        let rows = factor.shape()[0];
                        let mut values = vec![0.0; x.vectors * rows];
                        factor.multiply(kernel, input, &mut values);
                        inner = Some(Input::new(&values, rows, x.vectors));
                    }
                }
            }
            Self::Scale { rows: gains, columns: steps, of } => {
                let scaled = steps.as_ref().map(|steps| {
                    x.changed(|x, own| own.iter_mut().zip(x).zip(steps).for_each(|((o, x), s)| *o = x * s))
                });
                of.multiply(kernel, scaled.as_ref().unwrap_or(x), out);
                if let Some(gains) = gains {
                    let rows = out.chunks_mut(rows.max(1));
                    rows.for_each(|row| row.iter_mut().zip(gains).for_each(|(y, g)| *y *= g));
                }
            }
            Self::PermuteRows { order, of } => {
                let mut source = vec![0.0; out.len()];
                of.multiply(kernel, x, &mut source);
                for (to, from) in out.chunks_mut(rows.max(1)).zip(source.chunks(rows.max(1))) {
                    to.iter_mut().zip(order).for_each(|(t, &p)| *t = from[p]);
                }
            }
            Self::PermuteColumns { order, of } => {
                // Positions of a file may come twice: what they are multiplied with adds up.
                let moved = x.changed(|x, own| x.iter().zip(order).for_each(|(x, &p)| own[p] += x));
                of.multiply(kernel, &moved, out);
            }
            Self::Rotate { seed, block, of } => {
                // (D H w) . x = w . (H D x): the transform of the vector in place of that of every row.
                let turned = x.changed(|x, own| {
                    own.copy_from_slice(x);
                    hadamard_rows(own, columns, *seed, *block);
                });
                of.multiply(kernel, &turned, out);
            }
        }
    }
}

/// In 16 sums side by side, then in order.
pub(super) fn dot(row: &[f32], x: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (row, x) in row.chunks(16).zip(x.chunks(16)) {
        sums.iter_mut().zip(row.iter().zip(x)).for_each(|(s, (w, x))| *s += w * x);
    }
    sums.iter().sum()
}
