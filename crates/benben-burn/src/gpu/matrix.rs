//! A tensor of a pack on a GPU, still packed.

use super::codes::{Palette, upload_sums};
use super::kernels::{Coded, Summed};
use super::sums::Sums;
use benben_decode::Pack;
use benben_format::{Expr, Result, StoredLeaf, in_memory, matrix};
use benben_models::llm::graph::Rotation;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Elements that are decoded at a time for an upload.
const BLOCK: u64 = 1 << 20;
/// Vectors up to which the matrix is expanded inside the product instead of before it.
const FEW: usize = 8;

/// `rotate?(scale?(rows?, columns?, transpose?(leaf)))`: codes of a matrix, factors of its rows and columns, and the
/// basis in which they are.
#[derive(Debug)]
pub(crate) struct DeviceMatrix {
    body: Body,
    basis: Option<Rotation>,
    /// `[rows, 1]`
    rows: Option<Tensor<2>>,
    /// `[1, columns]`
    columns: Option<Tensor<2>>,
}

/// Whether what is stored is the transpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turned {
    No,
    Yes,
}

#[derive(Debug)]
enum Body {
    /// A code and a value for each element.
    Coded(Coded),
    /// A codeword of each stage for several elements, of the matrix or of its transpose.
    Summed(Summed, Turned),
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
        let mut basis = None;
        if let Expr::Rotate { seed, block, of } = expr {
            basis = Some(Rotation::new(shape[1], *seed, *block as usize, device));
            expr = of;
        }
        let (mut by_rows, mut by_columns) = (None, None);
        if let Expr::Scale { rows, columns, of } = expr {
            (by_rows, by_columns) = (rows.as_deref(), columns.as_deref());
            expr = of;
        }
        let (leaf, turned) = match expr {
            Expr::Leaf(leaf) => (leaf, Turned::No),
            Expr::Transpose(of) => match &**of {
                Expr::Leaf(leaf) => (leaf, Turned::Yes),
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
        let Some(body) = body(pack, leaf, shape, turned, device)? else { return Ok(None) };
        let rows = factors(by_rows, [shape[0], 1])?;
        Ok(Some(Self { body, basis, rows, columns: factors(by_columns, [1, shape[1]])? }))
    }

    /// `[vectors, columns]` to `[vectors, rows]`.
    pub(crate) fn multiply(&self, x: Tensor<2>) -> Result<Tensor<2>> {
        let x = match &self.basis {
            Some(basis) => basis.forth(x),
            None => x,
        };
        let coded = match &self.body {
            Body::Coded(coded) if x.dims()[0] <= FEW => coded,
            _ => return Ok(x.matmul(self.expand()?.transpose())),
        };
        let x = match &self.columns {
            Some(factors) => x * factors.clone(),
            None => x,
        };
        let y = coded.multiply(x)?;
        Ok(match &self.rows {
            Some(factors) => y * factors.clone().transpose(),
            None => y,
        })
    }

    /// All values in the basis that they are stored in, in the bits of the pack's own: each is a look-up or a sum, and at
    /// most two products.
    fn expand(&self) -> Result<Tensor<2>> {
        let mut values = match &self.body {
            Body::Coded(coded) => coded.expand()?,
            Body::Summed(summed, Turned::No) => summed.expand()?,
            Body::Summed(summed, Turned::Yes) => summed.expand()?.transpose(),
        };
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

/// The leaf's codes; none where it has too many values or codewords.
fn body(
    pack: &Pack,
    leaf: &StoredLeaf,
    shape: [usize; 2],
    turned: Turned,
    device: &Device,
) -> Result<Option<Body>> {
    let elements = leaf.spec.elements()?;
    let source = pack.reader().leaf(leaf);
    if leaf.spec.codec == benben_codec::rvq::CODEC {
        let codes = Sums::read(&source)?;
        let stored = if turned == Turned::Yes { [shape[1], shape[0]] } else { shape };
        return Ok(codes.map(|codes| Body::Summed(upload_sums(&codes, stored, device), turned)));
    }
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
    if elements == 0 {
        return Ok(None);
    }
    let palette = if turned == Turned::Yes { palette.transposed(shape) } else { palette };
    Ok(Some(Body::Coded(palette.upload(shape, device)?)))
}

#[cfg(test)]
mod tests {
    use super::super::Adapter;
    use super::*;
    use benben_codec::{Target, raw, rvq, trellis};
    use benben_decode::hadamard_rows;
    use benben_format::{Dtype, EncodedLeaf, Limits, Origin, Writer};
    use std::sync::Arc;

    const ROWS: usize = 40;
    const COLUMNS: usize = 96;

    fn numbers(count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|i| scale * ((i as f32 * 1.7).sin() + (i as f32 * 0.31).cos())).collect()
    }

    fn pack_of(expr: Expr<EncodedLeaf>) -> Pack {
        let mut writer = Writer::new(Vec::new(), "test", 0).unwrap();
        let shape = [ROWS as u64, COLUMNS as u64];
        writer.tensor("t", Dtype::F32, &shape, Origin::default(), expr).unwrap();
        Pack::from_source(Arc::new(writer.finish().unwrap().0), Limits::default()).unwrap()
    }

    /// What error feedback stores: `codec` along the outputs, factors, a rotated basis of `block` columns.
    fn expression(codec: &str, block: Option<u32>) -> Expr<EncodedLeaf> {
        let mut values = numbers(ROWS * COLUMNS, 1.0);
        if let Some(block) = block {
            hadamard_rows(&mut values, COLUMNS, 5, block as usize);
        }
        let turned: Vec<f32> = (0..ROWS * COLUMNS).map(|i| values[i % ROWS * COLUMNS + i / ROWS]).collect();
        let shape = [COLUMNS as u64, ROWS as u64];
        let target = Target::BitsPerWeight(4.0);
        let leaf = match codec {
            "rvq" => rvq::encode(&turned, &shape, &rvq::Settings::new(target)).unwrap().0,
            _ => trellis::encode(&turned, &shape, &trellis::Settings::new(target)).unwrap().0,
        };
        let factors = |count: usize| {
            let values: Vec<u8> = numbers(count, 0.5).iter().flat_map(|v| v.to_le_bytes()).collect();
            Some(Box::new(Expr::Leaf(raw::encode(&values, Dtype::F32, &[count as u64]).unwrap())))
        };
        let of = Box::new(Expr::Transpose(Box::new(Expr::Leaf(leaf))));
        let of = Expr::Scale { rows: factors(ROWS), columns: factors(COLUMNS), of };
        match block {
            Some(block) => Expr::Rotate { seed: 5, block, of: Box::new(of) },
            None => of,
        }
    }

    #[test]
    fn transposed_codes_in_rotated_bases_multiply_as_their_values() {
        let adapter = match Adapter::find() {
            Ok(adapter) => adapter,
            Err(e) => {
                println!("skipped: no wgpu adapter (install mesa-vulkan-drivers libvulkan1): {e}");
                return;
            }
        };
        for (codec, block) in [("trellis", None), ("trellis", Some(32)), ("rvq", None), ("rvq", Some(8))] {
            let pack = pack_of(expression(codec, block));
            let values = pack.tensor("t").unwrap().to_f32().unwrap();
            let matrix = DeviceMatrix::upload(&pack, "t", adapter.device()).unwrap().expect("codes");
            for vectors in [1, 5, 20] {
                let x = numbers(vectors * COLUMNS, 0.7);
                let tensor = TensorData::new(x.clone(), [vectors, COLUMNS]);
                let y = matrix.multiply(Tensor::from_data(tensor, adapter.device())).unwrap().into_data();
                let pairs = x.chunks(COLUMNS).flat_map(|x| values.chunks(COLUMNS).map(move |row| (row, x)));
                for (found, (row, x)) in y.as_slice::<f32>().unwrap().iter().zip(pairs) {
                    let sum: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    let norm = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                    let size = norm(row) * norm(x);
                    assert!(
                        (f64::from(*found) - sum).abs() <= 4e-6 * size,
                        "{codec} {block:?}: {found} for {sum}"
                    );
                }
            }
        }
    }
}
