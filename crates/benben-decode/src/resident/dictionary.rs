//! Values of an expression, each to the bit, in as few bytes as they turn out to need.

use crate::product::half_to_f32 as half;
use benben_format::Dtype;
use std::borrow::Cow;
use std::collections::HashMap;

/// Values that are read by number.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// Values that are to come.
    count: usize,
    numbers: HashMap<u32, u16>,
    /// Value of each code.
    table: Vec<f32>,
    codes: Codes,
}

#[derive(Debug)]
enum Codes {
    Bytes(Vec<u8>),
    Words(Vec<u16>),
    Halves(Vec<u16>),
    Full(Vec<f32>),
}

/// Work on values, whatever form they have.
pub(super) trait Read {
    /// Does it; `get` gives the value of a number.
    fn with(self, get: impl Fn(usize) -> f32);
}

impl Dictionary {
    /// Room for `count` values.
    pub(super) fn new(count: usize) -> Self {
        let codes = Codes::Bytes(Vec::with_capacity(count));
        Self { count, numbers: HashMap::new(), table: Vec::new(), codes }
    }

    /// Most bytes of `count` values: f32 at worst.
    pub(super) fn most_bytes(count: usize) -> usize {
        count.saturating_mul(size_of::<f32>())
    }

    pub(super) fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Bytes(codes) => codes.len(),
            Codes::Words(codes) | Codes::Halves(codes) => size_of_val(&**codes),
            Codes::Full(values) => size_of_val(&**values),
        };
        codes + size_of_val(&*self.table)
    }

    /// Appends values.
    pub(super) fn push(&mut self, values: &[f32]) {
        let mut values = values;
        // Each pass goes on in a wider form, from the value that needed it.
        loop {
            let done = match &mut self.codes {
                Codes::Full(all) => {
                    all.extend_from_slice(values);
                    values.len()
                }
                Codes::Bytes(codes) => {
                    let mut number = numbered(&mut self.numbers, &mut self.table, 1 << 8);
                    #[allow(clippy::cast_possible_truncation, reason = "numbers below 256")]
                    let own = values.iter().map_while(|v| number(*v)).map(|n| n as u8);
                    let before = codes.len();
                    codes.extend(own);
                    codes.len() - before
                }
                Codes::Halves(_) => return,
                Codes::Words(codes) => {
                    // A table of more than half of the values would take as much as they do.
                    let most = (1 << 16).min((self.count / 2).max(1 << 8));
                    let mut number = numbered(&mut self.numbers, &mut self.table, most);
                    let before = codes.len();
                    codes.extend(values.iter().map_while(|v| number(*v)));
                    codes.len() - before
                }
            };
            values = &values[done..];
            if values.is_empty() {
                return;
            }
            self.widen();
        }
    }

    fn widen(&mut self) {
        let count = self.count;
        match &self.codes {
            Codes::Bytes(codes) => {
                let mut wide = Vec::with_capacity(count);
                wide.extend(codes.iter().map(|&c| u16::from(c)));
                self.codes = Codes::Words(wide);
            }
            Codes::Words(codes) => {
                let mut wide = Vec::with_capacity(count);
                wide.extend(codes.iter().map(|&c| self.table[usize::from(c)]));
                self.codes = Codes::Full(wide);
                (self.numbers, self.table) = (HashMap::new(), Vec::new());
            }
            Codes::Halves(_) | Codes::Full(_) => {}
        }
    }

    /// Nothing is to come: halves where these are exact and shorter, no more room than it takes.
    pub(super) fn finish(&mut self) {
        self.numbers = HashMap::new();
        self.table.shrink_to_fit();
        if matches!(&self.codes, Codes::Bytes(codes) if 3 * codes.len() >= 4 * self.table.len()) {
            return;
        }
        let before = self.bytes();
        let by_number = |c: usize| self.table[c];
        let values: Cow<'_, [f32]> = match &self.codes {
            Codes::Bytes(codes) => codes.iter().map(|&c| by_number(c.into())).collect(),
            Codes::Words(codes) => codes.iter().map(|&c| by_number(c.into())).collect(),
            Codes::Halves(codes) => codes.iter().map(|&c| half(c)).collect(),
            Codes::Full(values) => Cow::Borrowed(values),
        };
        let codes = match (halves(&values), values) {
            (Some(halves), _) => Codes::Halves(halves),
            (None, Cow::Owned(values)) if before >= 4 * values.len() => Codes::Full(values),
            _ => return,
        };
        (self.codes, self.table) = (codes, Vec::new());
    }

    /// Value number `i`.
    pub(super) fn get(&self, i: usize) -> f32 {
        match &self.codes {
            Codes::Bytes(codes) => self.table[usize::from(codes[i])],
            Codes::Words(codes) => self.table[usize::from(codes[i])],
            Codes::Halves(codes) => half(codes[i]),
            Codes::Full(values) => values[i],
        }
    }

    /// Does `work` on the values.
    pub(super) fn read(&self, work: impl Read) {
        match &self.codes {
            Codes::Bytes(codes) => {
                // All codes of a byte have an entry: no look-up is out of bounds.
                let mut table = [0.0; 256];
                table.iter_mut().zip(&self.table).for_each(|(t, v)| *t = *v);
                work.with(|i| table[usize::from(codes[i])]);
            }
            Codes::Words(codes) => work.with(|i| self.table[usize::from(codes[i])]),
            Codes::Halves(codes) => work.with(|i| half(codes[i])),
            Codes::Full(values) => work.with(|i| values[i]),
        }
    }
}

