//! The forward pass: against formulas in f64, against itself in other blocks, by threads, packed and not.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed assumption is a failed test"
)]

mod common;

use benben_io::ModelSource;
use benben_models::ErrorKind;
use benben_models::llm::{LanguageModel, Llama, SourceWeights, Wanted};
use common::{config, demo, file, network, packed, packed_network, tiny, tokens};
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest difference of two sets of logits, in units of the largest logit.
fn apart(found: &[f32], expected: impl IntoIterator<Item = f64>) -> f64 {
    let expected: Vec<f64> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f64, |a, b| a.max(b.abs()));
    let worst = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    worst / largest
}

fn agrees(model: &Arc<dyn ModelSource>, theta: f64, count: usize) {
    let config = config(&**model);
    let tokens = tokens(count, config.vocabulary);
    let found = network(model).forward(&tokens, Wanted::Every).unwrap();
    let expected = common::reference::logits(&**model, &config, theta, &tokens);
    let apart = apart(&found, expected.into_iter().flatten());
    assert!(apart < 1e-5, "{apart} of the largest logit");
}

#[test]
fn the_demo_model_computes_its_formulas() {
    agrees(&demo(), 10_000.0, 70);
}

#[test]
fn every_kind_of_bias_and_head_computes_its_formulas() {
    for changes in [
        json!({"tie_word_embeddings": true}),
        json!({"architectures": ["Qwen2ForCausalLM"]}),
        json!({"attention_bias": true, "mlp_bias": true}),
        json!({"num_key_value_heads": 6, "head_dim": 10}),
        json!({"num_key_value_heads": 1, "num_hidden_layers": 3}),
    ] {
        agrees(&(Arc::new(tiny(changes)) as Arc<dyn ModelSource>), 10_000.0, 45);
    }
    agrees(&(Arc::new(tiny(json!({"rope_theta": 500.0}))) as Arc<dyn ModelSource>), 500.0, 45);
}

#[test]
fn tokens_one_by_one_in_blocks_and_after_a_step_back_give_the_same_logits() {
    let model = demo();
    let tokens = tokens(100, 1024);
    let whole = network(&model).forward(&tokens, Wanted::Every).unwrap();
    for cut in [1usize, 7, 33] {
        let mut network = network(&model);
        let mut found = Vec::new();
        for block in tokens.chunks(cut) {
            found.extend(network.forward(block, Wanted::Every).unwrap());
        }
        assert_eq!(network.position(), 100);
        let apart = apart(&found, whole.iter().map(|x| f64::from(*x)));
        assert!(apart < 1e-5, "blocks of {cut}: {apart}");
        // Other tokens, then back: the state must be as if they had never been.
        network.truncate(64);
        network.forward(&[9, 8, 7], Wanted::Last).unwrap();
        network.truncate(64);
        let again = network.forward(&tokens[64..], Wanted::Last).unwrap();
        let apart = self::apart(&again, whole[99 * 1024..].iter().map(|x| f64::from(*x)));
        assert!(apart < 1e-5, "after a step back: {apart}");
    }
}

#[test]
fn threads_and_lossless_packing_change_no_bit() {
    let model = demo();
    let tokens = tokens(90, 1024);
    let bits = |x: Vec<f32>| x.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let pack = packed(&*model, "lossless");
    let run = |mut network: Llama, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut logits = network.forward(&tokens[..80], Wanted::Every).unwrap();
            for token in &tokens[80..] {
                logits.extend(network.forward(&[*token], Wanted::Last).unwrap());
            }
            bits(logits)
        })
    };
    let one = run(network(&model), 1);
    assert_eq!(one, run(network(&model), 3));
    for threads in [1, 3] {
        assert_eq!(one, run(packed_network(&pack), threads), "packed, {threads} threads");
    }
}

#[test]
fn a_packed_model_is_near_the_original() {
    let model = demo();
    let tokens = tokens(60, 1024);
    let original = network(&model).forward(&tokens, Wanted::Last).unwrap();
    let packed = packed_network(&packed(&*model, "near-lossless")).forward(&tokens, Wanted::Last).unwrap();
    let apart = apart(&packed, original.into_iter().map(f64::from));
    assert!(apart > 0.0 && apart < 0.05, "{apart} of the largest logit");
}

#[test]
fn wrong_tokens_are_refused_and_change_nothing() {
    let model = demo();
    let mut network = network(&model);
    network.forward(&[1, 2], Wanted::Last).unwrap();
    for wrong in [vec![], vec![1024], vec![0; 127]] {
        let error = network.forward(&wrong, Wanted::Last).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(network.position(), 2);
    }
    network.forward(&[0; 126], Wanted::Last).unwrap();
}

#[test]
fn a_model_that_does_not_fit_its_configuration_is_refused() {
    let open = |model: common::Made, changes: Value| {
        let mut text: Value = serde_json::from_slice(&file(&model, "config.json")).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            text[name] = value.clone();
        }
        let config = benben_models::llm::LlamaConfig::from_json(text.to_string().as_bytes()).unwrap();
        Llama::new(config, Arc::new(SourceWeights::new(Arc::new(model)))).err().unwrap()
    };
    for (model, changes, names) in [
        (tiny(json!({})).without("lm_head.weight"), json!({}), "lm_head.weight"),
        (tiny(json!({})), json!({"attention_bias": true}), "q_proj.bias"),
        (tiny(json!({})), json!({"num_hidden_layers": 200_000_000}), "layers.2."),
        (tiny(json!({})), json!({"intermediate_size": 81}), "81 x 48"),
        (tiny(json!({})), json!({"vocab_size": 200_000_000}), "embed_tokens"),
    ] {
        let error = open(model, changes);
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains(names), "{error}");
    }
}
