//! The arithmetic between the matrices: norms, activations, attention of one head.
//!
//! Loops are written so that the compiler turns them into vectors of any width, and every sum has a stated order: 16
//! partial sums, or one for each output. Wider registers therefore change the time and never a bit; the same code is
//! compiled twice, for every x86-64 and for those with AVX2, and a test holds both equal.
#![allow(
    unsafe_code,
    reason = "a function compiled for AVX2 may be called once the processor is known to have it"
)]

/// Positions of a page of the cache.
pub(super) const PAGE: usize = 32;
/// Partial sums of a long sum.
const LANES: usize = 16;

/// Compiles a function for the processors that every build runs on and for those with AVX2, and calls what fits.
macro_rules! by_processor {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*)) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) {
                    portable::$name($($arg),*);
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the one feature that the function asks for.
                    return unsafe { wide($($arg),*) };
                }
            }
            portable::$name($($arg),*);
        }
    };
}

by_processor! {
    /// `out = x / sqrt(mean(x^2) + epsilon) * weight` (Zhang and Sennrich, 2019, <https://arxiv.org/abs/1910.07467>).
    fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32])
}
by_processor! {
    /// `gate = silu(gate) * up` (Shazeer, 2020, <https://arxiv.org/abs/2002.05202>).
    fn swiglu(gate: &mut [f32], up: &[f32])
}
by_processor! {
    /// Scores of one query with [`PAGE`] keys, laid out `[dimension][position]`.
    fn page_scores(query: &[f32], keys: &[f32], scores: &mut [f32])
}
by_processor! {
    /// `scores = softmax(scores * scale)`.
    fn softmax(scores: &mut [f32], scale: f32)
}
by_processor! {
    /// Adds `sum over positions of weight * value` to `out`; values are `[position][dimension]`.
    fn page_mix(weights: &[f32], values: &[f32], out: &mut [f32])
}

/// `x += y`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// The bodies, inlined into what is compiled for a processor.
mod portable {
    use super::{LANES, PAGE};

    #[inline(always)]
    pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let mut sums = [0f32; LANES];
        let whole = x.chunks_exact(LANES);
        for (sum, x) in sums.iter_mut().zip(whole.remainder()) {
            *sum = x * x;
        }
        for chunk in whole {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += x * x;
            }
        }
        let scale = 1.0 / (fold(sums) / x.len() as f32 + epsilon).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }

    #[inline(always)]
    pub(super) fn swiglu(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }

    #[inline(always)]
    pub(super) fn page_scores(query: &[f32], keys: &[f32], scores: &mut [f32]) {
        let mut sums = [0f32; PAGE];
        for (q, keys) in query.iter().zip(keys.chunks_exact(PAGE)) {
            for (sum, key) in sums.iter_mut().zip(keys) {
                *sum += q * key;
            }
        }
        scores.copy_from_slice(&sums[..scores.len()]);
    }

    #[inline(always)]
    pub(super) fn softmax(scores: &mut [f32], scale: f32) {
        let largest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        let mut sums = [0f32; LANES];
        for chunk in scores.chunks_mut(LANES) {
            for (sum, score) in sums.iter_mut().zip(chunk) {
                *score = exp((*score - largest) * scale);
                *sum += *score;
            }
        }
        let whole = 1.0 / fold(sums);
        for score in scores {
            *score *= whole;
        }
    }

    #[inline(always)]
    pub(super) fn page_mix(weights: &[f32], values: &[f32], out: &mut [f32]) {
        let width = out.len();
        let mut fours = weights.chunks_exact(4);
        let mut rows = values.chunks_exact(4 * width);
        for (w, rows) in fours.by_ref().zip(rows.by_ref()) {
            let (a, rest) = rows.split_at(width);
            let (b, rest) = rest.split_at(width);
            let (c, d) = rest.split_at(width);
            for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out += (w[0] * a + w[1] * b) + (w[2] * c + w[3] * d);
            }
        }
        let done = weights.len() / 4 * 4;
        for (w, row) in fours.remainder().iter().zip(values[done * width..].chunks_exact(width)) {
            for (out, value) in out.iter_mut().zip(row) {
                *out += w * value;
            }
        }
    }

    /// The sum of all lanes, halves first.
    #[inline(always)]
    fn fold(mut lanes: [f32; LANES]) -> f32 {
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// e^x within 3e-7 of it, without a branch: x = n ln 2 + r, a polynomial in r, and n into the
    /// exponent. Below -87 it is e^-87, about 1e-38, and above 88 e^88.
    #[inline(always)]
    pub(super) fn exp(x: f32) -> f32 {
        // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
        const MAGIC: f32 = 12_582_912.0;
        // ln 2 in two parts, the first with zeros at its end, so that n times it is exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = if x > -87.0 { x } else { -87.0 };
        let x = if x < 88.0 { x } else { 88.0 };
        let shifted = x * std::f32::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = (x - n * LN2_HIGH) - n * LN2_LOW;
        // Taylor's series to the sixth power: |r| is at most 0.347, what is left out 1.2e-7.
        let tail = (1.0 / 720.0 * r + 1.0 / 120.0) * r + 1.0 / 24.0;
        let series = (((tail * r + 1.0 / 6.0) * r + 0.5) * r + 1.0) * r + 1.0;
        let exponent = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127);
        series * f32::from_bits(exponent << 23)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 * 2.0 - 2.0
            })
            .collect()
    }

    #[test]
    fn exp_is_near() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let (found, expected) = (f64::from(portable::exp(x)), f64::from(x).exp());
            assert!(((found - expected) / expected).abs() < 3e-7, "exp({x}) = {found}, not {expected}");
        }
        assert_eq!(portable::exp(0.0), 1.0);
        assert!(portable::exp(-1e30) < 2e-38 && portable::exp(1e30).is_finite());
    }

    /// What `run` leaves in a buffer by either way of compiling.
    fn same(run: impl Fn(bool) -> Vec<f32>) {
        let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(run(false)), bits(run(true)));
    }

    #[test]
    fn wide_registers_change_no_bit() {
        for n in [1, 5, 16, 64, 100, 576] {
            let (x, y) = (noise(n, 1), noise(n, 2));
            same(|wide| {
                let mut out = vec![0.0; n];
                let f = if wide { rms_norm } else { portable::rms_norm };
                f(&x, &y, 1e-5, &mut out);
                out
            });
            same(|wide| {
                let mut gate = x.clone();
                (if wide { swiglu } else { portable::swiglu })(&mut gate, &y);
                gate
            });
            same(|wide| {
                let mut scores = x.clone();
                (if wide { softmax } else { portable::softmax })(&mut scores, 0.125);
                scores
            });
        }
        for (positions, dim) in [(1, 64), (7, 32), (PAGE, 64), (PAGE, 6)] {
            let (query, page) = (noise(dim, 3), noise(dim * PAGE, 4));
            same(|wide| {
                let mut scores = vec![0.0; positions];
                (if wide { page_scores } else { portable::page_scores })(&query, &page, &mut scores);
                scores
            });
            let weights = noise(positions, 5);
            same(|wide| {
                let mut out = query.clone();
                (if wide { page_mix } else { portable::page_mix })(&weights, &page, &mut out);
                out
            });
        }
    }
}