/// Gives each value its number, none once there are `most`.
fn numbered<'a>(
    numbers: &'a mut HashMap<u32, u16>,
    table: &'a mut Vec<f32>,
    most: usize,
) -> impl FnMut(f32) -> Option<u16> + 'a {
    move |value| {
        if let Some(&number) = numbers.get(&value.to_bits()) {
            return Some(number);
        }
        let number = u16::try_from(table.len()).ok().filter(|_| table.len() < most)?;
        numbers.insert(value.to_bits(), number);
        table.push(value);
        Some(number)
    }
}

/// `values` as f16, where that is exact.
fn halves(values: &[f32]) -> Option<Vec<u16>> {
    let bytes = Dtype::F16.from_f32(values).ok()?;
    let halves: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
    let exact = halves.iter().zip(values).all(|(&h, v)| half(h).to_bits() == v.to_bits());
    exact.then_some(halves)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All<'a>(&'a [f32]);

    impl Read for All<'_> {
        fn with(self, get: impl Fn(usize) -> f32) {
            assert!(self.0.iter().enumerate().all(|(i, v)| get(i).to_bits() == v.to_bits()));
        }
    }

    #[test]
    fn values_keep_their_bits_in_the_fewest_bytes() {
        let grid =
            |n: usize, step: f32| -> Vec<f32> { (0..4000).map(|i| (i * 7 % n) as f32 * step).collect() };
        let fine = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 + 0.1).sqrt()).collect() };
        let cases = [
            (grid(200, 0.1), 4000 + 4 * 200),
            (grid(1000, 0.1), 2 * 4000 + 4 * 1000),
            (grid(1000, 0.25), 2 * 4000),
            (fine(4000), 4 * 4000),
            (vec![1.0, -0.0, 0.0, f32::INFINITY], 8),
            (fine(3), 12),
            (Vec::new(), 0),
        ];
        for (values, bytes) in cases {
            for piece in [1, 7, 4000] {
                let mut own = Dictionary::new(values.len());
                values.chunks(piece).for_each(|part| own.push(part));
                own.finish();
                assert_eq!(own.bytes(), bytes);
                assert!(own.bytes() <= Dictionary::most_bytes(values.len()));
                own.read(All(&values));
                assert!(values.iter().enumerate().all(|(i, v)| own.get(i).to_bits() == v.to_bits()));
            }
        }
    }
}
