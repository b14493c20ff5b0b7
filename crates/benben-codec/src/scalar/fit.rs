//! Passes over the sample, then over the tensor, until the target is met.

use super::coding::{Coding, Seen, Whole, most};
use super::plan::Plan;
use super::survey::{Cells, Sample};
use super::tensor::Tensor;
use super::{MAX_LOW_BITS, largest as largest_value};
use crate::dial::Goal;
use crate::entropy::{CHUNK_ITEMS, SideWriter, Table, estimate_symbols_bytes, fit_tables};
use crate::estimate::{class_bits, entropy_bits, span, table_bits};
use crate::exceptions;
use benben_format::layout::{CHUNK_ENTRY, SEGMENT_ENTRY};
use benben_format::{Error, Result};

/// Passes over the whole tensor, at most.
const TRIES: usize = 6;
/// Passes after these, where no leaf has met the target.
const MORE: usize = 6;
/// Steps tried on the sample, at most.
const TURNS: usize = 8;
/// Bits that low bits must save, since they take twice as long to decode.
const LOW_BITS_COST: f64 = 0.01;
/// Above so many bits it is tried how many low bits are best.
const LOW_BITS_FROM: f64 = 5.5;
/// Rounds of the search.
const ROUNDS: usize = 3;

/// What [`finish`] hands to the writer.
pub(super) struct Made {
    pub(super) coding: Coding,
    pub(super) tables: Vec<Table>,
    pub(super) symbols: Vec<u8>,
}

/// `rule` at the step, low bits and limit that `dial`, twice the logarithm of a step, stands for within the format's
/// bounds.
fn at(tensor: &Tensor<'_>, rule: &Coding, dial: f64) -> Coding {
    let largest = f64::from(tensor.largest);
    let least = if largest / (dial / 2.0).exp2() > f64::from(most(MAX_LOW_BITS)) {
        tensor.least_step(MAX_LOW_BITS)
    } else {
        0.0
    };
    // A step beyond twice the largest weight says nothing more.
    let step = (dial / 2.0).exp2().clamp(least, (2.0 * largest).max(least));
    let step = (step as f32).clamp(f32::from_bits(1), f32::MAX / 130.0);
    let n = tensor.values.len().max(1) as f64;
    let allowed = exceptions::limit(tensor.values.len() as u64);
    let spread = f64::from(step) / (tensor.energy / n).sqrt();
    let beyond = |low_bits| tensor.beyond(f64::from(most(low_bits)) * f64::from(step));
    let mut best: Option<(f64, u8)> = None;
    for low_bits in 0..=MAX_LOW_BITS {
        if !largest_value(step, low_bits).is_finite() {
            break;
        }
        let beyond = beyond(low_bits);
        // What the slope of the density within 2^low_bits steps would save.
        let lost = if low_bits == 0 {
            0.0
        } else {
            LOW_BITS_COST + 0.06 * (spread * 2f64.powi(low_bits.into())).powi(2)
        };
        let mut cost = beyond as f64 / n * exception_bits(n) + lost;
        if beyond > allowed {
            // All else before this: the weights beyond would be cut off.
            cost = 1e9 * beyond as f64;
        } else if rule.low == Some(low_bits) {
            cost = 0.0;
        }
        if best.is_none_or(|b| cost < b.0) {
            best = Some((cost, low_bits));
        }
        if beyond == 0 && rule.low.is_none_or(|low| low <= low_bits) {
            break;
        }
    }
    let low_bits = best.map_or(0, |b| b.1);
    let limit = if beyond(low_bits) <= allowed { most(low_bits) } else { f32::INFINITY };
    Coding { step, low_bits, limit, ..rule.clone() }
}

