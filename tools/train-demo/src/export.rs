//! The folder that other programs load: weights, `config.json` and the tokenizer's two files.

use crate::config::LlamaConfig;
use crate::tokenizer::{END_OF_TEXT, Vocabulary};
use crate::weights::{Weight, Weights};
use anyhow::{Context, Result, ensure};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// Name of the file of weights.
pub const WEIGHTS: &str = "model.safetensors";

/// Writes what does not change while training: both configurations and the tokenizer.
///
/// # Errors
///
/// When a file cannot be written.
pub fn describe(folder: &Path, config: &LlamaConfig, vocabulary: &Vocabulary) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    vocabulary.save(&folder.join("tokenizer.json"))?;
    write_json(&folder.join("config.json"), &model_config(config, vocabulary)?)?;
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": false,
        "model_max_length": config.max_position_embeddings,
    });
    write_json(&folder.join("tokenizer_config.json"), &tokenizer)
}

fn model_config(config: &LlamaConfig, vocabulary: &Vocabulary) -> Result<Value> {
    let mut json = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        "hidden_act": "silu",
        "attention_bias": false,
        "mlp_bias": false,
        "attention_dropout": 0.0,
        "tie_word_embeddings": true,
        "rope_scaling": null,
        "use_cache": true,
        "bos_token_id": vocabulary.end_of_text,
        "eos_token_id": vocabulary.end_of_text,
    });
    if let (Value::Object(all), Value::Object(shape)) = (&mut json, serde_json::to_value(config)?) {
        all.extend(shape);
    }
    Ok(json)
}

/// Writes the weights; returns the length of the file.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_weights(folder: &Path, weights: &Weights) -> Result<usize> {
    let bytes: Vec<(&String, &Weight, Vec<u8>)> = weights
        .iter()
        .map(|(name, weight)| (name, weight, weight.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, weight, bytes)| Ok((name, TensorView::new(Dtype::F16, weight.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    // Hugging Face's loader asks for the framework that wrote the file.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = serialize(views, Some(metadata))?;
    write(&folder.join(WEIGHTS), &file)?;
    Ok(file.len())
}

/// Reads weights that [`write_weights`] wrote.
///
/// # Errors
///
/// When the file cannot be read or holds another type than half precision.
pub fn read_weights(folder: &Path) -> Result<Weights> {
    let path = folder.join(WEIGHTS);
    let file = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut weights = Weights::new();
    for (name, view) in SafeTensors::deserialize(&file)?.tensors() {
        ensure!(view.dtype() == Dtype::F16, "{name} is {:?}, expected F16", view.dtype());
        let values = view.data().as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair)).collect();
        weights.insert(name, Weight { shape: view.shape().to_vec(), values });
    }
    Ok(weights)
}

/// Writes JSON for people to read.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_json(path: &Path, json: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(json)?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Writes a file beside its place and renames it: it is there as a whole or not at all.
///
/// # Errors
///
/// When the folder cannot be written to.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    // Temporary files are private; what they become is for everyone to read.
    #[cfg(unix)]
    file.as_file()
        .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}
