//! Floats, bit for bit: codec `raw` beside zstd, plain and on byte planes, pco, and memcpy.

use crate::measure::Task;
use crate::peers::refused;
use crate::{Goal, Matrix, Measure};
use benben::codec::raw;
use benben::{Dtype, Error, Result};
use benben_format::EncodedLeaf;
use pco::ChunkConfig;
use rayon::prelude::*;
use serde::Serialize;
use std::hint::black_box;

/// Bytes that a peer codes at a time: as many as 2^18 floats.
const PIECE: usize = 1 << 20;
const ZSTD: i32 = 3;

/// One coder on one type of floats.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Type of the floats.
    pub dtype: Dtype,
    /// What it is.
    pub coder: String,
    /// Bytes stored for each byte of the source.
    pub ratio: f64,
    /// Bytes of the source encoded in a second.
    pub encode_per_second: Option<f64>,
    /// Bytes of the source decoded in a second.
    pub decode_per_second: f64,
    /// Speed of decoding relative to memcpy.
    pub to_memcpy: f64,
    /// What the project promises of it on weights of a model.
    pub goal: Option<Goal>,
}

/// Most that a type is promised to take, in percent.
fn promise(dtype: Dtype) -> Option<f64> {
    match dtype {
        Dtype::F32 => Some(82.0),
        Dtype::BF16 => Some(66.7),
        _ => None,
    }
}

/// Codes `data` in the matrices' own types, and f32 also as casts to bf16 and f16. Promises are of weights: they are
/// judged where a `model` gave them.
///
/// # Errors
/// Corruption where a coder does not decode what it was given.
pub fn measure(data: &[Matrix], model: bool, measure: &mut Measure<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        let own = |m: &&Matrix| m.dtype == dtype || m.dtype == Dtype::F32;
        let tensors: Vec<Bytes> =
            data.iter().filter(own).map(|m| Bytes::new(m, dtype)).collect::<Result<_>>()?;
        if !tensors.is_empty() {
            rows.extend(of_type(dtype, &tensors, model, measure)?);
        }
    }
    Ok(rows)
}

/// A tensor as it stands in a file.
pub(crate) struct Bytes {
    shape: [u64; 2],
    dtype: Dtype,
    pub(crate) of: Vec<u8>,
}

impl Bytes {
    pub(crate) fn new(matrix: &Matrix, dtype: Dtype) -> Result<Self> {
        Ok(Self { shape: matrix.shape(), dtype, of: dtype.from_f32(&matrix.values)? })
    }
}

/// A coder's turns on all tensors.
pub(crate) trait Coder: Send {
    fn name(&self) -> &'static str;
    fn encode(&mut self, tensors: &[Bytes]) -> Result<()>;
    fn decode(&mut self, out: &mut [Vec<u8>]) -> Result<()>;
    fn stored_bytes(&self) -> u64;
}

/// A coder, and what it decodes each tensor to.
type Entry = (Box<dyn Coder>, Vec<Vec<u8>>);

fn of_type(dtype: Dtype, tensors: &[Bytes], model: bool, measure: &mut Measure<'_>) -> Result<Vec<Row>> {
    let mut coders: Vec<Entry> = vec![
        (Box::new(Ours::default()), Vec::new()),
        (Box::new(InPieces::new("zstd -3", plain, plainly)), Vec::new()),
        (Box::new(InPieces::new("zstd -3, byte planes", planes, from_planes)), Vec::new()),
        (Box::new(InPieces::new("pco", numbers, from_numbers)), Vec::new()),
        (Box::new(Copy::default()), Vec::new()),
    ];
    for (_, out) in &mut coders {
        *out = tensors.iter().map(|t| vec![0; t.of.len()]).collect();
    }
    let encode = measure.race(&mut turns(dtype, "encode", &mut coders, |c, _| c.encode(tensors)))?;
    let decode = measure.race(&mut turns(dtype, "decode", &mut coders, |c, out| c.decode(out)))?;
    let source: usize = tensors.iter().map(|t| t.of.len()).sum();
    let memcpy = decode.last().copied().unwrap_or(f64::NAN);
    let mut rows = Vec::new();
    for (((coder, out), encode), decode) in coders.iter().zip(encode).zip(decode) {
        if !tensors.iter().map(|t| &t.of).eq(out) {
            return Err(Error::corruption(format!("{} decodes something else", coder.name())));
        }
        let copy = coder.name() == MEMCPY;
        let ratio = coder.stored_bytes() as f64 / source as f64;
        let limit = promise(dtype).filter(|_| model && coder.name() == OURS);
        rows.push(Row {
            dtype,
            coder: coder.name().into(),
            ratio,
            encode_per_second: (!copy).then_some(source as f64 / encode),
            decode_per_second: source as f64 / decode,
            to_memcpy: memcpy / decode,
            goal: limit.map(|percent| Goal::at_most(100.0 * ratio, percent, "%")),
        });
    }
    Ok(rows)
}

