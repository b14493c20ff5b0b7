//! Everything that a pass over weights goes by, and the pass.

use super::plan::Plan;
use super::quantize::{self, Costs, Numbers, REACH, ROW, Scale, Tables};
use super::survey::{Counter, Levels, Sample};
use super::tensor::Tensor;
use super::{CENTROID_UNIT, unzigzag};
use rayon::prelude::*;
use std::ops::Range;

/// Lambda in steps^2 for each bit. The slope of the operational curve at high rates is 2 ln 2 D with D = step^2 / 12, that
/// is 0.116; the optimum is flat, 0.09 to 0.12 differ by less than 0.01 dB.
const LAMBDA: f32 = 0.1;
/// Bits of a symbol that was not seen: what 1 of 4096 costs and a little more.
const RARE: f32 = 13.0;
/// Ranges of a sample that one thread takes at least.
const TOGETHER: usize = 8;

/// A step, and the tables that belong to it.
#[derive(Debug, Clone)]
pub(super) struct Coding {
    pub(super) step: f32,
    pub(super) low_bits: u8,
    /// The low bits that were found to be best, if that has been tried.
    pub(super) low: Option<u8>,
    /// Weights beyond so many steps are exceptions; infinite where those beyond reach are too many to be kept.
    pub(super) limit: f32,
    pub(super) centroids: Vec<i8>,
    pub(super) plan: Plan,
    /// Symbols of each table, of the whole tensor.
    pub(super) counts: Vec<[u64; 256]>,
}

/// What a pass over all weights gave.
pub(super) struct Whole {
    pub(super) symbols: Vec<u8>,
    pub(super) counts: Vec<[u64; 256]>,
    /// Squared error in steps^2, exceptions left out.
    pub(super) error: f64,
}

/// What a pass over a sample gave.
pub(super) struct Seen {
    pub(super) counter: Counter,
    /// Symbols of each range.
    symbols: Vec<Vec<u8>>,
    /// Squared error in steps^2, scaled to the tensor.
    pub(super) error: f64,
}

/// A coding with what follows from it.
struct Rule<'a> {
    tensor: &'a Tensor<'a>,
    coding: &'a Coding,
    scale: Scale,
    by: By,
    /// Value in steps of each symbol.
    levels: [f32; ROW],
    /// Column class of each weight of a run.
    pattern: Vec<u8>,
}

/// How integers are chosen.
enum By {
    /// The nearest, since bits hardly depend on it.
    Nearest,
    Thresholds(Numbers),
    Costs(Box<Costs>),
}

impl Coding {
    /// One table and no centroids: every weight on the nearest integer.
    pub(super) fn plain(step: f32, low_bits: u8, limit: f32) -> Self {
        Self {
            step,
            low_bits,
            low: None,
            limit,
            centroids: Vec::new(),
            plan: Plan::single(),
            counts: Vec::new(),
        }
    }

    /// Value, in steps, of an integer.
    pub(super) fn level(&self, k: i32) -> f32 {
        let shift = self.centroids.get((k.unsigned_abs() as usize).wrapping_sub(1));
        (k.unsigned_abs() as f32 + shift.map_or(0.0, |&c| f32::from(c) / CENTROID_UNIT)).copysign(k as f32)
    }

    fn scale(&self) -> Scale {
        Scale { step: self.step, limit: self.limit }
    }

    /// Bits of k + 128 by each table, times lambda.
    pub(super) fn bits(&self, lambda: f32) -> Numbers {
        let mut bits = quantize::numbers(0.0);
        for (bits, counts) in bits.chunks_mut(ROW).zip(&self.counts) {
            let total = counts.iter().sum::<u64>() as f32;
            for (symbol, &count) in counts.iter().enumerate() {
                let own = if count > 0 { (total / count as f32).log2().min(RARE) } else { RARE };
                if let Some(bits) = bits.get_mut((unzigzag(symbol as u32) + 128) as usize) {
                    *bits = lambda * own;
                }
            }
        }
        bits
    }

