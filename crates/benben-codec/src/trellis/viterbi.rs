//! The best path through the trellis: least weighted squared error + lambda * bits.
//!
//! Viterbi's algorithm over 8 states, 32 lanes side by side, as the decoder has them: all lanes take the same steps,
//! so that each loop over the lanes is straight code on `[f32; 32]`. Out of each state lead two branches, one for the
//! even and one for the odd k of the state's codebook. Each of these four subsets has a level every 4 steps; of
//! these the nearest to the weight and the next one towards 0 are tried: what lies farther costs both more
//! error and, in a table that falls from its peak, not fewer bits.
//!
//! 100 M weights/s on one core with AVX-512 (70 M with eight tables to a class), 30 to 40 M without; compiled for AVX2
//! it is no faster than for SSE2, since gathers take what the wider registers give. Everything is plain f32 arithmetic
//! on each lane by itself: the path does not depend on the machine.

#![allow(unsafe_code, reason = "a function compiled for AVX-512 is called where that has been detected")]

use super::MAX_CLASSES;
use super::codebook::zigzag;

/// Lanes of a chunk, as in the entropy coder.
pub(super) const LANES: usize = 32;
/// Steps after which costs are brought back to around 0, so that f32 keeps resolving a thousandth.
const REBASE: usize = 16;

/// What the levels and their bits cost.
pub(super) struct Costs {
    /// Whether both codebooks have 0.
    pub(super) zero: bool,
    /// Whether each state has bits of its own, or each codebook.
    pub(super) states: bool,
    /// Value of k + 128 in each codebook, in steps.
    pub(super) levels: [[f32; 256]; 2],
    /// lambda * bits of k + 128, by class and by state; without `states`, by class and codebook (0 and 1).
    pub(super) bits: Box<Bits>,
}

/// Costs of k + 128 by class and state.
pub(super) type Bits = [[[f32; 256]; 8]; MAX_CLASSES];

/// Finds the symbols of `x`, in steps, |x| at most [`REACH`](super::codebook::REACH); element `i` belongs to lane
/// `i mod 32`, and all lanes start in state 0. `weights` multiply the squared errors (empty: all 1). `classes` are
/// the classes of the elements.
pub(super) fn search(costs: &Costs, x: &[f32], weights: &[f32], classes: &[u8], symbols: &mut [u8]) {
    continued(costs, x, weights, classes, symbols, &mut [0; LANES]);
}

/// [`search`] of the next elements of `L` lanes, whose first belongs to lane 0, from the states in which `states` has
/// them; these become the states after the last element of each.
pub(super) fn continued<const L: usize>(
    costs: &Costs,
    x: &[f32],
    weights: &[f32],
    classes: &[u8],
    symbols: &mut [u8],
    states: &mut [u8; L],
) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx2") {
            // SAFETY: the features that the function is compiled for have been detected.
            return unsafe { wide::avx512(costs, x, weights, classes, symbols, states) };
        }
    }
    portable(costs, x, weights, classes, symbols, states);
}

/// [`continued`] compiled for AVX-512: the same operations on each lane, on wider registers.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{Costs, portable};

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn avx512<const L: usize>(
        costs: &Costs,
        x: &[f32],
        weights: &[f32],
        classes: &[u8],
        symbols: &mut [u8],
        states: &mut [u8; L],
    ) {
        portable(costs, x, weights, classes, symbols, states);
    }
}

#[inline(always)]
fn portable<const L: usize>(
    costs: &Costs,
    x: &[f32],
    weights: &[f32],
    classes: &[u8],
    symbols: &mut [u8],
    states: &mut [u8; L],
) {
    match (costs.states, costs.zero) {
        (false, false) => run::<false, false, L>(costs, x, weights, classes, symbols, states),
        (false, true) => run::<false, true, L>(costs, x, weights, classes, symbols, states),
        (true, false) => run::<true, false, L>(costs, x, weights, classes, symbols, states),
        (true, true) => run::<true, true, L>(costs, x, weights, classes, symbols, states),
    }
}

const fn flip(state: usize) -> usize {
    (state >> 1 ^ state >> 2) & 1
}

/// Round to nearest, ties to even, for |x| below 2^22: in two additions, which every vector unit has.
#[inline(always)]
fn round(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23
    (x + MAGIC).to_bits().cast_signed() - MAGIC.to_bits().cast_signed()
}

