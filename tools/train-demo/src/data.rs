//! Windows of tokens, in an order that follows from the seed alone.

use crate::rng::Rng;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Stream of [`Rng`] that orders the batches.
const ORDER: u64 = 1;

/// Inputs and the tokens that follow them, `[batch, length]` each.
#[derive(Debug)]
pub struct Batch {
    /// What the network reads.
    pub tokens: Tensor<2, Int>,
    /// What it should predict at each position.
    pub targets: Tensor<2, Int>,
}

/// The windows that start at `starts`.
#[must_use]
pub fn batch(tokens: &[u32], starts: &[usize], length: usize, device: &Device) -> Batch {
    let gather = |shift: usize| {
        let ids: Vec<i64> = starts
            .iter()
            .flat_map(|start| &tokens[start + shift..start + shift + length])
            .map(|id| i64::from(*id))
            .collect();
        Tensor::from_data(TensorData::new(ids, [starts.len(), length]), device)
    };
    Batch { tokens: gather(0), targets: gather(1) }
}

/// Starts of windows that touch but do not overlap; a rest shorter than a window is left out.
#[must_use]
pub fn in_order(tokens: usize, length: usize, offset: usize) -> Vec<usize> {
    (offset..).step_by(length).take_while(|start| start + length < tokens).collect()
}

/// Endless batches of window starts: each epoch cuts the text at another offset and shuffles.
#[derive(Debug)]
pub struct Shuffled {
    rng: Rng,
    tokens: usize,
    length: usize,
    size: usize,
    left: Vec<usize>,
}

impl Shuffled {
    /// Batches of `size` windows of `length` tokens. The text must hold a few of them:
    /// `tokens` at least `length * (size + 1) + 1`.
    #[must_use]
    pub fn new(tokens: usize, length: usize, size: usize, seed: u64) -> Self {
        Self { rng: Rng::new(seed, ORDER), tokens, length, size, left: Vec::new() }
    }

    /// The starts of the next batch; what is left of an epoch and does not fill a batch is skipped.
    pub fn next_starts(&mut self) -> Vec<usize> {
        if self.left.len() < self.size {
            let offset = self.rng.below(self.length);
            self.left = in_order(self.tokens, self.length, offset);
            self.rng.shuffle(&mut self.left);
        }
        self.left.split_off(self.left.len().saturating_sub(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::{Shuffled, in_order};
    use std::collections::HashSet;

    #[test]
    fn windows_leave_room_for_the_last_target() {
        assert_eq!(in_order(9, 4, 0), [0, 4]);
        assert_eq!(in_order(8, 4, 0), [0]);
        assert_eq!(in_order(9, 4, 3), [3]);
    }

    #[test]
    fn an_epoch_shows_each_window_once_and_the_seed_decides() {
        let draw = |seed| {
            let mut shuffled = Shuffled::new(1001, 10, 8, seed);
            (0..12).flat_map(|_| shuffled.next_starts()).collect::<Vec<_>>()
        };
        let starts = draw(7);
        assert_eq!(starts.iter().collect::<HashSet<_>>().len(), 96);
        assert_eq!(starts, draw(7));
        assert_ne!(starts, draw(8));
    }
}
