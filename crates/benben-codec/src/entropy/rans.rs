//! 32-lane rANS with static 12-bit tables.
//!
//! # Source
//! Duda, "Asymmetric numeral systems" (arXiv:1311.2540); interleaving after Giesen, "Interleaved entropy coders"
//! (arXiv:1402.3392). The bits are those of 32 `constriction` coders `AnsCoder<u16, u32>`, each begun with state
//! 2^16 (`from_raw_parts`), whose words go to and come from one stack; [`reference`](super::reference) is that
//! coder, and a test holds the two to the same bits.
//!
//! # Bits
//! Symbol `i` of the chunk belongs to lane `i mod 32`. A lane's state is a u32 in [2^16, 2^32); it starts at 2^16.
//! With `f` the frequency of a symbol and `c` the sum of the frequencies before it:
//!
//! - *Encode*, from the last symbol to the first: if `state >> 20 >= f`, push the low 16 bits of `state` and shift
//!   it right by 16; then `state = (state / f) * 4096 + c + state % f`.
//! - *Decode*, from the first to the last: `slot = state mod 4096` lies in one symbol's `c .. c + f`;
//!   `state = f * (state / 4096) + slot - c`; if that is below 2^16, `state = state * 65536 + next word`.
//!
//! Payload: the 32 states as u32, then the words as u16 in the order in which the decoder takes them (the reverse of
//! that in which the encoder pushed them); all little-endian. A decoder refuses a first state below 2^16, missing or
//! left-over words, and a last state other than 2^16.
//!
//! # Cost
//! 96 bytes for each chunk on top of the tables' cost ([`estimated_bytes`]). Decoding is the [`kernel`](super::Kernel)s'
//! work: no branches, and the same speed whether symbols share a table or each has its own.

use super::kernel::{Item, Kernel, Lanes, Lookup, Narrow, Searches, Slots, Tables, one};
use super::{Model, Table, Trellis, Values};
use benben_format::{Error, ErrorKind, Result};
use std::hint::select_unpredictable;
use std::sync::OnceLock;

/// Lanes of a chunk.
pub const LANES: usize = 32;
/// State of each lane before the first symbol is encoded, and after the last is decoded.
pub const INITIAL: u32 = 1 << 16;
/// Bytes of the lane states at the front of a payload.
pub const STATE_BYTES: usize = 4 * LANES;
/// Symbols whose tables are looked up at a time: a few kilobytes, whole groups.
const BLOCK: usize = 256 * LANES;

/// Bytes that a chunk is expected to take whose symbols cost `bits` by its tables: each lane stores 32 bits of
/// state of which 16 are the initial state's and 8, on average, hold symbols.
pub fn estimated_bytes(bits: f64) -> f64 {
    (bits / 8.0 + 96.0).max(STATE_BYTES as f64)
}

/// Codes `symbols`, the first of which is symbol `first` of the stream; `None` where a table has no frequency for
/// one of them, or the model does not cover them.
pub fn encode(symbols: &[u8], first: u64, model: &Model<'_>) -> Option<Vec<u8>> {
    let range = first..first + symbols.len() as u64;
    model.check(&range, ErrorKind::InvalidArgument).ok()?;
    let spans: Vec<[Span; 256]> = model.tables.iter().map(Span::all).collect();
    if spans.is_empty() && !symbols.is_empty() {
        return None;
    }
    let mut tables = vec![0; symbols.len()];
    model.tables_of(first, symbols, &mut tables);
    let mut states = [INITIAL; LANES];
    // Filled from the back, at most one word for each symbol, so that the words end up in decoding order.
    let mut words = vec![0u16; symbols.len()];
    let mut at = symbols.len();
    let mut coded = true;
    for (symbols, tables) in symbols.chunks(LANES).zip(tables.chunks(LANES)).rev() {
        for ((&symbol, &table), state) in symbols.iter().zip(tables).zip(&mut states).rev() {
            let span = &spans[usize::from(table)][usize::from(symbol)];
            coded &= span.room > 0;
            let full = *state >> 16 >= span.room;
            words[at - 1] = *state as u16;
            at -= usize::from(full);
            *state = span.push(select_unpredictable(full, *state >> 16, *state));
        }
    }
    if !coded {
        return None;
    }
    let words = &words[at..];
    let mut payload = Vec::with_capacity(STATE_BYTES + 2 * words.len());
    states.iter().for_each(|s| payload.extend_from_slice(&s.to_le_bytes()));
    words.iter().for_each(|w| payload.extend_from_slice(&w.to_le_bytes()));
    Some(payload)
}