fn turns<'a>(
    dtype: Dtype,
    verb: &str,
    coders: &'a mut [Entry],
    turn: impl Fn(&mut dyn Coder, &mut [Vec<u8>]) -> Result<()> + Send + Clone + 'a,
) -> Vec<Task<'a>> {
    let task = |(coder, out): &'a mut Entry| {
        let turn = turn.clone();
        let name = format!("{verb} {dtype}: {}", coder.name());
        Task { name, turn: Box::new(move || turn(&mut **coder, out)) }
    };
    coders.iter_mut().map(task).collect()
}

const OURS: &str = "Benben";

/// Codec `raw`.
#[derive(Default)]
pub(crate) struct Ours(Vec<EncodedLeaf>);

impl Coder for Ours {
    fn name(&self) -> &'static str {
        OURS
    }

    fn encode(&mut self, tensors: &[Bytes]) -> Result<()> {
        self.0 = tensors.iter().map(|t| raw::encode(&t.of, t.dtype, &t.shape)).collect::<Result<_>>()?;
        Ok(())
    }

    fn decode(&mut self, out: &mut [Vec<u8>]) -> Result<()> {
        let mut both = self.0.iter().zip(out);
        both.try_for_each(|(leaf, out)| raw::decode_bytes(leaf, 0..leaf.spec.elements()?, out))
    }

    fn stored_bytes(&self) -> u64 {
        self.0.iter().map(EncodedLeaf::stored_bytes).sum()
    }
}

type Encode = fn(&[u8], usize) -> Result<Vec<u8>>;
type Decode = fn(&[u8], usize, &mut [u8]) -> Result<()>;

/// A peer, which codes pieces of each tensor.
struct InPieces {
    name: &'static str,
    encode: Encode,
    decode: Decode,
    /// Pieces of each tensor, and bytes of an element.
    coded: Vec<(Vec<Vec<u8>>, usize)>,
}

impl InPieces {
    fn new(name: &'static str, encode: Encode, decode: Decode) -> Self {
        Self { name, encode, decode, coded: Vec::new() }
    }
}

impl Coder for InPieces {
    fn name(&self) -> &'static str {
        self.name
    }

    fn encode(&mut self, tensors: &[Bytes]) -> Result<()> {
        let encode = self.encode;
        let tensor = |t: &Bytes| -> Result<(Vec<Vec<u8>>, usize)> {
            let size = t.dtype.size();
            let pieces = t.of.par_chunks(PIECE).map(|piece| encode(piece, size));
            Ok((pieces.collect::<Result<_>>()?, size))
        };
        self.coded = tensors.iter().map(tensor).collect::<Result<_>>()?;
        Ok(())
    }

    fn decode(&mut self, out: &mut [Vec<u8>]) -> Result<()> {
        let decode = self.decode;
        let mut tensors = self.coded.iter().zip(out);
        tensors.try_for_each(|((pieces, size), out)| {
            let pieces = pieces.par_iter().zip(out.par_chunks_mut(PIECE));
            pieces.try_for_each(|(piece, out)| decode(piece, *size, out))
        })
    }

    fn stored_bytes(&self) -> u64 {
        self.coded.iter().flat_map(|(pieces, _)| pieces).map(|p| p.len() as u64).sum()
    }
}

fn plain(bytes: &[u8], _: usize) -> Result<Vec<u8>> {
    Ok(zstd::bulk::compress(bytes, ZSTD)?)
}