    /// Where from k on the cost of k + 1 is less.
    fn thresholds(&self) -> Numbers {
        let bits = self.bits(LAMBDA);
        let mut thresholds = quantize::numbers(0.5);
        for (thresholds, bits) in thresholds.chunks_mut(ROW).zip(bits.chunks(ROW)).take(self.counts.len()) {
            for (i, pair) in bits.windows(2).enumerate() {
                let k = i as i32 - 128;
                let (low, high) = (self.level(k), self.level(k + 1));
                let middle = (low + high) / 2.0 - k as f32;
                thresholds[i] = middle + (pair[1] - pair[0]) / (2.0 * (high - low)).max(0.1);
            }
            // No symbol beyond the reach.
            (thresholds[0], thresholds[ROW - 1]) = (f32::NEG_INFINITY, f32::INFINITY);
        }
        thresholds
    }

    fn rule<'a>(&'a self, tensor: &'a Tensor<'a>) -> Rule<'a> {
        let mut levels = [0f32; ROW];
        for (symbol, level) in levels.iter_mut().enumerate() {
            *level = self.level(unzigzag(symbol as u32));
        }
        let by = if self.low_bits > 0 || self.counts.is_empty() && tensor.importance.is_empty() {
            By::Nearest
        } else if tensor.importance.is_empty() {
            By::Thresholds(self.thresholds())
        } else {
            let mut costs = Costs { levels: [0.0; ROW], bits: self.bits(LAMBDA) };
            (-128..128).zip(&mut costs.levels).for_each(|(k, level)| *level = self.level(k));
            By::Costs(Box::new(costs))
        };
        let pattern = match self.plan.column_count {
            1 => Vec::new(),
            _ => tensor.pattern(&self.plan.columns),
        };
        Rule { tensor, coding: self, scale: self.scale(), by, levels, pattern }
    }

    /// One pass over a sample.
    pub(super) fn sample(&self, tensor: &Tensor<'_>, sample: &Sample) -> Seen {
        let rule = self.rule(tensor);
        let parts: Vec<(Vec<u8>, f64)> = sample
            .ranges
            .par_iter()
            .with_min_len(TOGETHER)
            .map(|range| {
                let mut own = vec![0; range.len()];
                let error = rule.quantize(range, &mut own, |_, error| error);
                (own, error)
            })
            .collect();
        let fine = tensor.fine_columns();
        let columns = if fine > 1 { tensor.pattern(&std::array::from_fn(|c| c as u8)) } else { Vec::new() };
        let mut seen = Seen { counter: Counter::new(fine), symbols: Vec::new(), error: 0.0 };
        for (range, (symbols, error)) in sample.ranges.iter().zip(parts) {
            for (run, part) in tensor.runs.parts(range) {
                let own = &symbols[part.start - range.start..part.end - range.start];
                let at = part.start % tensor.runs.len;
                let columns = columns.get(at..at + part.len()).unwrap_or_default();
                seen.counter.add(tensor.runs.class_of(run), columns, own);
            }
            seen.error += error * sample.scale;
            seen.symbols.push(symbols);
        }
        seen
    }

    /// The centroids of what a pass over a sample gave.
    pub(super) fn centroids(&self, tensor: &Tensor<'_>, sample: &Sample, seen: &Seen) -> Vec<i8> {
        if self.low_bits > 0 {
            return Vec::new();
        }
        let parts: Vec<Levels> = sample
            .ranges
            .par_iter()
            .with_min_len(TOGETHER)
            .zip(&seen.symbols)
            .map(|(range, symbols)| {
                let x = tensor.values[range.clone()].iter().map(|v| v / self.step);
                let x = x.map(|x| if x.abs() <= self.limit { x } else { 0.0 });
                let mut levels = Levels::default();
                levels.add(x, tensor.importance.get(range.clone()).unwrap_or_default(), symbols);
                levels
            })
            .collect();
        parts.iter().fold(Levels::default(), Levels::merge).centroids()
    }

    /// One pass over the tensor.
    pub(super) fn whole(&self, tensor: &Tensor<'_>) -> Whole {
        /// Weights counted together: whole chunks of the usual size.
        const BLOCK: usize = crate::entropy::CHUNK_ITEMS as usize;
        let rule = self.rule(tensor);
        let tables = self.plan.tables();
        let mut symbols = vec![0u8; tensor.values.len()];
        let blocks: Vec<(Vec<[u32; 256]>, f64)> = symbols
            .par_chunks_mut(BLOCK)
            .enumerate()
            .map(|(block, symbols)| {
                let range = block * BLOCK..block * BLOCK + symbols.len();
                // Four counters of each: increments of one alone would wait for each other.
                let mut counts = vec![[0u32; 256]; 4 * tables];
                let mut error = 0.0;
                error += rule.quantize(&range, symbols, |parts, error| {
                    count(parts.0, parts.1, &mut counts);
                    error
                });
                (counts, error)
            })
            .collect();
        let mut whole = Whole { symbols, counts: vec![[0; 256]; tables], error: 0.0 };
        for (counts, error) in blocks {
            for (sums, counts) in whole.counts.iter_mut().zip(counts.chunks(4)) {
                for counts in counts {
                    sums.iter_mut().zip(counts).for_each(|(s, &c)| *s += u64::from(c));
                }
            }
            whole.error += error;
        }
        whole
    }
}

