//! What codec `raw` makes of the tensors of a SafeTensors file, as it is and cast to bf16 and f16: size, encoding and
//! decoding speed on one thread, and copying the same bytes in the same run as the limit.
//!
//! `cargo run --release -p benben-codec --example lossless -- model.safetensors`
//!
//! Times are medians over rounds through all tensors, into buffers that have been written before: neither decoder nor
//! copy waits for the operating system to hand out pages.
#![allow(clippy::print_stdout, reason = "an example that prints a table")]
#![allow(clippy::cast_possible_truncation, reason = "offsets in a file that is in memory")]

use benben_codec::raw;
use benben_format::{Dtype, EncodedLeaf, Error, Result};
use std::hint::black_box;
use std::time::Instant;

/// Rounds of encoding, and of decoding and copying.
const ROUNDS: (usize, usize) = (3, 9);

/// Tensors of one kind: bytes, dtype, shape.
type Tensors = Vec<(Vec<u8>, Dtype, Vec<u64>)>;

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let value = black_box(work()?);
    Ok((start.elapsed().as_secs_f64(), value))
}

fn measure(name: &str, tensors: &Tensors) -> Result<()> {
    let encode = || tensors.iter().map(|(bytes, dtype, shape)| raw::encode(bytes, *dtype, shape));
    let (mut encoding, mut decoding, mut copying) = (Vec::new(), Vec::new(), Vec::new());
    let mut leaves: Vec<EncodedLeaf> = Vec::new();
    for _ in 0..ROUNDS.0 {
        let (time, encoded) = seconds(|| encode().collect::<Result<_>>())?;
        encoding.push(time);
        leaves = encoded;
    }
    let mut outs: Vec<Vec<u8>> = tensors.iter().map(|t| vec![1; t.0.len()]).collect();
    for _ in 0..ROUNDS.1 {
        copying.push(
            seconds(|| {
                outs.iter_mut().zip(tensors).for_each(|(out, t)| out.copy_from_slice(black_box(&t.0)));
                Ok(())
            })?
            .0,
        );
        outs.iter_mut().for_each(|out| out.fill(1));
        decoding.push(
            seconds(|| {
                leaves
                    .iter()
                    .zip(&mut outs)
                    .try_for_each(|(leaf, out)| raw::decode_bytes(leaf, 0..leaf.spec.elements()?, out))
            })?
            .0,
        );
        if outs.iter().zip(tensors).any(|(out, t)| *out != t.0) {
            return Err(Error::corruption("decoded bytes differ"));
        }
    }
    let source: usize = tensors.iter().map(|t| t.0.len()).sum();
    let stored: u64 = leaves.iter().map(EncodedLeaf::stored_bytes).sum();
    let speed = |times| source as f64 / median(times) / 1e9;
    let (decode, copy) = (speed(decoding), speed(copying));
    println!(
        "{name:9} {source:10} -> {stored:10} bytes = {:5.2} %   encode {:.2} GB/s   decode {decode:.2} GB/s   memcpy {copy:.2} GB/s",
        100.0 * stored as f64 / source as f64,
        speed(encoding),
    );
    Ok(())
}

fn main() -> Result<()> {
    let path =
        std::env::args().nth(1).ok_or_else(|| Error::invalid("expected the path of a SafeTensors file"))?;
    let file = std::fs::read(path)?;
    let damaged = || Error::corruption("not a SafeTensors file");
    let (head, _) = file.split_first_chunk::<8>().ok_or_else(damaged)?;
    let start = 8 + u64::from_le_bytes(*head) as usize;
    let header = std::str::from_utf8(file.get(8..start).ok_or_else(damaged)?).map_err(|_| damaged())?;
    // Enough of JSON for the three fields of a tensor that are wanted here.
    let list = |part: &str, key: &str| -> Vec<u64> {
        let list =
            part.split_once(key).and_then(|p| p.1.split_once('[')?.1.split_once(']')).map_or("", |p| p.0);
        list.split(',').filter_map(|n| n.trim().parse().ok()).collect()
    };
    let mut as_is = Tensors::new();
    let mut casts = [(Dtype::BF16, Tensors::new()), (Dtype::F16, Tensors::new())];
    for part in header.split("\"dtype\":\"").skip(1) {
        let dtype: Dtype = part.split_once('"').ok_or_else(damaged)?.0.parse()?;
        let (shape, offsets) = (list(part, "\"shape\""), list(part, "\"data_offsets\""));
        let [from, to] = offsets[..] else { return Err(damaged()) };
        let bytes = file.get(start + from as usize..start + to as usize).ok_or_else(damaged)?;
        if dtype.is_weight() {
            let mut values = vec![0.0; bytes.len() / dtype.size()];
            dtype.to_f32(bytes, &mut values)?;
            for (to, tensors) in &mut casts {
                tensors.push((to.from_f32(&values)?, *to, shape.clone()));
            }
        }
        as_is.push((bytes.to_vec(), dtype, shape));
    }
    // One thread: what a reader of many tensors at once has for each.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|e| Error::invalid(format!("no thread: {e}")))?;
    pool.install(|| {
        measure("as it is", &as_is)?;
        casts.iter().try_for_each(|(to, tensors)| measure(&format!("{to} cast"), tensors))
    })
}