/// The nearest k of a subset, and the next one towards 0 (itself where that would change sign). Subset
/// `2 * union + parity of k`.
#[inline(always)]
fn candidates<const ZERO: bool>(subset: usize, x: f32) -> [i32; 2] {
    let (union, parity) = ((subset >> 1) as i32, (subset & 1) as i32);
    if ZERO && union == 1 {
        // By magnitude: places 0, 3, 7, 11 .. and 1, 5, 9 ..
        let m = (parity + 2 * round((x.abs() + (1 - 2 * parity) as f32) * 0.25)).max(parity);
        let sign = x.to_bits().cast_signed() >> 31;
        [m, (m - 2).max(parity)].map(|m| (m ^ sign) - sign)
    } else {
        let first = 2 * parity + union;
        let j = round((x - first as f32) * 0.25);
        let (k, place) = (parity + 2 * j, first + 4 * j);
        [k, k - 2 * i32::from(place > 2) + 2 * i32::from(place < -2)]
    }
}

#[inline(always)]
fn index(k: i32) -> usize {
    (k + 128) as usize & 255
}

/// Of one step: the lesser cost of the two candidates of each branch, and which of them it is.
struct Branches<const L: usize> {
    cost: [[[f32; L]; 2]; 8],
    other: [[[u32; L]; 2]; 8],
}

#[inline(always)]
fn run<const STATES: bool, const ZERO: bool, const L: usize>(
    costs: &Costs,
    x: &[f32],
    weights: &[f32],
    classes: &[u8],
    symbols: &mut [u8],
    states: &mut [u8; L],
) {
    let steps = x.len().div_ceil(L);
    let bits = costs.bits.as_flattened().as_flattened();
    let Ok(bits) = <&[f32; MAX_CLASSES * 8 * 256]>::try_from(bits) else { return };
    // Bit s: which way led to state s; bit 8 + s: which candidate of that branch.
    let mut survivors = vec![[0u16; L]; steps];
    let mut total = [[1e30f32; L]; 8];
    for (lane, &state) in states.iter().enumerate() {
        total[usize::from(state & 7)][lane] = 0.0;
    }
    let mut branches = Branches { cost: [[[0.0; L]; 2]; 8], other: [[[0; L]; 2]; 8] };
    let parts = x.chunks(L).zip(classes.chunks(L)).zip(&mut survivors).enumerate();
    for (step, ((x, classes), survivors)) in parts {
        let mut own = [0f32; L];
        own[..x.len()].copy_from_slice(x);
        let mut weight = [1f32; L];
        if let Some(w) = weights.get(step * L..step * L + x.len()) {
            weight[..w.len()].copy_from_slice(w);
        }
        let mut first = [0; L];
        first.iter_mut().zip(classes).for_each(|(f, &c)| *f = usize::from(c) * 8 * 256);
        weigh::<STATES, ZERO, L>(&costs.levels, bits, &first, &own, &weight, &mut branches);
        let mut next = join::<STATES, L>(&total, &branches, survivors);
        // Lanes that the last, shorter step leaves out stay where they are.
        for lane in x.len()..L {
            (0..8).for_each(|state| next[state][lane] = total[state][lane]);
        }
        total = next;
        if step % REBASE == 0 {
            // The least of all: a state that no path leads to yet costs 1e30, against which nothing else shows.
            let mut base = total[0];
            for total in &total[1..] {
                base.iter_mut().zip(total).for_each(|(b, &t)| *b = if t < *b { t } else { *b });
            }
            for total in &mut total {
                total.iter_mut().zip(base).for_each(|(t, b)| *t -= b);
            }
        }
    }
    trace::<ZERO, L>(&total, &survivors, x, symbols, states);
}

/// Costs of the branches out of each state (of each codebook).
#[inline(always)]
fn weigh<const STATES: bool, const ZERO: bool, const L: usize>(
    levels: &[[f32; 256]; 2],
    bits: &[f32; MAX_CLASSES * 8 * 256],
    first: &[usize; L],
    x: &[f32; L],
    weight: &[f32; L],
    branches: &mut Branches<L>,
) {
    for subset in 0..4 {
        let (union, parity) = (subset >> 1, subset & 1);
        let mut k = [[0i32; L]; 2];
        for lane in 0..L {
            let [nearest, inner] = candidates::<ZERO>(subset, x[lane]);
            (k[0][lane], k[1][lane]) = (nearest, inner);
        }
        let mut error = [[0f32; L]; 2];
        for lane in 0..L {
            error[0][lane] = levels[union][index(k[0][lane])];
            error[1][lane] = levels[union][index(k[1][lane])];
        }
        for error in &mut error {
            for lane in 0..L {
                let d = x[lane] - error[lane];
                error[lane] = weight[lane] * (d * d);
            }
        }
        let mut state = union;
        while state < if STATES { 8 } else { 2 } {
            let mut rate = [[0f32; L]; 2];
            for lane in 0..L {
                // The mask says that the index is in the array, which it is for every class.
                let at = first[lane] + state * 256;
                rate[0][lane] = bits[(at + index(k[0][lane])) & (bits.len() - 1)];
                rate[1][lane] = bits[(at + index(k[1][lane])) & (bits.len() - 1)];
            }
            let (cost, other) = (&mut branches.cost[state][parity], &mut branches.other[state][parity]);
            for lane in 0..L {
                let (nearest, inner) = (error[0][lane] + rate[0][lane], error[1][lane] + rate[1][lane]);
                cost[lane] = if inner < nearest { inner } else { nearest };
                other[lane] = u32::from(inner < nearest);
            }
            state += 2;
        }
    }
}

