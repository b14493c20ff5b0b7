//! One hand-over to the threads for all groups of all matrices.

use super::packing::{BLOCK, LANES};
use super::portable::Lanes;
use super::{Kernel, Panels};
use rayon::prelude::*;
use std::ops::Range;

/// Weights times vectors below which threads are not worth a hand-over, which takes a few microseconds.
const ALONE: usize = 1 << 16;
/// Weights times vectors of a piece where there are many: a thread that is held up leaves some to the others.
const PIECE: usize = 1 << 20;

/// A matrix, and the vectors to multiply it with.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) panels: &'a Panels,
    /// `vectors` rows, `stride` apart, with [`Panels::PADDING`] zeros after the columns of each.
    pub(crate) x: &'a [f32],
    pub(crate) stride: usize,
    /// `vectors` rows of as many values as the matrix has rows.
    pub(crate) out: &'a mut [f32],
}

/// Some groups of a job.
struct Piece<'a> {
    panels: &'a Panels,
    x: &'a [f32],
    stride: usize,
    groups: Range<usize>,
    /// For each vector the outputs of these groups.
    out: Vec<&'a mut [f32]>,
}

/// Computes all jobs with `vectors` vectors each. An output is summed by one thread in an order that only the number
/// of vectors (one, or more) changes.
pub(crate) fn run(kernel: Kernel, jobs: Vec<Job<'_>>, vectors: usize) {
    if vectors == 0 {
        return;
    }
    let work = |p: &Panels, groups: usize| groups * LANES * p.columns() * vectors;
    let total: usize = jobs.iter().map(|j| work(j.panels, j.panels.groups())).sum();
    let threads = rayon::current_num_threads();
    if threads == 1 || total < ALONE {
        jobs.into_iter().flat_map(|j| pieces(j, usize::MAX, vectors)).for_each(|p| p.run(kernel));
        return;
    }
    let share = total.div_ceil(threads).min(PIECE.max(total.div_ceil(8 * threads)));
    let all: Vec<Piece<'_>> = jobs
        .into_iter()
        .flat_map(|job| {
            let group = work(job.panels, 1).max(1);
            // Pairs of groups share what many vectors load.
            let groups = (share / group).max(1).next_multiple_of(2);
            pieces(job, groups, vectors)
        })
        .collect();
    all.into_par_iter().with_max_len(1).for_each(|piece| piece.run(kernel));
}

/// A job in pieces of `groups`.
fn pieces<'a>(job: Job<'a>, groups: usize, vectors: usize) -> Vec<Piece<'a>> {
    let Job { panels, x, stride, out } = job;
    let mut rest: Vec<&mut [f32]> = out.chunks_mut(panels.rows().max(1)).take(vectors).collect();
    let mut all = Vec::new();
    let mut start = 0;
    while start < panels.groups() {
        let end = start.saturating_add(groups).min(panels.groups());
        let rows = (end * LANES).min(panels.rows()) - start * LANES;
        let (mut own, mut others) = (Vec::with_capacity(vectors), Vec::with_capacity(vectors));
        for out in rest {
            let (here, there) = out.split_at_mut(rows);
            own.push(here);
            others.push(there);
        }
        rest = others;
        all.push(Piece { panels, x, stride, groups: start..end, out: own });
        start = end;
    }
    all
}

impl Piece<'_> {
    fn run(mut self, kernel: Kernel) {
        if let [out] = self.out.as_mut_slice() {
            for (group, out) in self.groups.zip(out.chunks_mut(LANES)) {
                let (view, outliers) = self.panels.view(group);
                let mut sums = kernel.dot(view, self.x);
                outliers.add_products(self.x, &mut sums);
                out.copy_from_slice(&sums[..out.len()]);
            }
            return;
        }
        let columns = self.panels.columns();
        let vectors = self.out.len();
        let mut buffers = [0, 1].map(|_| vec![[0.0; LANES]; columns.min(BLOCK)]);
        let mut sums: Vec<Lanes> = Vec::new();
        let first = self.groups.start;
        for pair in self.groups.clone().step_by(2) {
            let count = 2.min(self.groups.end - pair);
            sums.clear();
            sums.resize(vectors * count, [0.0; LANES]);
            for start in (0..columns).step_by(BLOCK) {
                let range = start..columns.min(start + BLOCK);
                for (i, buffer) in buffers.iter_mut().take(count).enumerate() {
                    self.panels.panel(kernel, pair + i, range.clone(), &mut buffer[..range.len()]);
                }
                let panels = [&buffers[0][..range.len()], &buffers[1][..range.len()]];
                kernel.tile(&panels[..count], &self.x[start..], self.stride, vectors, &mut sums);
            }
            for (out, sums) in self.out.iter_mut().zip(sums.chunks(count)) {
                let at = (pair - first) * LANES;
                let here = &mut out[at..];
                here.iter_mut().zip(sums.as_flattened()).for_each(|(o, s)| *o = *s);
            }
        }
    }
}
