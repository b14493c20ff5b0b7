//! The definition of the kernels, in plain Rust; also compiled for AVX2.

use super::packing::{
    BRAIN, FULL, HALF, LANES, Line, SIGNED, TRITS, View, bits, lead, signed, table, unit, unit_lines,
};

/// 16 rows of one column.
pub(super) type Lanes = [f32; LANES];

#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, sum: f32) -> f32 {
    if FMA { a.mul_add(b, sum) } else { a * b + sum }
}

/// Column `i` of row `r` of a unit.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "halves of a word")]
pub(super) fn one<const P: u8>(lines: &[Line], i: usize, r: usize, levels: &[Line], values: &[f32]) -> f32 {
    let line = &lines[0];
    let half = || (line.0[(i % 2) * 8 + r / 2] >> (16 * (r % 2))) as u16;
    match P {
        FULL => f32::from_bits(line.0[r]),
        HALF => half_to_f32(half()),
        BRAIN => f32::from_bits(u32::from(half()) << 16),
        TRITS => match (line.0[r] >> (2 * i)) & 3 {
            1 => f32::from_bits(levels[0].0[r]),
            2 => f32::from_bits(levels[1].0[r]),
            _ => 0.0,
        },
        SIGNED => {
            let (sign, magnitude) = signed(lines, i, r);
            f32::from_bits(values[magnitude].to_bits() ^ sign)
        }
        _ => values[((line.0[r] >> (bits(P) * i)) & ((1 << bits(P)) - 1)) as usize],
    }
}

/// Column `i` of a unit.
#[inline(always)]
fn column<const P: u8>(lines: &[Line], i: usize, levels: &[Line], values: &[f32]) -> Lanes {
    std::array::from_fn(|r| one::<P>(lines, i, r, levels, values))
}

/// Value of an f16, exact.
#[inline(always)]
pub(crate) fn half_to_f32(half: u16) -> f32 {
    let (sign, magnitude) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    if magnitude >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | (magnitude << 13));
    }
    // Exponents are moved by a product with 2^112, which is exact and makes subnormals normal.
    let value = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(sign | value.to_bits())
}

/// See [`Kernel::dot`](super::Kernel::dot).
#[inline(always)]
pub(super) fn dot<const P: u8, const FMA: bool>(view: View<'_>, x: &[f32]) -> Lanes {
    let (levels, lines) = view.lines.split_at(lead(P));
    let values = &view.tables[table(P)];
    let mut sums = [[0f32; LANES]; 4];
    let mut k = 0;
    for lines in lines.chunks_exact(unit_lines(P)) {
        for i in 0..unit(P) {
            let weights = column::<P>(lines, i, levels, values);
            let (x, sum) = (x[k], &mut sums[k % 4]);
            for r in 0..LANES {
                sum[r] = multiply_add::<FMA>(weights[r], x, sum[r]);
            }
            k += 1;
        }
    }
    std::array::from_fn(|r| (sums[0][r] + sums[1][r]) + (sums[2][r] + sums[3][r]))
}

/// See [`Kernel::expand`](super::Kernel::expand).
#[inline(always)]
pub(super) fn expand<const P: u8>(view: View<'_>, first: usize, out: &mut [Lanes]) {
    let (levels, lines) = view.lines.split_at(lead(P));
    let values = &view.tables[table(P)];
    let units = lines.chunks_exact(unit_lines(P)).skip(first);
    for (lines, out) in units.zip(out.chunks_mut(unit(P))) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = column::<P>(lines, i, levels, values);
        }
    }
}

/// See [`Kernel::tile`](super::Kernel::tile), for one panel and `V` vectors.
#[inline(always)]
pub(super) fn tile<const V: usize, const FMA: bool>(
    panel: &[Lanes],
    x: &[f32],
    stride: usize,
    sums: &mut [Lanes],
) {
    let mut own: [Lanes; V] = std::array::from_fn(|v| sums[v]);
    let rows: [&[f32]; V] = std::array::from_fn(|v| &x[v * stride..][..panel.len()]);
    for (k, weights) in panel.iter().enumerate() {
        for v in 0..V {
            let x = rows[v][k];
            for r in 0..LANES {
                own[v][r] = multiply_add::<FMA>(weights[r], x, own[v][r]);
            }
        }
    }
    sums[..V].copy_from_slice(&own);
}

#[cfg(test)]
mod tests {
    #[test]
    fn halves_are_exact() {
        for bits in 0..=u16::MAX {
            let mut out = [0.0];
            benben_format::Dtype::F16.to_f32(&bits.to_le_bytes(), &mut out).unwrap();
            let found = super::half_to_f32(bits);
            assert!(found.to_bits() == out[0].to_bits() || found.is_nan() && out[0].is_nan(), "{bits:#x}");
        }
    }
}
