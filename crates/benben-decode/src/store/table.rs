//! Rows of a table, without the table.

use super::rows::Layout;
use super::{Group, LayerStore, Shared, position};
use benben_format::{Error, Expr, Result, StoredLeaf};
use rayon::prelude::*;
use std::sync::Arc;
use std::time::Instant;

impl LayerStore {
    /// Rows `ids` of `name`.
    ///
    /// A row by itself costs its chunk's symbols up to that row: a few hundred microseconds. Rows decoded that way are
    /// kept within a sixteenth of the budget, at most 4 MiB. A table comes into memory when it is asked for whole (an
    /// embedding that is the head too), and where rows have cost half of what the table would, provided that there is
    /// room that nothing else takes. One row of a transposed table costs as much as all: such a table always does.
    pub(super) fn look_up(&self, name: &str, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let tensor = position(&self.shared.pack, name)?;
        let shape = self.shared.tensor(tensor)?.shape();
        let (rows, columns) = benben_format::matrix(shape)?;
        let columns = benben_format::in_memory(columns)?;
        let invalid = |message: String| Err(Error::invalid(message).in_tensor(name));
        if Some(out.len()) != ids.len().checked_mul(columns) {
            return invalid(format!("{} values for {} rows of {columns}", out.len(), ids.len()));
        }
        if let Some(id) = ids.iter().find(|&&id| u64::from(id) >= rows) {
            return invalid(format!("row {id} of {rows}"));
        }
        if out.is_empty() {
            return Ok(());
        }
        let held = self.shared.tensor(tensor)?;
        let expr = &held.entry().expr;
        let (layout, turned) = (layout(expr, rows), turned(expr));
        let mut missing = Vec::new();
        let mut whole = false;
        let resident = self.change(|shelf, jobs| {
            let resident = shelf.peek(tensor);
            let mut hits = if resident.is_some() { ids.len() as u64 } else { 0 };
            if resident.is_none() {
                for (&id, out) in ids.iter().zip(out.chunks_mut(columns)) {
                    match shelf.rows.get(tensor, id) {
                        Some(values) => {
                            out.copy_from_slice(values);
                            hits += 1;
                        }
                        None => missing.push(id),
                    }
                }
                missing.sort_unstable();
                missing.dedup();
                let chunks = layout.runs(&missing).count();
                whole = chunks > 0 && (turned || shelf.worth_whole(tensor, chunks as u64, layout.chunks()));
            }
            shelf.counts.row_hits += hits;
            shelf.look_ahead(jobs);
            Ok(resident)
        })?;
        if let Some(resident) = resident {
            let group = Group { store: self, tensors: vec![tensor], residents: vec![resident] };
            return group.residents[0].rows(ids, out).map_err(|e| e.in_tensor(name));
        }
        if missing.is_empty() {
            return Ok(());
        }
        if whole {
            let held = self.acquire(&[name], false)?;
            return held.residents[0].rows(ids, out).map_err(|e| e.in_tensor(name));
        }
        let missing: Arc<[u32]> = missing.into();
        let started = Instant::now();
        let wanted = Arc::clone(&missing);
        let decoded =
            self.elsewhere(move |shared| shared.decode_rows(tensor, &wanted, columns, layout).map(Arc::new))?;
        self.note_stall(name, started.elapsed());
        let mut shelf = self.shared.shelf();
        shelf.counts.rows_decoded += missing.len() as u64;
        for (&id, values) in missing.iter().zip(decoded.chunks(columns)) {
            shelf.keep_row(tensor, id, values);
        }
        drop(shelf);
        for (&id, out) in ids.iter().zip(out.chunks_mut(columns)) {
            if let Ok(at) = missing.binary_search(&id) {
                out.copy_from_slice(&decoded[at * columns..(at + 1) * columns]);
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Rows `ids`, ascending, one after the other.
    fn decode_rows(&self, tensor: usize, ids: &[u32], columns: usize, layout: Layout) -> Result<Vec<f32>> {
        let tensor = self.tensor(tensor)?;
        let mut out = vec![0.0; ids.len() * columns];
        let mut rest = &mut out[..];
        let mut runs_of = Vec::new();
        for run in layout.runs(ids) {
            let (own, others) = std::mem::take(&mut rest).split_at_mut(run.len() * columns);
            runs_of.push((run, own));
            rest = others;
        }
        let results: Vec<Result<()>> = runs_of
            .into_par_iter()
            .map(|(run, out)| {
                let (Some(&first), Some(&last)) = (run.first(), run.last()) else { return Ok(()) };
                let values = tensor.rows(u64::from(first)..u64::from(last) + 1)?;
                for (&id, out) in run.iter().zip(out.chunks_mut(columns)) {
                    let at = (id - first) as usize * columns;
                    out.copy_from_slice(&values[at..at + columns]);
                }
                Ok(())
            })
            .collect();
        self.release(&tensor);
        // The error of the first run that has one, whichever thread was first.
        results.into_iter().collect::<Result<()>>()?;
        Ok(out)
    }
}

/// How the rows of a value lie in chunks; each by itself where that is not known.
fn layout(expr: &Expr<StoredLeaf>, rows: u64) -> Layout {
    let leaves = if scatters(expr) { Vec::new() } else { expr.leaves() };
    let streams = leaves.iter().flat_map(|leaf| &leaf.spec.streams);
    match streams.max_by_key(|stream| stream.chunks()) {
        Some(stream) => Layout { rows, items: stream.items, chunk_items: stream.chunk_items.into() },
        None => Layout { rows, items: rows, chunk_items: 1 },
    }
}

/// Whether a row of the value is a column of what is stored.
fn turned(expr: &Expr<StoredLeaf>) -> bool {
    match expr {
        Expr::Transpose(_) => true,
        Expr::Sum(terms) => terms.iter().any(turned),
        Expr::Product(factors) => factors.first().is_some_and(turned),
        Expr::Scale { of, .. } | Expr::Rotate { of, .. } | Expr::Permute { of, .. } => turned(of),
        _ => false,
    }
}

/// Whether neighbouring rows of the value may lie far apart in what is stored.
fn scatters(expr: &Expr<StoredLeaf>) -> bool {
    match expr {
        Expr::Leaf(_) => false,
        Expr::Permute { axis, of, .. } => *axis == 0 || scatters(of),
        Expr::Sum(terms) => terms.iter().any(scatters),
        Expr::Product(factors) => factors.first().is_some_and(scatters),
        Expr::Scale { of, .. } | Expr::Rotate { of, .. } => scatters(of),
        Expr::Transpose(_) | Expr::Ref { .. } | Expr::Sparse { .. } | Expr::Unknown { .. } => true,
    }
}
