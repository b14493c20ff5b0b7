//! The chain of stages: the network that generates, to the bit; replaced weights; samples of a text.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed assumption is a failed test"
)]

mod common;

use benben_decode::Weights;
use benben_io::ModelSource;
use benben_models::llm::{LanguageModel, LlamaBlocks, SourceWeights, Wanted, samples};
use benben_models::{ErrorKind, Network, Overlay, Sample, State};
use common::{config, demo, network, tiny, tokens};
use serde_json::json;
use std::sync::Arc;

fn chain(model: &Arc<dyn ModelSource>) -> (LlamaBlocks, SourceWeights) {
    let weights = SourceWeights::new(Arc::clone(model));
    (LlamaBlocks::new(config(&**model), &weights).unwrap(), weights)
}

/// The logits of a state that has passed all blocks.
fn logits(network: &dyn Network, weights: &dyn Weights, state: &State) -> Vec<u32> {
    let rows = state.input.len() / network.width();
    let mut out = vec![0.0; rows * network.classes().unwrap()];
    network.predict(weights, &state.input, &mut out).unwrap();
    out.into_iter().map(f32::to_bits).collect()
}

fn whole(network: &mut dyn Network, weights: &dyn Weights, sample: &Sample) -> State {
    let mut state = network.begin(weights, sample).unwrap();
    for block in 0..network.blocks() {
        let mut seen = Vec::new();
        let stages = network.stages().to_vec();
        network
            .run(weights, block, &mut state, &mut |stage, input| {
                assert_eq!(stages[stage].block, block);
                assert_eq!(input.len() % stages[stage].columns, 0);
                seen.push(stage);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, (4 * block..4 * block + 4).collect::<Vec<_>>());
    }
    state
}

#[test]
fn a_chain_of_stages_is_the_network_that_generates() {
    let mut models = vec![demo()];
    for changes in [
        json!({"architectures": ["Qwen2ForCausalLM"]}),
        json!({"attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true}),
        json!({"num_key_value_heads": 1, "num_hidden_layers": 3, "head_dim": 10}),
    ] {
        models.push(Arc::new(tiny(changes)));
    }
    for model in models {
        let (mut chain, weights) = chain(&model);
        // The second sample is shorter: nothing of the first may be left.
        for count in [90, 33, 90] {
            let tokens = tokens(count, config(&*model).vocabulary);
            let expected = network(&model).forward(&tokens, Wanted::Every).unwrap();
            let state = whole(&mut chain, &weights, &Sample::Tokens(tokens));
            let expected: Vec<u32> = expected.into_iter().map(f32::to_bits).collect();
            assert!(logits(&chain, &weights, &state) == expected, "{count} tokens");
        }
    }
}

#[test]
fn replaced_weights_are_used_and_the_others_stay() {
    let model: Arc<dyn ModelSource> = Arc::new(tiny(json!({})));
    let (mut chain, weights) = chain(&model);
    let sample = Sample::Tokens(tokens(20, 61));
    let before = whole(&mut chain, &weights, &sample);
    let before = logits(&chain, &weights, &before);
    let mut overlay = Overlay::new(&weights);
    let names: Vec<String> = chain.stages().iter().flat_map(|s| s.names.clone()).collect();
    // The same values change no bit.
    for name in &names {
        overlay.replace(name, &weights.vector(name).unwrap()).unwrap();
        assert!(overlay.is_replaced(name));
    }
    let same = whole(&mut chain, &overlay, &sample);
    assert_eq!(logits(&chain, &overlay, &same), before);
    // Others do, whichever matrix of a group it is, and are gone when restored.
    for name in names.iter().filter(|n| !n.contains("lm_head")) {
        let [rows, columns] = weights.shape(name).unwrap();
        overlay.replace(name, &vec![0.01; rows * columns]).unwrap();
        let other = whole(&mut chain, &overlay, &sample);
        assert_ne!(logits(&chain, &overlay, &other), before, "{name}");
        overlay.restore(name);
        assert!(!overlay.is_replaced(name));
    }
    let again = whole(&mut chain, &overlay, &sample);
    assert_eq!(logits(&chain, &overlay, &again), before);
    assert_eq!(overlay.replace("nothing", &[]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(overlay.replace(&names[0], &[1.0]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn released_weights_are_read_again() {
    let model: Arc<dyn ModelSource> = Arc::new(tiny(json!({})));
    let (mut chain, weights) = chain(&model);
    let sample = Sample::Tokens(tokens(20, 61));
    let first = whole(&mut chain, &weights, &sample);
    let read = weights.bytes_read();
    assert_eq!(whole(&mut chain, &weights, &sample), first);
    assert_eq!(weights.bytes_read(), read);
    chain.stages().iter().flat_map(|s| &s.names).for_each(|name| weights.release(name));
    assert_eq!(whole(&mut chain, &weights, &sample), first);
    assert!(weights.bytes_read() > read);
}

#[test]
fn what_cannot_be_run_is_refused() {
    let model: Arc<dyn ModelSource> = Arc::new(tiny(json!({})));
    let (mut chain, weights) = chain(&model);
    for wrong in [vec![], vec![61], vec![0; 201]] {
        let error = chain.begin(&weights, &Sample::Tokens(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let state = chain.begin(&weights, &Sample::Tokens(vec![1, 2])).unwrap();
    // Another width, the head, nothing, and no rows.
    let cases = [(3, state.clone()), (8, state.clone()), (99, state), (0, State::default())];
    for (stage, mut state) in cases {
        let error = chain.step(&weights, stage, &mut state).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{stage}: {error}");
    }
    let counts = &mut [0; 60];
    assert!(chain.count_rows(&Sample::Tokens(vec![1]), counts).is_err());
}

#[test]
fn samples_are_chunks_and_more_hold_the_fewer() {
    let tokens: Vec<u32> = (0..1000).collect();
    let firsts = |samples: Vec<Sample>| -> Vec<u32> {
        let first = |s: Sample| match s {
            Sample::Tokens(t) => {
                assert_eq!(t.len(), 10);
                assert!(t.windows(2).all(|w| w[1] == w[0] + 1));
                t[0]
            }
            other => unreachable!("{other:?}"),
        };
        samples.into_iter().map(first).collect()
    };
    assert_eq!(firsts(samples(&tokens, 10, Some(3), None).unwrap()), [0, 10, 20]);
    assert_eq!(firsts(samples(&tokens, 10, None, None).unwrap()).len(), 100);
    let few = firsts(samples(&tokens, 10, Some(5), Some(1)).unwrap());
    let many = firsts(samples(&tokens, 10, Some(50), Some(1)).unwrap());
    assert!(few.iter().all(|f| many.contains(f)) && few.is_sorted() && few != [0, 10, 20, 30, 40]);
    assert_ne!(few, firsts(samples(&tokens, 10, Some(5), Some(2)).unwrap()));
    assert!(samples(&tokens[..9], 10, None, None).is_err());
}
