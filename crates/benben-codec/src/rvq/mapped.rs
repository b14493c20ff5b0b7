//! Codebooks that are a linear map of noise: a seed and `dim` x `dim` integers in place of every entry.
//!
//! Source: SimVQ (Zhu et al., "Addressing representation collapse in vector quantized models with one linear layer",
//! arXiv:2411.02038): codewords are `A b_k` with a frozen random basis `b` and a learned `A`, so that every codeword
//! moves whenever one of them is used. There it keeps codebooks alive while they are trained; here it also makes them
//! small: 64 integers for dimension 8, where 256 codewords take two kilobytes. `A` is the least-squares solution of
//! the symbols at hand, not a step of gradient descent.

use super::random::Random;

/// Root mean square of a coordinate of the basis: that of the sum of 8 uniform bytes.
pub(super) const SPREAD: f64 = 209.0223;
/// Mean of the sum of 8 uniform bytes.
const MEAN: i32 = 1020;
/// Share of the mean diagonal that is added to it, lest too few codewords in use leave a direction open.
const RIDGE: f64 = 1e-9;

/// The frozen basis: coordinate `i` of all, codeword after codeword, is the sum of the bytes of number `i` of the
/// SplitMix64 sequence of `seed`, less their mean: a bell-shaped integer of at most 1020 in magnitude.
pub(super) fn basis(seed: u64, size: usize, dim: usize) -> Vec<i32> {
    let mut random = Random::new(seed);
    let coordinate = |_| random.next().to_le_bytes().iter().map(|&b| i32::from(b)).sum::<i32>() - MEAN;
    (0..size * dim).map(coordinate).collect()
}

/// Codewords of an integer map: integers are exact, and each is rounded to f32 once before `step` multiplies it.
pub(super) fn words(basis: &[i32], map: &[i32], dim: usize, step: f32) -> Vec<f32> {
    let dot = |row: &[i32], b: &[i32]| -> i64 {
        row.iter().zip(b).map(|(&m, &b)| i64::from(m) * i64::from(b)).sum()
    };
    let word = |b| map.chunks_exact(dim).map(move |row| dot(row, b) as f32 * step);
    basis.chunks_exact(dim).flat_map(word).collect()
}

/// The map of one codebook while it is trained.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub(super) dim: usize,
    pub(super) seed: u64,
    pub(super) basis: Vec<i32>,
    /// Row `i` gives coordinate `i` of a codeword.
    pub(super) matrix: Vec<f64>,
}

impl Map {
    /// The map that gives `size` codewords the covariance of `values`: the root of it by Cholesky.
    pub(super) fn new(seed: u64, size: usize, dim: usize, values: &[f32]) -> Self {
        let mut covariance = vec![0.0; dim * dim];
        for x in values.chunks_exact(dim) {
            for (row, &a) in covariance.chunks_exact_mut(dim).zip(x) {
                row.iter_mut().zip(x).for_each(|(c, &b)| *c += f64::from(a) * f64::from(b));
            }
        }
        let scale = 1.0 / (values.len() / dim).max(1) as f64;
        covariance.iter_mut().for_each(|c| *c *= scale);
        let mut matrix = root(covariance, dim);
        matrix.iter_mut().for_each(|m| *m /= SPREAD);
        Self { dim, seed, basis: basis(seed, size, dim), matrix }
    }

    /// The codewords.
    pub(super) fn words(&self) -> Vec<f32> {
        let dot =
            |row: &[f64], b: &[i32]| row.iter().zip(b).map(|(m, &b)| m * f64::from(b)).sum::<f64>() as f32;
        let word = |b| self.matrix.chunks_exact(self.dim).map(move |row| dot(row, b));
        self.basis.chunks_exact(self.dim).flat_map(word).collect()
    }

