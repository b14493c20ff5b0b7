//! Static frequency tables: 12-bit integers for an alphabet of at most 256 symbols.
//!
//! # What a table is
//! A *grid* and a *level* for each symbol of a range `first ..= last`. A grid of `m` mantissa bits maps a level `v`
//! to a weight: `v` itself below `2^(m+1)`; above, with `e = (v >> m) - 1`, the weight `(2^m + v mod 2^m) << e`:
//! 0, 1, 2, 3, 4, 6, 8, 12, 16 ... for one mantissa bit. Level 0 is a symbol that does not occur. A coarse grid
//! makes a small table, and costs 0.2 % of the symbols' bits at `m` = 2; `m` = 11 holds every frequency exactly.
//!
//! # From weights to frequencies
//! With `W` the sum of the weights `w`: `f = max(1, floor(4096 w / W))` for each `w > 0`. What is missing to 4096 is
//! handed out one by one to the largest remainders `4096 w mod W`, lower symbols first among equals (again from the
//! first should all have got one); what is too much is taken one by one from the largest frequency, the lowest
//! symbol among equals. All in integers, so that both sides agree.
//!
//! The serialized form is [`write_tables`](super::write_tables)'s.

use super::{fit, table_code};
use benben_format::{Error, Result};
use std::fmt;

/// Sum of the frequencies of a table.
pub(super) const TOTAL: u32 = 1 << 12;

/// Static 12-bit frequencies of an alphabet of at most 256 symbols.
///
/// ```
/// use benben_codec::entropy::Table;
/// let table = Table::from_counts(&[900, 50, 0, 50]);
/// assert_eq!(table.alphabet(), 4);
/// assert_eq!((0..=255).map(|s| table.freq(s)).sum::<u32>(), 4096);
/// let mut bytes = Vec::new();
/// table.write(&mut bytes);
/// assert_eq!(Table::read(&mut &bytes[..])?, table);
/// # Ok::<(), benben_format::Error>(())
/// ```
#[derive(Clone)]
pub struct Table {
    grid: Grid,
    first: u8,
    levels: Vec<u16>,
    /// Frequency of each symbol up to the last.
    freqs: Vec<u16>,
    /// Sum of the frequencies before each symbol.
    starts: Vec<u16>,
}

impl Table {
    /// The best 12-bit table for symbols seen `counts[s]` times (every symbol with a count gets a frequency of at
    /// least 1), trading accuracy for its own stored size where `counts` are few. What it returns is the table as
    /// a decoder will see it.
    ///
    /// Without any count, symbol 0 alone has a frequency. Counts past the 256th are ignored.
    pub fn from_counts(counts: &[u64]) -> Self {
        fit::fit(counts, &[])
    }

    /// The table whose symbols from `first` on have `levels` in `grid`.
    pub(super) fn from_levels(grid: Grid, first: u8, levels: Vec<u16>) -> Result<Self> {
        let last = usize::from(first) + levels.len();
        let ends = levels.first().zip(levels.last());
        let well_formed = last <= 256 && ends.is_some_and(|(&a, &b)| a > 0 && b > 0);
        if !well_formed || levels.iter().any(|&v| v > grid.max_level()) {
            return Err(Error::corruption(format!(
                "table of symbols {first} to {last}: levels must be 1 to {} at both ends and 0 to that between",
                grid.max_level()
            )));
        }
        let weights: Vec<u32> = levels.iter().map(|&v| grid.weight(v)).collect();
        let mut freqs = vec![0; usize::from(first)];
        freqs.extend(normalize(&weights));
        let mut next = 0;
        let mut starts = Vec::with_capacity(freqs.len());
        for f in &freqs {
            starts.push(next);
            next += f;
        }
        Ok(Self { grid, first, levels, freqs, starts })
    }

    /// One more than the last symbol that has a frequency.
    pub fn alphabet(&self) -> usize {
        self.freqs.len()
    }

