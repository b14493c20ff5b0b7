//! A tensor of a pack on a GPU, still packed.

use super::codes::Palette;
use super::kernels::Coded;
use benben_decode::Pack;
use benben_format::{Expr, Result, StoredLeaf, in_memory, matrix};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Elements that are decoded at a time for an upload.
const BLOCK: u64 = 1 << 20;
/// Vectors up to which the matrix is expanded inside the product instead of before it.
const FEW: usize = 8;

/// Codes of a matrix, and factors of its rows and columns.
#[derive(Debug)]
pub(crate) struct DeviceMatrix {
    coded: Coded,
    /// `[rows, 1]`
    rows: Option<Tensor<2>>,
    /// `[1, columns]`
    columns: Option<Tensor<2>>,
}

impl DeviceMatrix {
    /// Decodes tensor `name` to codes and uploads them; none where it has no such form.
    ///
    /// # Errors
    /// As decoding it, with its name.
    pub(crate) fn upload(pack: &Pack, name: &str, device: &Device) -> Result<Option<Self>> {
        Self::load(pack, name, device).map_err(|e| e.in_tensor(name))
    }

    fn load(pack: &Pack, name: &str, device: &Device) -> Result<Option<Self>> {
        let tensor = pack.tensor(name)?;
        pack.reader().signature(tensor.entry())?;
        let mut expr = &tensor.entry().expr;
        if let Expr::Ref { tensor, .. } = expr {
            let target = pack.tensor(tensor)?;
            pack.reader().signature(target.entry())?;
            expr = &target.entry().expr;
        }
        let (rows, columns) = matrix(tensor.shape())?;
        let shape = [in_memory(rows)?, in_memory(columns)?];
        let (leaf, by_rows, by_columns) = match expr {
            Expr::Leaf(leaf) => (leaf, None, None),
            Expr::Scale { rows, columns, of } => match &**of {
                Expr::Leaf(leaf) => (leaf, rows.as_deref(), columns.as_deref()),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let (Ok(by_rows), Ok(by_columns)) = (vector_leaf(by_rows), vector_leaf(by_columns)) else {
            return Ok(None);
        };
        let factors = |leaf: Option<&StoredLeaf>, shape: [usize; 2]| -> Result<Option<Tensor<2>>> {
            let Some(leaf) = leaf else { return Ok(None) };
            let mut values = vec![0.0; in_memory(leaf.spec.elements()?)?];
            benben_codec::decode(&pack.reader().leaf(leaf), 0..values.len() as u64, &mut values)?;
            Ok(Some(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))))
        };
        let Some(coded) = coded(pack, leaf, shape, device)? else { return Ok(None) };
        let rows = factors(by_rows, [shape[0], 1])?;
        Ok(Some(Self { coded, rows, columns: factors(by_columns, [1, shape[1]])? }))
    }

    /// `[vectors, columns]` to `[vectors, rows]`.
    pub(crate) fn multiply(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        if x.dims()[0] > FEW {
            return Ok(x.matmul(self.expand()?.transpose()));
        }
        let x = match &self.columns {
            Some(factors) => x * factors.clone(),
            None => x,
        };
        let y = self.coded.multiply(x)?;
        Ok(match &self.rows {
            Some(factors) => y * factors.clone().transpose(),
            None => y,
        })
    }

    /// All values, in the bits of the pack's own: each is a look-up and at most two products.
    pub(crate) fn expand(&self) -> Result<Tensor<2>> {
        let mut values = self.coded.expand()?;
        for factors in [&self.rows, &self.columns].into_iter().flatten() {
            values = values * factors.clone();
        }
        Ok(values)
    }
}

/// The leaf of a vector of factors, or none for no factors; an error for factors that are computed.
fn vector_leaf(node: Option<&Expr<StoredLeaf>>) -> Result<Option<&StoredLeaf>, ()> {
    match node {
        None => Ok(None),
        Some(Expr::Leaf(leaf)) => Ok(Some(leaf)),
        Some(_) => Err(()),
    }
}

/// The leaf's codes; none where it has too many values.
fn coded(pack: &Pack, leaf: &StoredLeaf, shape: [usize; 2], device: &Device) -> Result<Option<Coded>> {
    let elements = leaf.spec.elements()?;
    let source = pack.reader().leaf(leaf);
    let mut palette = Palette::new();
    let mut block = Vec::new();
    let mut at = 0;
    while at < elements {
        let end = (at + BLOCK).min(elements);
        block.resize(in_memory(end - at)?, 0.0);
        benben_codec::decode(&source, at..end, &mut block)?;
        if !palette.push(&block) {
            return Ok(None);
        }
        at = end;
    }
    if elements == 0 { Ok(None) } else { palette.upload(shape, device).map(Some) }
}
