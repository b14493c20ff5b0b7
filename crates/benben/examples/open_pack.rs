//! Opens a pack, reads a few rows of one tensor and nothing else.
//!
//! ```console
//! cargo run --release -- demo --keep kept
//! cargo run --release -p benben --example open_pack -- kept/demo-balanced.benben model.embed_tokens.weight
//! ```
#![allow(clippy::print_stdout, reason = "an example that prints")]

fn main() -> benben::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(name)) = (args.next(), args.next()) else {
        return Err(benben::Error::invalid("expected a pack and the name of a tensor"));
    };
    let pack = benben::open(path)?;
    let tensor = pack.tensor(&name)?;
    let rows = tensor.shape().first().copied().unwrap_or(1).min(2);
    let values = tensor.rows(0..rows)?;
    println!("{name}: {} {:?}, {} bytes in the pack", tensor.dtype(), tensor.shape(), tensor.stored_bytes());
    println!(
        "first {rows} rows: {} values, beginning with {:?}",
        values.len(),
        &values[..values.len().min(4)]
    );
    Ok(())
}