    /// Frequency of `symbol` out of 4096; 0 where it cannot be coded.
    pub fn freq(&self, symbol: u8) -> u32 {
        self.freqs.get(usize::from(symbol)).map_or(0, |&f| f.into())
    }

    /// Sum of the frequencies before `symbol` and its own; `None` where it cannot be coded.
    pub(super) fn interval(&self, symbol: u8) -> Option<(u32, u32)> {
        let freq = self.freq(symbol);
        (freq > 0).then(|| (self.starts[usize::from(symbol)].into(), freq))
    }

    /// Bits that this table spends on `symbol`; infinite where it cannot be coded.
    pub fn bits(&self, symbol: u8) -> f64 {
        f64::from(TOTAL.ilog2()) - f64::from(self.freq(symbol)).log2()
    }

    /// Bits that this table spends on `counts`, itself not counted; infinite where one of them cannot be coded.
    pub fn cost_bits(&self, counts: &[u64]) -> f64 {
        let seen = counts.iter().enumerate().filter(|c| *c.1 > 0);
        seen.map(|(s, &n)| u8::try_from(s).map_or(f64::INFINITY, |s| n as f64 * self.bits(s))).sum()
    }

    /// Bytes of the serialized form.
    pub fn stored_bytes(&self) -> usize {
        let mut out = Vec::new();
        self.write(&mut out);
        out.len()
    }

    /// Appends the compact serialized form: a few bytes, and 1 to 4 bits for each symbol of a smooth
    /// histogram.
    pub fn write(&self, out: &mut Vec<u8>) {
        table_code::write(std::slice::from_ref(self), out);
    }

    /// Reads the form that [`Table::write`] makes off the front of `bytes`.
    ///
    /// # Errors
    /// Corruption, never a panic or a large allocation.
    pub fn read(bytes: &mut &[u8]) -> Result<Self> {
        let mut tables = table_code::read(1, bytes)?;
        tables.pop().ok_or_else(|| Error::corruption("no table"))
    }

    /// Grid of the levels.
    pub(super) fn grid(&self) -> Grid {
        self.grid
    }

    /// First symbol that has a level.
    pub(super) fn first(&self) -> u8 {
        self.first
    }

    /// Levels of the symbols from [`Table::first`] on.
    pub(super) fn levels(&self) -> &[u16] {
        &self.levels
    }

    /// Writes what a decoder looks up for each state modulo 4096: symbol in bits 0 to 7, frequency less 1 in bits 8 to 19,
    /// distance from the symbol's first slot in bits 20 to 31.
    ///
    /// Symbols are short runs of slots in which the last field counts up: they are written eight at a time, past their
    /// end, and the next symbol writes over what was too much.
    pub(super) fn slots(&self, out: &mut [u32; TOTAL as usize]) {
        const STEP: usize = 8;
        const COUNT: [u32; STEP] = [0, 1 << 20, 2 << 20, 3 << 20, 4 << 20, 5 << 20, 6 << 20, 7 << 20];
        for (symbol, (&start, &freq)) in self.starts.iter().zip(&self.freqs).enumerate() {
            if freq == 0 {
                continue;
            }
            let (start, end) = (usize::from(start), usize::from(start + freq));
            let mut slot = symbol as u32 | (u32::from(freq) - 1) << 8;
            for at in (start..end).step_by(STEP) {
                let last = if at + STEP > out.len() { end } else { at + STEP };
                for (o, count) in out[at..last].iter_mut().zip(COUNT) {
                    *o = slot.wrapping_add(count);
                }
                slot = slot.wrapping_add((STEP as u32) << 20);
            }
        }
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        (self.grid, self.first, &self.levels) == (other.grid, other.first, &other.levels)
    }
}

impl Eq for Table {}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grid, first, freqs, .. } = self;
        f.debug_struct("Table").field("grid", grid).field("first", first).field("freqs", freqs).finish()
    }
}

/// Precision of levels: a number of mantissa bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid(u8);

