//! Nearest sums of codewords: greedy, or a beam over the stages.

use super::codebook::{Codebook, LANES, Lookup};
use super::envelope::Envelope;
use super::kernel::{Least, Scorer, bound};
use super::settings::MAX_STAGES;
use rayon::prelude::*;

/// Widest beam.
pub(super) const MAX_BEAM: usize = 8;
/// Vectors that one task codes; fixed, so that no thread count changes a sum.
const BLOCK: usize = 1024;

/// Vectors of one group to code, flat, and importance of each element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vectors<'a> {
    pub(super) dim: usize,
    pub(super) values: &'a [f32],
    /// As long as `values`, or empty where all elements weigh 1.
    pub(super) weights: &'a [f32],
}

impl Vectors<'_> {
    /// Number of vectors.
    pub(super) fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Weights of the elements `start ..`, or nothing.
    pub(super) fn weights_from(&self, start: usize, len: usize) -> &[f32] {
        if self.weights.is_empty() { &[] } else { &self.weights[start..][..len] }
    }
}

/// One path through the first stages.
#[derive(Clone, Copy)]
struct Step {
    cost: f32,
    /// Parent times the padded size of the codebook, plus the symbol.
    at: u32,
}

/// Codes of one path; [`MAX_STAGES`] of them, so that a copy is one register.
type Path = [u8; MAX_STAGES];

/// Buffers of one task.
struct Beam {
    width: usize,
    scores: Vec<[f32; LANES]>,
    found: Vec<u32>,
    query: Vec<f32>,
    cost: Vec<f32>,
    residual: Vec<f32>,
    path: [Path; MAX_BEAM],
    next_residual: Vec<f32>,
}

/// What scores of codewords are asked with.
#[inline(always)]
fn ask(query: &mut [f32], r: &[f32], w: &[f32]) {
    if w.is_empty() {
        query.iter_mut().zip(r).for_each(|(q, r)| *q = -2.0 * r);
    } else {
        let (a, b) = query.split_at_mut(r.len());
        a.iter_mut().zip(r).zip(w).for_each(|((q, r), w)| *q = -2.0 * w * r);
        b.copy_from_slice(w);
    }
}

impl Beam {
    fn new(dim: usize, width: usize, weighted: bool, blocks: usize) -> Self {
        Self {
            width,
            scores: vec![[0.0; LANES]; width * blocks],
            found: vec![0; (width * blocks + 1) * LANES],
            query: vec![0.0; if weighted { 2 * dim } else { dim }],
            cost: Vec::with_capacity(width),
            residual: vec![0.0; width * dim],
            path: [[0; MAX_STAGES]; MAX_BEAM],
            next_residual: vec![0.0; width * dim],
        }
    }

    /// The best steps from all paths to this stage, the best first.
    #[inline(always)]
    fn steps(
        &mut self,
        scorer: &Scorer<'_>,
        dim: usize,
        w: &[f32],
        width: usize,
    ) -> ([Step; MAX_BEAM], usize) {
        let blocks = scorer.blocks();
        let mut best = [Step { cost: f32::INFINITY, at: 0 }; MAX_BEAM];
        if width == 1 {
            let mut least = Least::NONE;
            for (parent, &cost) in self.cost.iter().enumerate() {
                ask(&mut self.query, &self.residual[parent * dim..][..dim], w);
                scorer.reduce(&self.query, cost, parent * blocks, &mut least);
            }
            let (at, cost) = least.first();
            best[0] = Step { cost, at: at as u32 };
            return (best, 1);
        }
        let mut least = [f32::INFINITY; LANES];
        for (parent, (&cost, scores)) in
            self.cost.iter().zip(self.scores.chunks_exact_mut(blocks)).enumerate()
        {
            ask(&mut self.query, &self.residual[parent * dim..][..dim], w);
            scorer.scores(&self.query, cost, scores, &mut least);
        }
        let scores = &self.scores[..self.cost.len() * blocks];
        let found = scorer.below(scores, bound(&least, width), &mut self.found);
        let flat = scores.as_flattened();
        for &at in &self.found[..found] {
            let cost = flat[at as usize];
            if cost < best[width - 1].cost {
                let mut place = width - 1;
                while place > 0 && cost < best[place - 1].cost {
                    best[place] = best[place - 1];
                    place -= 1;
                }
                best[place] = Step { cost, at };
            }
        }
        (best, found.min(width))
    }

