//! The graph in burn computes what the network on the CPU computes.
#![cfg(feature = "burn")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "a failed assumption is a failed test"
)]

mod common;

use benben_io::ModelSource;
use benben_models::llm::graph::Network;
use benben_models::llm::{LanguageModel, Model, SourceWeights, Wanted};
use burn::tensor::Device;
use common::{config, demo, network, tiny, tokens};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Logits `[tokens, vocabulary]` of the graph.
fn logits(network: &Network, tokens: &[u32]) -> Vec<f32> {
    network.logits(tokens).unwrap().into_data().try_into_vec().unwrap()
}

fn near(found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len());
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < bound, "logits are {worst} apart");
}

fn agrees(model: &Arc<dyn ModelSource>) {
    let config = config(&**model);
    let tokens = tokens(45, config.vocabulary);
    let weights = Arc::new(SourceWeights::new(Arc::clone(model)));
    let graph = Network::new(config, weights, Device::flex());
    near(&logits(&graph, &tokens), &network(model).forward(&tokens, Wanted::Every).unwrap(), 1e-3);
}

#[test]
fn the_demo_model_and_every_kind_of_bias_and_head_agree() {
    agrees(&demo());
    for changes in [
        json!({"architectures": ["Qwen2ForCausalLM"]}),
        json!({"attention_bias": true, "mlp_bias": true}),
        json!({"num_key_value_heads": 6, "head_dim": 10}),
        json!({"num_key_value_heads": 1, "num_hidden_layers": 3, "tie_word_embeddings": true}),
    ] {
        agrees(&(Arc::new(tiny(changes)) as Arc<dyn ModelSource>));
    }
}

#[test]
fn smollm2_agrees_where_it_is() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets"));
    let folder = std::env::var_os("BENBEN_ASSETS").map_or(beside, PathBuf::from).join("smollm2");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there, see tools/fetch_assets.py", folder.display());
        return;
    }
    let model = Model::open(&folder, &benben_decode::Options::default()).unwrap();
    let tokens = tokens(96, model.config().vocabulary);
    let graph = Network::new(model.config().clone(), model.weights(), Device::flex());
    let expected = model.network().unwrap().forward(&tokens, Wanted::Every).unwrap();
    near(&logits(&graph, &tokens), &expected, 1e-3);
}
