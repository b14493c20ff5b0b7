//! How much the loss minds an error of each output of each matrix: the diagonal of the Fisher information by outputs.
//!
//! With labels y drawn from the model itself, the expected squared gradient of ln p(y | x) by an output is the second
//! derivative of the Kullback-Leibler divergence by that output (Martens 2014, "New insights and perspectives on the
//! natural gradient method", section 5). For an error E of a matrix whose inputs have the second moment H, the
//! divergence for each token grows by about `1/2 * sum over rows i of g_i * E_i H E_i^T`, with `g_i` from here.
//! Labels of the text would give the empirical Fisher instead, which vanishes where the model is sure and right.

use super::head::{gradient, softmax};
use super::values;
use crate::calibrate::Calibration;
use benben_format::{Dtype, Error, Observer, Progress, Result};
use benben_io::safetensors::{TensorSpec, write};
use benben_models::llm::graph::{Layer, Network, Positions};
use benben_models::llm::{EMBEDDING, Part};
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

/// What the loss makes of errors of one matrix's outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Mean over rows of the mean squared gradient, in nats^2 for each token over the square of the output's unit:
    /// comparable between matrices.
    pub mean: f64,
    /// The mean squared gradient of each row over `mean`.
    pub rows: Vec<f32>,
}

/// Importance of outputs, by the name of the matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Fisher {
    /// Tokens that were seen.
    pub tokens: u64,
    /// Every matrix of every layer, and the output matrix.
    pub matrices: BTreeMap<String, Rows>,
    /// The same of the columns of the embedding as the first layer's input (for rows weigh it by how often a token
    /// occurs).
    pub embedding: Rows,
}

/// Measures `network` on `chunks` of tokens of one length; labels follow from `seed`.
///
/// Two passes forward and one backward. `observer` is told of every block in both directions.
///
/// # Errors
/// InvalidArgument for no chunks, empty ones or ones of different lengths; Interrupted, where `observer` says so;
/// otherwise as the weights.
pub fn fisher(
    network: &Network,
    chunks: &[&[u32]],
    seed: u64,
    observer: &mut Observer<'_>,
) -> Result<Fisher> {
    let mut sums = Sums::default();
    let walked = walk(network, chunks, seed, observer, &mut |name, gradient, _| sums.add(name, gradient))?;
    sums.0.insert(network.config().output_name().to_owned(), walked.head);
    for gradient in walked.stream {
        sums.add(STREAM, gradient)?;
    }
    sums.finish(chunks.iter().map(|chunk| chunk.len() as u64).sum())
}

/// Takes of a matrix its name, the gradient by its outputs and its inputs: `[1, tokens, rows]` and `[1, tokens, columns]`.
type Take<'a> = dyn FnMut(&str, Tensor<3>, Tensor<3>) -> Result<()> + 'a;

/// What the way back comes to.
pub(super) struct Walked {
    /// Gradient by the stream before the first block, of each chunk.
    stream: Vec<Tensor<3>>,
    /// Squared gradients by the outputs of the head, summed over tokens.
    head: Vec<f64>,
}