/// What encoding a symbol takes: its interval, with a division by its frequency made into a multiplication.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The 16 high bits of the first state that has no room for the symbol; 0 where it cannot be coded.
    room: u32,
    /// `4096 - frequency`.
    complement: u32,
    /// What the state grows by, besides `complement` times the quotient.
    bias: u32,
    /// `2^64 / frequency`, rounded up; `2^64 - 1` for a frequency of 1.
    inverse: u64,
}

impl Span {
    fn all(table: &Table) -> [Self; 256] {
        std::array::from_fn(|symbol| match table.interval(symbol as u8) {
            None => Self { room: 0, complement: 0, bias: 0, inverse: 0 },
            // The quotient comes out one too small, which the bias makes up for.
            Some((start, 1)) => {
                Self { room: 1 << 4, complement: 4095, bias: start + 4095, inverse: u64::MAX }
            }
            Some((start, freq)) => Self {
                room: freq << 4,
                complement: 4096 - freq,
                bias: start,
                // Exact for any state below 2^32: the error, times the state, stays below 2^64.
                inverse: u64::MAX / u64::from(freq) + 1,
            },
        })
    }

    /// `(state / f) * 4096 + c + state % f`.
    #[inline(always)]
    fn push(&self, state: u32) -> u32 {
        let quotient = ((u128::from(state) * u128::from(self.inverse)) >> 64) as u32;
        state.wrapping_add(self.bias).wrapping_add(quotient.wrapping_mul(self.complement))
    }
}

/// A model's tables as kernels look them up.
struct Forms {
    slots: Vec<Slots>,
    narrow: Vec<Option<Narrow>>,
    searches: Option<Searches>,
}

impl Forms {
    /// Those for values, or for symbols.
    fn new(model: &Model<'_>, kernel: Kernel, values: bool) -> Self {
        let mut slots = vec![[0; 1 << 12]; model.tables.len()];
        model.tables.iter().zip(&mut slots).for_each(|(table, slots)| table.slots(slots));
        let registers = kernel == Kernel::Avx512Narrow;
        let narrow = if registers && !values { model.tables } else { &[] };
        // Without a trellis gathers are as quick: 3.6 and 3.4 G values/s of one table, 2.5 either way of row classes.
        let several = registers && model.trellis != Trellis::None;
        let searches = if several { Searches::new(model.tables, model.trellis) } else { None };
        Self { slots, narrow: narrow.iter().map(Narrow::new).collect(), searches }
    }
}

