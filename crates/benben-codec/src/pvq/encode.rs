//! Values to a leaf.

use super::code::{Code, Coder};
use super::gain::{Curve, Grid, MAX_CLASSES, STEP_LIMIT, extra_bits, square, symbol};
use super::pyramid::{MAX_DIM, Pyramid};
use super::side::{Side, tail_bits};
use super::tail::TailWriter;
use super::{CODEC, Form, Params, Settings, VERSION, pulse_encode};
use crate::bands::{self, trim};
use crate::dial::Goal;
use crate::entropy::rans::estimated_bytes;
use crate::entropy::{
    CHUNK_ITEMS, Model, SideWriter, Table, encode_bytes, encode_symbols, encode_words, write_tables,
};
use crate::{Fit, Target};
use benben_format::{Dtype, EncodedLeaf, Error, LeafSpec, Result, element_count};
use rayon::prelude::*;

/// Bits of an index that are entropy-coded when that pays: what rounding `V` up to a power of two would lose comes
/// down from half a bit to 0.03 bits for each group, and a table has at most 32 entries.
const HEAD_BITS: u8 = 5;
/// Groups of one block of parallel work; errors are added block by block.
const BLOCK: usize = 1 << 10;
/// Groups that the first turn of the dial looks at.
const SAMPLE: usize = 1 << 12;
/// Groups that the curve of pulses is measured on.
const CURVE_SAMPLE: usize = 512;
/// Bits for each group that leave the 64 of an index enough room for groups of large gain.
const ROOM: f64 = 52.0;

/// dB that numbered points must be nearer to the bound, 0.003 bits for each weight: pulses decode ten and more times as
/// fast.
const WORTH_NUMBERING: f64 = 0.02;

