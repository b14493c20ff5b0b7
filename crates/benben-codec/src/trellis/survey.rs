//! What a pass through the trellis found: symbols by class and table, error, the means of the levels.

use super::MAX_CLASSES;
use super::codebook::{MAX_SHIFTS, REACH, SHIFT_UNIT, Shifts, place, unzigzag, zigzag};
use super::viterbi::LANES;
use crate::entropy::Trellis;

/// Sums of one level: how far its weights lie outwards of its place.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    count: f64,
    distance: f64,
    /// The same, weighted by importance.
    weight: f64,
    weighted: f64,
}

/// Counts and sums of some segments.
#[derive(Debug, Clone)]
pub(super) struct Survey {
    /// Symbols of table `class * T + t`, classes those that [`Cells`](super::cells::Cells) fills in.
    pub(super) counts: Vec<[u64; 256]>,
    /// Elements seen.
    pub(super) items: u64,
    levels: [[Level; MAX_SHIFTS]; 2],
    /// Squared distance from the places, in steps^2; the same, weighted.
    error: f64,
    weighted: f64,
}

impl Survey {
    pub(super) fn empty(trellis: Trellis) -> Self {
        Self {
            counts: vec![[0; 256]; MAX_CLASSES * trellis.tables()],
            items: 0,
            levels: Default::default(),
            error: 0.0,
            weighted: 0.0,
        }
    }

    /// Adds a segment whose lanes all start in state 0: `x` in steps (those out of reach are exceptions, without
    /// error).
    pub(super) fn add(
        &mut self,
        trellis: Trellis,
        zero: bool,
        x: impl Iterator<Item = f32>,
        weights: &[f32],
        classes: &[u8],
        symbols: &[u8],
    ) {
        let tables = trellis.tables();
        let mut states = [0u32; LANES];
        self.items += symbols.len() as u64;
        for (i, ((x, &symbol), &class)) in x.zip(symbols).zip(classes).enumerate() {
            let state = &mut states[i % LANES];
            let union = (*state & 1) as usize;
            let table = *state as usize & (tables - 1);
            self.counts[usize::from(class) * tables + table][usize::from(symbol)] += 1;
            *state = Trellis::next(*state, symbol);
            if x.abs() > REACH {
                continue;
            }
            let weight = f64::from(weights.get(i).copied().unwrap_or(1.0));
            let place = place(zero, union, unzigzag(symbol));
            let d = f64::from(x) - f64::from(place);
            self.error += d * d;
            self.weighted += weight * d * d;
            let level = place.unsigned_abs().div_ceil(2) as usize;
            if let Some(level) = self.levels[union].get_mut(level.wrapping_sub(1)) {
                let outwards = if place < 0 { -d } else { d };
                level.count += 1.0;
                level.distance += outwards;
                level.weight += weight;
                level.weighted += weight * outwards;
            }
        }
    }

    /// Adds the first guess of what symbols cost: each weight, in steps, on the nearest place of each codebook.
    pub(super) fn guess(
        &mut self,
        trellis: Trellis,
        zero: bool,
        x: impl Iterator<Item = f32>,
        classes: &[u8],
    ) {
        for (x, &class) in x.zip(classes) {
            let x = if x.abs() > REACH { 0.0 } else { x };
            let even = (x / 2.0).round_ties_even() as i32;
            let odd = match zero {
                true if x.abs() < 0.5 => 0,
                true => ((x.abs() + 1.0) / 2.0).round_ties_even().copysign(x) as i32,
                false => ((x - 1.0) / 2.0).round_ties_even() as i32,
            };
            for t in 0..trellis.tables() {
                let k = if t & 1 == 0 { even } else { odd };
                let table = usize::from(class) * trellis.tables() + t;
                self.counts[table][usize::from(zigzag(k))] += 1;
            }
            self.items += 2;
        }
    }

    /// Adds another survey.
    pub(super) fn merge(mut self, other: &Self) -> Self {
        for (a, b) in self.counts.iter_mut().flatten().zip(other.counts.iter().flatten()) {
            *a += b;
        }
        for (a, b) in self.levels.iter_mut().flatten().zip(other.levels.iter().flatten()) {
            a.count += b.count;
            a.distance += b.distance;
            a.weight += b.weight;
            a.weighted += b.weighted;
        }
        self.items += other.items;
        self.error += other.error;
        self.weighted += other.weighted;
        self
    }

    /// The shifts that leave the least weighted error.
    pub(super) fn shifts(&self) -> Shifts {
        Shifts(self.levels.each_ref().map(|levels| {
            let mean = |l: &Level| if l.weight > 0.0 { l.weighted / l.weight } else { 0.0 };
            let rounded = |m: f64| (m * f64::from(SHIFT_UNIT)).round().clamp(-128.0, 127.0) as i8;
            let mut shifts: Vec<i8> = levels.iter().map(|l| rounded(mean(l))).collect();
            while shifts.last() == Some(&0) {
                shifts.pop();
            }
            shifts
        }))
    }

    /// Squared error in steps^2 with `shifts`: plain, and weighted.
    pub(super) fn error(&self, shifts: &Shifts) -> (f64, f64) {
        let (mut plain, mut weighted) = (self.error, self.weighted);
        for (levels, shifts) in self.levels.iter().zip(&shifts.0) {
            for (l, &shift) in levels.iter().zip(shifts) {
                let c = f64::from(shift) / f64::from(SHIFT_UNIT);
                plain += c * (c * l.count - 2.0 * l.distance);
                weighted += c * (c * l.weight - 2.0 * l.weighted);
            }
        }
        (plain.max(0.0), weighted.max(0.0))
    }
}
