//! An embedding that holds no table.

use crate::matrix::PackedMatrix;
use crate::weights::PackedWeights;
use benben_format::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

/// Rows of a table that stays packed: a call decodes the rows that it needs.
#[derive(Module, Debug)]
pub struct PackedEmbedding {
    #[module(skip)]
    table: PackedMatrix,
}

impl PackedEmbedding {
    /// The embedding whose table is `{path}.weight`.
    ///
    /// # Errors
    /// InvalidArgument where there is no such table.
    pub fn new(weights: &PackedWeights, path: &str) -> Result<Self> {
        Self::from_table(weights, &format!("{path}.weight"))
    }

    /// The embedding of the table called `name`.
    ///
    /// # Errors
    /// InvalidArgument where there is no such table.
    pub fn from_table(weights: &PackedWeights, name: &str) -> Result<Self> {
        Ok(Self { table: PackedMatrix::new(weights, name)? })
    }

    /// Name of the table in the pack.
    #[must_use]
    pub fn name(&self) -> &str {
        self.table.name()
    }

    /// Number of rows, and elements of each.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.table.shape()
    }

    /// Rows of `[batch, length]` indices: `[batch, length, elements]`, f32.
    ///
    /// # Errors
    /// InvalidArgument for an index that is no row; otherwise as decoding the table. All with its name.
    pub fn forward(&self, indices: Tensor<2, Int>) -> Result<Tensor<3>> {
        let ([batch, length], device) = (indices.dims(), indices.device());
        let data =
            indices.try_into_data().map_err(|e| self.error(format!("indices cannot be read back: {e}")))?;
        let ids = data
            .iter::<i64>()
            .map(|id| u32::try_from(id).map_err(|_| self.error(format!("row {id} of {}", self.shape()[0]))));
        let ids = ids.collect::<Result<Vec<u32>>>()?;
        let rows = self.rows(&ids, &device)?;
        Ok(rows.reshape([batch, length, self.shape()[1]]))
    }

    /// Rows `ids` on `device`: `[ids, elements]`, f32.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn rows(&self, ids: &[u32], device: &Device) -> Result<Tensor<2>> {
        self.table.rows(ids, device)
    }

    fn error(&self, message: String) -> Error {
        Error::invalid(message).in_tensor(self.name())
    }
}
