//! The solver: the best matrix of a rank under a metric.

use super::algebra::{eigen, matrix, product};
use super::metric::Metric;
use benben_format::{Error, Result};
use faer::{Mat, MatRef};

/// Two factors whose product is near a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// Rank: what was asked for, or less where the matrix has no more under the metric.
    pub rank: usize,
    /// Singular values under the metric, largest first, one for each of `rank`.
    pub sizes: Vec<f64>,
    /// rows x rank, row-major. Under the metric its columns have the norms `sizes^(1/2)`, as have the rows of `right`:
    /// balanced.
    pub left: Vec<f32>,
    /// rank x columns, row-major.
    pub right: Vec<f32>,
    /// What is to be added to outputs where the metric is centred: `(W - left right) μ`, one value for each row.
    pub bias: Option<Vec<f32>>,
    /// Rows and columns of the matrix.
    pub shape: [usize; 2],
    /// `||S_L (W - left right) S_R||^2`: the sum of the squares of all other singular values.
    pub error: f64,
    /// `||S_L W S_R||^2`.
    pub energy: f64,
}

/// The matrix of `rank` that makes `||S_L (W - Ŵ) S_R||` least: with `S_L W S_R = U S Vᵀ`, that of which
/// `S_L Ŵ S_R = U_r S_r V_rᵀ` (Eckart & Young under a change of variables).
///
/// U is found as the eigenvectors of `S_L W S_R² Wᵀ S_L`, or V as those of the other product, whichever is smaller, in
/// f64. With `Q = Wᵀ S_L U_r`, whose columns are orthogonal under S_R, `Ŵ = W S_R² Q (Qᵀ S_R² Q)⁻¹ Qᵀ`: a projection of W,
/// and no inverse of a root. The common form, `U_r U_rᵀ S_L W` under S_L⁺, is the same matrix where S_L has an inverse; but
/// where inputs differ much in size its pseudo-inverse blows up what calibration did not see (SmolLM2-135M, rank 8 on what
/// 2 bits left: error of weights 6.6 in place of 0.08). Takes `O(m n min(m, n))`.
///
/// # Errors
/// InvalidArgument where sizes do not fit, the rank is 0, or a value is not finite.
pub fn factorize(
    values: &[f32],
    rows: usize,
    columns: usize,
    rank: usize,
    metric: &Metric<'_>,
) -> Result<Factors> {
    let spectrum = Spectrum::new(values, rows, columns, metric)?;
    spectrum.factors(values, rank, metric)
}

/// A matrix under a metric, taken apart once for every rank.
pub struct Spectrum {
    rows: usize,
    columns: usize,
    /// Whether the matrix was turned first, to be taken apart by its columns.
    turned: bool,
    /// Eigenvalues of the smaller product: squares of singular values, largest first.
    squares: Vec<f64>,
    /// n x all and p x all: `Ŵ = outer_r inner_rᵀ`, or, where turned, its transpose.
    outer: Mat<f64>,
    inner: Mat<f64>,
}

