//! Weights to integers: the nearest, or the one that costs least in error and bits together.
//!
//! Between the integers k and k + 1 the cheaper one changes at one point: that is all that a rate-distortion choice
//! needs where every weight counts the same, a table of [`Thresholds`] and no search. Where weights count differently
//! the point moves with the weight, and [`search`] compares costs.
//!
//! All of it is straight code over 16 lanes, compiled for AVX2 and AVX-512 too. Each lane does plain f32 arithmetic by
//! itself, and sums are added lane by lane in one order, so that nothing depends on the machine.

#![allow(
    unsafe_code,
    reason = "functions compiled for AVX2 and AVX-512 are called where those have been detected"
)]

use crate::entropy::Model;

/// Weights side by side.
const LANES: usize = 16;
/// The largest integer of a symbol.
pub(super) const REACH: f32 = 127.0;
/// Weights whose errors f32 adds up.
const BLOCK: usize = 64 * LANES;
/// Numbers of one row of a table that is indexed by k + 128.
pub(super) const ROW: usize = 256;
/// Numbers of as many rows as a model has tables.
const ALL: usize = Model::MAX_TABLES * ROW;

/// One number for each table and each k from -128 on.
pub(super) type Numbers = Box<[f32; ALL]>;

/// An array of [`Numbers`], all of them `value`.
pub(super) fn numbers(value: f32) -> Numbers {
    let Ok(all) = vec![value; ALL].into_boxed_slice().try_into() else { return Box::new([value; ALL]) };
    all
}

/// How weights become steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) step: f32,
    /// Weights beyond so many steps are kept aside and count as 0 here; infinite where none is kept aside.
    pub(super) limit: f32,
}

/// Which table codes a weight: `base + of[i]`, or `base` where `of` is empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) base: u8,
    pub(super) of: &'a [u8],
}

/// What [`search`] goes by; by table and k + 128 (levels by k + 128 alone).
pub(super) struct Costs {
    /// Values, in steps.
    pub(super) levels: [f32; ROW],
    /// lambda * bits.
    pub(super) bits: Numbers,
}

/// A function and the same compiled for wider registers.
macro_rules! compiled {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? = $portable:ident) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $out)? {
                    $portable($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    $portable($($arg),*)
                }
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx2") {
                    // SAFETY: the features that the function is compiled for have been detected.
                    return unsafe { avx512($($arg),*) };
                }
                if has!("avx2") {
                    // SAFETY: the feature that the function is compiled for has been detected.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $portable($($arg),*)
        }
    };
}

