//! Data for coders that are not linked in, with our figures on the same bytes: `tools/bench_peers.py` gives it to zipnn
//! and NNCodec.

use crate::integers::{self, Given, Integers};
use crate::lossless::{Bytes, Coder, Ours};
use crate::measure::Task;
use crate::{Matrix, Measure, Sample};
use benben::{Dtype, Error, Result};
use serde::Serialize;

/// Bits at which integers are compared.
pub const BITS: [f64; 6] = [1.5, 2.0, 3.0, 4.0, 5.0, 6.0];

/// Everything that is written.
#[derive(Debug, Clone, Serialize)]
pub struct Export {
    /// Weights as floats, by type.
    pub floats: Vec<Floats>,
    /// Weights as integers, by bits.
    pub integers: Vec<Quantized>,
}

/// All matrices in one type, by codec `raw`.
#[derive(Debug, Clone, Serialize)]
pub struct Floats {
    /// The type.
    pub dtype: Dtype,
    /// Name of the file that the bytes are for.
    pub file: String,
    /// Bytes of the source.
    pub source_bytes: usize,
    /// Bytes stored.
    pub bytes: u64,
    /// Bytes of the source decoded in a second, into new memory.
    pub decode_per_second: f64,
    /// The same, into memory that was used before.
    pub decode_again_per_second: f64,
    /// One matrix after the other, as in a model file.
    #[serde(skip)]
    pub data: Vec<u8>,
}

/// All matrices as integers, by class tables.
#[derive(Debug, Clone, Serialize)]
pub struct Quantized {
    /// Bits that the step was chosen for.
    pub bits: f64,
    /// Name of the file that the integers are for.
    pub file: String,
    /// Our figures; the shapes are those of its tensors, in the order of the file.
    pub ours: Integers,
    /// One matrix after the other, i8.
    #[serde(skip)]
    pub data: Vec<u8>,
}

/// Codes `data`, and keeps what was coded.
///
/// # Errors
/// As [`Sample::quantize`]; Corruption where decoding gives something else.
pub fn measure(data: &[Matrix], measure: &mut Measure<'_>) -> Result<Export> {
    let floats = [Dtype::F32, Dtype::BF16].map(|dtype| floats(data, dtype, measure));
    let integers = BITS.map(|bits| quantized(data, bits, measure));
    Ok(Export {
        floats: floats.into_iter().collect::<Result<_>>()?,
        integers: integers.into_iter().collect::<Result<_>>()?,
    })
}

fn floats(data: &[Matrix], dtype: Dtype, measure: &mut Measure<'_>) -> Result<Floats> {
    let tensors: Vec<Bytes> = data.iter().map(|m| Bytes::new(m, dtype)).collect::<Result<_>>()?;
    let mut ours = Ours::default();
    measure.tell(&format!("encode {dtype}"), 0, 0)?;
    ours.encode(&tensors)?;
    let mut out: Vec<Vec<u8>> = Vec::new();
    // Into new memory each time, as zipnn does: at 64 MB its pages cost as much as decoding.
    let turn = Box::new(|| {
        out.clear();
        out.extend(tensors.iter().map(|t| vec![0; t.of.len()]));
        ours.decode(&mut out)
    });
    let seconds = measure.race(&mut [Task { name: format!("decode {dtype}"), turn }])?;
    // And into the same memory again, as a caller does who keeps it.
    let turn = Box::new(|| ours.decode(&mut out));
    let again = measure.race(&mut [Task { name: format!("decode {dtype} again"), turn }])?;
    if !tensors.iter().map(|t| &t.of).eq(&out) {
        return Err(Error::corruption(format!("{dtype} decodes to something else")));
    }
    let source_bytes = out.iter().map(Vec::len).sum();
    Ok(Floats {
        dtype,
        file: format!("{dtype}.bin"),
        source_bytes,
        bytes: ours.stored_bytes(),
        decode_per_second: source_bytes as f64 / seconds.iter().sum::<f64>(),
        decode_again_per_second: source_bytes as f64 / again.iter().sum::<f64>(),
        data: out.concat(),
    })
}

fn quantized(data: &[Matrix], bits: f64, measure: &mut Measure<'_>) -> Result<Quantized> {
    let sample = Sample::quantize(data, bits)?;
    let given: Vec<Given> = data
        .iter()
        .zip(&sample.parts)
        .map(|(matrix, part)| Given {
            name: matrix.name.clone(),
            shape: matrix.shape().into(),
            rows: part.rows,
            columns: part.columns,
            of: part.integers(),
        })
        .collect();
    let ours = integers::measure_given(&given, measure)?;
    let data = given.iter().flat_map(|g| &g.of).map(|&q| q as u8).collect();
    Ok(Quantized { bits, file: format!("integers-{bits}.bin"), ours, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_what_was_coded() {
        let data = [Matrix::gaussian(5000, 1), Matrix::gaussian(3000, 2)];
        let export = super::measure(&data, &mut Measure::quick(1).unwrap()).unwrap();
        let weights: usize = data.iter().map(|m| m.values.len()).sum();
        let sizes: Vec<usize> = export.floats.iter().map(|f| f.data.len()).collect();
        assert_eq!(sizes, [4 * weights, 2 * weights]);
        for quantized in &export.integers {
            assert_eq!(quantized.data.len(), weights);
            let shapes = quantized.ours.tensors.iter().map(|t| t.shape.iter().product::<u64>());
            assert_eq!(shapes.sum::<u64>(), weights as u64);
            assert!((quantized.ours.bits_per_weight - quantized.bits).abs() < 0.5, "{}", quantized.bits);
        }
    }
}
