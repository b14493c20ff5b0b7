//! Values to a leaf of pulses.

use super::encode::Made;
use super::gain::STEP_LIMIT;
use super::pulse_plan::{FINE, MAX_PULSE, Plan, Runs, Survey};
use super::pulse_side::PulseSide;
use super::{CODEC, Form, Params, Settings, VERSION};
use crate::dial::Goal;
use crate::entropy::{CHUNK_ITEMS, Model, SideWriter, encode_bytes, encode_symbols};
use crate::{Fit, squared_error};
use benben_format::{Dtype, EncodedLeaf, Error, LeafSpec, Result};
use rayon::prelude::*;

/// Weights of one block of parallel work, about; counts are added block by block.
const BLOCK: usize = 1 << 14;
/// Weights that the first turn of the dial looks at, and that code lengths are learned from.
const SAMPLE: usize = 1 << 16;
/// Squared steps that a bit must save: where the slope of a uniform quantizer, `d(step^2 / 12) / d(log2 step)`, has it
/// at high rates, `ln 2 / 6`.
const LAMBDA: f64 = 0.1155;
/// Where magnitudes begin before their code lengths are known.
const FIRST_THRESHOLD: f32 = 0.6;

/// Encodes `values`, which are finite and not all zero, as near to `goal` as there is; tells whether it is met.
pub(super) fn reach(values: &[f32], shape: &[u64], settings: &Settings, goal: Goal) -> Result<Made> {
    let energy = squared_error(values, &vec![0.0; values.len()]).1;
    let rms = (energy / values.len() as f64).sqrt();
    // Entropy of a uniform quantizer: h(X) - log2 step, with h of a Gaussian 2.05 + log2 sigma.
    let start = 2.0 * (rms.log2() + 2.05 - goal.bits());
    let job = Job::new(values, shape, settings, step_of(start))?;
    let per_weight = energy / values.len() as f64;
    let guess = goal.turn(start, 24, 0.002, |dial| {
        let (bits, error) = job.estimate(step_of(dial));
        Ok((goal.score(bits, error / per_weight), ()))
    })?;
    let turned = goal.turn(guess.dial, 8, 0.0025, |dial| {
        let (leaf, error) = job.assemble(step_of(dial))?;
        let bits_per_weight = leaf.stored_bytes() as f64 * 8.0 / values.len() as f64;
        let fit = Fit { bits_per_weight, relative_mse: error / energy };
        Ok((goal.score(fit.bits_per_weight, fit.relative_mse), (leaf, fit)))
    })?;
    Ok((turned.made.0, turned.made.1, turned.met))
}

/// Step at `dial`, the binary logarithm of its square.
fn step_of(dial: f64) -> f32 {
    ((dial / 2.0).exp2() as f32).clamp(f32::MIN_POSITIVE, STEP_LIMIT / 2.0)
}

/// One tensor cut into runs.
struct Job<'a> {
    values: &'a [f32],
    shape: &'a [u64],
    settings: &'a Settings,
    runs: Runs,
}

/// How integers are chosen at one step, fixed by the values that it was learned from.
pub(super) struct Rule {
    step: f32,
    /// Values of symbols: magnitudes are moved to the means of what they stood for.
    shifts: Vec<i8>,
    /// Of the fine class of each run of weights.
    thresholds: Vec<[f32; MAX_PULSE]>,
    runs: Runs,
    /// Bits and squared error for each weight, about.
    pub(super) bits: f64,
    pub(super) error: f64,
}

impl Rule {
    /// The rule for `values`, a tensor of `shape`, where a bit must save the squared error `price`.
    pub(super) fn learned(values: &[f32], shape: &[u64], settings: &Settings, price: f64) -> Result<Self> {
        let step = step_of((price / LAMBDA).max(f64::MIN_POSITIVE).log2());
        let job = Job::new(values, shape, settings, step)?;
        let (survey, _) = job.sample(step);
        let (bits, error) = job.estimate(step);
        let (thresholds, shifts) = (job.thresholds(&survey), survey.shifts());
        Ok(Self { step, shifts, thresholds, runs: job.runs, bits, error })
    }

    /// Symbols of weights `x` that begin at element `at`, and their sizes in steps. Which threshold holds is decided by the
    /// place: runs as long as a row need not be whole.
    fn symbols(&self, at: usize, x: &[f32], sizes: &mut [f32], symbols: &mut [u8]) {
        let mut from = 0;
        while from < x.len() {
            let run = (at + from) / self.runs.len;
            let own = from..x.len().min((run + 1) * self.runs.len - at);
            let fine = self.runs.fine.get(run).copied().unwrap_or(0);
            let thresholds = &self.thresholds[usize::from(fine)];
            quantize(
                &x[own.clone()],
                self.step,
                thresholds,
                &mut sizes[own.clone()],
                &mut symbols[own.clone()],
            );
            from = own.end;
        }
    }

