//! A linear layer that holds no dense weight.

use crate::matrix::{PackedMatrix, tensor};
use crate::weights::PackedWeights;
use benben_format::{Error, Result};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// `y = W x + b` with a weight that stays packed: it is asked for when the layer is called.
///
/// `W` is `[out, in]` as in the pack; burn's [`Linear`](burn::nn::Linear) keeps the transpose of that. The bias, where
/// the pack has one, is an ordinary parameter of the module.
#[derive(Module, Debug)]
pub struct PackedLinear {
    #[module(skip)]
    weight: PackedMatrix,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl PackedLinear {
    /// The layer whose weight is `{path}.weight`, and whose bias, if there is one, `{path}.bias`.
    ///
    /// # Errors
    /// InvalidArgument where there is no such weight, or where the bias does not fit it; otherwise as decoding the bias.
    pub fn new(weights: &PackedWeights, path: &str, device: &Device) -> Result<Self> {
        let weight = PackedMatrix::new(weights, &format!("{path}.weight"))?;
        let name = format!("{path}.bias");
        let bias = if weights.weights().contains(&name) {
            let values = weights.weights().vector(&name)?;
            let [out, _] = weight.shape();
            if values.len() != out {
                let error = format!("a bias of {} elements for {out} outputs", values.len());
                return Err(Error::invalid(error).in_tensor(&name));
            }
            Some(Param::from_tensor(tensor(values, [out], device)))
        } else {
            None
        };
        Ok(Self { weight, bias })
    }

    /// The layer of the matrix called `name`, without a bias: an embedding that is the output layer too.
    ///
    /// # Errors
    /// InvalidArgument where there is no such matrix.
    pub fn from_matrix(weights: &PackedWeights, name: &str) -> Result<Self> {
        Ok(Self { weight: PackedMatrix::new(weights, name)?, bias: None })
    }

    /// Name of the weight in the pack.
    #[must_use]
    pub fn name(&self) -> &str {
        self.weight.name()
    }

    /// Outputs and inputs.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    /// `[.., in]` to `[.., out]`, in f32 inside whatever the dtype of `x`.
    ///
    /// # Errors
    /// InvalidArgument where the last dimension is not `in`; Unsupported on a device with autodiff; otherwise as decoding
    /// the weight. All with its name.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>> {
        Ok(Self::forward_all(&[self], x)?.remove(0))
    }

    /// Several layers on the same input (query, key and value; gate and up), asked for together: one hand-over to the
    /// threads instead of three.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_all<const D: usize>(layers: &[&Self], x: Tensor<D>) -> Result<Vec<Tensor<D>>> {
        let matrices: Vec<&PackedMatrix> = layers.iter().map(|l| &l.weight).collect();
        let products = PackedMatrix::products(&matrices, x)?;
        let with_bias = products.into_iter().zip(layers).map(|(y, layer)| match &layer.bias {
            Some(bias) => {
                let dtype = y.dtype();
                y + bias.val().cast(dtype).unsqueeze()
            }
            None => y,
        });
        Ok(with_bias.collect())
    }
}
