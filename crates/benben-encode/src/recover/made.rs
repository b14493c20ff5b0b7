//! A small network made on the spot, for tests.

use benben_decode::Weights;
use benben_format::{EncodedLeaf, Error, Result};
use benben_models::llm::graph::Network;
use benben_models::llm::{EMBEDDING, FINAL_NORM, LlamaConfig, Part, norms};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tensors by name: shape and values.
#[derive(Clone, Default)]
pub(super) struct Made(pub(super) BTreeMap<String, ([usize; 2], Vec<f32>)>);

/// Two layers of width 24 with biases of queries, keys and values; 40 words.
pub(super) fn config() -> LlamaConfig {
    let json = r#"{"architectures": ["Qwen2ForCausalLM"], "vocab_size": 40, "hidden_size": 24,
        "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "tie_word_embeddings": true}"#;
    LlamaConfig::from_json(json.as_bytes()).unwrap()
}

impl Made {
    pub(super) fn new(config: &LlamaConfig) -> Self {
        let mut made = Self::default();
        let mut state = 12345u32;
        let mut add = |name: String, shape: [usize; 2], middle: f32, spread: f32| {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                middle + spread * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
            };
            made.0.insert(name, (shape, (0..shape[0] * shape[1]).map(next).collect()));
        };
        add(EMBEDDING.into(), [config.vocabulary, config.hidden], 0.0, 1.0);
        for i in 0..config.layers {
            for norm in norms(i) {
                add(norm, [config.hidden, 1], 1.0, 0.3);
            }
            for part in Part::ALL {
                add(part.name(i), part.shape(config), 0.0, 0.4);
                if part.biased(config) {
                    add(part.bias(i), [part.shape(config)[0], 1], 0.0, 0.3);
                }
            }
        }
        add(FINAL_NORM.into(), [config.hidden, 1], 1.0, 0.3);
        made
    }

    pub(super) fn network(&self, config: &LlamaConfig) -> Network {
        Network::new(config.clone(), Arc::new(self.clone()), Device::flex())
    }

    fn get(&self, name: &str) -> Result<&([usize; 2], Vec<f32>)> {
        self.0.get(name).ok_or_else(|| Error::invalid(format!("no tensor {name}")))
    }
}

impl Weights for Made {
    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
    fn shape(&self, name: &str) -> Result<[usize; 2]> {
        Ok(self.get(name)?.0)
    }
    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.get(name)?.1.clone())
    }
    fn rows(&self, name: &str, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let ([_, columns], values) = self.get(name)?;
        for (out, id) in out.chunks_mut(*columns).zip(ids) {
            out.copy_from_slice(&values[*id as usize * columns..][..*columns]);
        }
        Ok(())
    }
    fn products(&self, _: &[&str], _: &[f32], _: usize, _: &mut [&mut [f32]]) -> Result<()> {
        Err(Error::unsupported("a graph multiplies by itself"))
    }
}

/// Log probabilities `[tokens][vocabulary]`.
pub(super) fn log_probabilities(network: &Network, tokens: &[u32]) -> Vec<Vec<f64>> {
    let logits = super::values(network.logits(tokens).unwrap()).unwrap();
    let normalized = |row: &[f32]| {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        row.iter().map(|x| f64::from(*x) - sum.ln()).collect()
    };
    logits.chunks(network.config().vocabulary).map(normalized).collect()
}

/// Mean Kullback-Leibler divergence of `q` from `p` for each token.
pub(super) fn divergence(p: &[Vec<f64>], q: &[Vec<f64>]) -> f64 {
    let of = |p: &Vec<f64>, q: &Vec<f64>| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    p.iter().zip(q).map(|(p, q)| of(p, q)).sum::<f64>() / p.len() as f64
}