    /// Moves the map to where the squared error of the symbols is least. `value` has the weighted sum of what is left of
    /// the vectors of each codeword, `weight` the sums of weights: one for each entry, or, where all elements weigh 1,
    /// only that of the first entry of each codeword.
    pub(super) fn fit(&mut self, value: &[f64], weight: &[f64], weighted: bool) {
        let dim = self.dim;
        let mut factor = Vec::new();
        for i in 0..dim {
            if i == 0 || weighted {
                let mut normal = vec![0.0; dim * dim];
                let at = if weighted { i } else { 0 };
                for (b, w) in self.basis.chunks_exact(dim).zip(weight.iter().skip(at).step_by(dim)) {
                    for (row, &a) in normal.chunks_exact_mut(dim).zip(b) {
                        let a = w * f64::from(a);
                        row.iter_mut().zip(b).for_each(|(n, &b)| *n += a * f64::from(b));
                    }
                }
                factor = root(normal, dim);
            }
            let mut side = vec![0.0; dim];
            for (b, v) in self.basis.chunks_exact(dim).zip(value.iter().skip(i).step_by(dim)) {
                side.iter_mut().zip(b).for_each(|(s, &b)| *s += v * f64::from(b));
            }
            solve(&factor, &mut side);
            self.matrix[i * dim..][..dim].iter_mut().zip(&side).for_each(|(m, s)| *m += s);
        }
    }
}

/// The lower triangle whose product with its transpose is the symmetric `matrix` and a little more.
fn root(mut matrix: Vec<f64>, dim: usize) -> Vec<f64> {
    let trace: f64 = matrix.iter().step_by(dim + 1).sum();
    let ridge = (RIDGE * trace / dim as f64).max(f64::MIN_POSITIVE);
    for i in 0..dim {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| matrix[i * dim + k] * matrix[j * dim + k]).sum();
            let rest = matrix[i * dim + j] - dot;
            matrix[i * dim + j] = match i == j {
                true => (rest + ridge).max(ridge).sqrt(),
                false => rest / matrix[j * dim + j],
            };
        }
        matrix[i * dim + i + 1..(i + 1) * dim].fill(0.0);
    }
    matrix
}

/// Solves `root * transposed root * x = side` in place.
fn solve(root: &[f64], side: &mut [f64]) {
    let dim = side.len();
    for i in 0..dim {
        let dot: f64 = (0..i).map(|k| root[i * dim + k] * side[k]).sum();
        side[i] = (side[i] - dot) / root[i * dim + i];
    }
    for i in (0..dim).rev() {
        let dot: f64 = (i + 1..dim).map(|k| root[k * dim + i] * side[k]).sum();
        side[i] = (side[i] - dot) / root[i * dim + i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basis_of_the_specification() {
        // Outputs of SplitMix64 for seed 0: e220a8397b1dcdaf, 6e789e6aa1b965f4, 06c45d188009454f, f88bb8a8724c81ec.
        assert_eq!(basis(0, 2, 2), [-5, 165, -416, 274]);
        assert_eq!(words(&[1, -2, 3, 4], &[5, 6, -7, 8], 2, 0.5), [-3.5, -11.5, 19.5, 5.5]);
    }

    #[test]
    fn a_basis_is_bell_shaped_and_of_the_spread_that_maps_assume() {
        let all = basis(77, 1 << 12, 8);
        let moment = |p: i32| all.iter().map(|&b| f64::from(b).powi(p)).sum::<f64>() / all.len() as f64;
        assert!((moment(2).sqrt() / SPREAD - 1.0).abs() < 0.01 && moment(1).abs() < 5.0);
        assert!((moment(4) / moment(2).powi(2) - 2.85).abs() < 0.1);
        assert!(all.iter().all(|b| b.abs() <= 1020));
    }

    #[test]
    fn the_fit_finds_the_map_that_made_the_vectors() {
        let (dim, size) = (3, 20);
        let mut map = Map::new(5, size, dim, &[1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0]);
        let made = [0.5, -0.25, 0.125, 1.0, 2.0, -1.0, 0.0, 0.75, 0.5];
        let truth = Map { matrix: made.to_vec(), ..map.clone() };
        for weighted in [false, true] {
            let weight: Vec<f64> = (0..size * dim).map(|e| 1.0 + (e % 7) as f64).collect();
            let own = |e: usize| weight[if weighted { e } else { e / dim * dim }];
            let left = truth.words().into_iter().zip(map.words()).map(|(t, m)| f64::from(t - m));
            let value: Vec<f64> = left.enumerate().map(|(e, r)| own(e) * r).collect();
            map.fit(&value, &weight, weighted);
            let close = map.matrix.iter().zip(&made).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close, "{weighted}: {:?}", map.matrix);
            map.matrix.fill(0.0);
        }
    }
}