impl Spectrum {
    /// Takes `values`, `rows` x `columns` row-major, apart.
    ///
    /// # Errors
    /// InvalidArgument where sizes do not fit or a value is not finite.
    pub fn new(values: &[f32], rows: usize, columns: usize, metric: &Metric<'_>) -> Result<Self> {
        if rows.checked_mul(columns) != Some(values.len()) {
            let found = values.len();
            return Err(Error::invalid(format!("{found} values for {rows} x {columns}")));
        }
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid(format!("value {at} is {}: not finite", values[at])));
        }
        metric.rows.check(rows, "rows")?;
        metric.columns.check(columns, "columns")?;
        if let Some(mean) = metric.mean
            && (mean.len() != columns || mean.iter().any(|x| !x.is_finite()))
        {
            let found = mean.len();
            return Err(Error::invalid(format!("a mean of {found} values for {columns} columns")));
        }
        let turned = columns < rows;
        let whole = matrix(values, rows, columns);
        let (of, near, far) = match turned {
            false => (whole.as_ref(), &metric.rows, &metric.columns),
            true => (whole.transpose(), &metric.columns, &metric.rows),
        };
        let rooted = near.root(of)?;
        let weighed = far.right(rooted.as_ref());
        let (squares, vectors) = eigen(product(weighed.as_ref(), rooted.transpose()).as_ref())?;
        let inner = product(rooted.transpose(), vectors.as_ref());
        let mut outer = product(far.right(of).as_ref(), inner.as_ref());
        for (k, square) in squares.iter().enumerate() {
            let shrink = if *square > 0.0 { 1.0 / square } else { 0.0 };
            outer.col_mut(k).iter_mut().for_each(|x| *x *= shrink);
        }
        Ok(Self { rows, columns, turned, squares, outer, inner })
    }

    /// `||S_L W S_R||^2`.
    #[must_use]
    pub fn energy(&self) -> f64 {
        self.squares.iter().filter(|s| **s > 0.0).sum()
    }

    /// What a product of `rank` leaves of [`energy`](Self::energy).
    #[must_use]
    pub fn left_by(&self, rank: usize) -> f64 {
        self.squares.iter().skip(rank).filter(|s| **s > 0.0).sum()
    }

    /// Rank under the metric: singular values that are more than rounding.
    #[must_use]
    pub fn rank(&self) -> usize {
        let least = self.squares.len() as f64 * f64::EPSILON * self.squares.first().copied().unwrap_or(0.0);
        self.squares.iter().take_while(|s| **s > least && **s > 0.0).count()
    }

    /// The factors of `rank`, with a bias where the metric has a mean. `values` are those of [`new`](Self::new).
    ///
    /// # Errors
    /// InvalidArgument for rank 0.
    #[allow(clippy::cast_possible_truncation, reason = "factors are kept in single precision")]
    pub fn factors(&self, values: &[f32], rank: usize, metric: &Metric<'_>) -> Result<Factors> {
        if rank == 0 {
            return Err(Error::invalid("rank 0 is no product"));
        }
        let rank = rank.min(self.rank());
        let sizes: Vec<f64> = self.squares[..rank].iter().map(|s| s.sqrt()).collect();
        // `outer` has the norm 1 under the metric, `inner` that of the size.
        let (grow, shrink): (Vec<f64>, Vec<f64>) = sizes.iter().map(|s| (s.sqrt(), 1.0 / s.sqrt())).unzip();
        let outer = |i: usize, k: usize| (self.outer[(i, k)] * grow[k]) as f32;
        let inner = |i: usize, k: usize| (self.inner[(i, k)] * shrink[k]) as f32;
        let by_row = |rows: usize, at: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..rows * rank).map(|p| at(p / rank, p % rank)).collect()
        };
        let by_component = |columns: usize, at: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..rank * columns).map(|p| at(p % columns, p / columns)).collect()
        };
        let (left, right) = if self.turned {
            (by_row(self.rows, &inner), by_component(self.columns, &outer))
        } else {
            (by_row(self.rows, &outer), by_component(self.columns, &inner))
        };
        let bias = metric.mean.map(|mean| {
            let mean = Mat::from_fn(self.columns, 1, |j, _| f64::from(mean[j]));
            let all = product(matrix(values, self.rows, self.columns).as_ref(), mean.as_ref());
            let part = self.apply(&left, &right, rank, mean.as_ref());
            (0..self.rows).map(|i| (all[(i, 0)] - part[(i, 0)]) as f32).collect()
        });
        let shape = [self.rows, self.columns];
        Ok(Factors {
            rank,
            sizes,
            left,
            right,
            bias,
            shape,
            error: self.left_by(rank),
            energy: self.energy(),
        })
    }

    fn apply(&self, left: &[f32], right: &[f32], rank: usize, x: MatRef<'_, f64>) -> Mat<f64> {
        let inner = product(matrix(right, rank, self.columns).as_ref(), x);
        product(matrix(left, self.rows, rank).as_ref(), inner.as_ref())
    }
}

impl Factors {
    /// The product, rows x columns, row-major.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "values of a tensor are single precision")]
    pub fn product(&self) -> Vec<f32> {
        let [rows, columns] = self.shape;
        let left = matrix(&self.left, rows, self.rank);
        let made = product(left.as_ref(), matrix(&self.right, self.rank, columns).as_ref());
        (0..rows * columns).map(|p| made[(p / columns, p % columns)] as f32).collect()
    }
}
