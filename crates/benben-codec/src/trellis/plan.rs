//! How many classes of rows have tables of their own, and what they cost.

use super::MAX_CLASSES;
use super::cells::Cells;
use super::fit::Form;
use super::survey::Survey;
use super::viterbi::Bits;
use crate::entropy::{CHUNK_ITEMS, Model};
use crate::estimate::{class_bits, entropy_bits, span, table_bits};

/// Bits of a code that no symbol was seen to need: what 1 of 4096 costs and a little more.
const RARE: f32 = 13.0;

/// Which class of rows uses which tables.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Group of each class of rows.
    pub(super) group_of: [u8; MAX_CLASSES],
    /// Symbols of table `(group * classes of columns + class of the column) * T + t`.
    pub(super) counts: Vec<[u64; 256]>,
    /// Expected bits of `elements` elements, tables and classes included.
    pub(super) bits: f64,
}

impl Plan {
    /// The cheapest way to merge the classes of rows into 1, 2, 4 .. groups of neighbours, for a tensor of `elements`
    /// of which `survey` has seen some.
    pub(super) fn new(survey: &Survey, form: Form, cells: &Cells, elements: usize) -> Self {
        let (classes, tables) = (cells.rows(), form.trellis().tables() * usize::from(cells.count()));
        let most = (Model::MAX_TABLES / tables).clamp(1, classes);
        let mut best: Option<Self> = None;
        let mut width = classes / most;
        loop {
            let plan = Self::of_width(survey, form, cells, elements, width);
            let last = plan.counts.len() <= tables;
            if best.as_ref().is_none_or(|b| plan.bits <= b.bits) {
                best = Some(plan.clone());
            }
            if last || width >= classes {
                return best.unwrap_or(plan);
            }
            width *= 2;
        }
    }

    fn of_width(survey: &Survey, form: Form, cells: &Cells, elements: usize, width: usize) -> Self {
        let tables = form.trellis().tables() * usize::from(cells.count());
        let mut group_of = [0; MAX_CLASSES];
        let mut counts: Vec<[u64; 256]> = Vec::new();
        let mut last = None;
        for (class, own) in survey.counts.chunks(tables).enumerate() {
            if own.iter().flatten().all(|&c| c == 0) {
                // No row of the survey has this class: that of the neighbour.
                group_of[class] = (counts.len() / tables).saturating_sub(1) as u8;
                continue;
            }
            if last != Some(class / width) {
                counts.extend(vec![[0; 256]; tables]);
                last = Some(class / width);
            }
            group_of[class] = (counts.len() / tables - 1) as u8;
            let at = counts.len() - tables;
            for (sum, count) in counts[at..].iter_mut().flatten().zip(own.iter().flatten()) {
                *sum += count;
            }
        }
        if counts.is_empty() {
            counts = vec![[0; 256]; tables];
        }
        let scale = elements as f64 / survey.items.max(1) as f64;
        let mut bits = 512.0 * elements.div_ceil(CHUNK_ITEMS as usize) as f64;
        for counts in &counts {
            bits += scale * entropy_bits(counts) + table_bits(span(counts));
        }
        bits += cells.runs.class.len() as f64 * class_bits(counts.len() / tables);
        bits += cells.columns().len() as f64 * class_bits(cells.count().into());
        Self { group_of, counts, bits }
    }

    /// lambda * bits of each k + 128 by group and class of the column, and by table.
    pub(super) fn lengths(&self, form: Form, lambda: f32) -> Box<Bits> {
        let mut lengths = Box::new([[[0f32; 256]; 8]; MAX_CLASSES]);
        for (costs, counts) in lengths.iter_mut().zip(self.counts.chunks(form.trellis().tables())) {
            for (costs, counts) in costs.iter_mut().zip(counts) {
                let total = counts.iter().sum::<u64>() as f32 + 1.0;
                for (symbol, &count) in counts.iter().enumerate() {
                    let bits = (total / (count as f32 + 0.02)).log2().min(RARE);
                    let k = super::codebook::unzigzag(symbol as u8);
                    costs[(k + 128) as usize] = lambda * bits;
                }
            }
        }
        lengths
    }
}