    fn side(&self) -> [f32; 256] {
        let tables = Vec::new();
        let (classes, pulses) = (tables.clone(), tables);
        PulseSide { step: self.step, run: 1, shifts: self.shifts.clone(), classes, pulses }.values()
    }

    /// What weights `x` that begin at element `at` decode to.
    pub(super) fn values(&self, at: usize, x: &[f32], values: &mut [f32]) {
        let (mut sizes, mut symbols) = (vec![0.0; x.len()], vec![0; x.len()]);
        self.symbols(at, x, &mut sizes, &mut symbols);
        let of = self.side();
        values.iter_mut().zip(symbols).for_each(|(v, s)| *v = of[usize::from(s)]);
    }

    /// The leaf of what [`Rule::values`] gives for all of `x`; its runs are sorted anew.
    pub(super) fn leaf(&self, x: &[f32], shape: &[u64], settings: &Settings) -> Result<EncodedLeaf> {
        let mut symbols = vec![0u8; x.len()];
        let mut sizes = vec![0f32; x.len()];
        let blocks = symbols.par_chunks_mut(BLOCK).zip(sizes.par_chunks_mut(BLOCK)).zip(x.par_chunks(BLOCK));
        blocks.enumerate().for_each(|(i, ((symbols, sizes), x))| self.symbols(i * BLOCK, x, sizes, symbols));
        let mut best: Option<(f64, Job<'_>, Plan)> = None;
        for groups in Runs::lengths(shape, settings.dim) {
            let runs = Runs::new(x, usize::from(settings.dim), groups);
            let survey = runs.survey(&sizes, &symbols);
            let plan = Plan::best(&survey, 1.0);
            let bits = plan.coded + plan.stored;
            if best.as_ref().is_none_or(|b| bits < b.0) {
                best = Some((bits, Job { values: x, shape, settings, runs }, plan));
            }
        }
        let Some((_, job, plan)) = best else { return Err(Error::invalid("no runs were tried")) };
        Ok(job.leaf(&plan, self.step, self.shifts.clone(), &symbols)?.0)
    }
}

impl<'a> Job<'a> {
    /// In runs that cost the fewest bits at `step`.
    fn new(values: &'a [f32], shape: &'a [u64], settings: &'a Settings, step: f32) -> Result<Self> {
        let mut best: Option<(f64, Self)> = None;
        for groups in Runs::lengths(shape, settings.dim) {
            let runs = Runs::new(values, usize::from(settings.dim), groups);
            let job = Self { values, shape, settings, runs };
            let bits = job.estimate(step).0;
            if best.as_ref().is_none_or(|b| bits < b.0) {
                best = Some((bits, job));
            }
        }
        best.map(|b| b.1).ok_or_else(|| Error::invalid("no runs were tried"))
    }

    /// Bits and squared error for each weight, from a sample.
    fn estimate(&self, step: f32) -> (f64, f64) {
        let (survey, weights) = self.sample(step);
        let all = self.values.len() as f64;
        let plan = Plan::best(&survey, all / weights);
        // Lane states and entries of chunks.
        let chunks = all / f64::from(self.chunk_items()) + 1.0;
        let bits = plan.coded / weights + (plan.stored + chunks * 600.0) / all;
        (bits, survey.error() * f64::from(step) * f64::from(step) / weights)
    }

    fn chunk_items(&self) -> u32 {
        (self.settings.chunk_groups * u32::from(self.settings.dim)).min(CHUNK_ITEMS)
    }

    /// What a sample looks like at `step` with thresholds of its own, and the weights of it.
    fn sample(&self, step: f32) -> (Survey, f64) {
        let stride = self.values.len().div_ceil(SAMPLE).max(1);
        let first = [[FIRST_THRESHOLD; MAX_PULSE]; FINE];
        let survey = self.survey(step, &first, stride);
        let thresholds = self.thresholds(&survey);
        let survey = self.survey(step, &thresholds, stride);
        let weights = survey.counts.as_flattened().iter().sum::<u64>() as f64;
        (survey, weights)
    }

    fn thresholds(&self, survey: &Survey) -> Vec<[f32; MAX_PULSE]> {
        let weights = survey.counts.as_flattened().iter().sum::<u64>() as f64;
        Plan::best(survey, self.values.len() as f64 / weights.max(1.0)).thresholds(LAMBDA)
    }

