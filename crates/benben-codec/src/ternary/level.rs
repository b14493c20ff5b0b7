//! Levels: magnitudes in eight bits, 16 to the octave.

/// Largest multiple of the unit that a code stands for.
const TOP: f32 = (31 << 15) as f32;

/// Value of level `code` in units of `unit`: nothing for 0, else `unit * ((16 + code mod 16) << (code / 16))`, rounded
/// once.
pub(super) fn level(code: u8, unit: f32) -> f32 {
    let multiple = (16 + u32::from(code % 16)) << (code / 16);
    if code == 0 { 0.0 } else { unit * multiple as f32 }
}

/// The code whose level is nearest to `magnitude`, above 0; at least 1.
pub(super) fn code(magnitude: f64, unit: f32) -> u8 {
    let near = |c: &u8| (f64::from(level(*c, unit)) - magnitude).abs();
    let above =
        (1..=254u8).collect::<Vec<_>>().partition_point(|&c| f64::from(level(c, unit)) < magnitude) as u8 + 1;
    [above - 1, above].into_iter().filter(|&c| c > 0).min_by(|a, b| near(a).total_cmp(&near(b))).unwrap_or(1)
}

/// The unit for levels up to `largest`.
pub(super) fn unit(largest: f64) -> f32 {
    ((largest / f64::from(TOP)) as f32).max(f32::from_bits(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_name_the_nearest_level() {
        for c in 1..=255u8 {
            assert_eq!(code(f64::from(level(c, 0.25)), 0.25), c);
            assert!(level(c, 0.25) > level(c - 1, 0.25));
        }
        let unit = unit(3.0);
        assert_eq!(code(3.0, unit), 255);
        for i in 1..1000 {
            let x = f64::from(i) * 0.003;
            assert!((f64::from(level(code(x, unit), unit)) / x - 1.0).abs() < 0.032, "{x}");
        }
        assert_eq!(code(1e-12, unit), 1);
    }
}
