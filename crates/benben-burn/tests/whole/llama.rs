//! The network in burn gives the logits of the network without it.

use benben::{AtomicFile, Plan, Recipe, ignore};
use benben_burn::Llama;
use benben_decode::Options;
use benben_models::llm::{LanguageModel, Model, Wanted};
use benben_tests::assets;
use burn::tensor::Device;
use std::path::Path;

/// The demo model, packed by the usual recipe.
fn demo(folder: &Path) -> Model {
    let path = folder.join("demo.benben");
    let source = benben::open_model(&assets::demo_model()).unwrap();
    let plan = Plan::new(&*source, &Recipe::preset("balanced").unwrap()).unwrap();
    let mut file = AtomicFile::create(&path, false).unwrap();
    benben::pack(&*source, &plan, &mut file, &mut ignore).unwrap();
    file.commit().unwrap();
    Model::open(&path, &Options::default()).unwrap()
}

/// Every logit of a prompt, of tokens after it one by one, and of a place that was gone back to.
fn logits(network: &mut dyn LanguageModel) -> Vec<f32> {
    let tokens: Vec<u32> = (0..40u32).map(|i| (i * 37 + 11) % 500).collect();
    let mut all = network.forward(&tokens, Wanted::Every).unwrap();
    for token in [3, 99, 42] {
        all.extend(network.forward(&[token], Wanted::Last).unwrap());
    }
    network.truncate(20);
    assert_eq!(network.position(), 20);
    all.extend(network.forward(&tokens[20..30], Wanted::Last).unwrap());
    all
}

fn hold(device: &Device, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let model = demo(folder.path());
    let expected = logits(&mut model.network().unwrap());
    let mut network = Llama::open(&model, device).unwrap();
    let found = logits(&mut network);
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = found.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("{name}: {off:.1e} off, logits to {size:.1}");
    assert!(off <= 2e-4 * size, "{name}: {off} off, logits to {size}");
    assert!(network.forward(&[], Wanted::Last).is_err());
    assert!(network.forward(&[u32::MAX], Wanted::Last).is_err());
    assert!(network.forward(&vec![0; network.context() + 1], Wanted::Last).is_err());
}

#[test]
fn logits_on_flex() {
    hold(&Device::flex(), "flex");
}

#[cfg(feature = "wgpu")]
#[test]
fn logits_on_wgpu() {
    match benben_burn::gpu::Adapter::find() {
        Ok(adapter) => hold(adapter.device(), adapter.name()),
        Err(e) => println!("skipped: no wgpu adapter (install mesa-vulkan-drivers libvulkan1): {e}"),
    }
}
