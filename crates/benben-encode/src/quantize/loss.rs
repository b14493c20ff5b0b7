//! What errors of a matrix cost at the layer's outputs.

use super::kernel::{self, LANES};
use rayon::prelude::*;

/// Rows that one thread takes.
const ROWS: usize = 64;

/// `sum over rows r of weight_r * e_r H e_r^T` of `errors`, rows of `columns` values; `moment` is H, whole and symmetric.
#[must_use]
pub fn loss(errors: &[f32], columns: usize, moment: &[f32], rows: Option<&[f32]>) -> f64 {
    let parts: Vec<f64> = errors
        .par_chunks(columns.max(1) * ROWS)
        .enumerate()
        .map(|(part, errors)| {
            let count = errors.len() / columns.max(1);
            let stride = count.next_multiple_of(LANES);
            let mut turned = vec![0f32; columns * stride];
            for (i, row) in errors.chunks(columns.max(1)).enumerate() {
                row.iter().enumerate().for_each(|(j, &e)| turned[j * stride + i] = e);
            }
            let mut products = vec![0f32; columns * stride];
            kernel::add_all(&mut products, stride, 0..columns, &turned, moment, columns, 0);
            let mut sums = vec![0f64; stride];
            for (products, own) in products.chunks(stride).zip(turned.chunks(stride)) {
                for ((sum, p), e) in sums.iter_mut().zip(products).zip(own) {
                    *sum += f64::from(*p) * f64::from(*e);
                }
            }
            let weight = |i: usize| rows.and_then(|r| r.get(part * ROWS + i)).map_or(1.0, |&w| f64::from(w));
            sums.iter().take(count).enumerate().map(|(i, s)| s * weight(i)).sum()
        })
        .collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_the_quadratic_form() {
        let (m, n) = (70usize, 37usize);
        let errors: Vec<f32> = (0..m * n).map(|i| ((i * i % 997) as f32).sin()).collect();
        let moment: Vec<f32> = (0..n * n)
            .map(|i| 0.9f32.powi((i / n).abs_diff(i % n) as i32) + f32::from(u8::from(i / n == i % n)))
            .collect();
        let weights: Vec<f32> = (0..m).map(|i| 0.5 + i as f32 / 70.0).collect();
        for rows in [None, Some(&weights[..])] {
            let mut expected = 0.0;
            for (r, e) in errors.chunks(n).enumerate() {
                let form: f64 = (0..n * n)
                    .map(|i| f64::from(e[i / n]) * f64::from(moment[i]) * f64::from(e[i % n]))
                    .sum();
                expected += form * rows.map_or(1.0, |w| f64::from(w[r]));
            }
            let found = loss(&errors, n, &moment, rows);
            assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
        }
    }
}
