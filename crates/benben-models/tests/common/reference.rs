//! The same network once more, from its formulas, in f64: no blocks, no cache, no threads, nothing shared with the
//! crate but the configuration.

use benben_io::ModelSource;
use benben_models::llm::LlamaConfig;
use std::collections::BTreeMap;

struct Tensors(BTreeMap<String, Vec<f64>>);

impl Tensors {
    fn get(&self, name: &str) -> &[f64] {
        &self.0[name]
    }

    /// `weight x + bias`, the bias where there is one.
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight"));
        let bias = self.0.get(&format!("{name}.bias"));
        let rows = weight.chunks(x.len()).enumerate();
        rows.map(|(r, row)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias.map_or(0.0, |b| b[r]))
            .collect()
    }

    fn norm(&self, name: &str, x: &[f64], epsilon: f64) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        x.iter().zip(self.get(name)).map(|(x, w)| x / (mean + epsilon).sqrt() * w).collect()
    }
}

/// Logits after every token.
pub(crate) fn logits(
    model: &dyn ModelSource,
    config: &LlamaConfig,
    theta: f64,
    tokens: &[u32],
) -> Vec<Vec<f64>> {
    let mut tensors = BTreeMap::new();
    for (i, info) in model.tensors().iter().enumerate() {
        let mut values = vec![0f32; info.shape.iter().product::<u64>() as usize];
        info.dtype.to_f32(&model.read(i).unwrap(), &mut values).unwrap();
        tensors.insert(info.name.clone(), values.into_iter().map(f64::from).collect());
    }
    let tensors = Tensors(tensors);
    let epsilon = f64::from(config.norm_epsilon);
    let (dim, group) = (config.head_dim, config.heads / config.key_value_heads);
    let turn = |x: &mut [f64], position: usize| {
        for head in x.chunks_mut(dim) {
            for i in 0..dim / 2 {
                let angle = position as f64 / theta.powf(2.0 * i as f64 / dim as f64);
                let (a, b) = (head[i], head[i + dim / 2]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + dim / 2] = b * angle.cos() + a * angle.sin();
            }
        }
    };
    let table = tensors.get("model.embed_tokens.weight");
    let row = |t: &u32| table[*t as usize * config.hidden..][..config.hidden].to_vec();
    let mut stream: Vec<Vec<f64>> = tokens.iter().map(row).collect();
    for layer in 0..config.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in stream.iter().enumerate() {
            let x = tensors.norm(&name("input_layernorm.weight"), x, epsilon);
            let mut q = tensors.linear(&name("self_attn.q_proj"), &x);
            let mut k = tensors.linear(&name("self_attn.k_proj"), &x);
            turn(&mut q, position);
            turn(&mut k, position);
            queries.push(q);
            keys.push(k);
            values.push(tensors.linear(&name("self_attn.v_proj"), &x));
        }
        for (t, x) in stream.iter_mut().enumerate() {
            let mut mixed = vec![0.0; config.heads * dim];
            for head in 0..config.heads {
                let shared = head / group * dim..(head / group + 1) * dim;
                let query = &queries[t][head * dim..][..dim];
                let score = |k: &Vec<f64>| {
                    let dot: f64 = query.iter().zip(&k[shared.clone()]).map(|(q, k)| q * k).sum();
                    (dot / (dim as f64).sqrt()).exp()
                };
                let scores: Vec<f64> = keys[..=t].iter().map(score).collect();
                let whole: f64 = scores.iter().sum();
                for (score, value) in scores.iter().zip(&values) {
                    for (out, v) in mixed[head * dim..][..dim].iter_mut().zip(&value[shared.clone()]) {
                        *out += score / whole * v;
                    }
                }
            }
            let added = tensors.linear(&name("self_attn.o_proj"), &mixed);
            x.iter_mut().zip(added).for_each(|(x, a)| *x += a);
            let normed = tensors.norm(&name("post_attention_layernorm.weight"), x, epsilon);
            let gate = tensors.linear(&name("mlp.gate_proj"), &normed);
            let up = tensors.linear(&name("mlp.up_proj"), &normed);
            let inner: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let added = tensors.linear(&name("mlp.down_proj"), &inner);
            x.iter_mut().zip(added).for_each(|(x, a)| *x += a);
        }
    }
    let output = if config.tied_embeddings { "model.embed_tokens" } else { "lm_head" };
    stream.iter().map(|x| tensors.linear(output, &tensors.norm("model.norm.weight", x, epsilon))).collect()
}