/// A pack of `made`: matrices of layers as pairs of numbers from 16 codewords with factors of columns, those of outputs
/// turned; everything else lossless.
pub(super) fn coded(made: &Made) -> benben_decode::Pack {
    use benben_codec::{Target, rvq};
    use benben_format::Expr;

    let settings = rvq::Settings {
        dim: Some(2),
        codebooks: Some(&[16]),
        mapped: Some(false),
        iterations: 4,
        ..rvq::Settings::new(Target::BitsPerWeight(2.0))
    };
    let leaf = |values: &[f32], rows: u64, columns: u64| {
        Expr::Leaf(rvq::encode(values, &[rows, columns], &settings).unwrap().0)
    };
    written(made, &|name, values, [rows, columns]| {
        if !name.contains("proj.weight") {
            return None;
        }
        let (r, c) = (rows as u64, columns as u64);
        Some(if name.contains("o_proj") {
            let turned: Vec<f32> =
                (0..columns * rows).map(|i| values[i % rows * columns + i / rows]).collect();
            Expr::Transpose(Box::new(leaf(&turned, c, r)))
        } else {
            let columns = Box::new(lossless(&vec![1.0; columns], &[c], benben_format::Dtype::F16));
            Expr::Scale { rows: None, columns: Some(columns), of: Box::new(leaf(values, r, c)) }
        })
    })
}

fn lossless(values: &[f32], shape: &[u64], dtype: benben_format::Dtype) -> benben_format::Expr<EncodedLeaf> {
    let bytes = dtype.from_f32(values).unwrap();
    benben_format::Expr::Leaf(benben_codec::raw::encode(&bytes, dtype, shape).unwrap())
}

/// How a tensor of this name, these values and this shape is stored; none: lossless.
type Stored<'a> = &'a dyn Fn(&str, &[f32], [usize; 2]) -> Option<benben_format::Expr<EncodedLeaf>>;

fn written(made: &Made, stored: Stored<'_>) -> benben_decode::Pack {
    use benben_format::{Dtype, Origin, Writer};
    let mut writer = Writer::new(std::io::Cursor::new(Vec::new()), "test", 0).unwrap();
    writer.file("note.txt", benben_codec::raw::encode(b"kept", Dtype::U8, &[4]).unwrap()).unwrap();
    for (name, (shape, values)) in &made.0 {
        let matrix = shape.map(|d| d as u64);
        let length = if shape[1] == 1 { &matrix[..1] } else { &matrix[..] };
        let expr = stored(name, values, *shape).unwrap_or_else(|| lossless(values, length, Dtype::F32));
        writer.tensor(name, Dtype::F32, length, Origin::default(), expr).unwrap();
    }
    let (file, _) = writer.finish_in_place().unwrap();
    benben_decode::Pack::from_source(Arc::new(file.into_inner()), benben_format::Limits::default()).unwrap()
}

/// A pack of `made`: matrices of layers as multiples of 0.25 with factors of columns, value projections with a part of low
/// rank beside them, everything else lossless.
pub(super) fn packed(made: &Made) -> benben_decode::Pack {
    use benben_format::{Dtype, Expr};
    written(made, &|name, values, [rows, columns]| {
        if !name.contains("proj.weight") {
            return None;
        }
        let (r, c) = (rows as u64, columns as u64);
        let coarse: Vec<f32> = values.iter().map(|x| (x * 4.0).round() / 4.0).collect();
        let scale = Expr::Scale {
            rows: None,
            columns: Some(Box::new(lossless(&vec![1.0; columns], &[c], Dtype::F16))),
            of: Box::new(lossless(&coarse, &[r, c], Dtype::F16)),
        };
        Some(if name.contains("v_proj") {
            let left = lossless(&vec![0.02; rows], &[r, 1], Dtype::F16);
            let right = lossless(&vec![0.02; columns], &[1, c], Dtype::F16);
            Expr::Sum(vec![scale, Expr::Product(vec![left, right])])
        } else {
            scale
        })
    })
}

/// A pack of `made`: matrices of layers and the embedding in rotated bases, as multiples of 0.25 with factors of columns.
pub(super) fn rotated(made: &Made) -> benben_decode::Pack {
    use benben_format::{Dtype, Expr};
    written(made, &|name, values, [rows, columns]| {
        if !name.contains("proj.weight") && name != benben_models::llm::EMBEDDING {
            return None;
        }
        let (r, c) = (rows as u64, columns as u64);
        let (seed, block) = (3, 1u32 << columns.trailing_zeros());
        let mut turned = values.to_vec();
        benben_decode::hadamard_rows(&mut turned, columns, seed, block as usize);
        turned.iter_mut().for_each(|x| *x = (*x * 4.0).round() / 4.0);
        let scale = Expr::Scale {
            rows: None,
            columns: Some(Box::new(lossless(&vec![1.0; columns], &[c], Dtype::F16))),
            of: Box::new(lossless(&turned, &[r, c], Dtype::F16)),
        };
        Some(Expr::Rotate { seed, block, of: Box::new(scale) })
    })
}
