//! Scores of codewords, and the least of them: the loops that encoding spends its time in.
//!
//! Each loop is written once, over arrays of [`LANES`] codewords, and compiled for AVX-512, for AVX2 and for what the
//! build targets. Sums are multiplied and added in the same order everywhere and never fused, so that all three give
//! the same bits and a pack does not depend on the machine. AVX-512 takes a third of SSE's time at dim 4.
#![allow(unsafe_code, reason = "functions compiled for a CPU feature are called once it was detected")]

use super::codebook::{LANES, Lookup};

/// Best codeword of each lane over several calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Least {
    score: [f32; LANES],
    block: [u32; LANES],
}

impl Least {
    /// Nothing found yet.
    pub(super) const NONE: Self = Self { score: [f32::INFINITY; LANES], block: [0; LANES] };

    /// The least score, and the first codeword that has it, counted over all blocks seen.
    #[inline(always)]
    pub(super) fn first(&self) -> (usize, f32) {
        let least = minimum(&self.score);
        let mut first = u32::MAX;
        for l in 0..LANES {
            let index = self.block[l] * LANES as u32 + l as u32;
            first = if self.score[l] == least { first.min(index) } else { first };
        }
        (first as usize, least)
    }
}

/// Scores, or anything else, of a block of codewords.
type Lanes = [f32; LANES];

/// The loops for one instruction set and one size of query.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// `(book, queries, found)`: the nearest codeword of each query.
    pub(super) nearest: unsafe fn(&Lookup, &[f32], &mut [u8]),
    /// `(book, query, base, first block, least)`: takes `base` + the scores of one query into `least`.
    pub(super) reduce: unsafe fn(&Lookup, &[f32], f32, u32, &mut Least),
    /// `(book, query, base, scores, least)`: `base` + the scores of one query, and the least of each lane.
    pub(super) scores: unsafe fn(&Lookup, &[f32], f32, &mut [Lanes], &mut Lanes),
    /// `(scores, bound, found)`: numbers of the scores that are finite and at most `bound`, ascending; how many. `found`
    /// has room for a block more than there are.
    pub(super) below: unsafe fn(&[[f32; LANES]], f32, &mut [u32]) -> usize,
}

/// The least of a block: halved again and again, which takes four vector minima instead of sixteen comparisons.
#[inline(always)]
fn minimum(block: &[f32; LANES]) -> f32 {
    let mut least = *block;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            least[i] = if least[i + half] < least[i] { least[i + half] } else { least[i] };
        }
        half /= 2;
    }
    least[0]
}

#[inline(always)]
fn score<const R: usize>(lanes: &[[f32; LANES]], bias: &[f32; LANES], t: &[f32]) -> [f32; LANES] {
    let mut sum = *bias;
    let rows = if R == 0 { t.len() } else { R };
    for (&t, lane) in t[..rows].iter().zip(&lanes[..rows]) {
        for l in 0..LANES {
            sum[l] += t * lane[l];
        }
    }
    sum
}

#[inline(always)]
fn reduce<const R: usize>(book: &Lookup, t: &[f32], base: f32, first: u32, least: &mut Least) {
    let rows = if R == 0 { book.rows } else { R };
    let Least { mut score, mut block } = *least;
    for ((lanes, bias), at) in book.lanes.chunks_exact(rows).zip(&book.bias).zip(first..) {
        let here = self::score::<R>(lanes, bias, t);
        for l in 0..LANES {
            let sum = here[l] + base;
            block[l] = if sum < score[l] { at } else { block[l] };
            score[l] = if sum < score[l] { sum } else { score[l] };
        }
    }
    *least = Least { score, block };
}

#[inline(always)]
fn nearest<const R: usize>(book: &Lookup, queries: &[f32], found: &mut [u8]) {
    let rows = if R == 0 { book.rows } else { R };
    for (t, found) in queries.chunks_exact(rows).zip(found) {
        let mut least = Least::NONE;
        reduce::<R>(book, t, 0.0, 0, &mut least);
        *found = least.first().0 as u8;
    }
}

#[inline(always)]
fn scores<const R: usize>(
    book: &Lookup,
    t: &[f32],
    base: f32,
    out: &mut [[f32; LANES]],
    least: &mut [f32; LANES],
) {
    let rows = if R == 0 { book.rows } else { R };
    let mut lowest = *least;
    for ((lanes, bias), out) in book.lanes.chunks_exact(rows).zip(&book.bias).zip(out) {
        let here = score::<R>(lanes, bias, t);
        for l in 0..LANES {
            let sum = here[l] + base;
            lowest[l] = if sum < lowest[l] { sum } else { lowest[l] };
            out[l] = sum;
        }
    }
    *least = lowest;
}

