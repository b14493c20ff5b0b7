//! Gains: the grid of levels, and how many pulses a level buys.
//!
//! A group's gain is `level * step`. Levels fall into classes, and every group of a class has the same number of
//! pulses. At one price for a bit, a group of twice the gain deserves about twice the pulses: that spreads the
//! error evenly over the tensor (reverse water-filling) instead of in proportion to each group's energy. On
//! Gaussian weights it is worth 0.3 dB, on rows of unequal size up to 1 dB, against the same pulses for all.

use super::point::nearest;
use super::pyramid::{MAX_DIM, MAX_PULSES, Pyramid};
use rayon::prelude::*;

/// Most classes with pulses: with the class of zero groups they fill the 16 tables of a stream.
pub(super) const MAX_CLASSES: usize = 15;
/// Levels have at most 18 bits: what 256 symbols reach.
pub(super) const MAX_LEVEL: u32 = (1 << 18) - 1;

/// Symbol of a level: itself below 64, then 16 to each octave.
pub(super) fn symbol(level: u32) -> u8 {
    let extra = (u32::BITS - level.leading_zeros()).saturating_sub(5);
    if level < 64 { level as u8 } else { (64 + (extra - 2) * 16 + (level >> extra) - 16) as u8 }
}

/// Low bits of a level that its symbol leaves open.
pub(super) fn extra_bits(symbol: u8) -> u32 {
    if symbol < 64 { 0 } else { u32::from(symbol) / 16 - 2 }
}

/// Level of a symbol whose open bits are `extra`.
pub(super) fn level(symbol: u8, extra: u32) -> u32 {
    let s = u32::from(symbol);
    if s < 64 { s } else { (16 + s % 16) << extra_bits(symbol) | extra }
}

/// Steps, and magnitudes of values to encode, are below 2^112. What an encoder makes of them fits an f32 with room to
/// spare; a made-up leaf of high levels and a large step decodes to infinities, as the arithmetic has it.
pub(super) const STEP_LIMIT: f32 = f32::from_bits((127 + 112) << 23);

/// Groups of one number of pulses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// First gain symbol of the class; it ends where the next begins.
    pub(super) first: u8,
    /// Pulses of a point, at least 1.
    pub(super) pulses: u16,
}

/// Steps, levels and classes of one leaf.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grid {
    /// Gain of level 1.
    pub(super) step: f32,
    /// Classes 1, 2, ... by rising `first` (at least 1); symbols below the first of them are class 0, zero groups.
    pub(super) classes: Vec<Class>,
}

impl Grid {
    /// Class of each symbol.
    pub(super) fn class_of_symbol(&self) -> [u8; 256] {
        let mut class = [0u8; 256];
        for (i, c) in self.classes.iter().enumerate() {
            class[usize::from(c.first)..].fill(i as u8 + 1);
        }
        class
    }

    /// Pulses of class `class`, 0 for zero groups.
    pub(super) fn pulses(&self, class: u8) -> u16 {
        class.checked_sub(1).and_then(|i| self.classes.get(usize::from(i))).map_or(0, |c| c.pulses)
    }
}

/// What points of each number of pulses cost and leave: fitted once to a tensor's groups.
pub(super) struct Curve {
    /// Rising pulses, from 0.
    pulses: Vec<u16>,
    /// log2 of the number of points.
    bits: Vec<f64>,
    /// Share of the energy that the best point leaves, falling.
    loss: Vec<f64>,
}

impl Curve {
    /// Measures `groups` (each of `dim` values).
    pub(super) fn measure(groups: &[&[f32]], dim: usize) -> Self {
        let most = Pyramid::max_pulses(dim, 64, MAX_PULSES);
        let mut ladder = Vec::new();
        let mut k = 1usize;
        while k <= most {
            ladder.push(k as u16);
            k = (k + 1).max(k * 9 / 8);
        }
        let energy: f64 = groups.iter().map(|g| square(g)).sum();
        let losses: Vec<f64> = ladder
            .par_iter()
            .map(|&k| {
                let mut point = [0; MAX_DIM];
                let kept: f64 =
                    groups.iter().map(|g| f64::from(nearest(g, k, &mut point[..g.len()])).powi(2)).sum();
                (1.0 - kept / energy).max(0.0)
            })
            .collect();
        let mut curve = Self { pulses: vec![0], bits: vec![0.0], loss: vec![1.0] };
        let counts = Pyramid::new(dim, most);
        for (&k, loss) in ladder.iter().zip(losses) {
            let bits = counts.as_ref().map_or(0.0, |p| (p.count(usize::from(k)) as f64).log2());
            // The lower convex hull: a rung above the line between its neighbours is never the best buy.
            while curve.pulses.len() > 1 && curve.price(curve.pulses.len() - 1) <= curve.price_to(bits, loss)
            {
                curve.pulses.pop();
                curve.bits.pop();
                curve.loss.pop();
            }
            if curve.price_to(bits, loss) > 0.0 {
                curve.pulses.push(k);
                curve.bits.push(bits);
                curve.loss.push(loss);
            }
        }
        curve
    }

