//! The next token, from its logits.

use super::kernel::softmax;
use benben_format::{Error, Result};

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token, always.
    pub temperature: f32,
    /// Draws from the fewest tokens that together have this probability (Holtzman et al., 2020,
    /// <https://arxiv.org/abs/1904.09751>); 1 draws from all.
    pub top_p: f32,
    /// The same seed draws the same tokens from the same logits.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: 0 }
    }
}

/// Draws tokens one after the other.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
    chances: Vec<f32>,
    order: Vec<u32>,
}

impl Sampler {
    /// A sampler at the start of its seed's sequence.
    ///
    /// # Errors
    /// InvalidArgument for a temperature below 0, or a top-p outside of 0 to 1.
    pub fn new(sampling: Sampling) -> Result<Self> {
        if !(sampling.temperature >= 0.0 && sampling.temperature.is_finite()) {
            return Err(Error::invalid(format!("temperature {}: expected 0 or more", sampling.temperature)));
        }
        if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
            return Err(Error::invalid(format!("top-p {}: expected above 0, at most 1", sampling.top_p)));
        }
        Ok(Self { sampling, state: sampling.seed, chances: Vec::new(), order: Vec::new() })
    }

    /// The next token; of equal ones, that with the smallest number.
    ///
    /// # Errors
    /// Corruption where a logit is not a number: some weights are not.
    pub fn draw(&mut self, logits: &[f32]) -> Result<u32> {
        if let Some(at) = logits.iter().position(|x| !x.is_finite()) {
            return Err(Error::corruption(format!("the logit of token {at} is {}", logits[at])));
        }
        let mut best = 0;
        for (i, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = i;
            }
        }
        if self.sampling.temperature == 0.0 {
            return token(best);
        }
        // Divided here and not in the softmax: a tiny temperature makes an infinity there, and a zero here.
        let (largest, temperature) = (logits[best], self.sampling.temperature);
        self.chances.clear();
        self.chances.extend(logits.iter().map(|x| ((x - largest) / temperature).max(-100.0)));
        softmax(&mut self.chances, 1.0);
        let at = f64::from(self.sampling.top_p);
        self.order.clear();
        if self.sampling.top_p < 1.0 {
            // What is less likely than this cannot be among the fewest: it spares sorting the whole vocabulary.
            let least = (1.0 - self.sampling.top_p) / logits.len() as f32;
            for (i, chance) in self.chances.iter().enumerate() {
                if *chance >= least {
                    self.order.push(token(i)?);
                }
            }
            let chances = &self.chances;
            let chance = |i: u32| chances[i as usize];
            self.order.sort_unstable_by(|a, b| chance(*b).total_cmp(&chance(*a)).then(a.cmp(b)));
            let mut sum = 0.0;
            let enough = self.order.iter().position(|i| {
                sum += f64::from(chance(*i));
                sum >= at
            });
            self.order.truncate(enough.map_or(self.order.len(), |n| n + 1));
        } else {
            for i in 0..logits.len() {
                self.order.push(token(i)?);
            }
        }
        let chance = |i: &u32| f64::from(self.chances[*i as usize]);
        let whole: f64 = self.order.iter().map(chance).sum();
        let mut left = uniform(&mut self.state) * whole;
        let found = self.order.iter().find(|i| {
            left -= chance(i);
            left < 0.0
        });
        // Rounding can leave a crumb after the last.
        Ok(found.or(self.order.first()).copied().unwrap_or_default())
    }
}

fn token(index: usize) -> Result<u32> {
    u32::try_from(index).map_err(|_| Error::limit(format!("token {index} has no 32-bit number")))
}

/// A number from 0 to 1, by SplitMix64 (Steele, Lea and Flood, 2014, <https://doi.org/10.1145/2660193.2660195>).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(temperature: f32, top_p: f32, seed: u64, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(Sampling { temperature, top_p, seed }).unwrap();
        // Probabilities 0.1, 0.2, 0.4, 0.3 at temperature 1.
        let logits = [0.1f32, 0.2, 0.4, 0.3].map(|p| p.ln() + 5.0);
        (0..count).map(|_| sampler.draw(&logits).unwrap()).collect()
    }

    #[test]
    fn temperature_0_takes_the_likeliest_and_the_first_of_equals() {
        assert_eq!(draws(0.0, 1.0, 1, 3), [2, 2, 2]);
        assert_eq!(draws(1e-30, 1.0, 1, 3), [2, 2, 2]);
        let mut sampler = Sampler::new(Sampling::default()).unwrap();
        assert_eq!(sampler.draw(&[1.0, 3.0, 3.0]).unwrap(), 1);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let drawn = draws(1.0, 1.0, 7, 20_000);
        assert_eq!(drawn, draws(1.0, 1.0, 7, 20_000));
        assert_ne!(drawn, draws(1.0, 1.0, 8, 20_000));
        for (token, chance) in [0.1, 0.2, 0.4, 0.3].into_iter().enumerate() {
            let found = drawn.iter().filter(|t| **t as usize == token).count() as f64 / 20_000.0;
            assert!((found - chance).abs() < 0.015, "token {token}: {found}");
        }
    }

    #[test]
    fn top_p_leaves_the_fewest_that_reach_it() {
        let mut found = draws(1.0, 0.65, 3, 1000);
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, [2, 3]);
        assert_eq!(draws(1.0, 0.01, 3, 3), [2, 2, 2]);
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        let mut sampler = Sampler::new(Sampling::default()).unwrap();
        assert!(sampler.draw(&[1.0, f32::NAN]).is_err() && sampler.draw(&[f32::INFINITY]).is_err());
        for (temperature, top_p) in [(-1.0, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.1)] {
            assert!(Sampler::new(Sampling { temperature, top_p, seed: 0 }).is_err());
        }
    }
}