/// Encodes `values`, a tensor of `shape`, and tells what was reached: where the target is out of reach (a rate below
/// what the tables of a small tensor take, for one), the nearest that there is.
///
/// # Errors
/// InvalidArgument where `values` does not fill `shape`, a value is not finite or 2^112 or more, or a setting is out
/// of its bounds.
pub fn encode(values: &[f32], shape: &[u64], settings: &Settings) -> Result<(EncodedLeaf, Fit)> {
    check(values, shape, settings)?;
    let goal = Goal::of(settings.target)?;
    if values.iter().all(|&v| v == 0.0) {
        let grid = Grid { step: 1.0, classes: Vec::new() };
        let job = Job::new(values, shape, settings, usize::from(settings.dim));
        let leaf = job.assemble(&grid, &vec![Code::default(); job.groups()])?;
        let bits_per_weight = job.bits_per_weight(&leaf);
        return Ok((leaf, Fit { bits_per_weight, relative_mse: 0.0 }));
    }
    let pulses = match settings.form {
        Some(Form::Numbered) => None,
        _ => Some(pulse_encode::reach(values, shape, settings, goal)?),
    };
    let numbered = match settings.form {
        Some(Form::Pulses) => None,
        _ => numbered(values, shape, settings, goal, pulses.as_ref().filter(|p| p.2).map(|p| &p.1))?,
    };
    let better = match (pulses, numbered) {
        // One that meets the goal before one that does not; then the fewer bits at the error of both.
        (Some(pulses), Some(numbered)) => {
            let gap = |made: &Made| made.1.db_above_gaussian_bound();
            let better = pulses.2 && !numbered.2
                || pulses.2 == numbered.2 && gap(&pulses) < gap(&numbered) + WORTH_NUMBERING;
            if better { pulses } else { numbered }
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Err(Error::invalid("pvq has no other form")),
    };
    Ok((better.0, better.1))
}

/// A leaf, what it reaches, and whether that meets the goal.
pub(super) type Made = (EncodedLeaf, Fit, bool);

/// The leaf of numbered points; none where a sample shows that it cannot be nearer to the bound than `rival`.
fn numbered(
    values: &[f32],
    shape: &[u64],
    settings: &Settings,
    goal: Goal,
    rival: Option<&Fit>,
) -> Result<Option<Made>> {
    let mut dim = group_size(usize::from(settings.dim), goal.bits(), shape);
    loop {
        let job = Job::new(values, shape, settings, dim);
        let Some((leaf, fit, met)) = job.reach(goal, rival)? else { return Ok(None) };
        // Points of so many dimensions number 2^64 before the target is reached: fewer dimensions reach further.
        let short = match settings.target {
            Target::BitsPerWeight(x) => fit.bits_per_weight < 0.97 * x && x * dim as f64 > 40.0,
            Target::RelativeMse(_) => !met,
        };
        if short && dim > 1 {
            dim = dim * 4 / 5;
            continue;
        }
        return Ok(Some((leaf, fit, met)));
    }
}

pub(super) fn check(values: &[f32], shape: &[u64], settings: &Settings) -> Result<()> {
    let elements = element_count(shape)?;
    if elements != values.len() as u64 {
        return Err(Error::invalid(format!(
            "shape {shape:?} has {elements} elements, found {} values",
            values.len()
        )));
    }
    if !(1..=MAX_DIM).contains(&usize::from(settings.dim)) {
        return Err(Error::invalid(format!("pvq groups of {}, expected 1 to {MAX_DIM}", settings.dim)));
    }
    if !(1..=1 << 20).contains(&settings.chunk_groups) {
        return Err(Error::invalid(format!(
            "pvq chunks of {} groups, expected 1 to 2^20",
            settings.chunk_groups
        )));
    }
    values.iter().position(|v| v.is_nan() || v.abs() >= STEP_LIMIT).map_or(Ok(()), |i| {
        Err(Error::invalid(format!("value {i} is {}, expected finite values below 2^112", values[i])))
    })
}

/// The largest group, at most `most`, whose points have room at `bits` for each weight; rather one that divides the
/// rows, if that takes no more than a quarter off.
pub(super) fn group_size(most: usize, bits: f64, shape: &[u64]) -> usize {
    let most = most.min((ROOM / bits.max(1.0)) as usize).max(1);
    let row = shape.last().map_or(1, |&c| usize::try_from(c).unwrap_or(usize::MAX)).max(1);
    (most - most / 4..=most).rev().find(|d| row.is_multiple_of(*d)).unwrap_or(most)
}

/// Gains of a tensor's groups, and what points of them cost.
pub(super) struct Gains {
    curve: Curve,
    smallest: f64,
    largest: f64,
    most: usize,
    dim: usize,
}

impl Gains {
    /// The coder where a bit must save the squared error `price`.
    pub(super) fn coder(&self, price: f64) -> Result<Coder> {
        let grid = self.curve.grid(price, self.smallest, self.largest, self.most);
        Coder::new(&self.curve, grid, price, self.dim)
    }
}

/// One tensor cut into groups of one size.
pub(super) struct Job<'a> {
    values: &'a [f32],
    shape: &'a [u64],
    chunk_groups: u32,
    dim: usize,
    /// The last group, padded with zeros.
    last: [f32; MAX_DIM],
}

impl<'a> Job<'a> {
    pub(super) fn new(values: &'a [f32], shape: &'a [u64], settings: &Settings, dim: usize) -> Self {
        let mut last = [0.0; MAX_DIM];
        let tail = &values[values.len() - values.len() % dim..];
        last[..tail.len()].copy_from_slice(tail);
        Self { values, shape, chunk_groups: settings.chunk_groups, dim, last }
    }

    pub(super) fn groups(&self) -> usize {
        self.values.len().div_ceil(self.dim)
    }

    fn group(&self, i: usize) -> &[f32] {
        self.values.get(i * self.dim..(i + 1) * self.dim).unwrap_or(&self.last[..self.dim])
    }

    fn bits_per_weight(&self, leaf: &EncodedLeaf) -> f64 {
        leaf.stored_bytes() as f64 * 8.0 / self.values.len().max(1) as f64
    }

    pub(super) fn norms(&self) -> Vec<f64> {
        (0..self.groups()).into_par_iter().map(|i| square(self.group(i))).collect()
    }

