//! One packed matrix, and its products with burn's tensors.

#[cfg(feature = "wgpu")]
use crate::gpu::DeviceMatrix;
use crate::weights::PackedWeights;
use benben_format::{Error, Result};
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::fmt;
#[cfg(feature = "wgpu")]
use std::sync::{Arc, Mutex, PoisonError};

/// A matrix of a pack by its name, `[rows, columns]`; no value of it is held.
#[derive(Clone)]
pub(crate) struct PackedMatrix {
    source: PackedWeights,
    name: String,
    shape: [usize; 2],
    #[cfg(feature = "wgpu")]
    uploaded: Uploaded,
}

/// What the last GPU that asked was given: the matrix as codes, or nothing where it has no such form.
#[cfg(feature = "wgpu")]
type Uploaded = Arc<Mutex<Option<(Device, Option<Arc<DeviceMatrix>>)>>>;

impl PackedMatrix {
    pub(crate) fn new(source: &PackedWeights, name: &str) -> Result<Self> {
        let shape = source.weights().shape(name)?;
        Ok(Self {
            source: source.clone(),
            name: name.to_owned(),
            shape,
            #[cfg(feature = "wgpu")]
            uploaded: Uploaded::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Products of several matrices with the vectors `x` of `[.., columns]`: a tensor `[.., rows]` for each. Matrices of
    /// one source are asked for together.
    pub(crate) fn products<const D: usize>(matrices: &[&Self], x: Tensor<D>) -> Result<Vec<Tensor<D>>> {
        let Some(first) = matrices.first() else { return Ok(Vec::new()) };
        refuse_gradients(&x.device(), &first.name)?;
        let columns = x.dims().last().copied().unwrap_or(1);
        for matrix in matrices {
            if matrix.shape[1] != columns {
                return Err(Error::invalid(format!(
                    "an input of {columns} elements for a matrix of {} x {}",
                    matrix.shape[0], matrix.shape[1]
                ))
                .in_tensor(&matrix.name));
            }
        }
        #[cfg(feature = "wgpu")]
        if x.device().identity().is_some() {
            return matrices.iter().map(|m| m.product_on_gpu(x.clone())).collect();
        }
        if matrices.iter().all(|m| m.source.same(&first.source)) {
            Self::products_on_cpu(matrices, x)
        } else {
            matrices.iter().map(|m| Ok(Self::products_on_cpu(&[m], x.clone())?.remove(0))).collect()
        }
    }

    /// Products by the weights themselves; the vectors leave burn as a slice and the products come back as tensors.
    fn products_on_cpu<const D: usize>(matrices: &[&Self], x: Tensor<D>) -> Result<Vec<Tensor<D>>> {
        let Some(first) = matrices.first() else { return Ok(Vec::new()) };
        let (device, dtype, dims) = (x.device(), x.dtype(), x.dims());
        let vectors = dims[..D.saturating_sub(1)].iter().product();
        let x = values(x).map_err(|e| e.in_tensor(&first.name))?;
        let x =
            x.as_slice::<f32>().map_err(|e| Error::unsupported(format!("{e:?}")).in_tensor(&first.name))?;
        let mut outputs: Vec<Vec<f32>> = matrices.iter().map(|m| vec![0.0; vectors * m.shape[0]]).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let names: Vec<&str> = matrices.iter().map(|m| m.name.as_str()).collect();
        first.source.weights().products(&names, x, vectors, &mut slices)?;
        let tensors = outputs.into_iter().zip(matrices).map(|(output, matrix)| {
            let mut dims = dims;
            if let Some(last) = dims.last_mut() {
                *last = matrix.shape[0];
            }
            tensor(output, dims, &device).cast(dtype)
        });
        Ok(tensors.collect())
    }

    /// The product on the GPU of `x`: with the codes that lie there, uploaded at the first call, or else with the dense
    /// matrix, which is uploaded for this call.
    #[cfg(feature = "wgpu")]
    fn product_on_gpu<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>> {
        let (device, dtype, mut dims) = (x.device(), x.dtype(), x.dims());
        let vectors = dims[..D.saturating_sub(1)].iter().product();
        let x = x.cast(DType::F32).reshape([vectors, self.shape[1]]);
        let y = match self.on(&device)? {
            Some(matrix) => matrix.multiply(x)?,
            None => {
                let values = self.source.weights().vector(&self.name).map_err(|e| e.in_tensor(&self.name))?;
                x.matmul(tensor(values, self.shape, &device).transpose())
            }
        };
        if let Some(last) = dims.last_mut() {
            *last = self.shape[0];
        }
        Ok(y.reshape(dims).cast(dtype))
    }

    /// The matrix as codes on `device`.
    #[cfg(feature = "wgpu")]
    fn on(&self, device: &Device) -> Result<Option<Arc<DeviceMatrix>>> {
        let mut uploaded = self.uploaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((there, matrix)) = &*uploaded
            && there == device
        {
            return Ok(matrix.clone());
        }
        let matrix = match self.source.pack() {
            Some(pack) => DeviceMatrix::upload(pack, &self.name, device)?.map(Arc::new),
            None => None,
        };
        *uploaded = Some((device.clone(), matrix.clone()));
        Ok(matrix)
    }

    /// Rows `ids` as one tensor `[ids, columns]` on `device`; no others are decoded.
    pub(crate) fn rows(&self, ids: &[u32], device: &Device) -> Result<Tensor<2>> {
        refuse_gradients(device, &self.name)?;
        let mut out = vec![0.0; ids.len() * self.shape[1]];
        self.source.weights().rows(&self.name, ids, &mut out).map_err(|e| e.in_tensor(&self.name))?;
        Ok(tensor(out, [ids.len(), self.shape[1]], device))
    }
}

impl fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}, {}]", self.name, self.shape[0], self.shape[1])
    }
}

/// Values of `x` as f32, read back.
fn values<const D: usize>(x: Tensor<D>) -> Result<TensorData> {
    let x = if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) };
    x.try_into_data().map_err(|e| Error::unsupported(format!("an input cannot be read back: {e}")))
}

pub(crate) fn tensor<const D: usize>(values: Vec<f32>, dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, dims), (device, DType::F32))
}

/// Weights outside burn's graph have no gradients, and a product with them none with respect to its input.
fn refuse_gradients(device: &Device, name: &str) -> Result<()> {
    if device.is_autodiff() {
        return Err(Error::unsupported("packed weights are not differentiable")
            .in_tensor(name)
            .with_hint("call the layer on a device without autodiff (`Device::inner`)"));
    }
    Ok(())
}
