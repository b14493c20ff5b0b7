//! Streams one layer of a language model by hand: reads its matrices from the pack as they are needed, within a budget,
//! and computes what the layer's feed-forward part adds to a token.
//!
//! ```console
//! cargo run --release -- demo --keep kept
//! cargo run --release -p benben --example stream_layer -- kept/demo-balanced.benben 0
//! ```
#![allow(clippy::print_stdout, reason = "an example that prints")]

use benben::store::Options;
use benben::{Error, LayerStore, Weights};

fn main() -> benben::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(layer)) = (args.next(), args.next()) else {
        return Err(Error::invalid("expected a pack and the number of a layer"));
    };
    let pack = benben::open(path)?;
    // No more weights than a MiB stay in memory; what is needed again and has left is decoded again.
    let store =
        LayerStore::with_options(pack.into(), &Options { budget: Some(1 << 20), ..Options::default() })?;
    let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
    let (gate, up, down) = (name("mlp.gate_proj"), name("mlp.up_proj"), name("mlp.down_proj"));
    let [inner, hidden] = store.shape(&gate)?;

    // A row of the embedding, which decodes the chunk that the row lies in.
    let mut x = vec![0.0; hidden];
    store.rows("model.embed_tokens.weight", &[1], &mut x)?;
    // RMSNorm.
    let scale = (x.iter().map(|x| x * x).sum::<f32>() / hidden as f32 + 1e-5).sqrt().recip();
    let norm = store.vector(&name("post_attention_layernorm"))?;
    x.iter_mut().zip(&norm).for_each(|(x, weight)| *x *= scale * weight);
    // SwiGLU.
    let (mut gated, mut raised) = (vec![0.0; inner], vec![0.0; inner]);
    store.products(&[&gate, &up], &x, 1, &mut [&mut gated, &mut raised])?;
    gated.iter_mut().zip(&raised).for_each(|(gate, up)| *gate *= up / (1.0 + (-*gate).exp()));
    let mut added = vec![0.0; hidden];
    store.product(&down, &gated, 1, &mut added)?;

    println!("layer {layer} adds {:?} .. to the first of {hidden} values", &added[..added.len().min(4)]);
    let found = store.statistics();
    println!("{} bytes read, at most {} bytes of weights in memory", found.bytes_read, found.bytes_peak);
    Ok(())
}