fn plainly(coded: &[u8], _: usize, out: &mut [u8]) -> Result<()> {
    Ok(zstd::bulk::decompress_to_buffer(coded, out).map(drop)?)
}

/// Byte `p` of each element, one plane after the other.
fn planes(bytes: &[u8], size: usize) -> Result<Vec<u8>> {
    let planes: Vec<u8> = (0..size).flat_map(|p| bytes.iter().skip(p).step_by(size).copied()).collect();
    plain(&planes, size)
}

fn from_planes(coded: &[u8], size: usize, out: &mut [u8]) -> Result<()> {
    let mut planes = vec![0; out.len()];
    plainly(coded, size, &mut planes)?;
    let elements = planes.len() / size;
    // The sizes there are, so that the loop is unrolled.
    match size {
        2 => {
            let (a, b) = planes.split_at(elements);
            out.as_chunks_mut().0.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (&a, &b))| *o = [a, b]);
        }
        _ => {
            let (ab, cd) = planes.split_at(2 * elements);
            let ((a, b), (c, d)) = (ab.split_at(elements), cd.split_at(elements));
            let both = a.iter().zip(b).zip(c.iter().zip(d));
            let out = out.as_chunks_mut().0.iter_mut();
            out.zip(both).for_each(|(o, ((&a, &b), (&c, &d)))| *o = [a, b, c, d]);
        }
    }
    Ok(())
}

/// pco takes f32 as numbers; it has no bf16, and on weights u16 is no worse than its f16.
fn numbers(bytes: &[u8], size: usize) -> Result<Vec<u8>> {
    let config = ChunkConfig::default();
    let coded = match size {
        2 => {
            let words: Vec<u16> = bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
            pco::standalone::simple_compress(&words, &config)
        }
        _ => {
            let floats: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            pco::standalone::simple_compress(&floats, &config)
        }
    };
    coded.map_err(refused)
}

fn from_numbers(coded: &[u8], size: usize, out: &mut [u8]) -> Result<()> {
    match size {
        2 => {
            let mut words = vec![0u16; out.len() / 2];
            pco::standalone::simple_decompress_into(coded, &mut words).map_err(refused)?;
            out.as_chunks_mut().0.iter_mut().zip(words).for_each(|(o, w)| *o = w.to_le_bytes());
        }
        _ => {
            let mut floats = vec![0f32; out.len() / 4];
            pco::standalone::simple_decompress_into(coded, &mut floats).map_err(refused)?;
            out.as_chunks_mut().0.iter_mut().zip(floats).for_each(|(o, x)| *o = x.to_le_bytes());
        }
    }
    Ok(())
}

/// Name of the limit.
const MEMCPY: &str = "memcpy";

/// The limit.
#[derive(Default)]
struct Copy(Vec<Vec<u8>>);

impl Coder for Copy {
    fn name(&self) -> &'static str {
        MEMCPY
    }

    fn encode(&mut self, tensors: &[Bytes]) -> Result<()> {
        self.0 = tensors.iter().map(|t| t.of.clone()).collect();
        Ok(())
    }

    fn decode(&mut self, out: &mut [Vec<u8>]) -> Result<()> {
        out.iter_mut().zip(black_box(&self.0)).for_each(|(out, source)| out.copy_from_slice(source));
        black_box(out);
        Ok(())
    }

    fn stored_bytes(&self) -> u64 {
        self.0.iter().map(|t| t.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_is_measured_as_it_is_and_cast() {
        let rows =
            super::measure(&[Matrix::gaussian(30_000, 1)], true, &mut Measure::quick(1).unwrap()).unwrap();
        let types: Vec<Dtype> = rows.iter().map(|r| r.dtype).collect();
        assert_eq!(types, [[Dtype::F32; 5], [Dtype::BF16; 5], [Dtype::F16; 5]].concat());
        let ours: Vec<f64> = rows.iter().filter(|r| r.coder == "Benben").map(|r| r.ratio).collect();
        assert!(ours[0] < 0.95 && ours[1] < 0.8, "{ours:?}");
        assert_eq!(rows.iter().filter(|r| r.goal.is_some()).count(), 2);
        let memcpy = rows.iter().find(|r| r.coder == MEMCPY).unwrap();
        assert!(memcpy.ratio == 1.0 && memcpy.to_memcpy == 1.0);
    }
}
