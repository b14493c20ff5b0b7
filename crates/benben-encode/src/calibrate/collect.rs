//! The pass over a network, block by block.

use super::Moment;
use super::calibration::Calibration;
use super::file::{About, Layout, Part, StageEntry};
use super::gram::{Room, Sums, single};
use benben_decode::Weights;
use benben_format::{Dtype, Error, Observer, Progress, Result};
use benben_models::{Network, Sample, State};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

/// Logits that are in memory together: 128 rows of SmolLM2's vocabulary.
const LOGITS: usize = 6 << 20;

/// Collects the statistics of `network` on `samples` and writes them, as [`Calibration::open`] reads them. Holds the
/// weights and sums of one block, and for each sample twice its stream. Returns the bytes written.
///
/// # Errors
/// InvalidArgument for no samples, or one that the network cannot take; Corruption where a value is no number;
/// Interrupted where `observer` says so; what `out` reports.
pub fn write(
    network: &mut dyn Network,
    weights: &dyn Weights,
    samples: &[Sample],
    about: &About,
    out: &mut dyn Write,
    observer: &mut Observer<'_>,
) -> Result<u64> {
    let layout = layout(network, samples, about)?;
    let mut collector = Collector::new(network, weights, samples, &layout, observer)?;
    layout.write(out, |part| collector.part(part))
}

impl Calibration {
    /// The same in memory.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn collect(
        network: &mut dyn Network,
        weights: &dyn Weights,
        samples: &[Sample],
        about: &About,
        observer: &mut Observer<'_>,
    ) -> Result<Self> {
        let mut bytes = Vec::new();
        write(network, weights, samples, about, &mut bytes, observer)?;
        Self::from_source(Arc::new(bytes))
    }
}

fn layout(network: &dyn Network, samples: &[Sample], about: &About) -> Result<Layout> {
    if samples.is_empty() {
        return Err(Error::invalid("no samples: expected one at least"));
    }
    let stages = network.stages();
    let entry =
        |s: &benben_models::Stage| StageEntry { block: s.block, columns: s.columns, names: s.names.clone() };
    let head = stages.last().and_then(|head| head.names.first());
    Ok(Layout {
        about: About { samples: samples.len(), ..about.clone() },
        stages: stages.iter().map(entry).collect(),
        blocks: network.blocks(),
        rows: head
            .zip(network.classes())
            .map(|(name, classes)| (name.clone(), classes))
            .into_iter()
            .collect(),
        table: network.table().map(|(name, rows)| (name.to_owned(), rows)),
        change: true,
    })
}

/// Walks as far as the parts that are asked for need it.
struct Collector<'a, 'o> {
    network: &'a mut dyn Network,
    weights: &'a dyn Weights,
    samples: &'a [Sample],
    states: Vec<State>,
    /// Where a sample is sent through a block: its own state stays as it was until then.
    work: State,
    room: Room,
    /// Stages that are finished and not written, with their number.
    ready: VecDeque<(usize, Sums)>,
    /// Blocks that are done.
    block: usize,
    counts: Vec<u64>,
    influence: Vec<f32>,
    change: Vec<f32>,
    rows: Vec<f32>,
    progress: Reporter<'a, 'o>,
}

/// Counts samples through blocks, the head being one of them.
struct Reporter<'a, 'o> {
    observer: &'a mut Observer<'o>,
    done: u64,
    total: u64,
}

impl Reporter<'_, '_> {
    fn step(&mut self, item: &str) -> Result<()> {
        if (self.observer)(Progress { item, done: self.done, total: self.total }).is_break() {
            return Err(Error::interrupted());
        }
        self.done += 1;
        Ok(())
    }
}

