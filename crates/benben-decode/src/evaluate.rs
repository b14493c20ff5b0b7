//! Expressions to values. One function gives the rows of any node; the whole tensor is all of its rows.

use crate::hadamard::inverse_hadamard_rows;
use benben_format::{Entry, Error, Expr, Limits, Reader, Result, Signature, StoredLeaf, in_memory, matrix};
use rayon::prelude::*;
use std::ops::Range;

pub(crate) type Node = Expr<StoredLeaf>;

/// Columns `wanted` of `source`, which has `columns`, as rows.
pub(crate) fn transposed<T: Copy + Send + Sync>(
    source: &[T],
    columns: usize,
    wanted: Range<usize>,
) -> Vec<T> {
    /// Rows of the value side by side: each cache line of the source is read for all of them.
    const TOGETHER: usize = 16;
    let rows: Vec<usize> = wanted.collect();
    let length = source.len() / columns.max(1);
    let part = |rows: &[usize]| {
        let mut out = Vec::with_capacity(rows.len() * length);
        rows.iter().for_each(|&c| out.extend(source.iter().skip(c).step_by(columns.max(1)).copied()));
        out
    };
    rows.par_chunks(TOGETHER).map(part).collect::<Vec<_>>().concat()
}

/// Evaluates nodes of one pack.
#[derive(Clone, Copy)]
pub(crate) struct Evaluator<'a> {
    pub(crate) reader: &'a Reader,
}

