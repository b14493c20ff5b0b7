//! Generates text with a budget of memory for weights, and shows that it is the same text as without one.
//!
//! ```console
//! cargo run --release -- demo --keep kept
//! cargo run --release -p benben --features llm --example small_memory -- kept/demo-balanced.benben "Alice was" 1000000
//! ```
//! A model of 135 million weights at `balanced` takes 100 MB and more in memory; with `100000000` it runs in less, and
//! what did not fit is decoded again for every token: slower, to the bit the same.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use benben::Error;
use benben::llm::{Model, Sampling, Settings, generate};
use benben::store::Options;
use std::ops::ControlFlow;

fn main() -> benben::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(prompt), Some(budget)) = (args.next(), args.next(), args.next()) else {
        return Err(Error::invalid("expected a pack, a prompt and a number of bytes"));
    };
    let budget = budget.parse().map_err(|e| Error::invalid(format!("{budget} bytes: {e}")))?;
    let mut texts = Vec::new();
    for budget in [Some(budget), None] {
        let model = Model::open(path.as_ref(), &Options { budget, ..Options::default() })?;
        let tokenizer = model.tokenizer()?;
        let tokens = tokenizer.encode(&prompt, true)?;
        let settings =
            Settings { tokens: 32, sampling: Sampling::default(), end: model.end_tokens(&tokenizer) };
        let go_on = &mut |_: &str| ControlFlow::Continue(());
        let made = generate(&mut model.network()?, &tokenizer, &tokens, &settings, go_on)?;
        let rate = made.steps as f64 / made.step_time.as_secs_f64();
        let peak = model.store().map_or(0, |store| store.statistics().bytes_peak);
        println!("budget {budget:?}: {rate:.0} tokens/s, at most {peak} bytes of weights");
        texts.push(made.text);
    }
    println!("{prompt}{}", texts[0]);
    println!("the same text both times: {}", texts[0] == texts[1]);
    Ok(())
}
