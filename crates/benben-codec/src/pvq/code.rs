//! The code of one group: which class, which level, which point.

use super::gain::{Curve, Grid, MAX_LEVEL, extra_bits, level, scale, square, symbol};
use super::point::nearest;
use super::pyramid::{MAX_DIM, Pyramid};
use benben_format::Result;

/// One group as it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Code {
    pub(super) level: u32,
    pub(super) class: u8,
    pub(super) index: u64,
}

/// Everything that choosing the code of one group takes.
pub(super) struct Coder {
    pub(super) grid: Grid,
    lambda: f64,
    dim: usize,
    pyramid: Pyramid,
    class_of: [u8; 256],
    /// By class.
    cosines: Vec<f64>,
    bits: Vec<f64>,
}

impl Coder {
    /// A coder for the groups that `curve` was measured on, at price `lambda` of a bit.
    ///
    /// # Errors
    /// None for a grid of that curve.
    pub(super) fn new(curve: &Curve, grid: Grid, lambda: f64, dim: usize) -> Result<Self> {
        let most = grid.classes.iter().map(|c| usize::from(c.pulses)).max().unwrap_or(0);
        let pyramid = Pyramid::new(dim, most)?;
        let bits = (0..=grid.classes.len() as u8)
            .map(|c| (pyramid.count(usize::from(grid.pulses(c))) as f64).log2())
            .collect();
        Ok(Self {
            lambda,
            dim,
            class_of: grid.class_of_symbol(),
            cosines: curve.cosines(&grid),
            bits,
            pyramid,
            grid,
        })
    }

    fn level(&self, gain: f64) -> u32 {
        (gain / f64::from(self.grid.step)).round().clamp(0.0, f64::from(MAX_LEVEL)) as u32
    }

    fn class(&self, level: u32) -> u8 {
        self.class_of[usize::from(symbol(level))]
    }

    /// Levels of class `class`.
    fn levels(&self, class: u8) -> (u32, u32) {
        let first = |i: usize| self.grid.classes.get(i).map(|c| level(c.first, 0));
        let class = usize::from(class);
        (class.checked_sub(1).and_then(first).unwrap_or(0), first(class).map_or(MAX_LEVEL, |f| f - 1))
    }

    /// Code of group `x` and its squared error.
    pub(super) fn code(&self, x: &[f32]) -> (Code, f64) {
        let Some((chosen, point, scale)) = self.chosen(x) else { return (Code::default(), square(x)) };
        let point = &point[..self.dim];
        let error = x
            .iter()
            .zip(point)
            .map(|(&v, &p)| (f64::from(v) - f64::from(scale * f32::from(p))).powi(2))
            .sum();
        (Code { level: chosen.level, class: chosen.class, index: self.pyramid.index(point) }, error)
    }

    /// What the code of group `x` decodes to.
    pub(super) fn values(&self, x: &[f32], values: &mut [f32]) {
        let Some((_, point, scale)) = self.chosen(x) else { return values.fill(0.0) };
        values.iter_mut().zip(point).for_each(|(v, p)| *v = scale * f32::from(p));
    }

    /// The best level of group `x`, its point, and what that is multiplied with; none: zeros.
    fn chosen(&self, x: &[f32]) -> Option<(Choice, [i16; MAX_DIM], f32)> {
        let energy = square(x);
        let length = energy.sqrt();
        let rough = self.class(self.level(length));
        let class = self.class(self.level(length * self.cosines[usize::from(rough)]));
        let mut points = [[0i16; MAX_DIM]; 2];
        let (mut chosen, mut which) = (self.choose(x, energy, class, &mut points[0]), 0);
        // The gain may belong to the next class: then either that class, or the nearest level of this one.
        if chosen.natural != class && class != 0 {
            let other = self.choose(x, energy, chosen.natural, &mut points[1]);
            if other.cost < chosen.cost {
                (chosen, which) = (other, 1);
            }
        }
        if chosen.class == 0 {
            return None;
        }
        let squares: u32 =
            points[which][..self.dim].iter().map(|&p| u32::from(p.unsigned_abs()).pow(2)).sum();
        let scale = scale(chosen.level, self.grid.step, squares);
        Some((chosen, points[which], scale))
    }

    /// The best code of `x` in class `class`, its point written to `point`.
    fn choose(&self, x: &[f32], energy: f64, class: u8, point: &mut [i16; MAX_DIM]) -> Choice {
        if class == 0 {
            return Choice { level: 0, class, natural: 0, cost: energy };
        }
        let gain = f64::from(nearest(x, self.grid.pulses(class), &mut point[..self.dim]));
        let natural = self.level(gain);
        let (least, most) = self.levels(class);
        let level = natural.clamp(least, most);
        let given = f64::from(level) * f64::from(self.grid.step);
        let cost = energy - 2.0 * gain * given + given * given + self.lambda * self.bits[usize::from(class)];
        Choice { level, class, natural: self.class(natural), cost }
    }

    /// Bits of `codes` under ideal tables.
    pub(super) fn ideal_bits(&self, codes: &[Code]) -> f64 {
        let mut counts = [0u64; 256];
        for c in codes {
            counts[usize::from(symbol(c.level))] += 1;
        }
        let total = codes.len() as f64;
        let entropy: f64 =
            counts.iter().filter(|&&c| c > 0).map(|&c| c as f64 * (total / c as f64).log2()).sum();
        let open = |c: &Code| self.bits[usize::from(c.class)] + f64::from(extra_bits(symbol(c.level)));
        let fixed: f64 = codes.iter().map(open).sum();
        entropy + fixed
    }
}

/// A level of a class.
struct Choice {
    level: u32,
    class: u8,
    /// Class that the gain belongs to.
    natural: u8,
    /// Squared error plus the price of the point.
    cost: f64,
}