impl Grid {
    /// The grids, in the order of their 3-bit codes.
    pub(super) const ALL: [Self; 8] =
        [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5), Self(6), Self::EXACT];
    /// The grid on which every frequency is a level.
    pub(super) const EXACT: Self = Self(11);

    /// Weight of `level`.
    pub(super) fn weight(self, level: u16) -> u32 {
        let (level, m) = (u32::from(level), u32::from(self.0));
        if level >> (m + 1) == 0 {
            level
        } else {
            ((1 << m) + (level & ((1 << m) - 1))) << ((level >> m) - 1)
        }
    }

    /// Level of the largest weight that is not above `weight` (at most 4096).
    pub(super) fn level(self, weight: u32) -> u16 {
        let m = u32::from(self.0);
        if weight >> (m + 1) == 0 {
            return weight as u16;
        }
        let e = weight.ilog2() - m;
        (((e + 1) << m) + ((weight >> e) & ((1 << m) - 1))) as u16
    }

    /// Level of weight 4096.
    pub(super) fn max_level(self) -> u16 {
        self.level(TOTAL)
    }

    /// Bits of a level.
    pub(super) fn level_bits(self) -> u32 {
        self.max_level().ilog2() + 1
    }
}

/// Frequencies of sum 4096 for weights of at most 4096 of which at least one is above 0.
fn normalize(weights: &[u32]) -> Vec<u16> {
    let sum: u32 = weights.iter().sum();
    let scaled = |w: u32| (w * TOTAL / sum, w * TOTAL % sum);
    let mut freqs: Vec<u16> =
        weights.iter().map(|&w| if w > 0 { scaled(w).0.max(1) as u16 } else { 0 }).collect();
    let mut total: u32 = freqs.iter().map(|&f| u32::from(f)).sum();
    let mut order: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] > 0).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(scaled(weights[i]).1));
    let mut next = order.iter().cycle();
    while total < TOTAL {
        let Some(&i) = next.next() else { break };
        freqs[i] += 1;
        total += 1;
    }
    while total > TOTAL {
        let Some(i) = (0..freqs.len()).min_by_key(|&i| std::cmp::Reverse(freqs[i])) else { break };
        freqs[i] -= 1;
        total -= 1;
    }
    freqs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_weights_are_inverse() {
        for grid in Grid::ALL {
            for level in 0..=grid.max_level() {
                assert_eq!(grid.level(grid.weight(level)), level, "{grid:?}");
            }
            for weight in 0..=TOTAL {
                let floor = grid.weight(grid.level(weight));
                assert!(floor <= weight && weight - floor <= weight >> grid.0, "{grid:?} {weight}");
            }
        }
        assert!((0..=TOTAL).all(|w| Grid::EXACT.weight(w as u16) == w));
    }

    #[test]
    fn frequencies_sum_to_4096() {
        assert_eq!(normalize(&[7]), [4096]);
        assert_eq!(normalize(&[1, 1, 1]), [1366, 1365, 1365]);
        assert_eq!(normalize(&[0, 4096, 1]), [0, 4095, 1]);
        for weights in [vec![4096; 256], [vec![1; 255], vec![4096]].concat(), vec![1, 0, 4096, 4096, 3]] {
            let freqs = normalize(&weights);
            assert_eq!(freqs.iter().map(|&f| u32::from(f)).sum::<u32>(), TOTAL);
            assert!(freqs.iter().zip(&weights).all(|(&f, &w)| (f > 0) == (w > 0)));
        }
    }

    #[test]
    fn one_symbol_takes_all_slots() {
        let table = Table::from_counts(&[0, 0, 0, 9]);
        assert_eq!((table.freq(3), table.alphabet(), table.cost_bits(&[0, 0, 0, 5])), (4096, 4, 0.0));
        let mut slots = [0; TOTAL as usize];
        table.slots(&mut slots);
        assert!(slots.iter().enumerate().all(|(i, &s)| s == 3 | 4095 << 8 | (i as u32) << 20));
        assert_eq!(table.cost_bits(&[1]), f64::INFINITY);
    }
}
