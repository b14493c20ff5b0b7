//! End to end: the divergence of the tuned network's words from the dense network's, over the whole vocabulary
//! (Hinton et al., 2015, <https://arxiv.org/abs/1503.02531>, at temperature 1).

use super::head::softmax;
use super::student::{Student, gradients};
use super::teacher::Teacher;
use benben_format::Result;
use benben_models::llm::graph::{Layer, rms_norm};
use burn::tensor::Tensor;
use rayon::prelude::*;

/// The gradient of the divergence by every parameter, on one chunk of tokens; in nats for each token. Those by the values
/// of matrices of codewords are added to `matrices`.
pub(super) fn gradient(
    student: &Student<'_>,
    teacher: &Teacher,
    layer: &Layer<'_>,
    (chunk, tokens): (usize, &[u32]),
    matrices: Option<&mut Vec<Vec<f32>>>,
) -> Result<Vec<Vec<f32>>> {
    let device = &student.device;
    let tables: Vec<Vec<Tensor<2>>> = student.tables().map(|t| t.tracked(device)).collect();
    let mut stream = student.embed_tracked(tokens, &tables[0])?;
    let mut tensors = Vec::with_capacity(student.blocks.len());
    for block in &student.blocks {
        let tracked = block.tracked(device);
        stream = block.forward(layer, stream, &tracked);
        tensors.extend(tracked);
    }
    let norm = student.norm.tracked(device);
    let hidden = student.config.hidden;
    let normed = rms_norm(stream, norm.clone().reshape([hidden]), student.config.norm_epsilon);
    tensors.push(norm);
    tensors.extend(tables.into_iter().flatten());

    let flat = normed.clone().inner().reshape([tokens.len(), hidden]);
    let (by_normed, by_head) = student.head().gradient(flat, device, &mut |first, logits| {
        divergence(teacher, chunk, first, logits, student.config.vocabulary).map(drop)
    })?;
    let given: Tensor<3> = by_normed.reshape([1, tokens.len(), hidden]);
    let loss = (normed * given.autodiff()).sum();
    let mut found = gradients(&tensors, &loss.backward())?;
    // The output matrix is the last of the tables.
    let last = found.len() - by_head.len();
    for (sum, gradient) in found[last..].iter_mut().zip(by_head) {
        sum.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x);
    }
    student.by_parameters(&mut found, matrices);
    let part = (tokens.len() as f32).recip();
    found.iter_mut().flatten().for_each(|x| *x *= part);
    Ok(found)
}

/// Divergence of what would be stored from the dense network on chunks that follow the first `skip` of the teacher's,
/// in nats for each token.
pub(super) fn measure(
    student: &Student<'_>,
    teacher: &Teacher,
    layer: &Layer<'_>,
    chunks: &[&[u32]],
    skip: usize,
) -> Result<f64> {
    let mut sum = 0.0;
    let mut tokens = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        let normed = student.normed(chunk, layer)?.reshape([chunk.len(), student.config.hidden]);
        tokens += chunk.len();
        student.head().logits(normed, &student.device, &mut |first, logits| {
            sum += divergence(teacher, skip + i, first, logits, student.config.vocabulary)?;
            Ok(())
        })?;
    }
    let mean = sum / tokens.max(1) as f64;
    Ok(if mean.is_finite() { mean } else { f64::INFINITY })
}

/// The sum of divergences of a tile whose first token is `first`; its logits become their gradient, q - p.
fn divergence(
    teacher: &Teacher,
    chunk: usize,
    first: usize,
    logits: &mut [f32],
    vocabulary: usize,
) -> Result<f64> {
    let mut dense = teacher.logits(chunk, first, logits.len() / vocabulary)?;
    let of = |(q, p): (&mut [f32], &mut [f32])| {
        softmax(q);
        softmax(p);
        let mut sum = 0.0;
        for (q, p) in q.iter_mut().zip(p) {
            // Below 1e-30 a probability adds nothing, and its logarithm would be infinite.
            if *p > 1e-30 {
                sum += f64::from(*p * (*p / q.max(1e-30)).ln());
            }
            *q -= *p;
        }
        sum
    };
    let found: Vec<f64> =
        logits.par_chunks_mut(vocabulary).zip(dense.par_chunks_mut(vocabulary)).map(of).collect();
    // In the order of tokens, whoever computed them.
    Ok(found.iter().sum())
}