compiled! {
    /// Symbols by thresholds: `thresholds[table, k + 128]` is where, from k on, k + 1 begins.
    by_thresholds(thresholds: &Numbers, scale: Scale, values: &[f32], tables: Tables<'_>, symbols: &mut [u8])
        = thresholds_portable
}

compiled! {
    /// Symbols of the least `weight * error + lambda * bits` among the two neighbours, the next integer towards 0,
    /// and 0.
    search(costs: &Costs, scale: Scale, values: &[f32], weights: &[f32], tables: Tables<'_>, symbols: &mut [u8])
        = search_portable
}

compiled! {
    /// Sum of squared errors, in steps^2; `levels` by symbol.
    error(levels: &[f32; ROW], scale: Scale, values: &[f32], symbols: &[u8]) -> f64 = error_portable
}

compiled! {
    /// Symbols of the nearest integers, at most `most`, without their `low_bits`; gives the sum of squared errors, in
    /// steps^2.
    nearest(scale: Scale, most: f32, low_bits: u8, values: &[f32], symbols: &mut [u8]) -> f64 = nearest_portable
}

/// The `low_bits` that [`nearest`] leaves out.
pub(super) fn low_bits(scale: Scale, most: f32, low_bits: u8, values: &[f32], out: &mut [u64]) {
    for (out, &value) in out.iter_mut().zip(values) {
        let k = round(in_steps(scale, value).clamp(-most, most)).1;
        *out = u64::from(k.cast_unsigned() & ((1 << low_bits) - 1));
    }
}

const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23

/// Round to nearest, ties to even, for |x| below 2^22: in two additions, which every vector unit has.
#[inline(always)]
fn round(x: f32) -> (f32, i32) {
    let sum = x + MAGIC;
    (sum - MAGIC, sum.to_bits().cast_signed() - MAGIC.to_bits().cast_signed())
}

#[inline(always)]
fn in_steps(scale: Scale, value: f32) -> f32 {
    // A product with 1 / step would overflow for steps below 2^-127.
    let x = value / scale.step;
    if x.abs() <= scale.limit { x } else { 0.0 }
}

/// The integer below x and the distance from it.
#[inline(always)]
fn floor(x: f32) -> (i32, f32) {
    let x = x.clamp(-REACH, REACH);
    let (nearest, k) = round(x);
    let above = nearest > x;
    (k - i32::from(above), x - nearest + if above { 1.0 } else { 0.0 })
}

#[inline(always)]
fn zigzag(k: i32) -> u8 {
    ((k << 1) ^ (k >> 31)) as u8
}

/// Where in [`Numbers`] the tables of the lanes from `from` on begin.
#[inline(always)]
fn rows(tables: Tables<'_>, from: usize) -> [usize; LANES] {
    let mut rows = [usize::from(tables.base) * ROW; LANES];
    if !tables.of.is_empty() {
        let of = load(tables.of, from, 0);
        for lane in 0..LANES {
            rows[lane] += usize::from(of[lane]) * ROW;
        }
    }
    rows
}

/// The items from `from` on, `filler` past the last.
#[inline(always)]
fn load<T: Copy>(items: &[T], from: usize, filler: T) -> [T; LANES] {
    let mut lanes = [filler; LANES];
    match items.get(from..from + LANES) {
        Some(items) => lanes.copy_from_slice(items),
        None => {
            let items = items.get(from..).unwrap_or_default();
            lanes[..items.len()].copy_from_slice(items);
        }
    }
    lanes
}

#[inline(always)]
fn store<T: Copy>(out: &mut [T], from: usize, lanes: &[T; LANES]) {
    match out.get_mut(from..from + LANES) {
        Some(out) => out.copy_from_slice(lanes),
        None => {
            let out = out.get_mut(from..).unwrap_or_default();
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}

#[inline(always)]
fn thresholds_portable(
    thresholds: &Numbers,
    scale: Scale,
    values: &[f32],
    tables: Tables<'_>,
    symbols: &mut [u8],
) {
    for from in (0..values.len()).step_by(LANES) {
        let values = load(values, from, 0.0);
        let rows = rows(tables, from);
        let mut k = [0i32; LANES];
        let mut distance = [0f32; LANES];
        for lane in 0..LANES {
            (k[lane], distance[lane]) = floor(in_steps(scale, values[lane]));
        }
        let mut threshold = [0f32; LANES];
        for lane in 0..LANES {
            threshold[lane] = thresholds[(rows[lane] + (k[lane] + 128) as usize) & (ALL - 1)];
        }
        let mut own = [0u8; LANES];
        for lane in 0..LANES {
            own[lane] = zigzag(k[lane] + i32::from(distance[lane] >= threshold[lane]));
        }
        store(symbols, from, &own);
    }
}

#[inline(always)]
fn search_portable(
    costs: &Costs,
    scale: Scale,
    values: &[f32],
    weights: &[f32],
    tables: Tables<'_>,
    symbols: &mut [u8],
) {
    for from in (0..values.len()).step_by(LANES) {
        let (values, weights) = (load(values, from, 0.0), load(weights, from, 1.0));
        let rows = rows(tables, from);
        let mut x = [0f32; LANES];
        let mut below = [0i32; LANES];
        for lane in 0..LANES {
            x[lane] = in_steps(scale, values[lane]).clamp(-REACH, REACH);
            below[lane] = floor(x[lane]).0;
        }
        let mut best = [f32::INFINITY; LANES];
        let mut chosen = [0i32; LANES];
        for candidate in 0..4 {
            for lane in 0..LANES {
                let k = match candidate {
                    0 => below[lane],
                    1 => (below[lane] + 1).min(127),
                    // Towards 0 from the neighbour that is nearer to it.
                    2 if below[lane] >= 0 => (below[lane] - 1).max(0),
                    2 => (below[lane] + 2).min(0),
                    _ => 0,
                };
                let at = (k + 128) as usize & (ROW - 1);
                let d = x[lane] - costs.levels[at];
                let cost = weights[lane] * (d * d) + costs.bits[(rows[lane] + at) & (ALL - 1)];
                let better = cost < best[lane];
                best[lane] = if better { cost } else { best[lane] };
                chosen[lane] = if better { k } else { chosen[lane] };
            }
        }
        let mut own = [0u8; LANES];
        for lane in 0..LANES {
            own[lane] = zigzag(chosen[lane]);
        }
        store(symbols, from, &own);
    }
}

#[inline(always)]
fn error_portable(levels: &[f32; ROW], scale: Scale, values: &[f32], symbols: &[u8]) -> f64 {
    let mut sum = 0.0;
    for (values, symbols) in values.chunks(BLOCK).zip(symbols.chunks(BLOCK)) {
        let mut sums = [0f32; LANES];
        let ((values, last), (symbols, last_symbols)) =
            (values.as_chunks::<LANES>(), symbols.as_chunks::<LANES>());
        for (values, symbols) in values.iter().zip(symbols) {
            for lane in 0..LANES {
                let d = in_steps(scale, values[lane]) - levels[usize::from(symbols[lane])];
                sums[lane] += d * d;
            }
        }
        for (&value, &symbol) in last.iter().zip(last_symbols) {
            let d = in_steps(scale, value) - levels[usize::from(symbol)];
            sums[0] += d * d;
        }
        sum += sums.iter().map(|&s| f64::from(s)).sum::<f64>();
    }
    sum
}

#[inline(always)]
fn nearest_portable(scale: Scale, most: f32, low_bits: u8, values: &[f32], symbols: &mut [u8]) -> f64 {
    let mut sum = 0.0;
    for (values, symbols) in values.chunks(BLOCK).zip(symbols.chunks_mut(BLOCK)) {
        let mut sums = [0f32; LANES];
        for from in (0..values.len()).step_by(LANES) {
            let values = load(values, from, 0.0);
            let mut own = [0u8; LANES];
            for lane in 0..LANES {
                let x = in_steps(scale, values[lane]);
                let (nearest, k) = round(x.clamp(-most, most));
                sums[lane] += (x - nearest) * (x - nearest);
                own[lane] = zigzag(k >> low_bits);
            }
            store(symbols, from, &own);
        }
        sum += sums.iter().map(|&s| f64::from(s)).sum::<f64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Random(u32);

    impl Random {
        fn unit(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) as f32 / (1 << 24) as f32
        }
    }

    /// Weights from 0 to beyond the reach, of all lengths around whole lanes.
    fn weights(n: usize) -> Vec<f32> {
        let mut random = Random(7);
        (0..n)
            .map(|i| match i % 50 {
                7 => 1e30,
                13 => -(random.unit() * 300.0).round() / 2.0,
                17 => 0.0,
                _ => (random.unit() - 0.5) * 24.0,
            })
            .collect()
    }

    fn costs() -> Costs {
        let mut bits = numbers(0.0);
        for (i, bits) in bits.iter_mut().enumerate() {
            let (table, k) = (i / ROW, (i % ROW) as f32 - 128.0);
            *bits = 0.1 * (1.0 + k.abs() / (1.0 + table as f32) + 0.2 * (i % 3) as f32);
        }
        let levels = std::array::from_fn(|i| {
            let k = i as f32 - 128.0;
            if k == 0.0 { 0.0 } else { k - 0.1 * k.signum() }
        });
        Costs { levels, bits }
    }

    #[test]
    fn wide_registers_choose_the_same() {
        let costs = costs();
        let mut thresholds = numbers(0.0);
        let mut random = Random(3);
        thresholds.iter_mut().for_each(|t| *t = random.unit());
        let mut levels = [0.0; ROW];
        levels.iter_mut().for_each(|l| *l = 100.0 * random.unit());
        for n in [0, 1, 15, 16, 17, 1023, 5000] {
            let values = weights(n);
            let importance: Vec<f32> = (0..n).map(|_| 3.0 * random.unit()).collect();
            let of: Vec<u8> = (0..n).map(|i| (i % 5) as u8).collect();
            for (scale, of) in [(0.7, &of[..]), (1e-41, &[]), (0.2, &[])]
                .map(|(step, of)| (Scale { step, limit: 127.0 }, of))
            {
                let tables = Tables { base: 3, of };
                let mut twins = [vec![9; n], vec![9; n]];
                by_thresholds(&thresholds, scale, &values, tables, &mut twins[0]);
                thresholds_portable(&thresholds, scale, &values, tables, &mut twins[1]);
                assert!(twins[0] == twins[1], "{n} {scale:?}");
                let errors = [
                    error(&levels, scale, &values, &twins[0]),
                    error_portable(&levels, scale, &values, &twins[0]),
                ];
                assert_eq!(errors[0].to_bits(), errors[1].to_bits());
                for importance in [&importance[..], &[]] {
                    search(&costs, scale, &values, importance, tables, &mut twins[0]);
                    search_portable(&costs, scale, &values, importance, tables, &mut twins[1]);
                    assert!(twins[0] == twins[1], "{n} {scale:?}");
                }
                for low in [0, 3] {
                    let most = super::super::coding::most(low);
                    let errors = [
                        nearest(Scale { limit: most, ..scale }, most, low, &values, &mut twins[0]),
                        nearest_portable(Scale { limit: most, ..scale }, most, low, &values, &mut twins[1]),
                    ];
                    assert!(
                        twins[0] == twins[1] && errors[0].to_bits() == errors[1].to_bits(),
                        "{n} {scale:?} {low}"
                    );
                }
            }
        }
    }

    /// No integer of all costs less than the one that the search takes among four.
    #[test]
    fn no_integer_is_cheaper() {
        let costs = costs();
        let values = weights(4000);
        let scale = Scale { step: 1.0, limit: f32::INFINITY };
        let mut random = Random(5);
        let importance: Vec<f32> = values.iter().map(|_| 0.2 + random.unit()).collect();
        let mut symbols = vec![0; values.len()];
        search(&costs, scale, &values, &importance, Tables { base: 2, of: &[] }, &mut symbols);
        for ((&x, &w), &symbol) in values.iter().zip(&importance).zip(&symbols) {
            let x = x.clamp(-REACH, REACH);
            let cost = |k: i32| {
                let d = x - costs.levels[(k + 128) as usize];
                w * d * d + costs.bits[2 * ROW + (k + 128) as usize]
            };
            let found = cost(super::super::unzigzag(symbol.into()));
            let least = (-127..=127).map(cost).fold(f32::INFINITY, f32::min);
            assert!(found <= least * 1.001, "{x}: {found} where {least} is possible");
        }
    }

    #[test]
    fn low_bits_and_symbols_make_the_nearest_integer() {
        let values = weights(1000);
        let scale = Scale { step: 0.01, limit: super::super::coding::most(4) };
        let (mut symbols, mut low) = (vec![0; values.len()], vec![0; values.len()]);
        nearest(scale, scale.limit, 4, &values, &mut symbols);
        low_bits(scale, scale.limit, 4, &values, &mut low);
        for ((&v, &symbol), &low) in values.iter().zip(&symbols).zip(&low) {
            let q = super::super::unzigzag(symbol.into()) * 16 + low as i32;
            let x = if (v / 0.01).abs() <= scale.limit { v / 0.01 } else { 0.0 };
            assert!((q as f32 - x).abs() <= 0.5, "{v}: {q}");
        }
    }
}
