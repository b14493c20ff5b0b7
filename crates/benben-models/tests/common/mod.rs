//! Small networks in memory, the demo model, and packs of both.
#![allow(dead_code, reason = "not every test file uses all of it")]

pub(crate) mod reference;

use benben_decode::{LayerStore, Pack};
use benben_encode::{Plan, Recipe, pack};
use benben_format::{Dtype, Limits, Result, ignore};
use benben_io::{ModelSource, SideFile, TensorInfo};
use benben_models::llm::{Llama, LlamaConfig, SourceWeights};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The folder of the demo model.
pub(crate) fn demo() -> Arc<dyn ModelSource> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/demo");
    Arc::from(benben_io::open(&folder).unwrap())
}

/// A network of random weights.
pub(crate) struct Made {
    config: Value,
    tensors: Vec<TensorInfo>,
    values: Vec<Vec<f32>>,
    files: Vec<SideFile>,
    metadata: BTreeMap<String, String>,
}

/// A tiny network: `changes` to the configuration decide which biases and heads it has.
pub(crate) fn tiny(changes: Value) -> Made {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 48, "intermediate_size": 80,
        "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8,
        "vocab_size": 61, "rms_norm_eps": 1e-5, "max_position_embeddings": 200, "eos_token_id": 3,
    });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    let parsed = LlamaConfig::from_json(config.to_string().as_bytes()).unwrap();
    let mut made = Made {
        tensors: Vec::new(),
        values: Vec::new(),
        files: Vec::new(),
        metadata: BTreeMap::new(),
        config: config.clone(),
    };
    made.files.push(SideFile::made("config.json", move || Ok(config.to_string().into_bytes())).unwrap());
    made.fill(&parsed);
    made
}

impl Made {
    fn add(&mut self, name: &str, shape: &[usize], middle: f32, spread: f32) {
        let count: usize = shape.iter().product();
        // A hash of name and place: the same weights wherever the tensor stands.
        let mut state =
            name.bytes().fold(0x9e37_79b9u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        let values = (0..count).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            middle + spread * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        });
        self.values.push(values.collect());
        self.tensors.push(TensorInfo {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.iter().map(|d| *d as u64).collect(),
            source_type: "f32".into(),
            source_bytes: 4 * count as u64,
        });
    }

    fn fill(&mut self, config: &LlamaConfig) {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let (queries, keys) = (config.query_width(), config.key_width());
        self.add("model.embed_tokens.weight", &[config.vocabulary, hidden], 0.0, 1.0);
        for i in 0..config.layers {
            let linears = [
                ("self_attn.q_proj", queries, hidden, config.qkv_bias),
                ("self_attn.k_proj", keys, hidden, config.qkv_bias),
                ("self_attn.v_proj", keys, hidden, config.qkv_bias),
                ("self_attn.o_proj", hidden, queries, config.output_bias),
                ("mlp.gate_proj", inner, hidden, config.mlp_bias),
                ("mlp.up_proj", inner, hidden, config.mlp_bias),
                ("mlp.down_proj", hidden, inner, config.mlp_bias),
            ];
            self.add(&format!("model.layers.{i}.input_layernorm.weight"), &[hidden], 1.0, 0.3);
            self.add(&format!("model.layers.{i}.post_attention_layernorm.weight"), &[hidden], 1.0, 0.3);
            for (name, rows, columns, bias) in linears {
                self.add(&format!("model.layers.{i}.{name}.weight"), &[rows, columns], 0.0, 0.25);
                if bias {
                    self.add(&format!("model.layers.{i}.{name}.bias"), &[rows], 0.0, 0.5);
                }
            }
        }
        self.add("model.norm.weight", &[hidden], 1.0, 0.3);
        if !config.tied_embeddings {
            self.add("lm_head.weight", &[config.vocabulary, hidden], 0.0, 0.5);
        }
    }

    /// Leaves a tensor out.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let at = self.index_of(name).unwrap();
        self.tensors.remove(at);
        self.values.remove(at);
        self
    }
}

impl ModelSource for Made {
    fn format(&self) -> &'static str {
        "made"
    }
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }
    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        Dtype::F32.from_f32(&self.values[index]).map(Cow::Owned)
    }
    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
    fn files(&self) -> &[SideFile] {
        &self.files
    }
    fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.source_bytes).sum()
    }
}

/// The bytes of `name`, which must be there.
pub(crate) fn file(model: &dyn ModelSource, name: &str) -> Vec<u8> {
    model.files().iter().find(|f| f.name() == name).unwrap().read().unwrap()
}

pub(crate) fn config(model: &dyn ModelSource) -> LlamaConfig {
    LlamaConfig::from_json(&file(model, "config.json")).unwrap()
}

/// The network of a model that is not packed.
pub(crate) fn network(model: &Arc<dyn ModelSource>) -> Llama {
    Llama::new(config(&**model), Arc::new(SourceWeights::new(Arc::clone(model)))).unwrap()
}

/// A pack of `model` in memory.
pub(crate) fn packed(model: &dyn ModelSource, preset: &str) -> Arc<Pack> {
    let plan = Plan::new(model, &Recipe::preset(preset).unwrap()).unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    pack(model, &plan, &mut bytes, &mut ignore).unwrap();
    Arc::new(Pack::from_source(Arc::new(bytes.into_inner()), Limits::default()).unwrap())
}

/// The network of a pack.
pub(crate) fn packed_network(pack: &Arc<Pack>) -> Llama {
    let config = LlamaConfig::from_json(&pack.file("config.json").unwrap()).unwrap();
    Llama::new(config, Arc::new(LayerStore::new(Arc::clone(pack)))).unwrap()
}

/// Tokens without a pattern.
pub(crate) fn tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 7919 + 13 * i * i + 5) % vocabulary) as u32).collect()
}
