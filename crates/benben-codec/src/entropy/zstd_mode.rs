//! zstd frames whose decoded size is known.
//!
//! Weights have no repeats worth a match, so that what zstd can do for them is code literals (Huffman codes over
//! bytes, decoded at gigabytes a second). The first setting tried asks for just that: level 1, matches of at least
//! 7 bytes. Level 19 is tried beside it where the first shows that bytes do repeat: text and tables, hardly ever weights,
//! so that its slowness does not show. Frames carry no checksum (chunks have one) and no dictionary.

use benben_format::{Error, Result};
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, find_frame_compressed_size};

/// The smaller of a frame of literals and a fully searched frame. The second is not tried where the first shows that
/// nothing repeats: it is hardly below the bytes' entropy then.
pub(super) fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut compressor = Compressor::new(1).ok()?;
    compressor.set_parameter(CParameter::MinMatch(7)).ok()?;
    let literals = compressor.compress(bytes).ok()?;
    let level = match literals.len() as f64 / entropy_bytes(bytes) {
        0.97.. => return Some(literals),
        // Parts that differ, not repeats: level 19 takes 30 times as long and gains less than a hundredth.
        0.75.. => 5,
        _ => 19,
    };
    let full = Compressor::new(level).ok()?.compress(bytes).ok()?;
    Some(if full.len() < literals.len() { full } else { literals })
}

/// Bytes that an ideal coder of single bytes takes.
fn entropy_bytes(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    bytes.iter().for_each(|&b| counts[usize::from(b)] += 1);
    let n = bytes.len() as f64;
    counts.iter().filter(|&&c| c > 0).map(|&c| f64::from(c) * (n / f64::from(c)).log2()).sum::<f64>() / 8.0
}

/// Decodes the one frame that `frame` is into `out`, which it must fill.
pub(super) fn decompress(frame: &[u8], out: &mut [u8]) -> Result<()> {
    let failed = |e: String| Error::corruption(format!("zstd frame of {} bytes: {e}", frame.len()));
    let size = find_frame_compressed_size(frame)
        .map_err(|code| failed(zstd::zstd_safe::get_error_name(code).to_string()))?;
    if size != frame.len() {
        return Err(failed(format!("the frame ends at byte {size}")));
    }
    // A one-shot decompression writes straight into `out` and keeps no window of its own. One context for each
    // thread: making one costs more than decoding a chunk of a few hundred bytes.
    thread_local! {
        static CONTEXT: RefCell<Decompressor<'static>> = RefCell::default();
    }
    let found =
        CONTEXT.with_borrow_mut(|d| d.decompress_to_buffer(frame, out)).map_err(|e| failed(e.to_string()))?;
    if found != out.len() {
        return Err(failed(format!("decodes to {found} bytes, expected {}", out.len())));
    }
    Ok(())
}
