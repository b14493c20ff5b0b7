//! Kernels against their definition, and matrices against plain loops.

#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test")]

use super::packing::{ALL, INTEGERS, LANES, Line, Packing, View, lead, tables, unit};
use super::{Job, Kernel, Panels, run};
use benben_codec::lattice::Lattice;
use proptest::prelude::*;

fn numbers(mut state: u64) -> impl FnMut() -> u32 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    }
}

/// Lines whose values are small whole numbers, so that sums are exact in any order.
fn lines(packing: Packing, columns: usize, seed: u64) -> Vec<Line> {
    let mut number = numbers(seed);
    let mut whole = || f32::from((number() >> 28) as u8) - 8.0;
    let mut line = |of: &mut dyn FnMut(f32) -> u32| Line(std::array::from_fn(|_| of(whole())));
    let mut out: Vec<Line> = (0..lead(packing as u8)).map(|_| line(&mut f32::to_bits)).collect();
    let mut number = numbers(seed + 1);
    for _ in 0..packing.lines(columns) {
        out.push(match packing {
            Packing::Full => line(&mut f32::to_bits),
            // Halves of the numbers 0, 1, 2 and -3.
            Packing::Half => line(&mut |v| if v > 0.0 { 0x3c00_4000 } else { 0xc200 }),
            Packing::Brain => line(&mut |v| if v > 0.0 { 0x3f80_4000 } else { 0xc040 }),
            // Codes of trits that are no trits are zero in every kernel only where no bit is shared.
            Packing::Trits => Line(std::array::from_fn(|_| {
                let word = number();
                word & !(word >> 1 & 0x5555_5555)
            })),
            _ => Line(std::array::from_fn(|_| number())),
        });
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn kernels_are_their_definition(seed in any::<u64>(), columns in 1usize..700, vectors in 1usize..30) {
        let tables = tables(Packing::Bits10, |q| q as f32);
        let mut number = numbers(seed);
        let stride = columns + Panels::PADDING + 3;
        let x: Vec<f32> = (0..vectors * stride)
            .map(|i| if i % stride < columns { f32::from((number() >> 29) as u8) - 4.0 } else { 0.0 })
            .collect();
        // Multiples of the step from 32 on, which a kernel may compute, or anything.
        let far = super::panels::far(|q| q as f32);
        prop_assert_eq!(far, Some(1.0));
        for (packing, far) in ALL.into_iter().flat_map(|p| [(p, None), (p, far)]) {
            let lines = lines(packing, columns, seed);
            let view = View { packing, lines: &lines, columns, tables: &tables, far };
            let first = columns.div_ceil(unit(packing as u8)) / 2;
            let rest = columns - first * unit(packing as u8);
            let of = |kernel: Kernel| {
                let mut panel = vec![[0.0; LANES]; rest];
                kernel.expand(view, first, &mut panel);
                let mut sums = vec![[1.0; LANES]; 2 * vectors];
                let x_rest = &x[first * unit(packing as u8)..];
                kernel.tile(&[&panel, &panel], x_rest, stride, vectors, &mut sums);
                let mut single = vec![[0.0; LANES]; vectors];
                kernel.tile(&[&panel], x_rest, stride, vectors, &mut single);
                (kernel.dot(view, &x), panel, sums, single)
            };
            let expected = of(Kernel::Portable);
            for kernel in Kernel::ALL.into_iter().filter(|k| k.is_available()) {
                prop_assert_eq!(&of(kernel), &expected, "{:?} of {:?}", kernel, packing);
            }
            // The panel against the sums: they come from the same codes by different ways.
            for v in 0..vectors {
                for r in 0..LANES {
                    let sum: f32 = expected.1.iter().enumerate()
                        .map(|(k, w)| w[r] * x[v * stride + first * unit(packing as u8) + k])
                        .sum();
                    prop_assert_eq!(expected.3[v][r], sum);
                    prop_assert_eq!(expected.2[2 * v + 1][r], sum + 1.0);
                }
            }
        }
    }

    #[test]
    fn any_integers_are_kept(
        seed in any::<u64>(),
        (rows, columns) in (16usize..70, 1usize..90),
        width in 1u32..9,
        wild in 0u32..40,
        trellis in any::<bool>(),
    ) {
        let mut number = numbers(seed);
        let lowest = if trellis { -256 } else { -128 };
        let lattice = Lattice {
            step: 0.5,
            shifts: vec![0.0, 0.25, -0.5],
            lowest,
            highest: -1 - lowest,
            exceptions: vec![(3, 1e6), (rows as u64 * columns as u64 - 1, -7.5)],
        };
        let integers: Vec<f32> = (0..rows * columns)
            .map(|_| {
                let reach = if number() % 100 < wild { -lowest } else { 1 << (width - 1) };
                ((number() % (2 * reach as u32)) as i32 - reach) as f32
            })
            .collect();
        let mut panels = Panels::new(rows, columns, Some(&lattice));
        let whole = rows / 32 * 32;
        let (head, tail) = integers.split_at(whole * columns);
        let cut = lattice.exceptions.partition_point(|e| e.0 < head.len() as u64);
        panels.push_integers(head, &lattice, &lattice.exceptions[..cut], 0);
        panels.push_integers(tail, &lattice, &lattice.exceptions[cut..], head.len() as u64);
        let most = super::most_bytes(rows, columns, Some((-lowest as u32, 2)), 1);
        prop_assert!(panels.bytes() <= most, "{} bytes, foreseen {most}", panels.bytes());
        let value = |i: usize| {
            let exception = lattice.exceptions.iter().find(|e| e.0 == i as u64);
            exception.map_or_else(|| lattice.value(integers[i] as i32), |e| e.1)
        };
        let x: Vec<f32> = (0..columns).map(|_| f32::from(number() as u8)).chain([0.0; 16]).collect();
        let dense = |panels: Panels| panels.expanded(Kernel::fastest());
        for expanded in [false, true] {
            panels = if expanded { dense(panels) } else { panels };
            let mut row = vec![0.0; columns];
            for r in 0..rows {
                panels.row(r, &mut row);
                let expected: Vec<u32> = (0..columns).map(|c| value(r * columns + c).to_bits()).collect();
                prop_assert_eq!(row.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
            }
            let mut out = vec![0.0; rows];
            run(Kernel::fastest(), vec![Job { panels: &panels, x: &x, stride: x.len(), out: &mut out }], 1);
            for (r, y) in out.iter().enumerate() {
                let terms = (0..columns).map(|c| f64::from(value(r * columns + c)) * f64::from(x[c]));
                let (sum, size) = terms.fold((0.0, 0.0), |(s, a): (f64, f64), t| (s + t, a + t.abs()));
                prop_assert!((f64::from(*y) - sum).abs() <= 1e-5 * size, "{y} instead of {sum}");
            }
        }
    }
}

#[test]
fn narrow_rows_take_narrow_codes() {
    let lattice =
        Lattice { step: 1.0, shifts: vec![0.0], lowest: -128, highest: 127, exceptions: Vec::new() };
    for (packing, reach) in INTEGERS.into_iter().zip([2, 4, 8, 16, 32, 128]) {
        let integers: Vec<f32> = (0..16 * 960).map(|i| (i % (2 * reach) - reach) as f32).collect();
        let mut panels = Panels::new(16, 960, Some(&lattice));
        panels.push_integers(&integers, &lattice, &[], 0);
        assert_eq!(panels.view(0).0.packing, packing);
    }
}