impl Evaluator<'_> {
    fn limits(&self) -> &Limits {
        self.reader.limits()
    }

    pub(crate) fn signature(&self, node: &Node) -> Result<Signature> {
        node.signature(self.limits())
    }

    /// Rows `range` of `node` as f32. A one-dimensional value has one element to a row.
    pub(crate) fn rows(&self, node: &Node, range: Range<u64>) -> Result<Vec<f32>> {
        let signature = self.signature(node)?;
        let (rows, columns) = signature.matrix()?;
        if range.start > range.end || range.end > rows {
            return Err(Error::invalid(format!("rows {range:?} of {rows}")));
        }
        let wanted = (range.end - range.start) * columns;
        let wanted = in_memory(wanted)?;
        let columns_of = in_memory(columns)?;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        match node {
            Expr::Leaf(leaf) => {
                let mut out = vec![0.0; wanted];
                let elements = range.start * columns..range.end * columns;
                benben_codec::decode(&self.reader.leaf(leaf), elements, &mut out)?;
                Ok(out)
            }
            Expr::Sum(terms) => {
                let mut terms = terms.iter().map(|t| self.rows(t, range.clone()));
                let mut sum = terms.next().ok_or_else(|| Error::corruption("sum: has no terms"))??;
                for term in terms {
                    sum.iter_mut().zip(term?).for_each(|(s, t)| *s += t);
                }
                Ok(sum)
            }
            Expr::Product(factors) => self.product(factors, range),
            Expr::Ref { tensor, .. } => self.rows(&self.target(tensor)?.expr, range),
            Expr::Sparse { shape, group, mask, values } => self.sparse(shape, *group, mask, values, range),
            Expr::Scale { rows: row_factors, columns: column_factors, of } => {
                let mut out = self.rows(of, range.clone())?;
                if let Some(node) = row_factors {
                    let factors = self.elements(node, range)?;
                    out.chunks_mut(columns_of)
                        .zip(factors)
                        .for_each(|(r, f)| r.iter_mut().for_each(|x| *x *= f));
                }
                if let Some(node) = column_factors {
                    let factors = self.elements(node, 0..columns)?;
                    for row in out.chunks_mut(columns_of) {
                        row.iter_mut().zip(&factors).for_each(|(x, f)| *x *= f);
                    }
                }
                Ok(out)
            }
            Expr::Permute { axis: 0, order, of } => {
                let order = self.positions(order, range, rows)?;
                let first = order.iter().min().copied().unwrap_or(0);
                let last = order.iter().max().copied().unwrap_or(0);
                let source = self.rows(of, first as u64..last as u64 + 1)?;
                let mut out = Vec::with_capacity(wanted);
                for position in order {
                    let at = (position - first) * columns_of;
                    out.extend_from_slice(&source[at..at + columns_of]);
                }
                Ok(out)
            }
            Expr::Permute { order, of, .. } => {
                let order = self.positions(order, 0..columns, columns)?;
                let source = self.rows(of, range)?;
                Ok(source.chunks(columns_of).flat_map(|row| order.iter().map(|&p| row[p])).collect())
            }
            Expr::Transpose(of) => {
                // Columns of what is stored row by row: all of it.
                let source = self.rows(of, 0..columns)?;
                Ok(transposed(&source, in_memory(rows)?, in_memory(range.start)?..in_memory(range.end)?))
            }
            Expr::Rotate { seed, block, of } => {
                let mut out = self.rows(of, range)?;
                inverse_hadamard_rows(&mut out, columns_of, *seed, *block as usize);
                Ok(out)
            }
            Expr::Unknown { node: name, .. } => match node.stands_for() {
                Some(operand) => self.rows(operand, range),
                None => Err(Error::compatibility(format!("node {name} is not known to this build"))),
            },
        }
    }

    /// The value of `node` as the bytes of its own dtype; for values that are stored, not computed.
    pub(crate) fn bytes(&self, node: &Node) -> Result<Vec<u8>> {
        let signature = self.signature(node)?;
        match node {
            Expr::Ref { tensor, .. } => self.entry_bytes(self.target(tensor)?),
            Expr::Unknown { .. } if node.stands_for().is_some() => {
                node.stands_for().map_or(Ok(Vec::new()), |operand| self.bytes(operand))
            }
            Expr::Leaf(leaf) if leaf.spec.codec == benben_codec::raw::CODEC => {
                let len = signature.bytes()?;
                let mut out = vec![0; in_memory(len)?];
                let elements = benben_format::element_count(&signature.shape)?;
                benben_codec::raw::decode_bytes(&self.reader.leaf(leaf), 0..elements, &mut out)?;
                Ok(out)
            }
            other => {
                let rows = signature.matrix()?.0;
                signature.dtype.from_f32(&self.rows(other, 0..rows)?)
            }
        }
    }

    /// A tensor as the bytes of the dtype in which it is handed out.
    pub(crate) fn entry_bytes(&self, entry: &Entry) -> Result<Vec<u8>> {
        let signature = self.reader.signature(entry)?;
        if signature.dtype == entry.dtype {
            self.bytes(&entry.expr)
        } else {
            entry.dtype.from_f32(&self.rows(&entry.expr, 0..signature.matrix()?.0)?)
        }
    }

    /// The tensor that a reference names, its expression held against its entry.
    pub(crate) fn target(&self, tensor: &str) -> Result<&Entry> {
        let entry = self.reader.tensor(tensor);
        let entry = entry
            .ok_or_else(|| Error::corruption(format!("refers to {tensor}, which is not in the pack")))?;
        self.reader.signature(entry)?;
        Ok(entry)
    }

    /// Elements `range` of a vector, whatever its shape.
    pub(crate) fn elements(&self, node: &Node, range: Range<u64>) -> Result<Vec<f32>> {
        let signature = self.signature(node)?;
        let (rows, columns) = signature.matrix()?;
        if columns == 1 {
            return self.rows(node, range);
        }
        let all = self.rows(node, 0..rows)?;
        let at = |i: u64| usize::try_from(i).unwrap_or(usize::MAX).min(all.len());
        Ok(all[at(range.start)..at(range.end)].to_vec())
    }

    /// Positions `range` of a permutation, each below `bound`.
    pub(crate) fn positions(&self, order: &Node, range: Range<u64>, bound: u64) -> Result<Vec<usize>> {
        let bytes = self.bytes(order)?;
        let at = |i: u64| usize::try_from(i).unwrap_or(usize::MAX).saturating_mul(4).min(bytes.len());
        let words = bytes[at(range.start)..at(range.end)].chunks_exact(4);
        words
            .map(|b| {
                let p = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                if u64::from(p) < bound {
                    Ok(p as usize)
                } else {
                    Err(Error::corruption(format!("permute: position {p} of {bound}")))
                }
            })
            .collect()
    }

    fn product(&self, factors: &[Node], range: Range<u64>) -> Result<Vec<f32>> {
        let (first, rest) =
            factors.split_first().ok_or_else(|| Error::corruption("product: has no factors"))?;
        let rows_asked = in_memory(range.end - range.start)?;
        let mut left = self.rows(first, range)?;
        let mut inner = in_memory(self.signature(first)?.matrix()?.1)?;
        for factor in rest {
            let (rows, columns) = self.signature(factor)?.matrix()?;
            let right = self.rows(factor, 0..rows)?;
            let columns = in_memory(columns)?;
            let mut out = vec![0f32; rows_asked * columns];
            // Each row by itself, in order of the inner index: the same bits for any range and thread count.
            out.par_chunks_mut(columns.max(1)).zip(left.par_chunks(inner.max(1))).for_each(|(out, left)| {
                for (l, right) in left.iter().zip(right.chunks(columns.max(1))) {
                    out.iter_mut().zip(right).for_each(|(o, r)| *o += l * r);
                }
            });
            (left, inner) = (out, columns);
        }
        Ok(left)
    }

    fn sparse(
        &self,
        shape: &[u64],
        group: [u32; 2],
        mask: &Node,
        values: &Node,
        range: Range<u64>,
    ) -> Result<Vec<f32>> {
        let columns = in_memory(matrix(shape)?.1)?;
        let [group_rows, group_columns] = group.map(|g| g as usize);
        let across = columns / group_columns;
        let mask = self.bytes(mask)?;
        let kept = |m: &[u8]| m.iter().filter(|&&k| k != 0).count() as u64;
        let stored = self.signature(values)?.matrix()?.0;
        let total = kept(&mask);
        if stored != total {
            return Err(Error::corruption(format!(
                "sparse: the mask keeps {total} groups, {stored} are stored"
            )));
        }
        // Bands of groups that the rows lie in.
        let (start, end) = (in_memory(range.start)?, in_memory(range.end)?);
        let (first_band, last_band) = (start / group_rows, end.div_ceil(group_rows));
        let before = kept(&mask[..first_band * across]);
        let here = &mask[first_band * across..last_band * across];
        let values = self.rows(values, before..before + kept(here))?;
        let mut groups = values.chunks(group_rows * group_columns);
        let mut out = vec![0f32; (end - start) * columns];
        for (i, _) in here.iter().enumerate().filter(|(_, k)| **k != 0) {
            let (band, column) = (first_band + i / across, i % across * group_columns);
            let Some(group) = groups.next() else { break };
            for (r, row) in group.chunks(group_columns).enumerate() {
                let at = band * group_rows + r;
                if (start..end).contains(&at) {
                    let place = (at - start) * columns + column;
                    out[place..place + group_columns].copy_from_slice(row);
                }
            }
        }
        Ok(out)
    }
}
