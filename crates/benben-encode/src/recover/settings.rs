//! How long, how fast, and on what.

use benben_format::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// How to recover. The same settings give the same pack, unless `limit` ends it early.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Chunks that blocks are tuned on, one by one against the dense block's output; 0 leaves that out.
    pub block_chunks: usize,
    /// How often each block sees them.
    pub block_passes: usize,
    /// Peak of the learning rate of blocks, in parts of what is tuned.
    pub block_rate: f32,
    /// Steps end to end.
    pub steps: usize,
    /// Chunks of each step.
    pub batch: usize,
    /// Peak of their learning rate: how far entries of a vector go in a step, root mean square, in parts of themselves.
    pub rate: f32,
    /// How many times as fast codewords move, end to end and in blocks. The demo model at 2.5 bits goes from a divergence of
    /// 0.193 to 0.166 at 1, 0.137 at 10 and 0.129 at 30 in 40 steps; a network of 135 M weights is sure to bear 10.
    pub words: f32,
    /// Measure the held-out chunks, and write the checkpoint, every so many steps.
    pub measure: usize,
    /// Chunks that are held out, the last of those given: they choose the state that is kept.
    pub held_out: usize,
    /// Share of the vectors of each matrix of codewords whose codes a step of codes moves at first; 0 leaves codes alone.
    /// Blocks take such a step after each pass.
    pub codes: f32,
    /// End to end one follows every so many steps, by the gradients of all of them. The demo model's 0.137 become 0.134 at
    /// 5, 0.136 at 10.
    pub codes_every: usize,
    /// How much larger a matrix of codewords may become, in parts of itself.
    pub growth: f32,
    /// Give factors to rows that have none.
    pub add_rows: bool,
    /// No step starts after this time.
    pub limit: Option<Duration>,
    /// Order of chunks.
    pub seed: u64,
    /// Where to keep the state, and to go on from.
    pub checkpoint: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            block_chunks: 8,
            block_passes: 2,
            block_rate: 3e-4,
            steps: 40,
            batch: 1,
            rate: 3e-4,
            words: 10.0,
            measure: 5,
            held_out: 2,
            codes: 1e-3,
            codes_every: 5,
            growth: 0.005,
            add_rows: true,
            limit: None,
            seed: 1,
            checkpoint: None,
        }
    }
}

impl Settings {
    /// How many of `chunks` are tuned on; those after them are held out.
    ///
    /// # Errors
    /// InvalidArgument for chunks of different lengths, or too few.
    pub(super) fn training(&self, chunks: &[&[u32]]) -> Result<usize> {
        let length = chunks.first().map_or(0, |chunk| chunk.len());
        if length < 2 || chunks.iter().any(|chunk| chunk.len() != length) {
            return Err(Error::invalid("expected chunks of two tokens at least, all of one length"));
        }
        let held_out = self.held_out.max(1);
        if chunks.len() <= held_out {
            let message = format!("{} chunks, {held_out} of them held out: none are left", chunks.len());
            return Err(Error::invalid(message).with_hint("give more text"));
        }
        Ok(chunks.len() - held_out)
    }
}
