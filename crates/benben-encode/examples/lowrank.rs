//! What products of low rank buy on a language model, in one table of one run.
//!
//! `cargo run --release -p benben-encode --features recover --example lowrank -- MODEL CALIBRATION TEXT HELD_OUT [NAME=VALUE ...]`
//!
//! CALIBRATION is a file of `benben calibrate`; TEXT is what gradients are measured on, HELD_OUT what losses are. Names:
//! chunks (of 256 tokens that are scored), gradients (chunks of 256 tokens), rank (of compensation), weights (0: no
//! second part).
//!
//! 1. All matrices of all layers at 2 and at 3 bits, to nearest on a step for each matrix and with feedback: by
//!    themselves, with the SVD of what they leave, and with EoRA, both of one rank with factors at 6 bits. `output` is the
//!    error of the outputs, over their size, mean over matrices.
//! 2. Products in place of the matrices, of 0.5 and 0.35 of the full rank, in f32: SVD, FWSVD by inputs and by outputs,
//!    LoRD, which is output PCA, and output PCA of centred outputs, whose bias the network has no place for.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::cast_possible_truncation, reason = "an example")]

use benben_codec::Target;
use benben_decode::Pack;
use benben_decode::Weights;
use benben_encode::calibrate::{Calibration, Layer};
use benben_encode::lowrank::{Metric, factorize};
use benben_encode::quantize::{self, loss};
use benben_encode::recover::{column_fisher, fisher};
use benben_encode::{Coder, DataFree, Method, Task};
use benben_format::{Dtype, EncodedLeaf, Error, Expr, Limits, Origin, Result, Writer};
use benben_models::llm::Model;
use benben_models::llm::graph::Network;
use benben_models::{Overlay, Sample};
use burn::tensor::Device;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

const LENGTH: usize = 256;
const SEED: u64 = 1;
/// Bits for each entry of factors.
const FACTORS: f64 = 6.0;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, calibration, text, held_out, rest @ ..] = arguments.as_slice() else {
        return Err(Error::invalid("expected MODEL CALIBRATION TEXT HELD_OUT [NAME=VALUE ...]"));
    };
    let mut asked = BTreeMap::from([("chunks", 8), ("gradients", 8), ("rank", 8), ("weights", 1)]);
    for argument in rest {
        let unknown = || Error::invalid(format!("{argument:?} is no setting"));
        let (name, value) = argument.split_once('=').ok_or_else(unknown)?;
        *asked.get_mut(name).ok_or_else(unknown)? = value.parse().map_err(|_| unknown())?;
    }
    let model = Model::open(model.as_ref(), &Default::default())?;
    let calibration = Calibration::open(calibration.as_ref())?;
    calibration.check_model(&model.identity()?)?;
    let tokens = |path: &String| model.tokenizer()?.encode(&std::fs::read_to_string(path)?, false);
    let tokens_held_out = tokens(held_out)?;
    let chunks: Vec<&[u32]> = tokens_held_out.chunks_exact(LENGTH).take(asked["chunks"]).collect();
    let run = Run::new(&model, &calibration, &chunks)?;
    println!("dense: loss {:.4} nats on {} chunks of {LENGTH} tokens", run.dense_loss, chunks.len());
    run.compensation(asked["rank"])?;
    if asked["weights"] != 0 {
        let seen = tokens(text)?;
        let seen: Vec<&[u32]> = seen.chunks_exact(LENGTH).take(asked["gradients"]).collect();
        let network = Network::new(model.config().clone(), model.weights(), Device::flex());
        let start = Instant::now();
        let mut quiet = |_: benben_format::Progress<'_>| ControlFlow::Continue(());
        let columns = column_fisher(&network, &seen, SEED, &mut quiet)?;
        let outputs = fisher(&network, &seen, SEED, &mut quiet)?;
        let rows = outputs.matrices.into_iter().map(|(name, rows)| (name, rows.rows)).collect();
        eprintln!("gradients on {} chunks: {:.0} s", seen.len(), start.elapsed().as_secs_f64());
        run.products(&columns, &rows)?;
    }
    Ok(())
}

struct Matrix {
    name: String,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    layer: Layer,
}

impl Matrix {
    /// Error of the output over its size.
    fn output(&self, made: &[f32]) -> f64 {
        let moment = &self.layer.second_moment.values;
        loss(&self.errors(made), self.columns, moment, None) / loss(&self.values, self.columns, moment, None)
    }

    fn errors(&self, made: &[f32]) -> Vec<f32> {
        self.values.iter().zip(made).map(|(w, v)| w - v).collect()
    }

    /// Error of the weights over their norm.
    fn weight(&self, made: &[f32]) -> f64 {
        let square = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        square(&self.errors(made)) / square(&self.values)
    }

    fn shape(&self) -> [u64; 2] {
        [self.rows as u64, self.columns as u64]
    }
}