/// Forward through all blocks and back, a block at a time; `take` gets every matrix of every block, once for each chunk.
///
/// # Errors
/// As [`fisher`]; what `take` reports.
pub(super) fn walk(
    network: &Network,
    chunks: &[&[u32]],
    seed: u64,
    observer: &mut Observer<'_>,
    take: &mut Take<'_>,
) -> Result<Walked> {
    let config = network.config();
    let length = chunks.first().map_or(0, |chunk| chunk.len());
    if length == 0 || chunks.iter().any(|chunk| chunk.len() != length) {
        return Err(Error::invalid("expected chunks of tokens, all of one length"));
    }
    let mut step = Steps { observer, done: 0, total: 2 * config.layers as u64 + 1 };
    let positions = Positions::new(config, length, network.device());
    let layer = Layer { config, positions: &positions };

    // Streams before each block: streams[block][chunk], `[1, length, hidden]`.
    let mut stream = chunks.iter().map(|chunk| network.embed(chunk)).collect::<Result<Vec<_>>>()?;
    let mut before = Vec::with_capacity(config.layers);
    for index in 0..config.layers {
        step.next(&format!("forward, layer {index}"))?;
        let block = network.block(index)?;
        let after = stream.iter().map(|x| block.forward(&layer, x.clone())).collect();
        before.push(std::mem::replace(&mut stream, after));
    }

    step.next("output")?;
    let (mut gradients, head) = output(network, stream, seed)?;

    let tracked = Positions::new(config, length, &network.device().clone().autodiff());
    let layer = Layer { config, positions: &tracked };
    for index in (0..config.layers).rev() {
        step.next(&format!("backward, layer {index}"))?;
        let block = network.block(index)?;
        for (x, gradient) in before.pop().into_iter().flatten().zip(&mut gradients) {
            let x = x.autodiff().require_grad();
            // A zero is added to every product: its gradient is that of the product.
            let mut taps: Vec<(Part, Tensor<3>, Tensor<3>)> = Vec::with_capacity(Part::ALL.len());
            let norms = block.norms.clone().map(Tensor::autodiff);
            let after = layer.forward(x.clone(), norms, &mut |part, input| {
                let weight = block.matrix(part).weight.clone().autodiff();
                let y = input.clone().matmul(weight.transpose().unsqueeze());
                let tap = y.zeros_like().require_grad();
                taps.push((part, tap.clone(), input.inner()));
                let y = y + tap;
                match &block.matrix(part).bias {
                    Some(bias) => y + bias.clone().autodiff().unsqueeze(),
                    None => y,
                }
            });
            let loss = (after * gradient.clone().autodiff()).sum();
            let found = loss.backward();
            let missing = || Error::unsupported("a gradient is missing from the graph");
            for (part, tap, input) in taps {
                take(&part.name(index), tap.grad(&found).ok_or_else(missing)?, input)?;
            }
            *gradient = x.grad(&found).ok_or_else(missing)?;
        }
    }
    Ok(Walked { stream: gradients, head })
}

/// Key of the gradient by the first stream.
const STREAM: &str = "";

/// Squared gradients, summed over tokens.
#[derive(Default)]
struct Sums(BTreeMap<String, Vec<f64>>);

impl Sums {
    fn add(&mut self, name: &str, gradient: Tensor<3>) -> Result<()> {
        let [_, _, rows] = gradient.dims();
        let squares = (gradient.clone() * gradient).sum_dim(1).sum_dim(0);
        let sums = self.0.entry(name.to_owned()).or_insert_with(|| vec![0.0; rows]);
        sums.iter_mut().zip(values(squares)?).for_each(|(sum, x)| *sum += f64::from(x));
        Ok(())
    }

    fn finish(mut self, tokens: u64) -> Result<Fisher> {
        let rows = |sums: Vec<f64>| {
            let mean = sums.iter().sum::<f64>() / (sums.len() * tokens as usize).max(1) as f64;
            if !mean.is_finite() {
                return Err(Error::corruption("a gradient is no number: some weights are not"));
            }
            // A matrix that nothing depends on: all rows alike.
            let part = |x: f64| if mean > 0.0 { x / tokens as f64 / mean } else { 1.0 };
            #[allow(clippy::cast_possible_truncation, reason = "kept in single precision")]
            Ok(Rows { mean, rows: sums.into_iter().map(|x| part(x) as f32).collect() })
        };
        let embedding = rows(self.0.remove(STREAM).unwrap_or_default())?;
        let named = self.0.into_iter().map(|(name, sums)| {
            let found = rows(sums).map_err(|e| e.in_tensor(&name))?;
            Ok((name, found))
        });
        Ok(Fisher { tokens, matrices: named.collect::<Result<_>>()?, embedding })
    }
}