/// The cheaper of the two ways into each state.
#[inline(always)]
fn join<const STATES: bool, const L: usize>(
    total: &[[f32; L]; 8],
    branches: &Branches<L>,
    survivors: &mut [u16; L],
) -> [[f32; L]; 8] {
    let mut next = [[0f32; L]; 8];
    let mut bits = [0u32; L];
    for (state, next) in next.iter_mut().enumerate() {
        let from = [state >> 1, (state >> 1) + 4];
        let branch = from.map(|s| (if STATES { s } else { s & 1 }, (state & 1) ^ flip(s)));
        let [cost_a, cost_b] = branch.map(|(s, parity)| &branches.cost[s][parity]);
        let [other_a, other_b] = branch.map(|(s, parity)| &branches.other[s][parity]);
        let [total_a, total_b] = from.map(|s| &total[s]);
        for lane in 0..L {
            let (a, b) = (total_a[lane] + cost_a[lane], total_b[lane] + cost_b[lane]);
            let second = b < a;
            next[lane] = if second { b } else { a };
            let other = if second { other_b[lane] } else { other_a[lane] };
            bits[lane] |= u32::from(second) << state | other << (8 + state);
        }
    }
    survivors.iter_mut().zip(bits).for_each(|(s, b)| *s = b as u16);
    next
}

