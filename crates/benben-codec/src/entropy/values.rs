//! What symbols become.

use super::Trellis;
use super::rans::LANES;
use benben_format::{Error, Result};

/// The value of each symbol: with a trellis, one row for each union codebook.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    rows: Vec<[f32; 256]>,
}

impl Values {
    /// The values of symbols that follow no trellis.
    pub fn new(of: [f32; 256]) -> Self {
        Self { rows: vec![of] }
    }

    /// The values of symbols whose lane is in an even state, and in an odd one.
    pub fn of_unions(even: [f32; 256], odd: [f32; 256]) -> Self {
        Self { rows: vec![even, odd] }
    }

    /// One row for each codebook of a model with this trellis.
    pub(super) fn rows_for(&self, trellis: Trellis) -> Result<&[[f32; 256]]> {
        let expected = if trellis == Trellis::None { 1 } else { 2 };
        if self.rows.len() == expected {
            Ok(&self.rows)
        } else {
            Err(Error::invalid(format!("values of {} codebooks, expected {expected}", self.rows.len())))
        }
    }
}

/// Writes the values of `symbols`, the first of a chunk, from number `skip` on to `out`, by one row or two.
pub(super) fn look_up(rows: &[[f32; 256]], symbols: &[u8], skip: usize, out: &mut [f32]) {
    let [even, odd] = match rows {
        [even, odd, ..] => [even, odd],
        [one] => {
            let wanted = symbols.get(skip..).unwrap_or_default();
            return out.iter_mut().zip(wanted).for_each(|(o, &s)| *o = one[usize::from(s)]);
        }
        [] => return,
    };
    let mut states = [0; LANES];
    for (i, &symbol) in symbols.iter().enumerate() {
        let state = &mut states[i % LANES];
        if let Some(out) = i.checked_sub(skip).and_then(|i| out.get_mut(i)) {
            *out = if *state & 1 == 0 { even } else { odd }[usize::from(symbol)];
        }
        *state = Trellis::next(*state, symbol);
    }
}