#[inline(always)]
fn below(scores: &[[f32; LANES]], bound: f32, found: &mut [u32]) -> usize {
    let bound = bound.min(f32::MAX);
    let mut count = 0;
    for (block, scores) in scores.iter().enumerate() {
        let mut any = false;
        for &s in scores {
            any |= s <= bound;
        }
        if any {
            for (l, &s) in scores.iter().enumerate() {
                // Written in any case, kept if it counts: no branch to foresee.
                found[count] = (block * LANES + l) as u32;
                count += usize::from(s <= bound);
            }
        }
    }
    count
}

/// [`below`] by the compressing instruction, which takes a quarter of the time of a loop over the lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn below_avx512(scores: &[[f32; LANES]], bound: f32, found: &mut [u32]) -> usize {
    use std::arch::x86_64::*;
    // A store writes a whole register from `count` on, and `count` is at most what was read before it.
    assert!(found.len() >= (scores.len() + 1) * LANES);
    let bound = _mm512_set1_ps(bound.min(f32::MAX));
    let mut numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut count = 0;
    for scores in scores {
        // SAFETY: an array of 16 floats is 64 bytes.
        let mask = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(unsafe { _mm512_loadu_ps(scores.as_ptr()) }, bound);
        if mask != 0 {
            let kept = _mm512_maskz_compress_epi32(mask, numbers);
            // SAFETY: `count` is at most 16 for each block before this one, and `found` has 16 more than all of them.
            unsafe { _mm512_storeu_si512(found.as_mut_ptr().add(count).cast(), kept) };
            count += mask.count_ones() as usize;
        }
        numbers = _mm512_add_epi32(numbers, _mm512_set1_epi32(LANES as i32));
    }
    count
}

/// The four loops compiled for `$features`.
macro_rules! compiled {
    ($name:ident, $below:ident $(, $features:literal)?) => {
        mod $name {
            use super::{Kernels, LANES, Least, Lookup};

            $(#[target_feature(enable = $features)])?
            fn nearest<const R: usize>(book: &Lookup, queries: &[f32], found: &mut [u8]) {
                super::nearest::<R>(book, queries, found);
            }

            $(#[target_feature(enable = $features)])?
            fn reduce<const R: usize>(book: &Lookup, t: &[f32], base: f32, first: u32, least: &mut Least) {
                super::reduce::<R>(book, t, base, first, least);
            }

            $(#[target_feature(enable = $features)])?
            fn scores<const R: usize>(
                book: &Lookup,
                t: &[f32],
                base: f32,
                out: &mut [[f32; LANES]],
                least: &mut [f32; LANES],
            ) {
                super::scores::<R>(book, t, base, out, least);
            }

            $(#[target_feature(enable = $features)])?
            fn below(scores: &[[f32; LANES]], bound: f32, found: &mut [u32]) -> usize {
                super::$below(scores, bound, found)
            }

            const fn of<const R: usize>() -> Kernels {
                Kernels { nearest: nearest::<R>, reduce: reduce::<R>, scores: scores::<R>, below }
            }

            /// The loops for queries of `rows` elements.
            pub(super) fn kernels(rows: usize) -> Kernels {
                match rows {
                    1 => of::<1>(),
                    2 => of::<2>(),
                    4 => of::<4>(),
                    8 => of::<8>(),
                    16 => of::<16>(),
                    _ => of::<0>(),
                }
            }
        }
    };
}

compiled!(portable, below);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, below, "avx2");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, below_avx512, "avx512f,avx512bw,avx512dq,avx512vl");

/// Kernels that this machine can run, the fastest first, with their names.
fn runnable(rows: usize) -> impl Iterator<Item = (&'static str, Kernels)> {
    #[cfg(target_arch = "x86_64")]
    let wide = {
        let has512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let avx512 = has512.then(|| ("avx512", avx512::kernels(rows)));
        avx512.into_iter().chain(is_x86_feature_detected!("avx2").then(|| ("avx2", avx2::kernels(rows))))
    };
    #[cfg(not(target_arch = "x86_64"))]
    let wide = std::iter::empty();
    wide.chain([("portable", portable::kernels(rows))])
}

/// Scores of one lookup by the fastest kernels that this machine has.
pub(super) struct Scorer<'a> {
    book: &'a Lookup,
    kernels: Kernels,
}

impl<'a> Scorer<'a> {
    /// The scorer of `book`.
    pub(super) fn new(book: &'a Lookup) -> Self {
        let kernels = runnable(book.rows).next().map_or_else(|| portable::kernels(book.rows), |k| k.1);
        Self { book, kernels }
    }

    /// Number of blocks of [`LANES`] codewords.
    pub(super) fn blocks(&self) -> usize {
        self.book.bias.len()
    }

    /// The nearest codeword of each query.
    pub(super) fn nearest(&self, queries: &[f32], found: &mut [u8]) {
        // SAFETY: `runnable` yields only kernels whose CPU features were detected.
        unsafe { (self.kernels.nearest)(self.book, queries, found) }
    }

    /// Takes `base` + the scores of query `t` into `least`, blocks counted from `first`.
    pub(super) fn reduce(&self, t: &[f32], base: f32, first: usize, least: &mut Least) {
        // SAFETY: as above.
        unsafe { (self.kernels.reduce)(self.book, t, base, first as u32, least) }
    }

    /// `base` + the scores of query `t`, and the least of each lane.
    pub(super) fn scores(&self, t: &[f32], base: f32, out: &mut [[f32; LANES]], least: &mut [f32; LANES]) {
        // SAFETY: as above.
        unsafe { (self.kernels.scores)(self.book, t, base, out, least) }
    }

    /// Numbers of the scores that are finite and at most `bound`; `found` has room for a block
    /// more than there are.
    pub(super) fn below(&self, scores: &[[f32; LANES]], bound: f32, found: &mut [u32]) -> usize {
        // SAFETY: as above.
        unsafe { (self.kernels.below)(scores, bound, found) }
    }
}

/// A bound that at least `count` scores (1 to 8, as far as there are so many) do not exceed, from the least of each
/// lane: lanes are folded to a power of two of at least `count`, each of which has one such score.
pub(super) fn bound(least: &[f32; LANES], count: usize) -> f32 {
    let mut folded = *least;
    let mut half = LANES / 2;
    while half >= count.next_power_of_two() {
        for i in 0..half {
            folded[i] = folded[i].min(folded[i + half]);
        }
        half /= 2;
    }
    folded[..count.next_power_of_two()].iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v))
}

