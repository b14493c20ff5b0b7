//! Points that are chosen group by group: error feedback needs them so.
//!
//! A [`Chooser`] is the rule of one pass over a matrix: the form of its points, with their step, grid and prices, all
//! fixed. It gives the values that groups decode to ([`Chooser::values`]) and, by the same choice, the leaf of all
//! targets of the pass ([`Chooser::leaf`]).

use super::code::Coder;
use super::encode::{Job, check, group_size};
use super::pulse_encode::Rule;
use super::{Form, Settings};
use crate::squared_error;
use benben_format::{EncodedLeaf, Error, Result, element_count};

/// Bits that numbered points must save for each weight, as where values are coded at once.
const WORTH_NUMBERING: f64 = 0.003;
/// Fewest values of a numbered group that is worth a gain.
const LEAST_NUMBERED: usize = 4;

/// Points of one form, with what a bit costs.
pub struct Chooser {
    rule: Points,
    settings: Settings,
}

enum Points {
    Pulses(Rule),
    Numbered(Box<Coder>),
}

impl Chooser {
    /// The rule for the targets `x` of a tensor of `shape` where a bit must save the squared error `price`; of the
    /// settings, the target does not count. Numbered groups do not cross rows.
    ///
    /// # Errors
    /// As [`encode`](super::encode()); InvalidArgument for a price that is not positive, and for the numbered form where
    /// no group of 4 to `dim` values divides the last axis.
    pub fn learned(shape: &[u64], x: &[f32], price: f64, settings: &Settings) -> Result<Self> {
        check(x, shape, settings)?;
        if !(price > 0.0 && price.is_finite()) {
            return Err(Error::invalid(format!("pvq: a bit for {price}, expected a positive number")));
        }
        let pulses = Rule::learned(x, shape, settings, price)?;
        let numbered = match settings.form {
            Some(Form::Pulses) => None,
            _ => numbered(shape, x, price, settings)?,
        };
        let cost = pulses.error + pulses.bits * price;
        let numbered =
            numbered.filter(|n| settings.form.is_some() || n.1 + WORTH_NUMBERING * price < cost).map(|n| n.0);
        match numbered {
            Some((coder, dim)) => {
                Ok(Self { rule: Points::Numbered(coder.into()), settings: Settings { dim, ..*settings } })
            }
            None if settings.form == Some(Form::Numbered) => Err(Error::invalid(format!(
                "pvq: numbered groups of 4 to {} values, found rows of {:?}",
                settings.dim,
                shape.last()
            ))),
            None => Ok(Self { rule: Points::Pulses(pulses), settings: *settings }),
        }
    }

    /// Elements of a group.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.settings.dim.into()
    }

    /// What whole groups `x` decode to, the first of them at element `at` of the tensor.
    pub fn values(&self, at: usize, x: &[f32], values: &mut [f32]) {
        match &self.rule {
            Points::Pulses(rule) => rule.values(at, x, values),
            Points::Numbered(coder) => {
                let groups = x.chunks(self.dim()).zip(values.chunks_mut(self.dim()));
                groups.for_each(|(x, values)| coder.values(x, values));
            }
        }
    }

    /// The leaf that holds what [`Chooser::values`] gives for the targets `x` of a tensor of `shape`.
    ///
    /// # Errors
    /// InvalidArgument where `x` does not fit the shape, or numbered groups do not fill the rows.
    pub fn leaf(&self, shape: &[u64], x: &[f32]) -> Result<EncodedLeaf> {
        let whole = shape.last().is_some_and(|r| r % u64::from(self.settings.dim) == 0);
        let fills = whole || matches!(self.rule, Points::Pulses(_));
        if element_count(shape)? != x.len() as u64 || x.is_empty() || !fills {
            return Err(Error::invalid(format!("pvq: {} targets for a tensor of shape {shape:?}", x.len())));
        }
        match &self.rule {
            Points::Pulses(rule) => rule.leaf(x, shape, &self.settings),
            Points::Numbered(coder) => {
                let job = Job::new(x, shape, &self.settings, self.dim());
                let all: Vec<usize> = (0..job.groups()).collect();
                job.assemble(&coder.grid, &job.code(coder, &all).0)
            }
        }
    }
}