/// A model with what decoding by it takes, made when the first chunk asks for it and shared by all.
pub(super) struct Decoder<'a> {
    pub(super) model: &'a Model<'a>,
    forms: OnceLock<Forms>,
    kernel: Kernel,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(model: &'a Model<'a>, kernel: Kernel) -> Self {
        Self { model, forms: OnceLock::new(), kernel }
    }

    /// Whether four chunks side by side are faster than two: with gathers they are not.
    pub(super) fn takes_four(&self) -> bool {
        self.kernel == Kernel::Avx512Narrow
    }

    /// Decodes all symbols of some chunks, side by side. `values` fit the model's trellis; there are none where symbols
    /// are asked for. The outcome of each chunk is its own.
    pub(super) fn decode<I: Item, const N: usize>(
        &self,
        values: &[[f32; 256]],
        chunks: [Payload<'_>; N],
        mut out: [&mut [I]; N],
    ) -> [Result<()>; N] {
        let model = self.model;
        let mut lanes = [const { Lanes::NONE }; N];
        let mut words = [&[][..]; N];
        let mut failed = [const { None }; N];
        for n in 0..N {
            let symbols = chunks[n].first..chunks[n].first + out[n].len() as u64;
            let started = model.check(&symbols, ErrorKind::Corruption).and_then(|()| start(chunks[n].bytes));
            match started {
                Ok(started) => (lanes[n], words[n]) = started,
                Err(e) => failed[n] = Some(e),
            }
            if model.tables.is_empty() && !out[n].is_empty() {
                failed[n].get_or_insert(Error::corruption("rANS without a table"));
            }
        }
        if N > 1 && failed.iter().any(Option::is_some) {
            // Each for itself, so that a sound chunk does not depend on its neighbour.
            let mut out = out.into_iter();
            return chunks.map(|chunk| match out.next() {
                Some(out) => self.decode_one(values, chunk, out),
                None => Ok(()),
            });
        }
        if let Some(e) = failed.iter_mut().find_map(Option::take) {
            let mut e = Some(e);
            return [(); N].map(|()| e.take().map_or(Ok(()), Err));
        }
        let forms = self.forms.get_or_init(|| Forms::new(model, self.kernel, I::VALUES));
        let planes = forms.searches.as_ref().filter(|_| I::VALUES).map(|s| s.planes(values));
        let lookup = Lookup {
            slots: &forms.slots,
            narrow: &forms.narrow,
            searches: forms.searches.as_ref(),
            planes: planes.as_ref(),
            values,
            trellis: model.trellis,
            alphabet: model.tables.iter().map(Table::alphabet).max().unwrap_or(0),
        };
        // With one table for all, whole chunks are one block.
        let whole = model.rows.of.is_empty() && model.columns.of.is_empty();
        let block = if whole { usize::MAX } else { BLOCK };
        let mut tables = [[0; BLOCK]; N];
        let longest = out.iter().map(|o| o.len()).max().unwrap_or(0);
        let mut results = [const { Ok(()) }; N];
        let mut at = 0;
        while at < longest {
            let end = at.saturating_add(block);
            let mut own = out.each_mut().map(|o| {
                let end = end.min(o.len());
                &mut o[at.min(end)..end]
            });
            let mut number = 0;
            let tables = tables.each_mut().map(|tables| {
                let (first, count) = (chunks[number].first + at as u64, own[number].len());
                number += 1;
                match model.shared(first, count) {
                    Some(table) => Tables::Shared(table),
                    None => {
                        let tables = &mut tables[..count];
                        model.first_tables(first, tables);
                        Tables::Each(tables)
                    }
                }
            });
            let done =
                groups(self.kernel, lookup, tables, &mut lanes, &mut words, own.each_mut().map(|o| &mut **o));
            for n in 0..N {
                if results[n].is_err() {
                    continue;
                }
                let (lanes, words) = (&mut lanes[n], &mut words[n]);
                let tables = tables[n].from(done);
                let rest = own[n].get_mut(done..).unwrap_or_default();
                // A longer neighbour, or one with more words, goes on alone.
                let more = groups(
                    self.kernel,
                    lookup,
                    [tables],
                    std::array::from_mut(lanes),
                    std::array::from_mut(words),
                    [rest],
                );
                // What is left of the last groups, where a lane may find no word.
                results[n] = singly(lookup, tables, lanes, words, more, rest)
                    .map_err(|e| e.context(format!("symbols from {} of the chunk on", at + done + more)));
            }
            at = end;
        }
        for (n, result) in results.iter_mut().enumerate() {
            if result.is_ok() {
                *result = finish(&lanes[n], words[n]);
            }
        }
        results
    }

    /// [`Decoder::decode`] of one chunk.
    pub(super) fn decode_one<I: Item>(
        &self,
        values: &[[f32; 256]],
        chunk: Payload<'_>,
        out: &mut [I],
    ) -> Result<()> {
        let [result] = self.decode(values, [chunk], [out]);
        result
    }
}

/// What codes a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload<'a> {
    pub(super) bytes: &'a [u8],
    /// Number in the stream of the first symbol.
    pub(super) first: u64,
}

/// Decodes all symbols of a chunk, the first of which is symbol `first` of the stream.
///
/// # Errors
/// [`Corruption`](ErrorKind::Corruption) where the payload is not one that [`encode`] makes, or the model does not
/// cover the symbols.
pub fn decode(payload: &[u8], first: u64, model: &Model<'_>, out: &mut [u8]) -> Result<()> {
    decode_by(Kernel::fastest(), payload, first, model, out)
}

/// [`decode`] by a kernel of one's choice, for comparisons. One that this machine lacks decodes symbol by symbol.
///
/// # Errors
/// As [`decode`].
pub fn decode_by(
    kernel: Kernel,
    payload: &[u8],
    first: u64,
    model: &Model<'_>,
    out: &mut [u8],
) -> Result<()> {
    Decoder::new(model, kernel).decode_one(&[], Payload { bytes: payload, first }, out)
}

/// Decodes all symbols of a chunk to their values, in one pass.
///
/// # Errors
/// As [`decode`], and [`InvalidArgument`](ErrorKind::InvalidArgument) for values of another trellis.
pub fn decode_values_by(
    kernel: Kernel,
    payload: &[u8],
    first: u64,
    model: &Model<'_>,
    values: &Values,
    out: &mut [f32],
) -> Result<()> {
    let values = values.rows_for(model.trellis)?;
    Decoder::new(model, kernel).decode_one(values, Payload { bytes: payload, first }, out)
}

