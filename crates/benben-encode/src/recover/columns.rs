//! Mean squared gradients of weights, summed over each column: the Fisher information by inputs that FWSVD weighs by.
//!
//! **Source**: Hsu et al. 2022, "Language model compression with weighted low-rank factorization", section 3.2: the
//! empirical Fisher information of a weight is the mean of its squared gradient over samples, and a row of the factored
//! matrix (an input, in the paper's layout) gets the sum of its own. A sample here is a chunk of tokens, its labels drawn
//! from the model as in [`fisher`](super::fisher()): labels of the text say little where a model is sure.

use super::fisher::walk;
use super::values;
use benben_format::{Error, Observer, Result};
use benben_models::llm::graph::Network;
use std::collections::BTreeMap;

/// For each matrix of each layer, by name: `E[sum over rows i of g_ij^2]` for each column j, g the gradient of one chunk's
/// loss in nats by the weights.
///
/// Two passes forward and one backward, and for each matrix one product of gradients with inputs.
///
/// # Errors
/// As [`fisher`](super::fisher()).
pub fn column_fisher(
    network: &Network,
    chunks: &[&[u32]],
    seed: u64,
    observer: &mut Observer<'_>,
) -> Result<BTreeMap<String, Vec<f32>>> {
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    walk(network, chunks, seed, observer, &mut |name, by_output, input| {
        // The gradient by the weights: outer products, summed over the tokens of the chunk.
        let by_weight = by_output.transpose().matmul(input);
        let [_, _, columns] = by_weight.dims();
        let squares = (by_weight.clone() * by_weight).sum_dim(1);
        let own = sums.entry(name.to_owned()).or_insert_with(|| vec![0.0; columns]);
        own.iter_mut().zip(values(squares)?).for_each(|(sum, x)| *sum += f64::from(x));
        Ok(())
    })?;
    let count = chunks.len() as f64;
    #[allow(clippy::cast_possible_truncation, reason = "kept in single precision")]
    let mean = |sums: Vec<f64>| sums.into_iter().map(|x| (x / count) as f32).collect::<Vec<f32>>();
    let named = sums.into_iter().map(|(name, sums)| {
        let found = mean(sums);
        if found.iter().all(|x| x.is_finite()) {
            return Ok((name, found));
        }
        Err(Error::corruption("a gradient is no number: some weights are not").in_tensor(&name))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::super::fisher;
    use super::super::made::{Made, config};
    use super::*;
    use benben_format::ignore;
    use benben_models::llm::Part;

    #[test]
    fn one_token_at_a_time_it_is_outputs_times_inputs() {
        let (config, words) = (config(), (0..24).collect::<Vec<u32>>());
        let network = Made::new(&config).network(&config);
        // With one token to a chunk, the gradient is an outer product, and with equal inputs its square factors: all of
        // it summed over columns is what all of it summed over rows is.
        let chunks: Vec<&[u32]> = words.chunks(1).collect();
        let columns = column_fisher(&network, &chunks, 3, &mut ignore).unwrap();
        assert_eq!(columns.len(), config.layers * Part::ALL.len());
        for one in chunks.iter().take(3) {
            let chunk = [*one];
            let columns = column_fisher(&network, &chunk, 3, &mut ignore).unwrap();
            let rows = fisher(&network, &chunk, 3, &mut ignore).unwrap();
            let name = Part::Query.name(0);
            let outputs = rows.matrices[&name].mean * rows.matrices[&name].rows.len() as f64;
            // Inputs of the first layer: the embedding, normed.
            let block = network.block(0).unwrap();
            let x = network.embed(one).unwrap();
            let normed = benben_models::llm::graph::rms_norm(x, block.norms[0].clone(), config.norm_epsilon);
            let inputs = values(normed).unwrap();
            let most = inputs.iter().map(|x| f64::from(x * x) * outputs).fold(1e-12, f64::max);
            for (found, x) in columns[&name].iter().zip(&inputs) {
                let expected = outputs * f64::from(x * x);
                assert!((f64::from(*found) - expected).abs() < 1e-3 * most, "{found} {expected}");
            }
        }
        assert!(column_fisher(&network, &[&[1, 2], &[3]], 1, &mut ignore).is_err());
    }
}