/// Numbered points at a price, their dimension, and what a weight costs in error and bits; none where no group fits the
/// rows, or there is nothing but zeros.
fn numbered(shape: &[u64], x: &[f32], price: f64, settings: &Settings) -> Result<Option<((Coder, u8), f64)>> {
    let row = shape.last().map_or(1, |&c| usize::try_from(c).unwrap_or(usize::MAX)).max(1);
    // As of Gaussian weights, to know how many values have points enough.
    let bits = (2.0 * squared_error(x, x).1 / x.len() as f64 / price).log2() / 2.0;
    let most = group_size(settings.dim.into(), bits, shape);
    let Some(dim) = (LEAST_NUMBERED..=most).rev().find(|d| row.is_multiple_of(*d)) else { return Ok(None) };
    let job = Job::new(x, shape, settings, dim);
    let norms = job.norms();
    if norms.iter().all(|&n| n == 0.0) {
        return Ok(None);
    }
    let coder = job.gains(&norms).coder(price)?;
    let sample = job.sample();
    let (codes, error) = job.code(&coder, &sample);
    let cost = (error + price * coder.ideal_bits(&codes)) / (sample.len() * dim) as f64;
    Ok(Some(((coder, dim as u8), cost)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_leaf_holds_what_was_chosen(
            form in prop::sample::select(&[None, Some(Form::Pulses), Some(Form::Numbered)][..]),
            (rows, groups) in (1usize..40, 1usize..12), scale in -8i32..8, bits in 0.5f64..6.0, seed: u32, zero: bool,
        ) {
            let mut state = u64::from(seed);
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 2f32.powi(scale)
            };
            // Rows of unequal size.
            let columns = groups * 8;
            let row = |i: usize| 0.1 + (i / columns % 5) as f32;
            let x: Vec<f32> = (0..rows * columns).map(|i| row(i) * (random() + random())).collect();
            let other: Vec<f32> = (0..rows * columns).map(|i| row(i) * (random() + random())).collect();
            let shape = [rows as u64, columns as u64];
            let price = 4f64.powf(f64::from(scale) - bits) * 8.0;
            let settings = Settings { form, ..Settings::new(Target::BitsPerWeight(1.0)) };
            let x = if zero && form != Some(Form::Numbered) { vec![0.0; x.len()] } else { x };
            let chooser = Chooser::learned(&shape, &x, price, &settings).unwrap();
            let mut values = vec![0f32; x.len()];
            // In any parts of whole groups.
            for (i, (values, x)) in values.chunks_mut(columns).zip(other.chunks(columns)).enumerate() {
                let part = chooser.dim() * (1 + i % 3);
                let parts = values.chunks_mut(part).zip(x.chunks(part)).enumerate();
                parts.for_each(|(j, (values, x))| chooser.values(i * columns + j * part, x, values));
            }
            let leaf = chooser.leaf(&shape, &other).unwrap();
            let mut decoded = vec![0f32; x.len()];
            super::super::decode(&leaf, 0..x.len() as u64, &mut decoded).unwrap();
            prop_assert_eq!(decoded, values);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x: Vec<f32> = (0..70).map(|i| (i as f32).sin()).collect();
        let usual = Settings::new(Target::BitsPerWeight(1.0));
        let numbered = Settings { form: Some(Form::Numbered), ..usual };
        assert!(Chooser::learned(&[10, 7], &x, 0.1, &Settings { dim: 6, ..numbered }).is_err());
        assert!(Chooser::learned(&[10, 6], &x, 0.1, &usual).is_err());
        assert!(Chooser::learned(&[10, 7], &x, 0.0, &usual).is_err());
        let chooser = Chooser::learned(&[10, 7], &x, 0.1, &numbered).unwrap();
        assert!(chooser.leaf(&[7, 10], &x).is_err() && chooser.leaf(&[10, 7], &x[1..]).is_err());
    }
}
