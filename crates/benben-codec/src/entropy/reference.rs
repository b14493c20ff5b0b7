//! The bits of [`rans`](super::rans), made and read by `constriction`: 32 coders on one stack of words.
//!
//! Slow and plain. It is the definition that the fast coder, and each SIMD kernel, is tested against.

use super::rans::{INITIAL, LANES, STATE_BYTES};
use super::{Model, Table, Trellis};
use benben_format::{Error, Result};
use constriction::Stack;
use constriction::backends::{ReadWords, WriteWords};
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::stack::AnsCoder;
use constriction::stream::{Code, Decode, Encode};
use std::cell::RefCell;
use std::convert::Infallible;
use std::num::NonZeroU16;

/// One stack for all lanes.
struct Shared<'a>(&'a RefCell<Vec<u16>>);

impl WriteWords<u16> for Shared<'_> {
    type WriteError = Infallible;

    fn write(&mut self, word: u16) -> Result<(), Infallible> {
        self.0.borrow_mut().push(word);
        Ok(())
    }
}

impl ReadWords<u16, Stack> for Shared<'_> {
    type ReadError = Infallible;

    fn read(&mut self) -> Result<Option<u16>, Infallible> {
        Ok(self.0.borrow_mut().pop())
    }
}

impl EntropyModel<12> for &Table {
    type Symbol = u8;
    type Probability = u16;
}

impl EncoderModel<12> for &Table {
    fn left_cumulative_and_probability(
        &self,
        symbol: impl std::borrow::Borrow<u8>,
    ) -> Option<(u16, NonZeroU16)> {
        let (start, freq) = self.interval(*symbol.borrow())?;
        Some((start as u16, NonZeroU16::new(freq as u16)?))
    }
}

impl DecoderModel<12> for &Table {
    fn quantile_function(&self, quantile: u16) -> (u8, u16, NonZeroU16) {
        let symbols = 0..=u8::MAX;
        let mut found = symbols.filter_map(|s| self.interval(s).map(|(start, freq)| (s, start, freq)));
        let found = found.rfind(|&(_, start, _)| start <= u32::from(quantile));
        let (symbol, start, freq) = found.unwrap_or((0, 0, 4096));
        (symbol, start as u16, NonZeroU16::new(freq as u16).unwrap_or(NonZeroU16::MIN))
    }
}

fn lanes<'a>(stack: &'a RefCell<Vec<u16>>, states: &[u32; LANES]) -> Vec<AnsCoder<u16, u32, Shared<'a>>> {
    states.iter().map(|&state| AnsCoder::from_raw_parts(Shared(stack), state)).collect()
}

/// What [`rans::encode`](super::rans::encode) makes.
pub fn encode(symbols: &[u8], first: u64, model: &Model<'_>) -> Option<Vec<u8>> {
    let stack = RefCell::new(Vec::new());
    let mut coders = lanes(&stack, &[INITIAL; LANES]);
    let mut tables = vec![0; symbols.len()];
    model.tables_of(first, symbols, &mut tables);
    for (i, (&symbol, &table)) in symbols.iter().zip(&tables).enumerate().rev() {
        coders[i % LANES].encode_symbol(symbol, model.tables.get(usize::from(table))?).ok()?;
    }
    let mut payload = Vec::new();
    coders.iter().for_each(|c| payload.extend_from_slice(&c.state().to_le_bytes()));
    drop(coders);
    stack.into_inner().iter().rev().for_each(|w| payload.extend_from_slice(&w.to_le_bytes()));
    Some(payload)
}

/// What [`rans::decode`](super::rans::decode) reads.
///
/// # Errors
/// [`Corruption`](benben_format::ErrorKind::Corruption) where states or words do not end as they must.
pub fn decode(payload: &[u8], first: u64, model: &Model<'_>, out: &mut [u8]) -> Result<()> {
    let damaged = || Error::corruption("rANS payload does not end as it must");
    let (head, words) = payload.split_first_chunk::<STATE_BYTES>().ok_or_else(damaged)?;
    let (words, rest) = words.as_chunks::<2>();
    let stack = RefCell::new(words.iter().rev().map(|w| u16::from_le_bytes(*w)).collect::<Vec<_>>());
    let mut states = [0; LANES];
    states.iter_mut().zip(head.as_chunks::<4>().0).for_each(|(s, b)| *s = u32::from_le_bytes(*b));
    let mut coders = lanes(&stack, &states);
    let mut tables = vec![0; out.len()];
    model.first_tables(first, &mut tables);
    let mut paths = [0; LANES];
    for (i, o) in out.iter_mut().enumerate() {
        let path = &mut paths[i % LANES];
        let table = usize::from(tables[i]) + (*path as usize & (model.trellis.tables() - 1));
        let table = model.tables.get(table).ok_or_else(damaged)?;
        *o = coders[i % LANES].decode_symbol(table).map_err(|_| damaged())?;
        *path = Trellis::next(*path, *o);
    }
    let ended = coders.iter().all(|c| c.state() == INITIAL) && stack.borrow().is_empty() && rest.is_empty();
    if ended { Ok(()) } else { Err(damaged()) }
}