    /// What the groups, not all of them zero, of these squared `norms` ask of a grid.
    pub(super) fn gains(&self, norms: &[f64]) -> Gains {
        let mut sorted: Vec<f64> = norms.iter().copied().filter(|&n| n > 0.0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let occupied: Vec<usize> = (0..norms.len()).filter(|&i| norms[i] > 0.0).collect();
        let stride = occupied.len().div_ceil(CURVE_SAMPLE).max(1);
        let picked: Vec<&[f32]> = occupied.iter().step_by(stride).map(|&i| self.group(i)).collect();
        Gains {
            curve: Curve::measure(&picked, self.dim),
            smallest: sorted[sorted.len() / 50].sqrt(),
            largest: sorted[sorted.len() - 1].sqrt(),
            // A class costs a head table: few groups get few classes.
            most: (2 + self.groups() / 256).min(MAX_CLASSES),
            dim: self.dim,
        }
    }

    /// Groups that stand for all.
    pub(super) fn sample(&self) -> Vec<usize> {
        (0..self.groups()).step_by(self.groups().div_ceil(SAMPLE).max(1)).collect()
    }

    /// Turns the price of a bit until the leaf meets the goal: on a sample first, then on the leaf itself.
    fn reach(&self, goal: Goal, rival: Option<&Fit>) -> Result<Option<Made>> {
        let norms = self.norms();
        let energy: f64 = norms.iter().sum();
        let gains = self.gains(&norms);
        let per_weight = energy / self.values.len() as f64;
        let start = (2.0 * per_weight).log2() - 2.0 * goal.bits();
        let sample = self.sample();
        let sample_energy: f64 = sample.iter().map(|&i| norms[i]).sum();
        let weights = (sample.len() * self.dim) as f64;
        let guess = goal.turn(start, 24, 0.002, |dial| {
            let coder = gains.coder(dial.exp2())?;
            let (codes, error) = self.code(&coder, &sample);
            let bits_per_weight = coder.ideal_bits(&codes) / weights;
            let relative_mse = error / sample_energy.max(f64::MIN_POSITIVE);
            Ok((goal.score(bits_per_weight, relative_mse), Fit { bits_per_weight, relative_mse }))
        })?;
        // Ideal bits leave out tables and chunks: the leaf itself will not come nearer.
        let gap = guess.made.db_above_gaussian_bound();
        if guess.met && rival.is_some_and(|r| gap + WORTH_NUMBERING > r.db_above_gaussian_bound()) {
            return Ok(None);
        }
        let all: Vec<usize> = (0..self.groups()).collect();
        let turned = goal.turn(guess.dial, 10, 0.0025, |dial| {
            let coder = gains.coder(dial.exp2())?;
            let (codes, error) = self.code(&coder, &all);
            let leaf = self.assemble(&coder.grid, &codes)?;
            let fit = Fit { bits_per_weight: self.bits_per_weight(&leaf), relative_mse: error / energy };
            Ok((goal.score(fit.bits_per_weight, fit.relative_mse), (leaf, fit)))
        })?;
        Ok(Some((turned.made.0, turned.made.1, turned.met)))
    }

    /// Codes of the groups `which`, and their squared error.
    pub(super) fn code(&self, coder: &Coder, which: &[usize]) -> (Vec<Code>, f64) {
        let blocks: Vec<(Vec<Code>, f64)> = which
            .par_chunks(BLOCK)
            .map(|block| {
                let mut error = 0.0;
                let codes = block
                    .iter()
                    .map(|&i| {
                        let (code, e) = coder.code(self.group(i));
                        error += e;
                        code
                    })
                    .collect();
                (codes, error)
            })
            .collect();
        let error = blocks.iter().map(|b| b.1).sum();
        (blocks.into_iter().flat_map(|b| b.0).collect(), error)
    }

    /// The leaf of `codes`, one for each group.
    pub(super) fn assemble(&self, grid: &Grid, codes: &[Code]) -> Result<EncodedLeaf> {
        let most = grid.classes.iter().map(|c| usize::from(c.pulses)).max().unwrap_or(0);
        let pyramid = Pyramid::new(self.dim, most)?;
        let symbols: Vec<u8> = codes.iter().map(|c| symbol(c.level)).collect();
        let classes: Vec<u8> = codes.iter().map(|c| c.class).collect();
        let run = self.run();
        let bands = bands::sort(&symbols, run);
        let (head_bits, heads) = self.heads(grid, &pyramid, codes)?;
        let tails = tail_bits(grid, &pyramid, head_bits);
        let side = Side { grid: grid.clone(), head_bits, run: run as u32, gains: bands.tables, heads };

        let spec = LeafSpec::new(
            CODEC,
            VERSION,
            Dtype::F32,
            self.shape,
            &Params { dim: self.dim as u8, form: Form::Numbered },
        )?;
        let mut leaf = EncodedLeaf::new(spec);
        let mut writer = SideWriter::new();
        side.write(&mut writer)?;
        let (spec, chunks) = encode_bytes(&writer.into_bytes(), 1, CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let (spec, chunks) = encode_symbols(&bands.of, &Model::none(), CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let by_band = Model::by_rows(&side.gains, &bands.of, run as u64);
        let (spec, chunks) = encode_symbols(&symbols, &by_band, self.chunk_groups)?;
        leaf.push(spec, chunks);
        let head = |c: &Code| if head_bits == 0 { 0 } else { (c.index >> tails[usize::from(c.class)]) as u8 };
        let symbols: Vec<u8> = codes.iter().map(head).collect();
        let by_class = Model::by_rows(&side.heads, &classes, 1);
        let by_class = if head_bits == 0 { Model::none() } else { by_class };
        let (spec, chunks) = encode_symbols(&symbols, &by_class, self.chunk_groups)?;
        leaf.push(spec, chunks);

        let words: Vec<Vec<u64>> = codes
            .par_chunks(self.chunk_groups as usize)
            .map(|chunk| {
                let mut writer = TailWriter::new();
                for c in chunk {
                    let extra = extra_bits(symbol(c.level));
                    writer.put(u64::from(c.level & ((1 << extra) - 1)), extra);
                    let width = tails[usize::from(c.class)];
                    writer.put(if width == 64 { c.index } else { c.index & ((1 << width) - 1) }, width);
                }
                writer.finish()
            })
            .collect();
        let mut starts = Vec::with_capacity(words.len());
        let mut total = 0u64;
        for chunk in &words {
            starts.push(total);
            total += chunk.len() as u64;
        }
        // The first chunk starts at 0.
        let (spec, chunks) = encode_words(starts.get(1..).unwrap_or(&[]), CHUNK_ITEMS);
        leaf.push(spec, chunks);
        let mean = total.div_ceil(words.len().max(1) as u64);
        let (spec, chunks) = encode_words(&words.concat(), (mean as u32).clamp(1, CHUNK_ITEMS));
        leaf.push(spec, chunks);
        Ok(leaf)
    }

    /// Groups of one run: a row, or as many rows as give a run its weight against the cost of naming its band.
    fn run(&self) -> usize {
        let row = self.shape.last().map_or(1, |&c| usize::try_from(c).unwrap_or(usize::MAX)) / self.dim;
        let row = row.max(1);
        (row * 16usize.div_ceil(row)).min(u32::MAX as usize)
    }

    /// Head bits and tables: none where they cost more than they save.
    fn heads(&self, grid: &Grid, pyramid: &Pyramid, codes: &[Code]) -> Result<(u8, Vec<Table>)> {
        let widths = tail_bits(grid, pyramid, 0);
        let tails = tail_bits(grid, pyramid, HEAD_BITS);
        let mut counts = vec![[0u64; 1 << HEAD_BITS]; grid.classes.len() + 1];
        for c in codes {
            counts[usize::from(c.class)][(c.index >> tails[usize::from(c.class)]) as usize] += 1;
        }
        let tables: Vec<Table> = counts.iter().map(|c| Table::from_counts(trim(c))).collect();
        let mut stored = Vec::new();
        write_tables(&tables, &mut stored)?;
        let mut saved = 0.0;
        for (class, counts) in counts.iter().enumerate() {
            let plain = f64::from(widths[class] - tails[class]) * counts.iter().sum::<u64>() as f64;
            saved += plain - tables[class].cost_bits(counts);
        }
        let chunks = codes.len().div_ceil(self.chunk_groups as usize) as f64;
        let pays = saved / 8.0 > stored.len() as f64 + estimated_bytes(0.0) * chunks;
        Ok(if pays { (HEAD_BITS, tables) } else { (0, Vec::new()) })
    }
}
