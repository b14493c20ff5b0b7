//! Bytes that codec `raw` takes for each tensor of a SafeTensors file, as it is and cast to bf16 and f16.
//!
//! `cargo run --release -p benben-codec --example lossless -- model.safetensors`
#![allow(clippy::print_stdout, reason = "an example that prints a table")]
#![allow(clippy::cast_possible_truncation, reason = "offsets in a file that is in memory")]

use benben_codec::raw;
use benben_format::{Dtype, Error, Result};
use std::time::Instant;

/// Sums over all tensors.
#[derive(Default)]
struct Total {
    source: f64,
    stored: f64,
    encode: f64,
    decode: f64,
}

impl Total {
    fn add(&mut self, bytes: &[u8], dtype: Dtype, shape: &[u64]) -> Result<()> {
        let start = Instant::now();
        let leaf = raw::encode(bytes, dtype, shape)?;
        self.encode += start.elapsed().as_secs_f64();
        let mut out = vec![0; bytes.len()];
        let start = Instant::now();
        raw::decode_bytes(&leaf, 0..leaf.spec.elements()?, &mut out)?;
        self.decode += start.elapsed().as_secs_f64();
        if out != bytes {
            return Err(Error::corruption("decoded bytes differ"));
        }
        self.source += bytes.len() as f64;
        self.stored += leaf.stored_bytes() as f64;
        Ok(())
    }

    fn print(&self, name: &str) {
        println!(
            "{name:9} {:12.0} -> {:12.0} bytes = {:.2} %, encode {:.2} GB/s, decode {:.2} GB/s",
            self.source,
            self.stored,
            100.0 * self.stored / self.source,
            self.source / self.encode / 1e9,
            self.source / self.decode / 1e9
        );
    }
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
    let mut as_is = Total::default();
    let mut casts = [(Dtype::BF16, Total::default()), (Dtype::F16, Total::default())];
    for part in header.split("\"dtype\":\"").skip(1) {
        let dtype: Dtype = part.split_once('"').ok_or_else(damaged)?.0.parse()?;
        let (shape, offsets) = (list(part, "\"shape\""), list(part, "\"data_offsets\""));
        let [from, to] = offsets[..] else { return Err(damaged()) };
        let bytes = file.get(start + from as usize..start + to as usize).ok_or_else(damaged)?;
        as_is.add(bytes, dtype, &shape)?;
        if dtype.is_weight() {
            let mut values = vec![0.0; bytes.len() / dtype.size()];
            dtype.to_f32(bytes, &mut values)?;
            for (to, total) in &mut casts {
                total.add(&to.from_f32(&values)?, *to, &shape)?;
            }
        }
    }
    as_is.print("as it is");
    casts.iter().for_each(|(to, total)| total.print(&format!("{to} cast")));
    Ok(())
}