#[cfg(test)]
mod tests {
    use super::super::codebook::Codebook;
    use super::super::random::Random;
    use super::*;

    /// Every kernel of this machine, on the same random and tied inputs.
    #[test]
    fn all_kernels_give_the_same_bits() {
        let mut random = Random::new(9);
        for dim in [1, 2, 3, 4, 8, 16, 17] {
            for size in [1, 15, 16, 17, 100, 256] {
                for (weighted, levels) in [(false, 1e6), (true, 1e6), (false, 3.0)] {
                    let mut some = |n: usize| -> Vec<f32> {
                        (0..n).map(|_| (levels * (random.unit() - 0.5)).round() as f32 / 1e5).collect()
                    };
                    let book = Codebook { dim, words: some(size * dim) };
                    let lookup = Lookup::new(&book, &some(size), weighted);
                    let queries = some(lookup.rows * 20);
                    let results: Vec<_> = runnable(lookup.rows)
                        .map(|(name, kernels)| (name, all(&Scorer { book: &lookup, kernels }, &queries)))
                        .collect();
                    for (name, result) in &results {
                        assert_eq!(result, &results[results.len() - 1].1, "{name} {dim} {size}");
                    }
                }
            }
        }
    }

    /// Results of all loops of one scorer.
    type All = (Vec<u8>, Vec<(usize, u32)>, Vec<u32>, Vec<Vec<u32>>);

    fn all(scorer: &Scorer<'_>, queries: &[f32]) -> All {
        let rows = scorer.book.rows;
        let mut nearest = vec![0; queries.len() / rows];
        scorer.nearest(queries, &mut nearest);
        let (mut least, mut flat, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for t in queries.chunks_exact(rows) {
            let mut one = Least::NONE;
            scorer.reduce(t, 0.25, 0, &mut one);
            scorer.reduce(t, 0.2, scorer.blocks(), &mut one);
            least.push((one.first().0, one.first().1.to_bits()));
            let mut scores = vec![[0.0; LANES]; scorer.blocks()];
            let mut lowest = [f32::INFINITY; LANES];
            scorer.scores(t, 0.25, &mut scores, &mut lowest);
            flat.extend(scores.as_flattened().iter().chain(&lowest).map(|s| s.to_bits()));
            for count in [1, 2, 3, 4, 8] {
                let bound = bound(&lowest, count);
                let mut room = vec![0; (scores.len() + 1) * LANES];
                let n = scorer.below(&scores, bound, &mut room);
                let finite = scores.as_flattened().iter().filter(|s| s.is_finite()).count();
                assert!(n >= count.min(finite));
                found.push(room[..n].to_vec());
            }
        }
        (nearest, least, flat, found)
    }
}
