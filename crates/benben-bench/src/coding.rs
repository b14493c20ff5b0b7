//! Symbols to bits and back: rANS by every kernel of this machine, beside peers and copies of memory.

use crate::goal::{Goal, Promise};
use crate::integers::Coded;
use crate::measure::Task;
use crate::ours::{ClassTables, Job, Rans};
use crate::peers::{DefaultAns, Memory, Pco, SmallAns, Zstd};
use crate::race::{Contestant, OnPieces, Scratch};
use crate::{Matrix, Measure, Sample};
use benben::codec::entropy::Kernel;
use benben::{Error, Result};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Coding {
    /// Symbols in all.
    pub symbols: usize,
    /// Order-0 entropy in bits for each symbol, by matrix.
    pub entropy: f64,
    /// The same by matrix and class of rows.
    pub class_entropy: f64,
    /// One for each contestant.
    pub rows: Vec<Row>,
}

/// One contestant.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What it is.
    pub coder: String,
    /// What decoding writes for a symbol: `u8`, `u16` or `f32`.
    pub writes: &'static str,
    /// Stored bits for each symbol, tables and classes included.
    pub bits_per_symbol: Option<f64>,
    /// Symbols encoded in a second.
    pub encode_per_second: Option<f64>,
    /// Symbols decoded in a second.
    pub decode_per_second: f64,
    /// Bytes that decoding writes in a second.
    pub written_per_second: f64,
    /// Symbols decoded, relative to the faster of constriction's coders.
    pub to_constriction: f64,
    /// Bytes written, relative to memcpy.
    pub to_memcpy: f64,
    /// What the project promises of it, on one thread; of memcpy only where the buffers are [`LARGE`].
    pub goal: Option<Goal>,
}

/// Bytes of a buffer that no cache holds.
pub const LARGE: usize = 64_000_000;

/// Name of the contestant that relates to memory.
const MEMCPY: &str = "memcpy";
/// How the names of constriction's coders begin.
const CONSTRICTION: &str = "constriction";

/// Quantizes `data` at a step that gives about `bits` bits for each symbol, and lets everyone code that.
///
/// # Errors
/// As [`Sample::quantize`]; Corruption where a contestant does not decode what it was given.
pub fn measure(data: &[Matrix], bits: f64, measure: &mut Measure<'_>) -> Result<Coding> {
    let sample = Sample::quantize(data, bits)?;
    let mut runs = contestants(&sample)?;
    let scratch = Mutex::new(Scratch::new(&sample));
    let encode = measure.race(&mut tasks(&mut runs, "encode", |run| run.encode()))?;
    let into = &scratch;
    let decode = tasks(&mut runs, "decode", |run| run.decode(&mut *into.lock().map_err(poisoned)?));
    let decode = measure.race(&mut { decode })?;
    let mut scratch = scratch.into_inner().map_err(poisoned)?;

    let symbols = sample.len();
    let mut rows = Vec::new();
    for ((run, encode), decode) in runs.iter_mut().zip(encode).zip(decode) {
        let (coder, writes) = run.name();
        measure.tell(&format!("check: {coder}"), rows.len() as u64, 0)?;
        scratch.spoil();
        run.decode(&mut scratch)?;
        run.check(&scratch)?;
        let stored = run.stored_bytes();
        rows.push(Row {
            coder,
            writes,
            bits_per_symbol: stored.map(|b| 8.0 * b as f64 / symbols as f64),
            encode_per_second: stored.map(|_| symbols as f64 / encode),
            decode_per_second: symbols as f64 / decode,
            written_per_second: (symbols * width(writes)) as f64 / decode,
            to_constriction: f64::NAN,
            to_memcpy: f64::NAN,
            goal: None,
        });
    }
    let best = |name: &str, of: fn(&Row) -> f64| {
        rows.iter().filter(|r| r.coder.starts_with(name)).map(of).fold(f64::NAN, f64::max)
    };
    let constriction = best(CONSTRICTION, |r| r.decode_per_second);
    let memcpy = best(MEMCPY, |r| r.written_per_second);
    for (row, run) in rows.iter_mut().zip(&runs) {
        row.to_constriction = row.decode_per_second / constriction;
        row.to_memcpy = row.written_per_second / memcpy;
        row.goal = match run.promise().filter(|_| measure.threads() == 1) {
            Some(Promise::OfConstriction(x)) => {
                Some(Goal::at_least(row.to_constriction, x, "x constriction"))
            }
            Some(Promise::OfMemcpy(x)) if symbols * width(row.writes) >= LARGE => {
                Some(Goal::at_least(row.to_memcpy, x, "x memcpy"))
            }
            _ => None,
        };
    }
    let class_entropy = class_entropy(&sample)?;
    Ok(Coding { symbols, entropy: sample.entropy(), class_entropy, rows })
}