struct Run<'a> {
    model: &'a Model,
    weights: Arc<dyn Weights>,
    matrices: Vec<Matrix>,
    chunks: &'a [&'a [u32]],
    /// Logits of the network as it is, chunk by chunk.
    expected: Vec<Vec<f32>>,
    dense_loss: f64,
}

impl<'a> Run<'a> {
    fn new(model: &'a Model, calibration: &Calibration, chunks: &'a [&'a [u32]]) -> Result<Self> {
        let weights = model.weights();
        let head = model.config().output_name().to_owned();
        let mut matrices = Vec::new();
        for name in calibration.names().filter(|n| **n != head) {
            let Some(layer) = calibration.layer(name)? else { continue };
            let [rows, columns] = weights.shape(name)?;
            let mut values = vec![0.0; rows * columns];
            let all: Vec<u32> = (0..).take(rows).collect();
            weights.rows(name, &all, &mut values)?;
            matrices.push(Matrix { name: name.into(), rows, columns, values, layer });
        }
        let mut run = Self { model, weights, matrices, chunks, expected: Vec::new(), dense_loss: 0.0 };
        let expected = run.logits(&run.overlay(&[])?)?;
        (run.dense_loss, _) = run.losses(&expected, &expected);
        run.expected = expected;
        Ok(run)
    }

    fn overlay(&self, made: &[Vec<f32>]) -> Result<Overlay<'_>> {
        let mut overlay = Overlay::new(&*self.weights);
        for (matrix, values) in self.matrices.iter().zip(made) {
            overlay.replace(&matrix.name, values)?;
        }
        Ok(overlay)
    }

    fn logits(&self, weights: &dyn Weights) -> Result<Vec<Vec<f32>>> {
        use benben_models::Network as _;
        let mut network = self.model.blocks()?;
        let vocabulary = self.model.config().vocabulary;
        let mut all = Vec::new();
        for chunk in self.chunks {
            let mut state = network.begin(weights, &Sample::Tokens(chunk[..LENGTH - 1].to_vec()))?;
            for stage in 0..network.stages().len() - 1 {
                network.step(weights, stage, &mut state)?;
            }
            let mut logits = vec![0.0; (LENGTH - 1) * vocabulary];
            network.predict(weights, &state.input, &mut logits)?;
            all.push(logits);
        }
        Ok(all)
    }

    /// Mean loss of the text and divergence from `expected`, in nats for each token.
    fn losses(&self, found: &[Vec<f32>], expected: &[Vec<f32>]) -> (f64, f64) {
        let vocabulary = self.model.config().vocabulary;
        let log = |row: &[f32]| {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            f64::from(most) + row.iter().map(|x| f64::from(x - most).exp()).sum::<f64>().ln()
        };
        let (mut loss, mut divergence, mut count) = (0.0, 0.0, 0);
        for ((found, expected), chunk) in found.iter().zip(expected).zip(self.chunks) {
            let rows: Vec<(f64, f64)> = found
                .par_chunks(vocabulary)
                .zip(expected.par_chunks(vocabulary))
                .zip(&chunk[1..])
                .map(|((q, p), &word)| {
                    let (whole, other) = (log(q), log(p));
                    let each = q.iter().zip(p).map(|(q, p)| {
                        let (p, q) = (f64::from(*p) - other, f64::from(*q) - whole);
                        p.exp() * (p - q)
                    });
                    (whole - f64::from(q[word as usize]), each.sum())
                })
                .collect();
            count += rows.len();
            loss += rows.iter().map(|r| r.0).sum::<f64>();
            divergence += rows.iter().map(|r| r.1).sum::<f64>();
        }
        (loss / count as f64, divergence / count as f64)
    }