/// `coding`, or the same with other low bits if a sample says that this takes less.
///
/// Many symbols cost a table more than their entropy, since none has less than 1 of 4096; low bits cost what the slope
/// of the density within 2^low_bits steps says of them, which hangs on the quiet rows.
fn with_low_bits(tensor: &Tensor<'_>, sample: &Sample, coding: &Coding, dial: f64) -> Result<Coding> {
    let mut best: Option<(f64, u8)> = None;
    let mut plan: Option<Plan> = None;
    let candidates = coding.low_bits.saturating_sub(1)..=(coding.low_bits + 2).min(MAX_LOW_BITS);
    for low in candidates.rev() {
        let mut own = at(tensor, &Coding { low: Some(low), ..coding.clone() }, dial);
        if own.low_bits != low {
            continue;
        }
        let seen = own.sample(tensor, sample);
        let cells = seen.counter.cells(sample.scale);
        // Which rows are alike hardly depends on the low bits; it shows best where symbols are few and seen often.
        own.plan = plan.get_or_insert_with(|| Plan::new(&cells, tensor.limits())).clone();
        let mut bits = tables(&counts(&own, &cells))?.1 + fixed_bits(tensor, &own);
        if low > 0 {
            bits += LOW_BITS_COST * tensor.values.len() as f64;
        }
        if best.is_none_or(|b| bits < b.0) {
            best = Some((bits, low));
        }
    }
    let (low, plan) = (best.map(|b| b.1), plan.unwrap_or_else(Plan::single));
    Ok(at(tensor, &Coding { low, plan, ..coding.clone() }, dial))
}

/// Bits of a position and a value.
fn exception_bits(n: f64) -> f64 {
    33.0 + n.log2()
}

/// Bits of the leaf besides symbols and tables.
fn fixed_bits(tensor: &Tensor<'_>, coding: &Coding) -> f64 {
    let n = tensor.values.len() as f64;
    let chunks = tensor.values.len().div_ceil(CHUNK_ITEMS as usize);
    let Coding { plan, low_bits, .. } = coding;
    let mut bytes = SEGMENT_ENTRY + (chunks + 1) * CHUNK_ENTRY + 1 + coding.centroids.len();
    let mut bits = 0.0;
    if *low_bits > 0 {
        bytes += chunks * (CHUNK_ENTRY + 1);
        bits += n * f64::from(*low_bits);
    }
    if plan.row_count > 1 {
        bytes += CHUNK_ENTRY + 1;
        bits += tensor.runs.class.len() as f64 * class_bits(plan.row_count);
    }
    if plan.column_count > 1 {
        bytes += CHUNK_ENTRY + 1;
        bits += tensor.columns as f64 * class_bits(plan.column_count);
    }
    let exceptions = match coding.limit.is_finite() {
        true => tensor.beyond(f64::from(coding.limit) * f64::from(coding.step)) as f64,
        false => 0.0,
    };
    if exceptions > 0.0 {
        bytes += 2 * CHUNK_ENTRY + 2;
        bits += exceptions * exception_bits(n);
    }
    bits + 8.0 * bytes as f64
}

/// Tables of `counts`, and the bits of the tables and of all symbols.
fn tables(counts: &[[u64; 256]]) -> Result<(Vec<Table>, f64)> {
    let tables = fit_tables(counts);
    let mut side = SideWriter::new();
    side.tables(&tables)?;
    let bytes = side.into_bytes().len() as f64 + estimate_symbols_bytes(counts, &tables, CHUNK_ITEMS);
    Ok((tables, 8.0 * bytes))
}

/// The step, and the rule by which integers are chosen, that meet the goal on a sample.
///
/// The rule follows from tables, which follow from the rule. At a fixed step that loop drifts for long at low rates; at
/// a fixed rate it is at rest after two rounds: in each the rule stands still while the step is turned.
pub(super) fn search(tensor: &Tensor<'_>, goal: Goal) -> Result<(f64, Coding)> {
    let mut coding = Coding::plain(1.0, 0, most(0));
    if tensor.energy <= 0.0 {
        return Ok((0.0, coding));
    }
    let sample = tensor.sample();
    let n = tensor.values.len() as f64;
    // A Gaussian source: h - log2 step bits at high rates, and never a step far beyond its deviation.
    let mut dial = (tensor.energy / n).log2() + (2.0 * (2.05 - goal.bits())).min(3.0);
    let low = goal.bits() < 2.5;
    let rounds = if low { ROUNDS } else { ROUNDS - 1 };
    for round in 0..=rounds {
        let slack = if round == rounds { 0.003 } else { 0.03 };
        let turned = goal.turn(dial, TURNS, slack, |dial| {
            let coding = at(tensor, &coding, dial);
            let seen = coding.sample(tensor, &sample);
            let cells = seen.counter.cells(sample.scale);
            let (bits, error) = expected(tensor, &coding, &cells, &seen);
            Ok((goal.score(bits / n, error / tensor.energy), (coding, seen, cells)))
        })?;
        dial = turned.dial;
        let (own, mut seen, mut cells) = turned.made;
        coding = own;
        let high = goal.bits() > LOW_BITS_FROM;
        if round == 0 && high {
            coding = with_low_bits(tensor, &sample, &coding, dial)?;
            seen = coding.sample(tensor, &sample);
            cells = seen.counter.cells(sample.scale);
        }
        if round == rounds {
            break;
        }
        if round == 0 && !high || round == 1 && low {
            coding.plan = Plan::new(&cells, tensor.limits());
        }
        coding.counts = counts(&coding, &cells);
        coding.centroids = coding.centroids(tensor, &sample, &seen);
    }
    Ok((dial, coding))
}