/// The gradient of -ln p by the stream after the last block, a chunk at a time, with labels drawn from p; and its squares
/// by the logits, summed over tokens.
fn output(network: &Network, stream: Vec<Tensor<3>>, seed: u64) -> Result<(Vec<Tensor<3>>, Vec<f64>)> {
    let (config, head) = (network.config(), network.head()?);
    let vocabulary = config.vocabulary;
    let weight = head.norm.clone().autodiff();
    let mut spread = vec![0f64; vocabulary];
    let mut gradients = Vec::with_capacity(stream.len());
    for (chunk, x) in stream.into_iter().enumerate() {
        let [_, length, hidden] = x.dims();
        let x = x.autodiff().require_grad();
        let normed = benben_models::llm::graph::rms_norm(x.clone(), weight.clone(), config.norm_epsilon);
        let flat = normed.clone().inner().reshape([length, hidden]);
        let by_normed = gradient(&head.matrix, flat, &mut |first, logits| {
            logits.par_chunks_mut(vocabulary).for_each(softmax);
            // Over labels, (p - [label])^2 has the mean p (1 - p): no need to sample that.
            spread.par_iter_mut().enumerate().for_each(|(word, sum)| {
                let column = logits.iter().skip(word).step_by(vocabulary);
                *sum += column.map(|p| f64::from(p * (1.0 - p))).sum::<f64>();
            });
            logits.par_chunks_mut(vocabulary).enumerate().for_each(|(i, p)| {
                let label = draw(p, unit(seed, (chunk * length + first + i) as u64));
                p[label] -= 1.0;
            });
            Ok(())
        })?;
        let given: Tensor<3> = by_normed.reshape([1, length, hidden]);
        let loss = (normed * given.autodiff()).sum();
        let missing = || Error::unsupported("a gradient is missing from the graph");
        gradients.push(x.grad(&loss.backward()).ok_or_else(missing)?);
    }
    Ok((gradients, spread))
}

/// The word at which the probabilities so far exceed `unit`.
fn draw(probabilities: &[f32], unit: f64) -> usize {
    let mut sum = 0.0;
    let found = probabilities.iter().position(|p| {
        sum += f64::from(*p);
        sum > unit
    });
    // Rounding can leave the sum a little below 1.
    found.unwrap_or(probabilities.len().saturating_sub(1))
}

