//! Seeding and centroids: what Lloyd's iteration needs besides the search.
//!
//! Sources: k-means++ (Arthur and Vassilvitskii 2007); for sums of codewords the centroid step is one block of
//! Gauss-Seidel on the least-squares problem of all codebooks, the codes given (as in AQLM and LSQ).

use super::codebook::Codebook;
use super::mapped::Map;
use super::random::Random;
use super::search::Vectors;
use rayon::prelude::*;

/// Vectors whose sums are added up first; fixed, so that no thread count changes a sum.
const BLOCK: usize = 1 << 13;

/// `size` codewords drawn from `vectors` with probability in proportion to their squared distance from those
/// drawn before.
pub(super) fn seed(vectors: &Vectors<'_>, size: usize, random: &mut Random) -> Codebook {
    let dim = vectors.dim;
    let mut book = Codebook { dim, words: Vec::with_capacity(size * dim) };
    if vectors.len() == 0 {
        book.words.resize(size * dim, 0.0);
        return book;
    }
    let mut distance = vec![f32::INFINITY; vectors.len()];
    let mut chosen = random.below(vectors.len());
    loop {
        book.words.extend_from_slice(&vectors.values[chosen * dim..][..dim]);
        if book.len() == size {
            return book;
        }
        let word = book.word(book.len() - 1);
        let sums: Vec<f64> = distance
            .par_chunks_mut(BLOCK)
            .enumerate()
            .map(|(block, distance)| {
                let start = block * BLOCK * dim;
                let values = vectors.values[start..].chunks_exact(dim);
                for (i, (d, x)) in distance.iter_mut().zip(values).enumerate() {
                    let w = vectors.weights_from(start + i * dim, dim);
                    *d = d.min(squared_distance(x, word, w));
                }
                distance.iter().map(|&d| f64::from(d)).sum()
            })
            .collect();
        let mut left = random.unit() * sums.iter().sum::<f64>();
        let block = sums.iter().position(|&s| {
            left -= s;
            left < 0.0
        });
        // Nothing is left where there are fewer distinct vectors than codewords: repeat any.
        let Some(block) = block else {
            chosen = random.below(vectors.len());
            continue;
        };
        left += sums[block];
        let inside = &distance[block * BLOCK..distance.len().min((block + 1) * BLOCK)];
        let at = inside.iter().position(|&d| {
            left -= f64::from(d);
            left < 0.0
        });
        chosen = block * BLOCK + at.unwrap_or(inside.len() - 1);
    }
}

fn squared_distance(x: &[f32], c: &[f32], w: &[f32]) -> f32 {
    let pairs = x.iter().zip(c);
    if w.is_empty() {
        pairs.map(|(x, c)| (x - c) * (x - c)).sum()
    } else {
        pairs.zip(w).map(|((x, c), w)| w * (x - c) * (x - c)).sum()
    }
}

fn squared_norm(r: &[f32], w: &[f32]) -> f32 {
    if w.is_empty() { r.iter().map(|r| r * r).sum() } else { r.iter().zip(w).map(|(r, w)| w * r * r).sum() }
}

