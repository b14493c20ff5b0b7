//! The shape of a network of the Llama family, from its `config.json`.
//!
//! Llama, SmolLM, Mistral and Qwen2 are one graph: RMSNorm, rotary positions, grouped-query attention, SwiGLU. They
//! differ in biases, in how positions are scaled, and in names of settings; all of that ends here.

use super::rope::Rope;
use benben_format::{Error, Result};
use serde_json::{Map, Value};

/// Architectures that are read, as `config.json` calls them.
const ARCHITECTURES: [&str; 3] = ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"];
/// Largest size that a configuration may state: products of two stay far from overflow.
const LARGEST: u64 = 1 << 28;

/// A network of the Llama family.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Tokens that there are, which is the number of logits.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width between the two matrices of the feed-forward part.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads of a layer.
    pub heads: usize,
    /// Key and value heads of a layer; each serves `heads / key_value_heads` consecutive query heads.
    pub key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Most tokens of a sequence. Where the network was trained with a sliding window, no more than the window: up to
    /// there both ways of attending are the same.
    pub context: usize,
    /// Added to the mean square under the root of RMSNorm.
    pub norm_epsilon: f32,
    /// Rotary positions.
    pub rope: Rope,
    /// Whether the output matrix is the embedding table.
    pub tied_embeddings: bool,
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the projection after attention has one.
    pub output_bias: bool,
    /// Whether the three matrices of the feed-forward part have.
    pub mlp_bias: bool,
    /// The token that starts a text, where the configuration names one.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
}

impl LlamaConfig {
    /// The configuration in the bytes of `config.json`. What is left out has the value that transformers gives it.
    ///
    /// # Errors
    /// Unsupported for another architecture, activation or kind of position scaling, by name; Corruption where it is
    /// no JSON object or its numbers contradict each other.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).map_err(|e| e.context("config.json"))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::corruption(format!("expected JSON: {e}")))?;
        let Value::Object(object) = value else {
            return Err(Error::corruption("expected a JSON object"));
        };
        let fields = Fields(&object);
        let architecture = fields.architecture()?;
        let qwen = architecture == "Qwen2ForCausalLM";
        let activation = fields.text("hidden_act")?.unwrap_or("silu");
        if !matches!(activation, "silu" | "swish") {
            return Err(Error::unsupported(format!("hidden_act {activation:?}: only silu is implemented")));
        }
        let (hidden, heads) = (fields.needed("hidden_size")?, fields.needed("num_attention_heads")?);
        let head_dim = match fields.size("head_dim")? {
            Some(dim) => dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let message = format!("hidden_size {hidden} does not divide into {heads} heads");
                return Err(Error::corruption(message));
            }
        };
        let key_value_heads = fields.size("num_key_value_heads")?.unwrap_or(heads);
        if !heads.is_multiple_of(key_value_heads) {
            let message = format!("{heads} query heads do not divide by {key_value_heads} key heads");
            return Err(Error::corruption(message));
        }
        let trained = fields.size("max_position_embeddings")?.unwrap_or(2048);
        let windowed = if qwen { fields.flag("use_sliding_window")?.unwrap_or(false) } else { true };
        let window = fields.size("sliding_window")?.filter(|_| windowed).unwrap_or(usize::MAX);
        let attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
        Ok(Self {
            vocabulary: fields.needed("vocab_size")?,
            hidden,
            intermediate: fields.needed("intermediate_size")?,
            layers: fields.needed("num_hidden_layers")?,
            heads,
            key_value_heads,
            head_dim,
            context: trained.min(window),
            norm_epsilon: single(fields.number("rms_norm_eps")?.unwrap_or(1e-6)),
            rope: Rope::from_config(&object, head_dim)?,
            tied_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            // Qwen2's graph has these three biases; its configuration does not mention them.
            qkv_bias: qwen || attention_bias,
            output_bias: !qwen && attention_bias,
            mlp_bias: fields.flag("mlp_bias")?.unwrap_or(false),
            bos: fields.tokens("bos_token_id")?.first().copied(),
            eos: fields.tokens("eos_token_id")?,
        })
    }

    /// Query heads that share one key head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.heads / self.key_value_heads
    }

    /// Width of all queries of a token.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all keys, or all values, of a token.
    #[must_use]
    pub fn key_width(&self) -> usize {
        self.key_value_heads * self.head_dim
    }

    /// The name of the matrix that gives the logits.
    #[must_use]
    pub fn output_name(&self) -> &'static str {
        if self.tied_embeddings { EMBEDDING } else { OUTPUT }
    }
}

/// Name of the embedding table, `[vocabulary, hidden]`.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the output matrix, `[vocabulary, hidden]`, where it is not the embedding.
pub const OUTPUT: &str = "lm_head.weight";
/// Name of the last norm, `[hidden]`.
pub const FINAL_NORM: &str = "model.norm.weight";