fn poisoned<T>(_: PoisonError<T>) -> Error {
    Error::invalid("a contestant has panicked")
}

/// Bytes of what is written for a symbol.
fn width(writes: &str) -> usize {
    match writes {
        "u8" => 1,
        "u16" => 2,
        _ => 4,
    }
}

/// Everyone who codes `sample`, in the order of the table.
fn contestants(sample: &Sample) -> Result<Vec<Box<dyn Contestant + '_>>> {
    let mut runs: Vec<Box<dyn Contestant + '_>> = Vec::new();
    let kernels = Kernel::available();
    for job in Job::ALL {
        for &kernel in &kernels {
            runs.push(Box::new(Rans::new(kernel, job, sample)));
        }
    }
    runs.push(Box::new(ClassTables::new(sample)));
    runs.push(OnPieces::boxed("constriction, SmallAnsCoder", SmallAns::new(sample)?, sample));
    runs.push(OnPieces::boxed("constriction, DefaultAnsCoder", DefaultAns::new(sample)?, sample));
    for level in [1, 3, 19] {
        runs.push(OnPieces::boxed(format!("zstd -{level}"), Zstd(level), sample));
    }
    runs.push(OnPieces::boxed("pco", Pco, sample));
    runs.push(Memory::copy(sample.len()));
    runs.push(Memory::set());
    Ok(runs)
}

fn tasks<'a, 'b: 'a>(
    runs: &'a mut [Box<dyn Contestant + 'b>],
    verb: &str,
    turn: impl Fn(&mut (dyn Contestant + 'b)) -> Result<()> + Send + Copy + 'a,
) -> Vec<Task<'a>> {
    let task = |run: &'a mut Box<dyn Contestant + 'b>| {
        let name = format!("{verb}: {}", run.name().0);
        Task { name, turn: Box::new(move || turn(&mut **run)) }
    };
    runs.iter_mut().map(task).collect()
}

/// Entropy in bits for each symbol where the matrix and the class of its row are known.
fn class_entropy(sample: &Sample) -> Result<f64> {
    let mut bits = 0.0;
    for part in &sample.parts {
        let coded = Coded::encode(&part.integers(), part.rows, part.columns, part.step)?;
        bits += coded.class_entropy_bits(&part.symbols);
    }
    Ok(bits / sample.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_decodes_what_it_was_given_and_takes_no_less_than_the_entropy() {
        let data = [Matrix::gaussian(40_000, 1), Matrix::gaussian(3000, 2)];
        let coding = measure(&data, 2.5, &mut Measure::quick(1).unwrap()).unwrap();
        assert_eq!(coding.rows.len(), Job::ALL.len() * Kernel::available().len() + 9);
        assert!(coding.class_entropy <= coding.entropy + 1e-9);
        for row in &coding.rows {
            assert!(row.decode_per_second > 0.0 && row.to_memcpy > 0.0, "{row:?}");
            assert!(row.bits_per_symbol.is_none_or(|b| b > coding.class_entropy), "{row:?}");
            // 172 kB of f32 live in a cache: what is promised of memcpy is not judged there.
            assert!(row.goal.is_none_or(|g| g.of == "x constriction"), "{row:?}");
        }
        let memcpy = coding.rows.iter().find(|r| r.coder == MEMCPY).unwrap();
        assert!((memcpy.to_memcpy - 1.0).abs() < 1e-12 && memcpy.bits_per_symbol.is_none());
    }
}