/// Puts codewords without vectors where the error is greatest: on the vectors with the largest residuals.
pub(super) fn reseed(vectors: &Vectors<'_>, counts: &[u64], book: &mut Codebook, residuals: &[f32]) {
    let dim = vectors.dim;
    let empty: Vec<usize> = (0..counts.len()).filter(|&k| counts[k] == 0).collect();
    if empty.is_empty() || vectors.len() == 0 {
        return;
    }
    let error = |i: usize| squared_norm(&residuals[i * dim..][..dim], vectors.weights_from(i * dim, dim));
    let mut worst: Vec<(f32, usize)> = (0..vectors.len()).map(|i| (error(i), i)).collect();
    let most = empty.len().min(worst.len());
    worst.select_nth_unstable_by(most - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    worst.truncate(most);
    worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (&k, &(_, i)) in empty.iter().zip(&worst) {
        book.words[k * dim..][..dim].copy_from_slice(&vectors.values[i * dim..][..dim]);
    }
}

/// How often stage `stage` of `codes` uses each of `size` symbols.
pub(super) fn count(codes: &[u8], stages: usize, stage: usize, size: usize) -> Vec<u64> {
    let mut counts = vec![0; size];
    codes.iter().skip(stage).step_by(stages).for_each(|&c| counts[usize::from(c)] += 1);
    counts
}

/// For each entry of the `size` codewords of `stage`, the weighted sum of what `residuals` are left of its vectors, then
/// for each the sum of weights; where all elements weigh 1, only that of the first entry of each codeword.
pub(super) fn sums(
    vectors: &Vectors<'_>,
    codes: &[u8],
    stages: usize,
    stage: usize,
    size: usize,
    residuals: &[f32],
) -> Vec<f64> {
    let dim = vectors.dim;
    let entries = size * dim;
    let sums: Vec<Vec<f64>> = residuals
        .par_chunks(BLOCK * dim)
        .enumerate()
        .map(|(block, residuals)| {
            let mut sum = vec![0.0; 2 * entries];
            let (value, weight) = sum.split_at_mut(entries);
            let weights = vectors.weights_from(block * BLOCK * dim, residuals.len());
            let codes = codes[block * BLOCK * stages..].iter().skip(stage).step_by(stages);
            for (i, (r, &code)) in residuals.chunks_exact(dim).zip(codes).enumerate() {
                let at = usize::from(code) * dim;
                if weights.is_empty() {
                    value[at..][..dim].iter_mut().zip(r).for_each(|(v, &r)| *v += f64::from(r));
                    weight[at] += 1.0;
                } else {
                    for (j, (&r, &w)) in r.iter().zip(&weights[i * dim..]).enumerate() {
                        value[at + j] += f64::from(w) * f64::from(r);
                        weight[at + j] += f64::from(w);
                    }
                }
            }
            sum
        })
        .collect();
    let mut total = vec![0.0f64; 2 * entries];
    for sum in &sums {
        total.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
    }
    total
}

/// Moves each codeword by the mean of what is left of its vectors, of which there are `seen` ones besides those of the
/// unweighted `sums`; of these, `kept` count.
pub(super) fn nudge(book: &mut Codebook, sums: &[f64], seen: &mut [f64], kept: f64) {
    let (dim, entries) = (book.dim, book.words.len());
    for (e, word) in book.words.iter_mut().enumerate() {
        let at = e / dim * dim;
        if e == at {
            seen[at] = kept * seen[at] + sums[entries + at];
        }
        if seen[at] > 0.0 {
            *word += (sums[e] / seen[at]) as f32;
        }
    }
}

/// Moves each codeword of `stage` to where the squared error of its vectors is least, all other stages as they
/// are, and keeps `residuals` true. Codewords without vectors stay. Where there is a `map`, all move together.
pub(super) fn recentre(
    vectors: &Vectors<'_>,
    codes: &[u8],
    stages: usize,
    stage: usize,
    (book, map): (&mut Codebook, Option<&mut Map>),
    residuals: &mut [f32],
) {
    let dim = vectors.dim;
    let total = sums(vectors, codes, stages, stage, book.len(), residuals);
    let (value, weight) = total.split_at(book.words.len());
    let weighted = !vectors.weights.is_empty();
    let before = book.words.clone();
    if let Some(map) = map {
        map.fit(value, weight, weighted);
        book.words = map.words();
    } else {
        for (e, word) in book.words.iter_mut().enumerate() {
            let weight = weight[if weighted { e } else { e / dim * dim }];
            if weight > 0.0 {
                *word += (value[e] / weight) as f32;
            }
        }
    }
    let moved: Vec<f32> = book.words.iter().zip(&before).map(|(now, before)| now - before).collect();
    residuals.par_chunks_mut(BLOCK * dim).enumerate().for_each(|(block, residuals)| {
        let codes = codes[block * BLOCK * stages..].iter().skip(stage).step_by(stages);
        for (r, &code) in residuals.chunks_exact_mut(dim).zip(codes) {
            r.iter_mut().zip(&moved[usize::from(code) * dim..]).for_each(|(r, m)| *r -= m);
        }
    });
}

/// Weighted squared error that `residuals` leave.
pub(super) fn distortion(residuals: &[f32], weights: &[f32]) -> f64 {
    let block = |(i, r): (usize, &[f32])| -> f64 {
        let w = weights.get(i * BLOCK..).unwrap_or(&[]);
        if w.is_empty() {
            r.iter().map(|&r| f64::from(r) * f64::from(r)).sum()
        } else {
            r.iter().zip(w).map(|(&r, &w)| f64::from(w) * f64::from(r) * f64::from(r)).sum()
        }
    };
    let sums: Vec<f64> = residuals.par_chunks(BLOCK).enumerate().map(block).collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centroids_are_weighted_means_of_what_is_left() {
        let values = [1.0, 3.0, 10.0, -2.0];
        let weights = [3.0, 1.0, 1.0, 1.0];
        let vectors = Vectors { dim: 1, values: &values, weights: &weights };
        let mut book = Codebook { dim: 1, words: vec![0.0, 0.0, 7.0] };
        let mut residuals = values.to_vec();
        recentre(&vectors, &[0, 0, 1, 1], 1, 0, (&mut book, None), &mut residuals);
        assert_eq!(book.words, [1.5, 4.0, 7.0]);
        assert_eq!(residuals, [-0.5, 1.5, 6.0, -6.0]);
        assert_eq!(distortion(&residuals, &weights), 75.0);
    }

    #[test]
    fn empty_clusters_move_to_the_worst_vectors() {
        let values = [0.0, 0.1, 5.0, 0.2, 9.0];
        let vectors = Vectors { dim: 1, values: &values, weights: &[] };
        let mut book = Codebook { dim: 1, words: vec![0.1, 3.0, 4.0] };
        reseed(&vectors, &[5, 0, 0], &mut book, &[-0.1, 0.0, 4.9, 0.1, 8.9]);
        assert_eq!(book.words, [0.1, 9.0, 5.0]);
    }

    #[test]
    fn seeds_are_distinct_while_vectors_are() {
        let values: Vec<f32> = (0..40).map(|i| (i % 10) as f32).collect();
        let vectors = Vectors { dim: 1, values: &values, weights: &[] };
        let mut words = seed(&vectors, 10, &mut Random::new(3)).words;
        words.sort_by(f32::total_cmp);
        assert_eq!(words, (0..10).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!(seed(&vectors, 16, &mut Random::new(3)).len(), 16);
    }
}
