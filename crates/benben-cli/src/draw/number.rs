//! Numbers as people read them.

/// Bytes with the unit that leaves one to three digits before the point; powers of 1000, as files are sold.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ if value < 9.995 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// A count with its thousands apart.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A relative error; `exact` for none, and nothing where it is not known.
pub(crate) fn error(e: Option<f64>) -> String {
    match e {
        None => "-".into(),
        Some(0.0) => "exact".into(),
        Some(e) => format!("{e:.1e}"),
    }
}

/// `1024 x 384`.
pub(crate) fn shape(shape: &[u64]) -> String {
    match shape {
        [] => "scalar".into(),
        dims => dims.iter().map(u64::to_string).collect::<Vec<_>>().join(" x "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_three_digits() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.00 kB");
        assert_eq!(bytes(90_868_376), "90.9 MB");
        assert_eq!(bytes(999_600), "1.00 MB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
    }
}
