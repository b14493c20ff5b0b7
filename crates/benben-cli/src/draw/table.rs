//! Tables without lines: columns are enough.

use super::say;
use benben::Result;
use comfy_table::{CellAlignment, presets};

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of text under headings.
pub(crate) struct Table {
    inner: comfy_table::Table,
    columns: usize,
}

impl Table {
    pub(crate) fn new(headings: &[(&str, Align)]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING).set_header(headings.iter().map(|(name, _)| *name));
        for (column, (_, align)) in inner.column_iter_mut().zip(headings) {
            column.set_padding((0, 2));
            if *align == Align::Right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { inner, columns: headings.len() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|c| super::visible(&c).replace('\n', "\\n")).collect();
        debug_assert_eq!(cells.len(), self.columns);
        self.inner.add_row(cells);
    }

    /// Prints to stdout, without the spaces that pad the last column.
    pub(crate) fn print(&self) -> Result<()> {
        for line in self.inner.lines() {
            say!("{}", line.trim_end())?;
        }
        Ok(())
    }
}