impl<'a, 'o> Collector<'a, 'o> {
    fn new(
        network: &'a mut dyn Network,
        weights: &'a dyn Weights,
        samples: &'a [Sample],
        layout: &Layout,
        observer: &'a mut Observer<'o>,
    ) -> Result<Self> {
        let states = samples.iter().map(|s| network.begin(weights, s)).collect::<Result<_>>()?;
        if let Some((name, _)) = &layout.table {
            weights.release(name);
        }
        let total = samples.len() as u64 * (layout.blocks as u64 + 1);
        Ok(Self {
            network,
            weights,
            samples,
            states,
            work: State::default(),
            room: Room::default(),
            ready: VecDeque::new(),
            block: 0,
            counts: vec![0; layout.stages.len()],
            influence: Vec::new(),
            change: Vec::new(),
            rows: Vec::new(),
            progress: Reporter { observer, done: 0, total },
        })
    }

    /// The values of a part; parts of stages are asked for in order.
    fn part<'b>(&mut self, part: &Part) -> Result<Cow<'b, [u8]>> {
        let values = match part {
            Part::Moment(stage) => {
                while self.ready.is_empty() {
                    self.advance()?;
                }
                let (moment, ..) = self.current(*stage)?.means();
                let columns = self.network.stages()[*stage].columns;
                Moment { columns, count: 0, values: moment }.triangle()
            }
            Part::Mean(stage) => self.current(*stage)?.means_of_columns().0,
            Part::Absolute(stage) => {
                let (_, absolute) = self.current(*stage)?.means_of_columns();
                self.ready.pop_front();
                absolute
            }
            Part::Rows(_) => std::mem::take(&mut self.rows),
            Part::Frequency => self.frequency()?,
            Part::Influence => std::mem::take(&mut self.influence),
            Part::Change => std::mem::take(&mut self.change),
            Part::Counts => {
                #[allow(clippy::cast_possible_truncation, reason = "halves")]
                let halves = self.counts.iter().flat_map(|n| [*n as u32, (n >> 32) as u32]);
                return Ok(Cow::Owned(halves.flat_map(u32::to_le_bytes).collect()));
            }
        };
        if values.iter().any(|x| !x.is_finite()) {
            return Err(Error::corruption(
                "an activation is no number: some weights are not, or the data overflow",
            ));
        }
        Dtype::F32.from_f32(&values).map(Cow::Owned)
    }

    fn current(&self, stage: usize) -> Result<&Sums> {
        let found = self.ready.front().filter(|(own, _)| *own == stage);
        found.map(|(_, sums)| sums).ok_or_else(|| Error::invalid(format!("stage {stage} is not at hand")))
    }

    /// Sends all samples through the next block, or looks at the head.
    fn advance(&mut self) -> Result<()> {
        let own = |s: &benben_models::Stage| s.block == self.block;
        let own: Vec<usize> =
            self.network.stages().iter().enumerate().filter(|(_, s)| own(s)).map(|(i, _)| i).collect();
        let Some(&first) = own.first() else {
            return Err(Error::invalid(format!("block {} has no stage", self.block)));
        };
        let width = |i: &usize| self.network.stages()[*i].columns;
        let mut sums: Vec<Sums> = own.iter().map(|i| Sums::new(width(i))).collect();
        if self.block < self.network.blocks() {
            self.pass(first, &mut sums)?;
        } else {
            self.head(&mut sums)?;
        }
        for name in own.iter().flat_map(|i| &self.network.stages()[*i].names) {
            self.weights.release(name);
        }
        for (stage, sums) in own.into_iter().zip(sums) {
            self.counts[stage] = sums.count;
            self.ready.push_back((stage, sums));
        }
        self.block += 1;
        Ok(())
    }

    fn pass(&mut self, first: usize, sums: &mut [Sums]) -> Result<()> {
        let Self { network, weights, states, work, room, block, progress, .. } = self;
        let item = format!("block {} of {}", *block + 1, network.blocks());
        let width = network.width();
        let (mut turned, mut changed, mut count) = (0.0, 0.0, 0usize);
        for state in states.iter_mut() {
            progress.step(&item)?;
            work.stream.clone_from(&state.stream);
            work.input.clone_from(&state.input);
            network.run(*weights, *block, work, &mut |stage, input| {
                sums[stage - first].add(input, room);
                Ok(())
            })?;
            let (turn, change) = apart(&state.stream, &work.stream, width);
            turned += turn;
            changed += change;
            count += work.stream.len() / width;
            // Copies, so that a state is no larger than it must be.
            copy(&mut state.stream, &work.stream);
            copy(&mut state.input, &work.input);
        }
        self.influence.push(single(turned / count.max(1) as f64));
        self.change.push(single(changed / count.max(1) as f64));
        Ok(())
    }