/// Counts symbols by table, in four counters each.
fn count(tables: Tables<'_>, symbols: &[u8], counts: &mut [[u32; 256]]) {
    let base = 4 * usize::from(tables.base);
    if tables.of.is_empty() {
        let Some([a, b, c, d]) = counts.get_mut(base..base + 4) else { return };
        let (fours, rest) = symbols.as_chunks::<4>();
        for four in fours {
            a[usize::from(four[0])] += 1;
            b[usize::from(four[1])] += 1;
            c[usize::from(four[2])] += 1;
            d[usize::from(four[3])] += 1;
        }
        rest.iter().for_each(|&s| a[usize::from(s)] += 1);
    } else {
        for (i, (&symbol, &table)) in symbols.iter().zip(tables.of).enumerate() {
            if let Some(counts) = counts.get_mut(base + 4 * usize::from(table) + i % 4) {
                counts[usize::from(symbol)] += 1;
            }
        }
    }
}

impl Rule<'_> {
    /// Quantizes elements `range`; `each` is called with the tables and symbols of each run, its
    /// squared error, and says what to add up.
    fn quantize(
        &self,
        range: &Range<usize>,
        symbols: &mut [u8],
        mut each: impl FnMut((Tables<'_>, &[u8]), f64) -> f64,
    ) -> f64 {
        let Self { tensor, coding, scale, .. } = self;
        let mut sum = 0.0;
        for (run, part) in tensor.runs.parts(range) {
            let class = usize::from(tensor.runs.class_of(run)) % super::plan::FINE_ROWS;
            let (values, at) = (&tensor.values[part.clone()], part.start % tensor.runs.len);
            let symbols = &mut symbols[part.start - range.start..part.end - range.start];
            let base = coding.plan.rows[class] * coding.plan.column_count as u8;
            let tables = Tables { base, of: self.pattern.get(at..at + part.len()).unwrap_or_default() };
            let error = match &self.by {
                By::Thresholds(thresholds) => {
                    quantize::by_thresholds(thresholds, *scale, values, tables, symbols);
                    quantize::error(&self.levels, *scale, values, symbols)
                }
                By::Costs(costs) => {
                    let weights = tensor.importance.get(part).unwrap_or_default();
                    quantize::search(costs, *scale, values, weights, tables, symbols);
                    quantize::error(&self.levels, *scale, values, symbols)
                }
                By::Nearest => {
                    quantize::nearest(*scale, most(coding.low_bits), coding.low_bits, values, symbols)
                }
            };
            sum += each((tables, symbols), error);
        }
        sum
    }
}

/// The largest integer that so many low bits leave room for.
pub(super) fn most(low_bits: u8) -> f32 {
    (REACH + 1.0) * f32::from(1u16 << low_bits.min(15)) - 1.0
}
