//! The randomized Hadamard transform of vectors on a GPU.
//!
//! The transform of a block of `a * b` elements is that of `a` rows of `b`, then of their columns (Kronecker product of
//! Sylvester's matrices): two products with small matrices in place of one with a large.

use benben_decode::inverse_hadamard_rows;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Signs of columns, and the transform of a block of them.
#[derive(Debug)]
pub(super) struct Rotation {
    /// `[1, columns]`
    signs: Tensor<2>,
    /// `[a, a]`, `[b, b]`
    halves: [Tensor<2>; 2],
}

impl Rotation {
    /// That of a `rotate` node over rows of `columns`, which `block` divides, a power of two.
    pub(super) fn new(columns: usize, seed: u64, block: usize, device: &Device) -> Self {
        // Of a block that is 1 at its first place and 0 elsewhere the transform is constant: what is left are signs.
        let mut signs = vec![0.0; columns];
        signs.iter_mut().step_by(block.max(1)).for_each(|first| *first = 1.0);
        inverse_hadamard_rows(&mut signs, columns, seed, block);
        signs.iter_mut().for_each(|sign| *sign = sign.signum());
        let upload = |values, shape: [usize; 2]| {
            Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
        };
        let bits = block.max(1).ilog2();
        let halves = [bits / 2, bits - bits / 2].map(|bits| {
            let size = 1usize << bits;
            let scale = 1.0 / (size as f32).sqrt();
            let entry = |i: usize| if (i / size & i % size).count_ones() % 2 == 0 { scale } else { -scale };
            upload((0..size * size).map(entry).collect(), [size, size])
        });
        Self { signs: upload(signs, [1, columns]), halves }
    }

    /// `[vectors, columns]`, each vector as [`hadamard_rows`](benben_decode::hadamard_rows) turns it, up to rounding.
    pub(super) fn forth(&self, x: Tensor<2>) -> Tensor<2> {
        self.transformed(x * self.signs.clone())
    }

    /// The inverse.
    pub(super) fn back(&self, x: Tensor<2>) -> Tensor<2> {
        self.transformed(x) * self.signs.clone()
    }

    fn transformed(&self, x: Tensor<2>) -> Tensor<2> {
        let [vectors, columns] = x.dims();
        let [a, b] = self.halves.each_ref().map(|half| half.dims()[0]);
        let blocks = vectors * columns / (a * b);
        let x = x.reshape([blocks * a, b]).matmul(self.halves[1].clone());
        let x = x.reshape([blocks, a, b]).swap_dims(1, 2).reshape([blocks * b, a]);
        let x = x.matmul(self.halves[0].clone());
        x.reshape([blocks, b, a]).swap_dims(1, 2).reshape([vectors, columns])
    }
}
