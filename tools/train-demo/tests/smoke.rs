//! A few steps of a tiny network: it learns, repeats itself, and its files read back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use safetensors::tensor::{Dtype, SafeTensors};
use std::path::Path;
use std::time::Duration;
use train_demo::config::LlamaConfig;
use train_demo::tokenizer::{Tokens, Vocabulary};
use train_demo::train::{Event, Outcome, Plan};
use train_demo::{evaluate, export, text, train, weights};

const VOCABULARY: usize = 280;

fn tiny() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        ..LlamaConfig::demo(VOCABULARY, 32)
    }
}

fn books(folder: &Path) -> Vec<text::Book> {
    let lines: String =
        (0..600).map(|i| format!("The cat number {} sat on mat {}.\n", i % 17, i % 5)).collect();
    export::write(&folder.join("cats.txt"), lines.as_bytes()).unwrap();
    text::read(folder, 0.05).unwrap()
}

fn train(vocabulary: &Vocabulary, tokens: &Tokens, out: &Path) -> Outcome {
    let plan = Plan {
        seed: 5,
        steps: 30,
        limit: Duration::from_secs(600),
        batch: 8,
        rate: 1e-2,
        warm_up: 3,
        decay: 0.1,
        dropout: 0.1,
        measure: 15,
    };
    train::run(&plan, &tiny(), vocabulary, tokens, &mut |event| {
        if let Event::Measured { best: Some(model), .. } = event {
            export::write_weights(out, &weights::collect(model)?)?;
        }
        Ok(())
    })
    .unwrap()
}

// One test, because Burn's generator is one for the whole process: runs side by side would mix.
#[test]
fn trains_repeats_and_exports() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let books = books(out);
    let vocabulary = Vocabulary::train(&books, VOCABULARY).unwrap();
    let tokens = vocabulary.encode_books(&books).unwrap();
    assert_eq!(vocabulary.decode(&tokens.held_out).unwrap(), books[0].held_out);
    export::describe(out, &tiny(), &vocabulary).unwrap();

    let outcome = train(&vocabulary, &tokens, out);
    assert!(outcome.losses[0] > 5.0, "an untrained network guesses: {}", outcome.losses[0]);
    assert!(outcome.losses[29] < 0.6 * outcome.losses[0], "{:?}", outcome.losses);
    assert_eq!(train(&vocabulary, &tokens, out).losses, outcome.losses);

    names_and_shapes(&std::fs::read(out.join(export::WEIGHTS)).unwrap());
    let device = burn::tensor::Device::flex();
    let fresh = train_demo::model::CausalLm::new(&tiny(), 0.0, &device);
    let model = weights::restore(fresh, &export::read_weights(out).unwrap()).unwrap();
    let loss = evaluate::held_out(&model, &tiny(), &vocabulary, &tokens.held_out, 4, &device).unwrap();
    let trained = outcome.best.1.nats_per_token;
    assert!((loss.nats_per_token - trained).abs() < 1e-2, "{} and {trained}", loss.nats_per_token);

    tokenizer_and_configuration(out, &books[0].held_out, &tokens.held_out[1..]);
}

fn names_and_shapes(file: &[u8]) {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let shape = |name: &str| {
        let view = tensors.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F16);
        view.shape().to_vec()
    };
    assert_eq!(tensors.len(), 2 + 2 * 9);
    assert_eq!(shape("model.embed_tokens.weight"), [VOCABULARY, 32]);
    assert_eq!(shape("model.norm.weight"), [32]);
    for layer in 0..2 {
        let shape = |name: &str| shape(&format!("model.layers.{layer}.{name}.weight"));
        assert_eq!(shape("input_layernorm"), [32]);
        assert_eq!(shape("post_attention_layernorm"), [32]);
        assert_eq!(shape("self_attn.q_proj"), [32, 32]);
        assert_eq!(shape("self_attn.k_proj"), [16, 32]);
        assert_eq!(shape("self_attn.v_proj"), [16, 32]);
        assert_eq!(shape("self_attn.o_proj"), [32, 32]);
        assert_eq!(shape("mlp.gate_proj"), [48, 32]);
        assert_eq!(shape("mlp.up_proj"), [48, 32]);
        assert_eq!(shape("mlp.down_proj"), [32, 48]);
    }
}

fn tokenizer_and_configuration(out: &Path, held_out: &str, tokens: &[u32]) {
    let tokenizer = tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.encode(held_out, false).unwrap().get_ids(), tokens);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "LlamaForCausalLM");
    assert_eq!(config["tie_word_embeddings"], true);
    assert_eq!(config["num_key_value_heads"], 2);
    assert_eq!(config["vocab_size"], VOCABULARY);
}