    /// One line of the table.
    fn line(&self, what: &str, made: &[Vec<f32>], bytes: f64, start: Instant) -> Result<()> {
        let mean = |of: &(dyn Fn(&Matrix, &[f32]) -> f64 + Sync)| {
            let each: Vec<f64> = self.matrices.par_iter().zip(made).map(|(m, v)| of(m, v)).collect();
            each.iter().sum::<f64>() / each.len().max(1) as f64
        };
        let (weight, output) = (mean(&|m, v| m.weight(v)), mean(&|m, v| m.output(v)));
        let (loss, divergence) = self.losses(&self.logits(&self.overlay(made)?)?, &self.expected);
        let more = loss - self.dense_loss;
        println!(
            "{what:34} {:8.3} {weight:9.5} {output:9.5} {more:+9.4} {divergence:9.4} {:6.0}",
            bytes / 1e6,
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn head(title: &str) {
        println!(
            "\n{title:34} {:>8} {:>9} {:>9} {:>9} {:>9} {:>6}",
            "MB", "weights", "outputs", "loss", "KL", "s"
        );
    }

    /// Makes every matrix, in parallel; `make` gives values and bytes.
    fn made(
        &self,
        make: impl Fn(usize, &Matrix) -> Result<(Vec<f32>, f64)> + Sync,
    ) -> Result<(Vec<Vec<f32>>, f64)> {
        let all: Result<Vec<_>> = self.matrices.par_iter().enumerate().map(|(i, m)| make(i, m)).collect();
        let (made, bytes): (Vec<_>, Vec<f64>) = all?.into_iter().unzip();
        Ok((made, bytes.iter().sum()))
    }

    fn compensation(&self, rank: usize) -> Result<()> {
        Self::head(&format!("compensation of rank {rank}"));
        for (bits, feedback) in [(2.0, false), (2.0, true), (3.0, false), (3.0, true)] {
            let start = Instant::now();
            let (base, bytes) = self.made(|_, m| {
                let method: Method = "scalar".parse()?;
                let expr = if feedback {
                    let metric =
                        quantize::Metric { second_moment: &m.layer.second_moment.values, rows: None };
                    quantize::feedback(
                        &method,
                        &m.values,
                        &m.shape(),
                        &metric,
                        quantize::Aim::BitsPerWeight(bits),
                        SEED,
                    )?
                    .0
                } else {
                    plain(&m.values, &m.shape(), bits)?
                };
                decoded(expr, &m.shape())
            })?;
            let name = format!("{bits} bits{}", if feedback { ", feedback" } else { "" });
            self.line(&name, &base, bytes, start)?;
            for (way, inputs) in [("+ SVD", false), ("+ EoRA", true)] {
                let start = Instant::now();
                let (sums, more) = self.made(|i, m| {
                    let residual = m.errors(&base[i]);
                    let metric = match inputs {
                        true => Metric::inputs(&m.layer.second_moment.values, None),
                        false => Metric::plain(),
                    };
                    let mut found = factorize(&residual, m.rows, m.columns, rank, &metric)?;
                    let mut bytes = 0.0;
                    let shapes = [[m.rows as u64, found.rank as u64], [found.rank as u64, m.columns as u64]];
                    for (factor, shape) in [&mut found.left, &mut found.right].into_iter().zip(shapes) {
                        let (values, own) = decoded(plain(factor, &shape, FACTORS)?, &shape)?;
                        *factor = values;
                        bytes += own;
                    }
                    Ok((base[i].iter().zip(found.product()).map(|(v, p)| v + p).collect(), bytes))
                })?;
                self.line(&format!("  {way}"), &sums, bytes + more, start)?;
            }
        }
        Ok(())
    }

    fn products(
        &self,
        columns: &BTreeMap<String, Vec<f32>>,
        rows: &BTreeMap<String, Vec<f32>>,
    ) -> Result<()> {
        for part in [0.5, 0.35] {
            Self::head(&format!("products of {part} of the rank"));
            for way in [
                "SVD",
                "FWSVD, inputs",
                "FWSVD, outputs",
                "LoRD = output PCA",
                "output PCA, centred, no bias",
            ] {
                let start = Instant::now();
                let (made, bytes) = self.made(|_, m| {
                    let moment = &m.layer.second_moment.values;
                    let missing = || Error::invalid("no gradient was measured").in_tensor(&m.name);
                    let metric = match way {
                        "SVD" => Metric::plain(),
                        "FWSVD, inputs" => {
                            Metric::fisher(None, Some(columns.get(&m.name).ok_or_else(missing)?))
                        }
                        "FWSVD, outputs" => {
                            Metric::fisher(Some(rows.get(&m.name).ok_or_else(missing)?), None)
                        }
                        "LoRD = output PCA" => Metric::inputs(moment, None),
                        _ => Metric::outputs(moment, &m.layer.mean),
                    };
                    let rank = (part * m.rows.min(m.columns) as f64).round() as usize;
                    let found = factorize(&m.values, m.rows, m.columns, rank, &metric)?;
                    Ok((found.product(), 2.0 * (found.rank * (m.rows + m.columns)) as f64))
                })?;
                self.line(way, &made, bytes, start)?;
            }
        }
        Ok(())
    }
}

/// Values at so many bits, from themselves alone.
fn plain(values: &[f32], shape: &[u64], bits: f64) -> Result<Expr<EncodedLeaf>> {
    let (method, target) = ("scalar".parse()?, Target::BitsPerWeight(bits));
    Ok(DataFree.code(&Task { name: "", shape, values, method: &method, target, seed: SEED })?.expr)
}

/// What an expression stands for, and its bytes.
fn decoded(expr: Expr<EncodedLeaf>, shape: &[u64]) -> Result<(Vec<f32>, f64)> {
    let bytes: u64 = expr.leaves().iter().map(|l| l.stored_bytes()).sum();
    let mut writer = Writer::new(Vec::new(), "lowrank", 0)?;
    writer.tensor("t", Dtype::F32, shape, Origin::default(), expr)?;
    let pack = Pack::from_source(Arc::new(writer.finish()?.0), Limits::default())?;
    Ok((pack.tensor("t")?.to_f32()?, bytes as f64))
}
