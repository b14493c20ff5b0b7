//! How much each weight's error counts.

use benben_format::{Error, Result};

/// Weights of the squared error that an encoder minimizes: sum over elements `i` of `w_i (x_i - v_i)^2`.
///
/// It steers the encoder alone: nothing of it is stored, a decoder does not know it, and a
/// [`Fit`](crate::Fit) or a [`Target`](crate::Target) speaks of the plain error. Only ratios count. Calibration
/// gives one number for each input of a layer (its mean square, for the output's error) or for each weight (its
/// Fisher information).
///
/// ```
/// use benben_codec::Importance;
/// let columns = [1.0, 4.0];
/// let importance = Importance::Columns(&columns);
/// importance.check(6, 2)?;
/// assert_eq!(importance.of(3, 2), 4.0); // row 1, column 1
/// # Ok::<(), benben_format::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Importance<'a> {
    /// Every error counts the same.
    #[default]
    Uniform,
    /// One weight for each column of the tensor seen as a matrix: element `i` has that of column `i mod columns`.
    Columns(&'a [f32]),
    /// One weight for each element, row-major.
    Elements(&'a [f32]),
}

impl Importance<'_> {
    /// Weight of element `index` of a tensor of so many `columns`; 1 where there is none, which [`Self::check`]
    /// rules out.
    #[inline]
    pub fn of(&self, index: usize, columns: usize) -> f32 {
        match self {
            Self::Uniform => 1.0,
            Self::Columns(w) => w.get(index % columns.max(1)).copied().unwrap_or(1.0),
            Self::Elements(w) => w.get(index).copied().unwrap_or(1.0),
        }
    }

    /// Refuses weights that do not fit a tensor of `elements` in rows of `columns`, and negative or infinite ones.
    ///
    /// # Errors
    /// InvalidArgument, naming the first weight that is not finite and at least 0.
    pub fn check(&self, elements: usize, columns: usize) -> Result<()> {
        let (weights, expected) = match self {
            Self::Uniform => return Ok(()),
            Self::Columns(w) => (w, columns),
            Self::Elements(w) => (w, elements),
        };
        if weights.len() != expected {
            return Err(Error::invalid(format!("{} importance weights, expected {expected}", weights.len())));
        }
        match weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            Some(i) => Err(Error::invalid(format!(
                "importance weight {i} is {}, expected a finite number of at least 0",
                weights[i]
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_by_element_and_checked() {
        let w = [0.0, 1.0, 2.0];
        assert_eq!((Importance::Uniform.of(7, 3), Importance::Columns(&w).of(7, 3)), (1.0, 1.0));
        assert_eq!(Importance::Elements(&w).of(2, 1), 2.0);
        Importance::Columns(&w).check(9, 3).unwrap();
        Importance::Elements(&w).check(3, 1).unwrap();
        assert!(Importance::Columns(&w).check(8, 4).is_err());
        assert!(Importance::Elements(&w).check(4, 1).is_err());
        for bad in [-1.0, f32::NAN, f32::INFINITY] {
            let e = Importance::Elements(&[1.0, bad]).check(2, 2).unwrap_err();
            assert!(e.message().contains("weight 1"), "{e}");
        }
    }
}
