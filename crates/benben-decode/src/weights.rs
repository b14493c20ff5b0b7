//! What a running network asks of its weights, wherever they are.

use benben_format::Result;

/// Named weights, used where they lie: a matrix is multiplied, a table is read by rows, a vector is handed out.
///
/// A tensor of shape `[d0, d1, .., dn]` is the matrix of `d0` rows and `d1 * .. * dn` columns, as everywhere.
/// Implementations answer the same bits whatever the number of threads.
pub trait Weights: Send + Sync {
    /// Whether there is a tensor called `name`.
    fn contains(&self, name: &str) -> bool;

    /// Rows and columns of `name`, known without decoding it.
    ///
    /// # Errors
    /// InvalidArgument where there is no such tensor.
    fn shape(&self, name: &str) -> Result<[usize; 2]>;

    /// All of `name` as f32: norms, biases, small tensors.
    ///
    /// # Errors
    /// InvalidArgument where there is no such tensor; otherwise as decoding it.
    fn vector(&self, name: &str) -> Result<Vec<f32>>;

    /// Rows `ids` of `name`, one after the other into `out` (`ids.len() * columns`); no others are decoded where the
    /// tensor is not in memory.
    ///
    /// # Errors
    /// InvalidArgument for a row that is not there or an `out` of another size; otherwise as decoding.
    fn rows(&self, name: &str, ids: &[u32], out: &mut [f32]) -> Result<()>;

    /// Products of several matrices with the same vectors: `out[m][v * rows_m + r] = sum over k of
    /// matrix_m[r][k] * x[v * columns + k]` for `vectors` vectors `x` (row-major, `vectors * columns`). Together,
    /// since matrices that share an input (query, key and value; gate and up) are worth one hand-over to the threads.
    ///
    /// # Errors
    /// InvalidArgument where sizes do not fit each other, naming the tensor; otherwise as decoding.
    fn products(&self, names: &[&str], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()>;

    /// The product of one matrix; see [`products`](Self::products).
    ///
    /// # Errors
    /// As [`products`](Self::products).
    fn product(&self, name: &str, x: &[f32], vectors: usize, out: &mut [f32]) -> Result<()> {
        self.products(&[name], x, vectors, &mut [out])
    }

    /// Says that `name` is not wanted again soon, so that an implementation that keeps what it has read may let go of
    /// it. It can still be used; most implementations have a budget of their own and do nothing.
    fn release(&self, name: &str) {
        let _ = name;
    }
}
