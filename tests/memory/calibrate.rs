//! Calibration holds one block and the streams of its samples, whatever the depth of the network.

use super::ONE_AT_A_TIME;
use benben::calibrate::{About, write};
use benben::llm::{LlamaBlocks, LlamaConfig, SourceWeights, samples};
use benben::{Dtype, ModelSource};
use benben_tests::alloc::peak_of;
use benben_tests::model::MadeModel;
use std::io::sink;
use std::sync::{Arc, PoisonError};

const HIDDEN: usize = 256;
const INNER: usize = 768;
const VOCABULARY: usize = 500;

fn model(layers: usize) -> (Arc<dyn ModelSource>, LlamaConfig) {
    let (h, n) = (HIDDEN as u64, INNER as u64);
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![VOCABULARY as u64, h])];
    for i in 0..layers {
        let parts = [
            ("input_layernorm", vec![h]),
            ("self_attn.q_proj", vec![h, h]),
            ("self_attn.k_proj", vec![h, h]),
            ("self_attn.v_proj", vec![h, h]),
            ("self_attn.o_proj", vec![h, h]),
            ("post_attention_layernorm", vec![h]),
            ("mlp.gate_proj", vec![n, h]),
            ("mlp.up_proj", vec![n, h]),
            ("mlp.down_proj", vec![h, n]),
        ];
        tensors.extend(parts.map(|(part, shape)| (format!("model.layers.{i}.{part}.weight"), shape)));
    }
    tensors.push(("model.norm.weight".to_owned(), vec![h]));
    let list: Vec<_> = tensors.iter().map(|(name, shape)| (name.as_str(), Dtype::F32, &shape[..])).collect();
    let config = format!(
        r#"{{"architectures": ["LlamaForCausalLM"], "hidden_size": {HIDDEN}, "intermediate_size": {INNER},
        "num_hidden_layers": {layers}, "num_attention_heads": 4, "vocab_size": {VOCABULARY},
        "tie_word_embeddings": true}}"#
    );
    (Arc::new(MadeModel::new(&list)), LlamaConfig::from_json(config.as_bytes()).unwrap())
}

fn peak(layers: usize, chunks: usize) -> usize {
    let (model, config) = model(layers);
    let weights = SourceWeights::new(model);
    let mut network = LlamaBlocks::new(config, &weights).unwrap();
    let tokens: Vec<u32> = (0..64 * chunks).map(|i| (i * 7919 % VOCABULARY) as u32).collect();
    let samples = samples(&tokens, 64, None, None).unwrap();
    let about = About::new(&[0; 32], &[0; 32]);
    peak_of(|| write(&mut network, &weights, &samples, &about, &mut sink(), &mut benben::ignore).unwrap()).1
}

#[test]
fn calibrating_takes_one_block_and_the_streams_whatever_the_depth_is() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (shallow, deep) = (peak(2, 4), peak(16, 4));
    let block = 4 * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER);
    println!("2 layers {shallow}, 16 layers {deep}, a block's weights {block}");
    assert!(deep < shallow + block, "14 layers more take {} bytes, one {block}", deep - shallow);
    // Twice the stream of each sample, its input being the other.
    let more = peak(2, 36).saturating_sub(shallow);
    let streams = 2 * 4 * HIDDEN * 64 * 32;
    println!("32 samples more take {more}, their streams {streams}");
    assert!(more < streams + streams / 4, "32 samples take {more} bytes, their streams {streams}");
}
