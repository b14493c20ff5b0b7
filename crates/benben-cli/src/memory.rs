//! Sizes of memory: those that are asked for, and what this process came to.

/// `64MiB`, `2GB`, `500000`: units of 1000 as files are sold, units of 1024 with an `i`.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let wrong = || "expected a size, for example 200MiB or 2GB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.parse::<f64>().map_err(|_| wrong())?;
    let unit = match unit.trim().to_ascii_lowercase().trim_end_matches('b') {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "ki" => 1024.0,
        "mi" => 1024.0 * 1024.0,
        "gi" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = number * unit;
    if !(1.0..=isize::MAX as f64).contains(&bytes) {
        return Err(wrong());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range, as was just checked"
    )]
    Ok(bytes as usize)
}

/// The most memory that this process had at once, as far as the system says: Linux does.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Asks the system's malloc to serve all threads from one heap, before there are any. Each thread that decodes would
/// otherwise keep what its buffers left in a heap of its own: 9 MB more at the peak of a pack of 54 MB, for first tokens
/// no sooner.
pub(crate) fn one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[allow(unsafe_code, reason = "a call into the C library")]
        // SAFETY: `mallopt` takes two numbers and may be called at any time; one that it does not know changes nothing.
        let _known = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1000_and_of_1024() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        assert_eq!(size("1.5k"), Ok(1500));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "MiB", "0", "-1MB", "12 parsecs", "1e9", "nan"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
