//! What the project promises, judged where it is measured.

use serde::Serialize;
use std::fmt;

/// A figure that the project promises, and whether this run met it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goal {
    /// What the limit is a multiple of, or its unit.
    pub of: &'static str,
    /// The limit.
    pub limit: f64,
    /// Whether the limit is the least that counts, or the most.
    pub at_least: bool,
    /// What was found.
    pub found: f64,
    /// Whether that meets it.
    pub met: bool,
}

impl Goal {
    /// `found` must be at least `limit`.
    pub fn at_least(found: f64, limit: f64, of: &'static str) -> Self {
        Self { of, limit, at_least: true, found, met: found >= limit }
    }

    /// `found` must be at most `limit`.
    pub fn at_most(found: f64, limit: f64, of: &'static str) -> Self {
        Self { of, limit, at_least: false, found, met: found <= limit }
    }
}

impl fmt::Display for Goal {
    /// `>= 8 x constriction: met`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.at_least { ">=" } else { "<=" };
        let verdict = if self.met { "met" } else { "MISSED" };
        write!(f, "{sign} {} {}: {verdict}", self.limit, self.of)
    }
}

/// What a decoder of symbols must reach, on one thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Promise {
    /// Times the speed of constriction's look-up decoder.
    OfConstriction(f64),
    /// Share of memcpy's bytes written in a second.
    OfMemcpy(f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_says_what_it_asks_and_what_became_of_it() {
        assert_eq!(Goal::at_least(7.9, 8.0, "x constriction").to_string(), ">= 8 x constriction: MISSED");
        assert_eq!(Goal::at_most(0.65, 0.65, "dB").to_string(), "<= 0.65 dB: met");
        assert!(!Goal::at_least(f64::NAN, 1.0, "").met && !Goal::at_most(f64::NAN, 1.0, "").met);
    }
}