    /// Loss that one bit takes away between rungs `i - 1` and `i`.
    fn price(&self, i: usize) -> f64 {
        (self.loss[i - 1] - self.loss[i]) / (self.bits[i] - self.bits[i - 1])
    }

    fn price_to(&self, bits: f64, loss: f64) -> f64 {
        let last = self.bits.len() - 1;
        if bits > self.bits[last] { (self.loss[last] - loss) / (bits - self.bits[last]) } else { 0.0 }
    }

    /// The grid at `lambda`, the squared error that one bit must save, for gains up to `largest` of which few are
    /// below `smallest`, with at most `most` classes.
    pub(super) fn grid(&self, lambda: f64, smallest: f64, largest: f64, most: usize) -> Grid {
        // A uniform step whose own slope, d(step^2 / 12) / d(log2 step), is lambda as well.
        let floor = (largest / f64::from(MAX_LEVEL)).max(f64::from(f32::from_bits(1)));
        let step = (6.0 * lambda / std::f64::consts::LN_2).sqrt().max(floor) as f32;
        // Rungs whose range of gains meets the tensor's, thinned evenly if there are too many.
        let gain_of = |price: f64| (lambda / price.max(f64::MIN_POSITIVE)).sqrt();
        let rungs = self.pulses.len();
        let above = |g: f64| (1..rungs).take_while(|&i| gain_of(self.price(i)) <= g).count();
        let (from, to) = (above(smallest).max(1), above(largest));
        let count = (to + 1).saturating_sub(from);
        let kept = count.min(most.clamp(1, MAX_CLASSES));
        let mut classes: Vec<Class> = Vec::with_capacity(kept);
        let mut below = 0;
        for j in 0..kept {
            let i = if kept == 1 { (from + to) / 2 } else { from + j * (count - 1) / (kept - 1) };
            let price = (self.loss[below] - self.loss[i]) / (self.bits[i] - self.bits[below]);
            let first = (gain_of(price) / f64::from(step)).round().clamp(1.0, f64::from(MAX_LEVEL));
            let first = symbol(first as u32);
            while classes.last().is_some_and(|c| c.first >= first) {
                classes.pop();
            }
            classes.push(Class { first, pulses: self.pulses[i] });
            below = i;
        }
        Grid { step, classes }
    }

    /// Cosine between a group and its point, by class (1 for zero groups, which have none).
    pub(super) fn cosines(&self, grid: &Grid) -> Vec<f64> {
        let of =
            |k: u16| self.pulses.iter().position(|&p| p == k).map_or(1.0, |i| (1.0 - self.loss[i]).sqrt());
        std::iter::once(1.0).chain(grid.classes.iter().map(|c| of(c.pulses))).collect()
    }
}

/// What the integers of a point are multiplied by: `level * step / sqrt(squares)` in f64, rounded once to f32.
pub(super) fn scale(level: u32, step: f32, squares: u32) -> f32 {
    (f64::from(level) * f64::from(step) / f64::from(squares).sqrt()) as f32
}

/// Sum of squares.
pub(super) fn square(x: &[f32]) -> f64 {
    x.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulses_follow_the_gain() {
        let x: Vec<f32> = (0..16 * 200).map(|i| ((i * 7919) % 1013) as f32 / 506.0 - 1.0).collect();
        let groups: Vec<&[f32]> = x.chunks(16).collect();
        let curve = Curve::measure(&groups, 16);
        let grid = curve.grid(0.01, 0.5, 20.0, 15);
        assert!(grid.classes.len() > 5, "{grid:?}");
        assert!(grid.classes.is_sorted_by(|a, b| a.first < b.first && a.pulses < b.pulses), "{grid:?}");
        let class = grid.class_of_symbol();
        assert_eq!(class[0], 0);
        assert_eq!(usize::from(class[255]), grid.classes.len());
        assert_eq!(grid.pulses(0), 0);
        assert_eq!(curve.cosines(&grid).len(), grid.classes.len() + 1);
    }

    #[test]
    fn symbols_and_extra_bits_make_levels() {
        for l in (0..5000).chain(MAX_LEVEL - 5000..=MAX_LEVEL) {
            let (s, bits) = (symbol(l), extra_bits(symbol(l)));
            assert_eq!(level(s, l & ((1 << bits) - 1)), l);
            assert!(l == 0 || symbol(l - 1) <= s, "{l}");
        }
        assert_eq!((symbol(63), symbol(64), symbol(127), symbol(MAX_LEVEL)), (63, 64, 79, 255));
    }
}
