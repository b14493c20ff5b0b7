//! What is measured on: Gaussian samples, or the largest matrices of a model.

use benben::{Dtype, Error, ModelSource, Result};

/// A matrix of weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Name in the model.
    pub name: String,
    /// Type in the model.
    pub dtype: Dtype,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Rows one after the other.
    pub values: Vec<f32>,
}

impl Matrix {
    /// About `weights` independent samples of a Gaussian source, in rows of 1024; the same for the same seed.
    ///
    /// The variance is 1.
    pub fn gaussian(weights: usize, seed: u64) -> Self {
        let columns = 1024.min(weights.max(1));
        let rows = weights.max(1) / columns;
        let mut state = seed;
        // SplitMix64 through Box and Muller.
        let mut uniform = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut normal =
            || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let values = (0..rows * columns).map(|_| normal() as f32).collect();
        Self { name: "Gaussian".into(), dtype: Dtype::F32, rows, columns, values }
    }

    /// The largest matrices of `model`, `most` weights of them; of one that is larger than half of that, the rows at
    /// its front, so that more than one matrix is there.
    ///
    /// # Errors
    /// InvalidArgument where the model has no matrix of floats, or one that is not finite; otherwise what the reader
    /// reports.
    pub fn largest(model: &dyn ModelSource, most: usize) -> Result<Vec<Self>> {
        let is_matrix = |t: &benben::TensorInfo| t.dtype.is_weight() && t.shape.len() == 2;
        let mut order: Vec<usize> =
            (0..model.tensors().len()).filter(|&i| is_matrix(&model.tensors()[i])).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(model.tensors()[i].shape.iter().product::<u64>()));
        let (mut found, mut left) = (Vec::new(), most);
        for index in order {
            let info = &model.tensors()[index];
            let [rows, columns] = [0, 1].map(|d| usize::try_from(info.shape[d]).unwrap_or(usize::MAX));
            let rows = rows.min(left.min(most.div_ceil(2)) / columns.max(1));
            let weights = rows * columns;
            if weights == 0 {
                continue;
            }
            let bytes = model.read(index)?;
            let mut values = vec![0.0; weights];
            info.dtype.to_f32(&bytes[..weights * info.dtype.size()], &mut values)?;
            if values.iter().any(|v| !v.is_finite()) {
                return Err(Error::invalid("not every weight is finite").in_tensor(&info.name));
            }
            found.push(Self { name: info.name.clone(), dtype: info.dtype, rows, columns, values });
            left -= weights;
        }
        if found.is_empty() {
            return Err(Error::invalid(format!("no matrix of f32, f16 or bf16 within {most} weights"))
                .with_hint("without a model, Gaussian samples are measured"));
        }
        Ok(found)
    }

    /// Root of the mean square.
    pub fn rms(&self) -> f64 {
        let sum: f64 = self.values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        (sum / self.values.len().max(1) as f64).sqrt()
    }

    /// Shape as the codecs take it.
    pub fn shape(&self) -> [u64; 2] {
        [self.rows as u64, self.columns as u64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussian_samples_have_variance_1_and_come_again() {
        let matrix = Matrix::gaussian(1 << 16, 3);
        assert!((matrix.rms() - 1.0).abs() < 0.02, "{}", matrix.rms());
        assert_eq!(matrix, Matrix::gaussian(1 << 16, 3));
        assert_eq!(Matrix::gaussian(100, 3).shape(), [1, 100]);
    }
}