/// A JSON object whose fields are read with their names in every error; null is the same as absent.
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|v| !v.is_null())
    }

    fn wrong(name: &str, expected: &str, found: &Value) -> Error {
        let mut found = found.to_string();
        if let Some((cut, _)) = found.char_indices().nth(60) {
            found.truncate(cut);
        }
        Error::corruption(format!("{name}: expected {expected}, found {found}"))
    }

    /// A size: at least 1, at most what this program can multiply without care.
    pub(super) fn size(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let size = value.as_u64().filter(|n| (1..=LARGEST).contains(n)).and_then(|n| usize::try_from(n).ok());
        size.map(Some).ok_or_else(|| Self::wrong(name, &format!("a number from 1 to {LARGEST}"), value))
    }

    fn needed(&self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| Error::corruption(format!("{name} is missing")))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.map(Some).ok_or_else(|| Self::wrong(name, "a number above 0", value))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| Self::wrong(name, "true or false", value))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| Self::wrong(name, "a string", value))
    }

    /// One token number or a list of them; none where the field is absent.
    pub(super) fn tokens(&self, name: &str) -> Result<Vec<u32>> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let list = match value {
            Value::Array(list) => list.iter().map(one).collect(),
            single => one(single).map(|t| vec![t]),
        };
        list.ok_or_else(|| Self::wrong(name, "a token number or a list of them", value))
    }

    fn architecture(&self) -> Result<&'static str> {
        let named = match self.get("architectures") {
            Some(Value::Array(list)) => list.first().and_then(Value::as_str),
            _ => None,
        };
        // Some repackaged models keep the type alone.
        let known = match (named, self.text("model_type")?) {
            (Some(name), _) => ARCHITECTURES.into_iter().find(|known| *known == name),
            (None, Some("llama")) => Some(ARCHITECTURES[0]),
            (None, Some("mistral")) => Some(ARCHITECTURES[1]),
            (None, Some("qwen2")) => Some(ARCHITECTURES[2]),
            (None, _) => None,
        };
        known.ok_or_else(|| {
            let found = named.or(self.text("model_type").ok().flatten()).unwrap_or("none");
            Error::unsupported(format!("architecture {found:?} is not one that runs here"))
                .with_hint(format!("supported are {}", ARCHITECTURES.join(", ")))
        })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "single precision is what the network computes in")]
fn single(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use benben_format::ErrorKind;
    use serde_json::json;

    fn base() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
        })
    }

    fn with(changes: Value) -> Result<LlamaConfig> {
        let mut config = base();
        for (name, value) in changes.as_object().unwrap() {
            config[name] = value.clone();
        }
        LlamaConfig::from_json(config.to_string().as_bytes())
    }

    #[test]
    fn what_is_left_out_is_as_in_transformers() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.head_dim, config.key_value_heads, config.context), (16, 4, 2048));
        assert_eq!(config.norm_epsilon, 1e-6);
        assert!(!config.tied_embeddings && !config.qkv_bias && !config.output_bias && !config.mlp_bias);
        assert!(config.eos.is_empty() && config.bos.is_none());
        assert_eq!(config.output_name(), OUTPUT);
    }

    #[test]
    fn eos_is_a_number_or_a_list() {
        assert_eq!(with(json!({"eos_token_id": 2})).unwrap().eos, [2]);
        assert_eq!(with(json!({"eos_token_id": [2, 7]})).unwrap().eos, [2, 7]);
        assert_eq!(with(json!({"eos_token_id": "x"})).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn qwen2_has_biases_that_its_configuration_does_not_name() {
        let config = with(json!({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 64,
            "use_sliding_window": false}))
        .unwrap();
        assert!(config.qkv_bias && !config.output_bias);
        assert_eq!(config.context, 2048, "a window that is not used is no limit");
    }

    #[test]
    fn a_sliding_window_bounds_the_context() {
        let config = with(json!({"architectures": ["MistralForCausalLM"], "sliding_window": 512})).unwrap();
        assert_eq!(config.context, 512);
        assert_eq!(with(json!({"sliding_window": null})).unwrap().context, 2048);
    }

    #[test]
    fn others_are_refused_by_name() {
        let error = with(json!({"architectures": ["MambaForCausalLM"]})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("MambaForCausalLM"), "{error}");
        assert!(error.hint().unwrap().contains("Qwen2ForCausalLM"));
        assert_eq!(with(json!({"hidden_act": "gelu"})).unwrap_err().kind(), ErrorKind::Unsupported);
        let error = with(json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("yarn"), "{error}");
    }

    #[test]
    fn numbers_that_contradict_each_other_are_corrupt() {
        for changes in [
            json!({"num_attention_heads": 5}),
            json!({"num_key_value_heads": 3}),
            json!({"num_hidden_layers": 0}),
            json!({"hidden_size": 1u64 << 40}),
            json!({"head_dim": 15}),
            json!({"vocab_size": null}),
            json!({"rms_norm_eps": -1}),
            json!({"rope_theta": "big"}),
        ] {
            let error = with(changes.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{changes}: {error}");
        }
        assert!(LlamaConfig::from_json(b"[]").is_err() && LlamaConfig::from_json(b"{").is_err());
    }
}
