//! Text in and out: tokens, generating, chats, scoring.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed assumption is a failed test"
)]

mod common;

use benben_decode::Options;
use benben_io::ModelSource;
use benben_models::ErrorKind;
use benben_models::llm::{
    Chunk, End, LanguageModel, Model, Protocol, Sampling, Score, Settings, Wanted, distance, evaluate,
    generate, perplexity,
};
use common::{demo, packed, tiny};
use proptest::prelude::*;
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::Arc;

const TEXT: &str = "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to \
do: once or twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it, \
\"and what is the use of a book,\" thought Alice, \"without pictures or conversations?\" So she was considering in her \
own mind, as well as she could, whether the pleasure of making a daisy-chain would be worth the trouble.";

fn open() -> Model {
    Model::from_source(demo()).unwrap()
}

fn settings(tokens: usize, temperature: f32, seed: u64) -> Settings {
    Settings { tokens, sampling: Sampling { temperature, top_p: 0.95, seed }, end: vec![0] }
}

/// What `model` makes of "Alice".
fn alice(model: &Model, settings: &Settings) -> (String, String) {
    let tokenizer = model.tokenizer().unwrap();
    let prompt = tokenizer.encode("Alice", true).unwrap();
    let mut streamed = String::new();
    let made = generate(&mut model.network().unwrap(), &tokenizer, &prompt, settings, &mut |text| {
        streamed.push_str(text);
        ControlFlow::Continue(())
    });
    (made.unwrap().text, streamed)
}

#[test]
fn what_streams_is_the_text_and_every_seed_its_own() {
    let model = open();
    let greedy = alice(&model, &settings(30, 0.0, 1));
    assert_eq!(greedy.0, greedy.1);
    assert!(greedy.0.split_whitespace().count() > 10, "{greedy:?}");
    assert_eq!(greedy, alice(&model, &settings(30, 0.0, 2)), "a seed does not matter at temperature 0");
    let drawn = alice(&model, &settings(30, 1.0, 1));
    assert_eq!(drawn, alice(&model, &settings(30, 1.0, 1)));
    assert_ne!(drawn, alice(&model, &settings(30, 1.0, 2)));
}

#[test]
fn a_lossless_pack_writes_the_same_text_within_any_budget() {
    let pack = packed(&*demo(), "lossless");
    let expected = alice(&open(), &settings(30, 0.0, 0));
    for budget in [None, Some(1), Some(1 << 20)] {
        let options = Options { budget, ..Options::default() };
        let model = Model::from_pack(Arc::clone(&pack), &options).unwrap();
        assert_eq!(alice(&model, &settings(30, 0.0, 0)), expected, "budget {budget:?}");
        assert!(model.bytes_read() > 0);
    }
}