    /// Codes of the vector `x`; its residual is left in `self.residual[.. dim]`. `D` is its dimension, or 0.
    fn run<const D: usize>(&mut self, x: &[f32], w: &[f32], books: &[Codebook], scorers: &[Scorer<'_>]) {
        let dim = if D == 0 { x.len() } else { D };
        self.cost.clear();
        self.cost.push(0.0);
        self.residual[..dim].copy_from_slice(&x[..dim]);
        for (stage, (book, scorer)) in books.iter().zip(scorers).enumerate() {
            // Only the best path of the last stage is of use.
            let width = if stage + 1 == books.len() { 1 } else { self.width };
            let (best, kept) = self.steps(scorer, dim, w, width);
            let padded = scorer.blocks() as u32 * LANES as u32;
            let before = self.path;
            self.cost.clear();
            for (i, step) in best[..kept].iter().enumerate() {
                let (parent, symbol) = ((step.at / padded) as usize, (step.at % padded) as usize);
                self.cost.push(step.cost);
                let to = &mut self.next_residual[i * dim..][..dim];
                let from = &self.residual[parent * dim..][..dim];
                let word = &book.words[symbol * dim..][..dim];
                for ((t, f), c) in to.iter_mut().zip(from).zip(word) {
                    *t = f - c;
                }
                self.path[i] = before[parent];
                self.path[i][stage] = symbol as u8;
            }
            std::mem::swap(&mut self.residual, &mut self.next_residual);
        }
    }

    /// Codes and residuals of all vectors of a block; `residuals` begin as the values.
    fn block<const D: usize>(
        &mut self,
        w: &[f32],
        books: &[Codebook],
        scorers: &[Scorer<'_>],
        codes: &mut [u8],
        residuals: &mut [f32],
    ) {
        let (dim, stages) = (books[0].dim, books.len());
        for (i, (codes, r)) in codes.chunks_exact_mut(stages).zip(residuals.chunks_exact_mut(dim)).enumerate()
        {
            let w = if w.is_empty() { w } else { &w[i * dim..][..dim] };
            self.run::<D>(r, w, books, scorers);
            codes.copy_from_slice(&self.path[0][..stages]);
            r.copy_from_slice(&self.residual[..dim]);
        }
    }
}

/// Stage after stage by the nearest codeword; `residuals` begin as the values.
fn greedy(w: &[f32], books: &[Codebook], finders: &Finders<'_>, codes: &mut [u8], residuals: &mut [f32]) {
    let (stages, dim) = (books.len(), books[0].dim);
    let mut found = vec![0; residuals.len() / dim];
    let mut queries = vec![0.0; residuals.len() * if w.is_empty() { 1 } else { 2 }];
    for (stage, book) in books.iter().enumerate() {
        match finders {
            Finders::Envelopes(all) => {
                found.iter_mut().zip(&*residuals).for_each(|(f, &r)| *f = all[stage].nearest(r));
            }
            Finders::Scorers(all) => {
                let rows = queries.len() / found.len().max(1);
                for (i, (q, r)) in queries.chunks_exact_mut(rows).zip(residuals.chunks_exact(dim)).enumerate()
                {
                    ask(q, r, if w.is_empty() { w } else { &w[i * dim..][..dim] });
                }
                all[stage].nearest(&queries, &mut found);
            }
        }
        let codes = codes.iter_mut().skip(stage).step_by(stages);
        for ((r, &symbol), code) in residuals.chunks_exact_mut(dim).zip(&found).zip(codes) {
            *code = symbol;
            r.iter_mut().zip(book.word(symbol.into())).for_each(|(r, c)| *r -= c);
        }
    }
}

/// How nearest codewords are found.
enum Finders<'a> {
    /// Dimension 1 without weights.
    Envelopes(Vec<Envelope>),
    Scorers(Vec<Scorer<'a>>),
}

/// Codes (stage after stage for each vector) and residuals of all vectors: each minimizes, as far as the beam
/// sees, weighted squared error + the sum of `prices[stage][symbol]`.
pub(super) fn search(
    vectors: &Vectors<'_>,
    books: &[Codebook],
    prices: &[Vec<f32>],
    beam: usize,
) -> (Vec<u8>, Vec<f32>) {
    let (dim, stages) = (vectors.dim, books.len());
    let weighted = !vectors.weights.is_empty();
    // A single stage has nothing to keep paths for.
    let width = if stages == 1 { 1 } else { beam.clamp(1, MAX_BEAM) };
    let lookups: Vec<Lookup> =
        books.iter().zip(prices).map(|(b, price)| Lookup::new(b, price, weighted)).collect();
    let finders = if dim == 1 && !weighted && width == 1 {
        Finders::Envelopes(books.iter().zip(prices).map(|(b, p)| Envelope::new(b, p)).collect())
    } else {
        Finders::Scorers(lookups.iter().map(Scorer::new).collect())
    };
    let blocks = lookups.iter().map(|l| l.bias.len()).max().unwrap_or(1);
    let mut codes = vec![0; vectors.len() * stages];
    let mut residuals = vectors.values.to_vec();
    codes.par_chunks_mut(BLOCK * stages).zip(residuals.par_chunks_mut(BLOCK * dim)).enumerate().for_each(
        |(block, (codes, residuals))| {
            let start = block * BLOCK * dim;
            let w = vectors.weights_from(start, residuals.len());
            let scorers = match &finders {
                Finders::Scorers(scorers) if width > 1 => scorers,
                _ => return greedy(w, books, &finders, codes, residuals),
            };
            let mut task = Beam::new(dim, width, weighted, blocks);
            match dim {
                2 => task.block::<2>(w, books, scorers, codes, residuals),
                4 => task.block::<4>(w, books, scorers, codes, residuals),
                8 => task.block::<8>(w, books, scorers, codes, residuals),
                16 => task.block::<16>(w, books, scorers, codes, residuals),
                _ => task.block::<0>(w, books, scorers, codes, residuals),
            }
        },
    );
    (codes, residuals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rvq::random::Random;

    fn cost(x: &[f32], w: &[f32], codes: &[u8], books: &[Codebook], prices: &[Vec<f32>]) -> f32 {
        let sum = |j: usize| books.iter().zip(codes).map(|(b, &c)| b.word(c.into())[j]).sum::<f32>();
        let error = |(j, x): (usize, &f32)| w.get(j).unwrap_or(&1.0) * (x - sum(j)) * (x - sum(j));
        let price: f32 = prices.iter().zip(codes).map(|(p, &c)| p[usize::from(c)]).sum();
        x.iter().enumerate().map(error).sum::<f32>() + price
    }

    /// Books of two stages of 20 and 17 words, prices, values and weights.
    type Problem = (Vec<Codebook>, Vec<Vec<f32>>, Vec<f32>, Vec<f32>);

    fn problem(dim: usize) -> Problem {
        let mut random = Random::new(dim as u64);
        let mut some = |n: usize, low: f64| -> Vec<f32> {
            (0..n).map(|_| (low + (1.0 - low) * random.unit()) as f32).collect()
        };
        let books = [20, 17].map(|k| Codebook { dim, words: some(k * dim, -1.0) });
        let prices = [20, 17].map(|k| some(k, 0.0));
        (books.into(), prices.into(), some(dim * 300, -1.0), some(dim * 300, 0.1))
    }

    #[test]
    fn one_stage_is_exhaustive_and_a_wide_beam_no_worse_than_a_narrow_one() {
        for dim in [1, 3, 8] {
            let (books, prices, values, some_weights) = problem(dim);
            for weights in [&[][..], &some_weights[..]] {
                let vectors = Vectors { dim, values: &values, weights };
                let total = |books: &[Codebook], beam: usize| -> Vec<f32> {
                    let (codes, residuals) = search(&vectors, books, &prices[..books.len()], beam);
                    let each = values.chunks(dim).zip(codes.chunks(books.len())).enumerate();
                    each.map(|(i, (x, codes))| {
                        let sum = |j: usize| {
                            books.iter().zip(codes).map(|(b, &c)| b.word(c.into())[j]).sum::<f32>()
                        };
                        let kept = &residuals[i * dim..][..dim];
                        assert!(kept.iter().enumerate().all(|(j, r)| (x[j] - sum(j) - r).abs() < 1e-5));
                        cost(
                            x,
                            vectors.weights_from(i * dim, if weights.is_empty() { 0 } else { dim }),
                            codes,
                            books,
                            &prices,
                        )
                    })
                    .collect()
                };
                let found = total(&books[..1], 1);
                for (i, found) in found.iter().enumerate() {
                    let (x, w) = (&values[i * dim..][..dim], weights.get(i * dim..).unwrap_or(&[]));
                    let all = (0..20).map(|k| cost(x, w, &[k], &books[..1], &prices));
                    let best = all.fold(f32::INFINITY, f32::min);
                    assert!((found - best).abs() < 1e-4, "{found} {best}");
                }
                let sums =
                    [1, 2, 8].map(|beam| total(&books, beam).iter().map(|&c| f64::from(c)).sum::<f64>());
                assert!(sums[0] >= sums[1] && sums[1] >= sums[2] && sums[0] > sums[2], "{sums:?}");
            }
        }
    }
}