/// Symbols of each table.
fn counts(coding: &Coding, cells: &Cells) -> Vec<[u64; 256]> {
    let Plan { rows, row_count, columns, column_count } = &coding.plan;
    cells.tables(rows, *row_count, columns, *column_count)
}

/// Bits of the leaf, and its squared error, by what a sample has shown.
fn expected(tensor: &Tensor<'_>, coding: &Coding, cells: &Cells, seen: &Seen) -> (f64, f64) {
    let counts = counts(coding, cells);
    let symbols: f64 = counts.iter().map(|c| entropy_bits(c) + table_bits(span(c))).sum();
    let chunks = tensor.values.len().div_ceil(CHUNK_ITEMS as usize);
    let bits = symbols + 768.0 * chunks as f64 + fixed_bits(tensor, coding);
    (bits, seen.error * f64::from(coding.step).powi(2))
}

/// Codes the whole tensor, correcting the step until the goal is met or the tries are used up; `write` makes a leaf and
/// says what it reached.
///
/// The rule of the search stays: what a step gives then follows it smoothly.
pub(super) fn finish<T>(
    tensor: &Tensor<'_>,
    goal: Goal,
    mut dial: f64,
    mut coding: Coding,
    mut write: impl FnMut(&Made) -> Result<(f64, f64, T)>,
) -> Result<T> {
    let n = tensor.values.len().max(1) as f64;
    let slack = 0.002 * goal.bits().max(0.5);
    let mut best: Option<(bool, f64, T)> = None;
    let (mut slope, mut before): (f64, Option<(f64, f64)>) = (-0.5, None);
    // How far the leaf as written was above what was expected, and the sign of what meets the goal.
    let (mut above, side) = (0.0, if goal.met(f64::INFINITY) { 1.0 } else { -1.0 });
    for attempt in 1..=if tensor.energy > 0.0 { TRIES + MORE } else { 1 } {
        let Whole { symbols, counts, error } = coding.whole(tensor);
        let (tables, bits) = tables(&counts)?;
        let bits = (bits + fixed_bits(tensor, &coding)) / n;
        let mse = error * f64::from(coding.step).powi(2) / tensor.energy.max(f64::MIN_POSITIVE);
        let expected = goal.score(bits, mse);
        let mut score = expected + above;
        if goal.miss(score).abs() <= slack || attempt >= TRIES || best.is_some() || tensor.energy <= 0.0 {
            let made = Made { coding: coding.clone(), tables, symbols };
            let (bits, mse, leaf) = write(&made)?;
            score = goal.score(bits, mse);
            above = score - expected;
            let (met, miss) = (goal.met(score), goal.miss(score).abs());
            if best.as_ref().is_none_or(|b| (met, -miss) > (b.0, -b.1)) {
                best = Some((met, miss, leaf));
            }
        }
        if best.as_ref().is_some_and(|b| b.0 && (b.1 <= slack || attempt >= TRIES)) {
            break;
        }
        if attempt >= TRIES {
            // A few weights answer to a step by jumps: away from the goal's wrong side, in strides that double.
            dial -= side * 0.02 * f64::from(1u32 << (attempt - TRIES).min(8));
        } else {
            if let Some((d, s)) = before.filter(|(d, _)| (d - dial).abs() > 1e-3) {
                slope = ((s - score) / (d - dial)).clamp(-1.5, -0.2);
            }
            before = Some((dial, score));
            dial += (side * slack / 2.0 - goal.miss(score)) / slope;
        }
        coding = at(tensor, &coding, dial);
    }
    best.map(|b| b.2).ok_or_else(|| Error::invalid("no pass was made"))
}