#[test]
fn it_ends_where_it_should() {
    let model = open();
    let tokenizer = model.tokenizer().unwrap();
    let run = |prompt: &[u32], settings: &Settings, stop_after: usize| {
        let mut calls = 0;
        generate(&mut model.network().unwrap(), &tokenizer, prompt, settings, &mut |_| {
            calls += 1;
            if calls < stop_after { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    };
    let made = run(&[65], &settings(5, 0.0, 0), 100).unwrap();
    assert_eq!((made.end, made.tokens.len(), made.steps), (End::Length, 5, 4));
    let ending = Settings { end: vec![made.tokens[2]], ..settings(5, 0.0, 0) };
    let ended = run(&[65], &ending, 100).unwrap();
    assert_eq!((ended.end, ended.tokens.as_slice()), (End::Text, &made.tokens[..2]));
    let full = run(&[65; 126], &settings(50, 0.0, 0), 100).unwrap();
    assert_eq!((full.end, full.tokens.len()), (End::Context, 3), "the last needs no room");
    assert_eq!(run(&[65], &settings(5, 0.0, 0), 2).unwrap().end, End::Stopped);
    assert_eq!(run(&[65], &settings(0, 0.0, 0), 9).unwrap().tokens, [0u32; 0]);
    for wrong in [vec![], vec![65; 129]] {
        assert_eq!(run(&wrong, &settings(5, 0.0, 0), 9).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn characters_wait_for_their_last_byte() {
    let tokenizer = open().tokenizer().unwrap();
    let text = "caf\u{e9} \u{1f600}!";
    let tokens = tokenizer.encode(text, false).unwrap();
    let mut stream = tokenizer.stream();
    let mut pieces: Vec<String> = tokens.iter().map(|t| stream.push(*t).unwrap()).collect();
    assert!(pieces.iter().any(String::is_empty), "some byte must have waited: {pieces:?}");
    assert!(pieces.iter().all(|p| !p.contains('\u{fffd}')), "{pieces:?}");
    pieces.push(stream.finish().unwrap());
    assert_eq!(pieces.concat(), text);
    // The first byte of a character and never another.
    let mut stream = tokenizer.stream();
    assert_eq!(stream.push(*tokens.iter().rev().nth(2).unwrap()).unwrap(), "");
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_are_the_text(tokens in prop::collection::vec(1u32..1024, 0..40)) {
        let tokenizer = open().tokenizer().unwrap();
        let mut stream = tokenizer.stream();
        let mut text: String = tokens.iter().map(|t| stream.push(*t).unwrap()).collect();
        text.push_str(&stream.finish().unwrap());
        // Bytes that are no character may become another number of U+FFFD where they are cut.
        let plain = |s: &str| s.replace('\u{fffd}', "");
        prop_assert_eq!(plain(&text), plain(&tokenizer.decode(&tokens).unwrap()));
    }
}

#[test]
fn a_model_without_tokenizer_or_template_says_what_to_do() {
    let model = Model::from_source(Arc::new(tiny(json!({})))).unwrap();
    let error = model.tokenizer().err().unwrap();
    assert!(error.message().contains("tokenizer.json") && error.hint().is_some(), "{error}");
    let error = open().chat_template().err().unwrap();
    assert!(error.message().contains("chat template") && error.hint().unwrap().contains("--chat"), "{error}");
}

/// Scores `TEXT` with the demo model, on itself.
fn scored(score: Score, chunks: &mut Vec<Chunk>, most: usize) -> benben_models::Result<()> {
    let model = open();
    let tokens = model.tokenizer().unwrap().encode(TEXT, false).unwrap();
    let protocol = Protocol { context: 32, score, chunks: None };
    let (mut network, mut other) = (model.network().unwrap(), model.network().unwrap());
    evaluate(&mut network, Some(&mut other), &tokens, &protocol, chunks, &mut |done| {
        Ok(if done.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
}

#[test]
fn perplexity_is_that_of_the_formula() {
    let model = open();
    let tokens = model.tokenizer().unwrap().encode(TEXT, false).unwrap();
    for (score, first) in [(Score::All, 1), (Score::Half, 17)] {
        let (mut loss, mut count) = (0f64, 0u64);
        for chunk in tokens.chunks_exact(32) {
            let logits = model.network().unwrap().forward(chunk, Wanted::Every).unwrap();
            for i in first..32 {
                let row: Vec<f64> = logits[(i - 1) * 1024..i * 1024].iter().map(|x| f64::from(*x)).collect();
                loss -= (row[chunk[i] as usize].exp() / row.iter().map(|x| x.exp()).sum::<f64>()).ln();
                count += 1;
            }
        }
        let mut chunks = Vec::new();
        scored(score, &mut chunks, usize::MAX).unwrap();
        assert_eq!(chunks.iter().map(|c| c.scored).sum::<u64>(), count);
        let found = perplexity(&chunks);
        let expected = (loss / count as f64).exp();
        assert!((found.value / expected - 1.0).abs() < 1e-4, "{} and {expected}", found.value);
        assert!(found.error.unwrap() > 0.0 && found.error.unwrap() < expected);
        let same = distance(&chunks).unwrap();
        assert!(same.divergence.value < 1e-9 && same.same_top.value == 1.0);
        assert!((same.perplexity_ratio.value - 1.0).abs() < 1e-9);
    }
}

#[test]
fn scoring_goes_on_where_it_was_stopped() {
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    scored(Score::All, &mut whole, usize::MAX).unwrap();
    assert_eq!(scored(Score::All, &mut parts, 2).unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(parts.len(), 2);
    scored(Score::All, &mut parts, usize::MAX).unwrap();
    assert_eq!(whole, parts);
}

#[test]
fn a_coarser_pack_is_further_from_the_original() {
    let source = demo();
    let tokens = open().tokenizer().unwrap().encode(TEXT, false).unwrap();
    let protocol = Protocol { context: 64, score: Score::All, chunks: None };
    let divergence = |preset: &str| {
        let model = Model::from_pack(packed(&*source, preset), &Options::default()).unwrap();
        let (mut network, mut original) = (model.network().unwrap(), open().network().unwrap());
        let mut chunks = Vec::new();
        evaluate(&mut network, Some(&mut original), &tokens, &protocol, &mut chunks, &mut |_| {
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        distance(&chunks).unwrap().divergence.value
    };
    let (fine, coarse) = (divergence("near-lossless"), divergence("small-scalar"));
    assert!(fine > 0.0 && coarse > 3.0 * fine, "{fine} and {coarse}");
}

#[test]
fn texts_and_contexts_that_cannot_be_scored_are_refused() {
    let protocol = |context| Protocol { context, score: Score::All, chunks: None };
    assert!(protocol(1).cut(&[1, 2, 3]).is_err());
    assert!(protocol(4).cut(&[1, 2, 3]).is_err());
    assert_eq!(protocol(2).cut(&[1, 2, 3]).unwrap(), [[1, 2]]);
    let mut network = open().network().unwrap();
    let tokens = vec![1; 300];
    let outcome = evaluate(&mut network, None, &tokens, &protocol(200), &mut Vec::new(), &mut |_| {
        Ok(ControlFlow::Break(()))
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let other: Arc<dyn ModelSource> = Arc::new(tiny(json!({})));
    let mut other = common::network(&other);
    let outcome =
        evaluate(&mut network, Some(&mut other), &tokens, &protocol(100), &mut Vec::new(), &mut |_| {
            Ok(ControlFlow::Continue(()))
        });
    assert!(outcome.unwrap_err().message().contains("61"), "another vocabulary");
}
