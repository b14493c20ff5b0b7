//! Checks on names that come from files.

use benben_format::{Error, Result};

/// The first name, in sorted order, that is there more than once.
pub(crate) fn first_duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).find_map(|w| (w[0] == w[1]).then_some(w[0]))
}

/// Refuses a name that could lead out of the folder it is joined to, on any operating system.
pub(crate) fn check_relative(name: &str) -> Result<()> {
    let bad = |part: &str| matches!(part, "" | "." | "..");
    let unsafe_char = |c: char| c == '\\' || c == ':' || c.is_control();
    if name.split('/').any(bad) || name.contains(unsafe_char) {
        return Err(Error::invalid(format!(
            "file name {name:?} could lead out of the model's folder: expected a relative path with / between parts"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        for name in ["", ".", "..", "../a", "a/../b", "/a", "a//b", "a/", "C:a", "a\\b", "a\0", "./a"] {
            assert!(check_relative(name).is_err(), "{name:?}");
        }
        for name in ["config.json", "1_Pooling/config.json", "...", "a b"] {
            assert!(check_relative(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn duplicates_are_found_wherever_they_stand() {
        assert_eq!(first_duplicate(["b", "a", "c", "b"].into_iter()), Some("b"));
        assert_eq!(first_duplicate(["b", "a"].into_iter()), None);
    }
}