/// Number `index` of a sequence uniform in 0 .. 1 (splitmix64: Steele, Lea and Flood, 2014): a token's label does not
/// depend on who computes it.
pub(super) fn unit(seed: u64, index: u64) -> f64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Tells an observer of steps, and hears when to stop.
pub(super) struct Steps<'a, 'b> {
    pub(super) observer: &'a mut Observer<'b>,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Steps<'_, '_> {
    pub(super) fn next(&mut self, item: &str) -> Result<()> {
        if (self.observer)(Progress { item, done: self.done, total: self.total }).is_break() {
            return Err(Error::interrupted());
        }
        self.done += 1;
        Ok(())
    }
}

impl Fisher {
    /// Writes a safetensors file: for each matrix an f32 tensor `NAME` of its rows, not scaled (mean squared gradient
    /// for each token), and the embedding's columns as `EMBEDDING.columns`; `tokens` in the metadata.
    ///
    /// # Errors
    /// As `out`.
    pub fn save(&self, out: &mut dyn Write) -> Result<()> {
        let columns = format!("{EMBEDDING}.columns");
        let all: Vec<(&str, &Rows)> = self
            .matrices
            .iter()
            .map(|(name, rows)| (name.as_str(), rows))
            .chain([(columns.as_str(), &self.embedding)])
            .collect();
        let spec = |(name, rows): &(&str, &Rows)| TensorSpec {
            name: (*name).to_owned(),
            dtype: Dtype::F32,
            shape: vec![rows.rows.len() as u64],
        };
        let specs: Vec<_> = all.iter().map(spec).collect();
        let metadata = BTreeMap::from([("tokens".to_owned(), self.tokens.to_string())]);
        write(out, &specs, &metadata, |i| Ok(Cow::Owned(all[i].1.bytes())))?;
        Ok(())
    }
}

impl Fisher {
    /// Gives `calibration` the importance of the rows of every matrix that it knows, but for an embedding that is the
    /// output matrix too: as a table its rows count by how often their words occur, which is not what was measured.
    ///
    /// # Errors
    /// As [`Calibration::set_rows`].
    pub fn apply(&self, calibration: &mut Calibration) -> Result<()> {
        for (name, rows) in &self.matrices {
            if name != EMBEDDING && calibration.contains(name) {
                calibration.set_rows(name, rows.absolute())?;
            }
        }
        Ok(())
    }
}

impl Rows {
    /// Mean squared gradients, not scaled.
    #[allow(clippy::cast_possible_truncation, reason = "kept in single precision")]
    fn absolute(&self) -> Vec<f32> {
        self.rows.iter().map(|x| (f64::from(*x) * self.mean) as f32).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.absolute().into_iter().flat_map(f32::to_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{Made, config, divergence, log_probabilities};
    use super::*;
    use benben_format::ignore;

    /// Chunks of one token: then a bias of a value is an error of that output at every token, and none meets another.
    fn single(words: &[u32]) -> Vec<&[u32]> {
        words.chunks(1).collect()
    }

    #[test]
    fn half_of_it_times_the_squared_error_is_the_divergence() {
        let (config, words) = (config(), (0..40).collect::<Vec<u32>>().repeat(40));
        let made = Made::new(&config);
        let found = fisher(&made.network(&config), &single(&words), 3, &mut ignore).unwrap();
        let dense: Vec<_> =
            (0..40).map(|w| log_probabilities(&made.network(&config), &[w]).remove(0)).collect();
        for row in [0, 5, 11] {
            let (name, bias) = (Part::Value.name(1), Part::Value.bias(1));
            let mut moved = made.clone();
            moved.0.get_mut(&bias).unwrap().1[row] += 0.02;
            let moved: Vec<_> =
                (0..40).map(|w| log_probabilities(&moved.network(&config), &[w]).remove(0)).collect();
            let rows = &found.matrices[&name];
            let predicted = 0.5 * 0.02f64.powi(2) * rows.mean * f64::from(rows.rows[row]);
            let ratio = divergence(&dense, &moved) / predicted;
            // 1600 labels were drawn: the mean of their squares is 5 % off or so.
            assert!((0.8..1.25).contains(&ratio), "row {row}: {ratio}");
        }
    }

    #[test]
    fn rows_have_the_mean_one_and_the_file_holds_all_of_them() {
        let config = config();
        let words: Vec<u32> = (0..32).map(|i| i * 7 % 40).collect();
        let chunks: Vec<&[u32]> = words.chunks(16).collect();
        let found = fisher(&Made::new(&config).network(&config), &chunks, 3, &mut ignore).unwrap();
        assert_eq!((found.tokens, found.matrices.len(), found.embedding.rows.len()), (32, 15, 24));
        for rows in found.matrices.values() {
            let mean = rows.rows.iter().map(|x| f64::from(*x)).sum::<f64>() / rows.rows.len() as f64;
            assert!((mean - 1.0).abs() < 1e-5 && rows.mean > 0.0, "{mean} {}", rows.mean);
        }
        let mut file = Vec::new();
        found.save(&mut file).unwrap();
        let read = benben_io::safetensors::SafeTensors::new(std::sync::Arc::new(file)).unwrap();
        let at = benben_io::ModelSource::index_of(&read, &Part::Down.name(1)).unwrap();
        let bytes = benben_io::ModelSource::read(&read, at).unwrap();
        let rows = &found.matrices[&Part::Down.name(1)];
        assert_eq!(*bytes, rows.bytes());
    }

    #[test]
    fn chunks_of_different_lengths_are_refused() {
        let config = config();
        let network = Made::new(&config).network(&config);
        assert!(fisher(&network, &[&[1, 2], &[3]], 1, &mut ignore).is_err());
        assert!(fisher(&network, &[], 1, &mut ignore).is_err());
    }
}
