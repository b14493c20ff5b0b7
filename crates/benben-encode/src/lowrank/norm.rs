//! The name of a metric in a method, and what a layer makes of it.

use super::metric::Metric;
use benben_format::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// By what factors of low rank are chosen. There is no name for outputs: under inputs they are the same, and with the
/// mean taken out they need a bias, which is another tensor (see [`Metric`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// The values alone.
    Svd,
    /// Importance of rows.
    Fisher,
    /// The second moment of inputs.
    Inputs,
}

impl Norm {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Svd, Self::Fisher, Self::Inputs];

    /// Name in recipes and flags.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Svd => "svd",
            Self::Fisher => "fisher",
            Self::Inputs => "inputs",
        }
    }
}

impl FromStr for Norm {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|n| n.name() == s).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|n| n.name()).collect();
            Error::invalid(format!("unknown metric {s:?}")).with_hint(format!("known: {}", known.join(", ")))
        })
    }
}

/// What is known of a layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Second moment of its inputs.
    pub moment: Option<&'a [f32]>,
    /// Importance of its outputs.
    pub rows: Option<&'a [f32]>,
}

impl<'a> Known<'a> {
    /// The metric that `norm` names; all that is known where it names none.
    pub(super) fn metric(&self, norm: Option<Norm>) -> Result<Metric<'a>> {
        let missing = |what: &str, norm: Norm| {
            Error::invalid(format!("metric={}: {what} of this tensor is not known", norm.name()))
                .with_hint("give --calib, or leave metric out")
        };
        match norm {
            Some(Norm::Svd) => Ok(Metric::plain()),
            Some(n @ Norm::Fisher) => {
                let rows = self.rows.ok_or_else(|| missing("the importance of outputs", n))?;
                Ok(Metric::fisher(Some(rows), None))
            }
            Some(n @ Norm::Inputs) => {
                Ok(Metric::inputs(self.moment.ok_or_else(|| missing("the second moment", n))?, None))
            }
            None => Ok(match self.moment {
                Some(moment) => Metric::inputs(moment, self.rows),
                None => Metric::fisher(self.rows, None),
            }),
        }
    }

    /// What errors cost by all that is known, `columns` to a row.
    pub(super) fn cost(&self, errors: &[f32], columns: usize) -> f64 {
        match self.moment {
            Some(moment) => crate::quantize::loss(errors, columns, moment, self.rows),
            None => errors
                .chunks(columns.max(1))
                .enumerate()
                .map(|(i, row)| {
                    let weight = self.rows.and_then(|r| r.get(i)).map_or(1.0, |w| f64::from(*w));
                    weight * row.iter().map(|e| f64::from(*e) * f64::from(*e)).sum::<f64>()
                })
                .sum(),
        }
    }
}