/// From the best last state of each lane back to the symbols.
#[inline(always)]
fn trace<const ZERO: bool, const L: usize>(
    total: &[[f32; L]; 8],
    survivors: &[[u16; L]],
    x: &[f32],
    symbols: &mut [u8],
    ends: &mut [u8; L],
) {
    let mut states = [0usize; L];
    for (lane, (best, end)) in states.iter_mut().zip(ends).enumerate() {
        for state in 1..8 {
            if total[state][lane] < total[*best][lane] {
                *best = state;
            }
        }
        *end = *best as u8;
    }
    let parts = symbols.chunks_mut(L).zip(x.chunks(L)).zip(survivors);
    for ((symbols, x), survivors) in parts.rev() {
        for (lane, ((state, symbol), &x)) in states.iter_mut().zip(symbols).zip(x).enumerate() {
            let bits = usize::from(survivors[lane]);
            let before = (*state >> 1) + 4 * (bits >> *state & 1);
            let subset = 2 * (before & 1) + ((*state & 1) ^ flip(before));
            *symbol = zigzag(candidates::<ZERO>(subset, x)[bits >> (8 + *state) & 1]);
            *state = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Trellis;
    use crate::trellis::codebook::{REACH, Shifts, unzigzag};

    fn costs(states: bool, zero: bool) -> Costs {
        let bits = std::array::from_fn(|s| {
            std::array::from_fn(|k| 0.3 * (1.0 + (k as f32 - 128.0).abs() + (s * k % 3) as f32 * 0.2))
        });
        let mut other: [[f32; 256]; 8] = bits;
        other.iter_mut().flatten().for_each(|b| *b *= 0.5);
        Costs {
            zero,
            states,
            levels: Shifts::default().levels(zero),
            bits: Box::new(std::array::from_fn(|i| if i == 0 { bits } else { other })),
        }
    }

    /// Cost of a lane's path, by the definition.
    fn cost(costs: &Costs, begin: u8, x: &[f32], classes: &[u8], weights: &[f32], k: &[i32]) -> f32 {
        let mut state = u32::from(begin);
        let mut sum = 0.0;
        for (i, &k) in k.iter().enumerate() {
            let table = if costs.states { state } else { state & 1 } as usize;
            let d = x[i] - costs.levels[(state & 1) as usize][index(k)];
            sum += weights[i] * d * d + costs.bits[usize::from(classes[i])][table][index(k)];
            state = Trellis::next(state, zigzag(k));
        }
        sum
    }

    /// All paths of 5 symbols with |k| up to 2 from some state, for one lane: none is cheaper.
    #[test]
    fn no_path_is_cheaper() {
        let mut seed = 7u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32
        };
        for round in 0..24 {
            let costs = costs(round & 1 == 1, round & 2 == 2);
            let n = 5;
            let x: Vec<f32> = (0..n * LANES).map(|_| 4.0 * random() - 2.0).collect();
            let weights: Vec<f32> = (0..n * LANES).map(|_| random() + 0.5).collect();
            let classes: Vec<u8> = (0..n * LANES).map(|_| u8::from(random() > 0.5)).collect();
            let mut symbols = vec![0; x.len()];
            let lane = round % LANES;
            let begin: [u8; LANES] = std::array::from_fn(|lane| (lane + round) as u8 & 7);
            continued(&costs, &x, &weights, &classes, &mut symbols, &mut begin.clone());
            let of = |v: &[f32]| -> Vec<f32> { v.chunks(LANES).map(|c| c[lane]).collect() };
            let classes: Vec<u8> = classes.chunks(LANES).map(|c| c[lane]).collect();
            let k: Vec<i32> = symbols.chunks(LANES).map(|c| unzigzag(c[lane])).collect();
            let found = cost(&costs, begin[lane], &of(&x), &classes, &of(&weights), &k);
            let best = (0..5usize.pow(n as u32))
                .map(|mut code| {
                    let k: Vec<i32> = (0..n)
                        .map(|_| {
                            let k = (code % 5) as i32 - 2;
                            code /= 5;
                            k
                        })
                        .collect();
                    cost(&costs, begin[lane], &of(&x), &classes, &of(&weights), &k)
                })
                .fold(f32::INFINITY, f32::min);
            assert!(found <= best * 1.0001, "{round}: {found} where {best} is possible");
        }
    }

    /// Every form over weights, classes and a last step that some lanes lack.
    #[test]
    fn wide_registers_find_the_same_path() {
        let mut seed = 3u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32
        };
        for (states, zero) in [(false, false), (false, true), (true, false), (true, true)] {
            let costs = costs(states, zero);
            let x: Vec<f32> =
                (0..5003).map(|i| if i % 97 == 0 { 252.0 } else { 12.0 * (random() - 0.5) }).collect();
            let weights: Vec<f32> = x.iter().map(|_| 2.0 * random()).collect();
            let classes: Vec<u8> = (0..x.len()).map(|i| u8::from(i / 1000 % 2 == 1)).collect();
            for weights in [&weights[..], &[]] {
                let mut twins = [vec![0; x.len()], vec![0; x.len()]];
                search(&costs, &x, weights, &classes, &mut twins[0]);
                portable(&costs, &x, weights, &classes, &mut twins[1], &mut [0; LANES]);
                assert!(twins[0] == twins[1], "{states} {zero}");
                // Half of the lanes by themselves, in two goes.
                let half =
                    |v: &[f32]| v.chunks(LANES).flat_map(|c| c.iter().take(16)).copied().collect::<Vec<_>>();
                let of =
                    |v: &[u8]| v.chunks(LANES).flat_map(|c| c.iter().take(16)).copied().collect::<Vec<_>>();
                let (x, weights, classes, whole) = (half(&x), half(weights), of(&classes), of(&twins[0]));
                let mut symbols = vec![0; x.len()];
                let mut at = [0u8; 16];
                continued(&costs, &x, &weights, &classes, &mut symbols, &mut at);
                assert!(symbols == whole, "{states} {zero}");
                let mut found = [0u32; 16];
                symbols
                    .iter()
                    .enumerate()
                    .for_each(|(i, &s)| found[i % 16] = Trellis::next(found[i % 16], s));
                assert_eq!(found.map(|s| s as u8), at);
            }
        }
    }

    #[test]
    fn candidates_are_in_their_subset_and_in_reach() {
        for i in -2520..=2520 {
            let x = i as f32 / 10.0;
            for subset in 0..4 {
                let all = [candidates::<false>(subset, x), candidates::<true>(subset, x)];
                for k in all.into_iter().flatten() {
                    assert_eq!(k & 1, subset as i32 & 1);
                    assert!((-127..=127).contains(&k), "{x} {subset}: {k}");
                }
                let nearest = candidates::<false>(subset, x)[0];
                let place = crate::trellis::codebook::place(false, subset >> 1, nearest);
                assert!((x - place as f32).abs() <= 2.0, "{x} {subset}: {nearest}");
            }
        }
        assert_eq!(REACH, 252.0);
    }
}