/// The states and the words of a payload.
fn start(payload: &[u8]) -> Result<(Lanes, &[u8])> {
    let Some((head, words)) = payload.split_first_chunk::<STATE_BYTES>() else {
        return Err(Error::corruption(format!(
            "rANS payload of {} bytes, {STATE_BYTES} expected for the lane states alone",
            payload.len()
        )));
    };
    if words.len() % 2 != 0 {
        return Err(Error::corruption(format!(
            "rANS words take {} bytes, an even number expected",
            words.len()
        )));
    }
    let mut lanes = Lanes::NONE;
    for (lane, (state, bytes)) in lanes.coder.iter_mut().zip(head.as_chunks::<4>().0).enumerate() {
        *state = u32::from_le_bytes(*bytes);
        if *state < INITIAL {
            return Err(Error::corruption(format!(
                "rANS lane {lane} starts at state {state}, below {INITIAL}"
            )));
        }
    }
    Ok((lanes, words))
}

/// Refuses words that are left, and states that are not where encoding began.
fn finish(lanes: &Lanes, words: &[u8]) -> Result<()> {
    if !words.is_empty() {
        return Err(Error::corruption(format!("rANS payload has {} bytes too many", words.len())));
    }
    match lanes.coder.iter().position(|&s| s != INITIAL) {
        Some(lane) => Err(Error::corruption(format!(
            "rANS lane {lane} ends at state {}, expected {INITIAL}",
            lanes.coder[lane]
        ))),
        None => Ok(()),
    }
}

/// [`Kernel::run`], also where fewer words are left than a group may take: from a copy of them with zeros behind. What
/// was decoded from zeros is done again, symbol by symbol, by whoever comes next.
fn groups<I: Item, const N: usize>(
    kernel: Kernel,
    lookup: Lookup<'_>,
    tables: [Tables<'_>; N],
    lanes: &mut [Lanes; N],
    words: &mut [&[u8]; N],
    mut out: [&mut [I]; N],
) -> usize {
    const GROUP_BYTES: usize = 2 * LANES;
    let done = kernel.run(lookup, tables, lanes, words, out.each_mut().map(|o| &mut **o));
    let out = out.map(|o| o.get_mut(done..).unwrap_or_default());
    if out.iter().any(|o| o.len() < LANES) {
        return done;
    }
    let before = lanes.clone();
    let mut padded = [[0; 2 * GROUP_BYTES]; N];
    let mut left = *words;
    for (padded, left) in padded.iter_mut().zip(&mut left) {
        if left.len() < GROUP_BYTES {
            padded[..left.len()].copy_from_slice(left);
            *left = padded;
        }
    }
    let start = left.map(<[u8]>::len);
    let more = kernel.run(lookup, tables.map(|t| t.from(done)), lanes, &mut left, out);
    let taken: [usize; N] = std::array::from_fn(|n| start[n] - left[n].len());
    if taken.iter().zip(&*words).any(|(taken, words)| *taken > words.len()) {
        *lanes = before;
        return done;
    }
    for (words, taken) in words.iter_mut().zip(taken) {
        *words = &words[taken..];
    }
    done + more
}

/// Decodes the symbols of a block from number `done` on, which is the first of a group.
fn singly<I: Item>(
    lookup: Lookup<'_>,
    tables: Tables<'_>,
    lanes: &mut Lanes,
    words: &mut &[u8],
    done: usize,
    out: &mut [I],
) -> Result<()> {
    const NOTHING: [f32; 256] = [0.0; 256];
    let mask = lookup.trellis.tables() - 1;
    for (i, o) in out.iter_mut().enumerate().skip(done) {
        let (coder, path) = (&mut lanes.coder[i % LANES], &mut lanes.trellis[i % LANES]);
        let first = match tables {
            Tables::Shared(table) => table,
            Tables::Each(each) => each[i],
        };
        let (x, symbol) = one(&lookup.slots[usize::from(first) + (*path as usize & mask)], *coder);
        *o = I::of(symbol, lookup.values.get(*path as usize & 1).unwrap_or(&NOTHING));
        if lookup.trellis != Trellis::None {
            *path = Trellis::next(*path, symbol);
        }
        *coder = x;
        if x < INITIAL {
            let Some((word, rest)) = words.split_first_chunk::<2>() else {
                return Err(Error::corruption("rANS words end early"));
            };
            *words = rest;
            *coder = x << 16 | u32::from(u16::from_le_bytes(*word));
        }
    }
    Ok(())
}
