//! The randomized Hadamard transform of vectors, as `rotate` nodes have it.
//!
//! The transform of a block of `a * b` elements is that of `a` rows of `b`, then of their columns (Kronecker product of
//! Sylvester's matrices): two products with small matrices in place of one with a large.

use super::tensor;
use benben_decode::inverse_hadamard_rows;
use burn::tensor::{Device, Tensor};

/// Signs of columns, and the transform of a block of them.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// `[1, columns]`
    signs: Tensor<2>,
    /// `[a, a]`, `[b, b]`
    halves: [Tensor<2>; 2],
}

impl Rotation {
    /// That of a `rotate` node over rows of `columns`, which `block` divides, a power of two.
    #[must_use]
    pub fn new(columns: usize, seed: u64, block: usize, device: &Device) -> Self {
        // Of a block that is 1 at its first place and 0 elsewhere the transform is constant: what is left are signs.
        let mut signs = vec![0.0; columns];
        signs.iter_mut().step_by(block.max(1)).for_each(|first| *first = 1.0);
        inverse_hadamard_rows(&mut signs, columns, seed, block);
        signs.iter_mut().for_each(|sign| *sign = sign.signum());
        let bits = block.max(1).ilog2();
        let halves = [bits / 2, bits - bits / 2].map(|bits| {
            let size = 1usize << bits;
            let scale = 1.0 / (size as f32).sqrt();
            let entry = |i: usize| if (i / size & i % size).count_ones() % 2 == 0 { scale } else { -scale };
            tensor((0..size * size).map(entry).collect(), [size, size], device)
        });
        Self { signs: tensor(signs, [1, columns], device), halves }
    }

    /// `[vectors, columns]`, each vector as [`hadamard_rows`](benben_decode::hadamard_rows) turns it, up to rounding.
    #[must_use]
    pub fn forth(&self, x: Tensor<2>) -> Tensor<2> {
        let signs = alike(&self.signs, &x);
        self.transformed(x * signs)
    }

    /// The inverse.
    #[must_use]
    pub fn back(&self, x: Tensor<2>) -> Tensor<2> {
        let signs = alike(&self.signs, &x);
        self.transformed(x) * signs
    }

    fn transformed(&self, x: Tensor<2>) -> Tensor<2> {
        let [vectors, columns] = x.dims();
        let [a, b] = self.halves.each_ref().map(|half| half.dims()[0]);
        let blocks = vectors * columns / (a * b);
        let [first, second] = self.halves.each_ref().map(|half| alike(half, &x));
        let x = x.reshape([blocks * a, b]).matmul(second);
        let x = x.reshape([blocks, a, b]).swap_dims(1, 2).reshape([blocks * b, a]);
        let x = x.matmul(first);
        x.reshape([blocks, b, a]).swap_dims(1, 2).reshape([vectors, columns])
    }
}

/// A constant of the same kind as `x`: a graph multiplies tensors with gradients, or none has any.
fn alike(constant: &Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
    if x.device().is_autodiff() { constant.clone().autodiff() } else { constant.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use benben_decode::hadamard_rows;

    #[test]
    fn vectors_are_turned_as_rows_are_and_back() {
        let device = Device::flex();
        for (columns, block) in [(1, 1), (6, 2), (48, 16), (96, 32), (128, 128), (512, 256)] {
            let x: Vec<f32> = (0..3 * columns).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut expected = x.clone();
            hadamard_rows(&mut expected, columns, 9, block);
            let rotation = Rotation::new(columns, 9, block, &device);
            let turned = rotation.forth(tensor(x.clone(), [3, columns], &device));
            let back = rotation.back(turned.clone());
            for (found, expected) in [(turned, expected), (back, x)] {
                let found = found.into_data();
                let found = found.as_slice::<f32>().unwrap();
                assert!(
                    found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
                    "{columns} by {block}"
                );
            }
        }
    }
}
