//! What an effort of 1 to 9 buys.

use super::evolution::Stage;

/// How long to look for a better plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effort {
    /// Levels for each bit.
    pub levels_per_bit: u32,
    /// Samples that one tensor's influence on the loss is measured on; with 0, and with fewer than 8 where gradients are
    /// known, it is not measured.
    pub influence_samples: usize,
    /// Whether each tensor is coded with and without the statistics of its layer, and what does less harm is kept; below,
    /// only tables are.
    pub both_ways: bool,
    /// Whether each tensor is coded in a rotated basis too, and stored so where that is better.
    pub both_bases: bool,
    /// Samples of calibration data that plans are judged on.
    pub samples: usize,
    /// Generations of evolution; 0 keeps the plan of the dynamic programme.
    pub generations: usize,
    /// Offspring of each generation.
    pub offspring: usize,
    /// Stages of the selection before the last.
    pub stages: Vec<Stage>,
    /// Ranks of products that levels may have besides what the codec stores.
    pub ranks: Vec<u16>,
}

impl Effort {
    /// What `effort` stands for: 1 takes the time of coding three levels of every tensor, and each step more than the one
    /// before. SmolLM2-135M at 55 MB by a text, at effort 4: 20 minutes on two cores.
    #[must_use]
    pub fn new(effort: u8) -> Self {
        let stage = |samples, survivors| Stage { samples, survivors };
        let (levels_per_bit, influence_samples, samples, generations, offspring) = match effort {
            0 | 1 => (1, 0, 4, 0, 0),
            2 => (2, 1, 4, 0, 0),
            3 => (2, 2, 8, 0, 0),
            4 => (2, 4, 8, 12, 12),
            5 => (2, 4, 12, 16, 16),
            6 => (2, 8, 12, 24, 16),
            7 => (4, 8, 16, 30, 24),
            8 => (4, 16, 32, 60, 32),
            _ => (4, 32, 64, 120, 48),
        };
        let stages = vec![stage((samples / 16).max(1), (offspring / 4).max(2))];
        let (both_bases, both_ways) = (effort >= 2, effort >= 3);
        let ranks = if effort >= 5 { vec![4, 8, 16] } else { Vec::new() };
        Self {
            levels_per_bit,
            influence_samples,
            both_ways,
            both_bases,
            samples,
            generations,
            offspring,
            stages,
            ranks,
        }
    }
}