    /// Surveys one run in `stride`.
    fn survey(&self, step: f32, thresholds: &[[f32; MAX_PULSE]], stride: usize) -> Survey {
        let runs: Vec<(&[f32], u8)> =
            self.values.chunks(self.runs.len).zip(self.runs.fine.iter().copied()).step_by(stride).collect();
        let blocks: Vec<Survey> = runs
            .par_chunks((BLOCK / self.runs.len).max(1))
            .map(|runs| {
                let mut survey = Survey::NONE;
                let (mut sizes, mut symbols) = (Vec::new(), Vec::new());
                for &(run, fine) in runs {
                    sizes.resize(run.len(), 0.0);
                    symbols.resize(run.len(), 0);
                    quantize(run, step, &thresholds[usize::from(fine)], &mut sizes, &mut symbols);
                    survey.add(fine, &sizes, &symbols);
                }
                survey
            })
            .collect();
        Survey::joined(&blocks)
    }

    /// The leaf at `step`, and its squared error.
    fn assemble(&self, step: f32) -> Result<(EncodedLeaf, f64)> {
        let thresholds = self.thresholds(&self.sample(step).0);
        let mut symbols = vec![0u8; self.values.len()];
        let per_block = (BLOCK / self.runs.len).max(1);
        let blocks: Vec<Survey> = symbols
            .par_chunks_mut(self.runs.len * per_block)
            .zip(self.values.par_chunks(self.runs.len * per_block))
            .zip(self.runs.fine.par_chunks(per_block))
            .map(|((symbols, values), fine)| {
                let mut survey = Survey::NONE;
                let mut sizes = vec![0.0; self.runs.len.min(values.len())];
                let runs = symbols.chunks_mut(self.runs.len).zip(values.chunks(self.runs.len));
                for ((symbols, run), &fine) in runs.zip(fine) {
                    let sizes = &mut sizes[..run.len()];
                    quantize(run, step, &thresholds[usize::from(fine)], sizes, symbols);
                    survey.add(fine, sizes, symbols);
                }
                survey
            })
            .collect();
        let survey = Survey::joined(&blocks);
        let plan = Plan::best(&survey, 1.0);
        let (leaf, values) = self.leaf(&plan, step, survey.shifts(), &symbols)?;
        let decoded: Vec<f32> = symbols.par_iter().map(|&s| values[usize::from(s)]).collect();
        let error = squared_error(self.values, &decoded).0;
        Ok((leaf, error))
    }

    /// The leaf of `symbols`, and the value of each.
    fn leaf(
        &self,
        plan: &Plan,
        step: f32,
        shifts: Vec<i8>,
        symbols: &[u8],
    ) -> Result<(EncodedLeaf, [f32; 256])> {
        let class = |&fine: &u8| plan.class_of[usize::from(fine)];
        let (tables, class_table) = (plan.tables(), plan.class_table());
        let classes: Vec<u8> =
            if tables.len() > 1 { self.runs.fine.iter().map(class).collect() } else { Vec::new() };
        let side = PulseSide { step, run: self.runs.groups, shifts, classes: class_table, pulses: tables };

        let params = Params { dim: self.settings.dim, form: Form::Pulses };
        let mut leaf = EncodedLeaf::new(LeafSpec::new(CODEC, VERSION, Dtype::F32, self.shape, &params)?);
        let mut writer = SideWriter::new();
        side.write(&mut writer)?;
        let (spec, chunks) = encode_bytes(&writer.into_bytes(), 1, CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let (spec, chunks) = encode_symbols(&classes, &Model::by_rows(&side.classes, &[], 1), CHUNK_ITEMS)?;
        leaf.push(spec, chunks);
        let model = Model::by_rows(&side.pulses, &classes, self.runs.len as u64);
        let (spec, chunks) = encode_symbols(symbols, &model, self.chunk_items())?;
        leaf.push(spec, chunks);
        Ok((leaf, side.values()))
    }
}

/// Magnitudes of `run` in steps, and symbols: the magnitude above where the threshold of the one below is passed.
fn quantize(run: &[f32], step: f32, thresholds: &[f32; MAX_PULSE], sizes: &mut [f32], symbols: &mut [u8]) {
    // A magnitude of at most 126 below, so that the one above has both signs.
    const MOST: f32 = MAX_PULSE as f32 - 1.0 / 1024.0;
    for ((&x, size), symbol) in run.iter().zip(sizes).zip(symbols) {
        *size = x.abs() / step;
        let below = size.min(MOST) as u8;
        let above = u8::from(size.min(MOST) - f32::from(below) > thresholds[usize::from(below)]);
        let magnitude = below + above;
        *symbol = (2 * magnitude).saturating_sub(u8::from(x < 0.0));
    }
}