    fn head(&mut self, sums: &mut [Sums]) -> Result<()> {
        let Self { network, weights, states, room, progress, rows, .. } = self;
        let [own] = sums else { return Err(Error::invalid("a head of more than one stage")) };
        let mut importance = network.classes().map(Importance::new);
        for state in states.iter() {
            progress.step("head")?;
            own.add(&state.input, room);
            if let Some(importance) = &mut importance {
                importance.add(&**network, *weights, &state.input)?;
            }
        }
        if let Some(importance) = importance {
            *rows = importance.mean();
        }
        Ok(())
    }

    fn frequency(&self) -> Result<Vec<f32>> {
        let mut counts = vec![0; self.network.table().map_or(0, |(_, rows)| rows)];
        for sample in self.samples {
            self.network.count_rows(sample, &mut counts)?;
        }
        let whole = counts.iter().sum::<u64>().max(1) as f64;
        Ok(counts.into_iter().map(|n| single(n as f64 / whole)).collect())
    }
}

fn copy(to: &mut Vec<f32>, from: &[f32]) {
    if to.len() == from.len() {
        to.copy_from_slice(from);
    } else {
        *to = from.to_vec();
    }
}

/// Sums over rows of 1 - cosine, and of the squared distance over the squared length before.
fn apart(before: &[f32], after: &[f32], width: usize) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let rows: Vec<(f64, f64)> = before
        .par_chunks_exact(width)
        .zip(after.par_chunks_exact(width))
        .map(|(x, y)| {
            let (xx, yy, xy) = (dot(x, x), dot(y, y), dot(x, y));
            let norms = (xx * yy).sqrt();
            let turn = if norms > 0.0 { 1.0 - xy / norms } else { 0.0 };
            (turn, if xx > 0.0 { (xx + yy - 2.0 * xy).max(0.0) / xx } else { 0.0 })
        })
        .collect();
    rows.into_iter().fold((0.0, 0.0), |(turn, change), row| (turn + row.0, change + row.1))
}

/// E[p (1 - p)] of each class: by how much the divergence grows with the square of its logit's error.
struct Importance {
    sums: Vec<f64>,
    count: usize,
    logits: Vec<f32>,
}

impl Importance {
    fn new(classes: usize) -> Self {
        Self { sums: vec![0.0; classes], count: 0, logits: Vec::new() }
    }

    fn add(&mut self, network: &dyn Network, weights: &dyn Weights, input: &[f32]) -> Result<()> {
        let classes = self.sums.len();
        let columns = network.stages().last().map_or(1, |head| head.columns);
        for rows in input.chunks((LOGITS / classes.max(1)).max(1) * columns) {
            let count = rows.len() / columns;
            self.logits.resize(count * classes, 0.0);
            network.predict(weights, rows, &mut self.logits)?;
            self.logits.par_chunks_exact_mut(classes).for_each(softmax);
            let logits = &self.logits;
            // Each class by one thread, its rows in order.
            const PART: usize = 1024;
            self.sums.par_chunks_mut(PART).enumerate().for_each(|(i, sums)| {
                for row in logits.chunks_exact(classes) {
                    for (sum, p) in sums.iter_mut().zip(&row[i * PART..]) {
                        *sum += f64::from(p * (1.0 - p));
                    }
                }
            });
            self.count += count;
        }
        Ok(())
    }

    fn mean(&self) -> Vec<f32> {
        self.sums.iter().map(|sum| single(sum / self.count.max(1) as f64)).collect()
    }
}

fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f64 = row.iter().map(|x| f64::from(*x)).sum();
    let scale = single(1.0 / sum);
    row.iter_mut().for_each(|x| *x *= scale);
}
