//! A language model as it lies on the disk: a pack, or a Hugging Face folder.

use super::blocks::LlamaBlocks;
use super::chat::ChatTemplate;
use super::config::LlamaConfig;
use super::llama::Llama;
use super::source::SourceWeights;
use super::tokenizer::Tokenizer;
use benben_decode::{LayerStore, Options, Pack, Weights};
use benben_format::layout::MAGIC;
use benben_format::{Error, Limits, Result};
use benben_io::ModelSource;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// An open model: its configuration is read, its weights where they were.
pub struct Model {
    body: Body,
    config: LlamaConfig,
    end: Vec<u32>,
    settings: Value,
}

enum Body {
    Pack(Arc<LayerStore>),
    Folder(Arc<dyn ModelSource>, Arc<SourceWeights>),
}

impl Model {
    /// Opens the pack, folder or model file at `path`; weights of a pack are kept as `options` say. A folder's weights
    /// are kept as they are, all of them, without a budget.
    ///
    /// # Errors
    /// InvalidArgument where a budget is asked of a folder, or where the model has no `config.json`; Unsupported for
    /// an architecture that does not run; otherwise as the reader of the format.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        if !path.exists() {
            return Err(Error::invalid(format!("{}: there is no such file or folder", path.display())));
        }
        if path.is_file() {
            let source = benben_format::open(path)?;
            if source.len() >= 8 && *source.read_at(0, 8)? == MAGIC {
                return Self::from_pack(Arc::new(Pack::from_source(source, Limits::default())?), options)
                    .map_err(|e| e.context(path.display()));
            }
        }
        if options.budget.is_some() {
            return Err(Error::invalid(format!("{} is no pack: a memory budget needs one", path.display()))
                .with_hint("`benben pack` makes one; without a budget the model runs as it is"));
        }
        Self::from_source(Arc::from(benben_io::open(path)?)).map_err(|e| e.context(path.display()))
    }

    /// The model in an open pack.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_pack(pack: Arc<Pack>, options: &Options) -> Result<Self> {
        Self::new(Body::Pack(Arc::new(LayerStore::with_options(pack, options)?)))
    }

    /// A model that is not packed.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_source(source: Arc<dyn ModelSource>) -> Result<Self> {
        let weights = Arc::new(SourceWeights::new(Arc::clone(&source)));
        Self::new(Body::Folder(source, weights))
    }

    fn new(body: Body) -> Result<Self> {
        let Some(config) = body.file("config.json")? else {
            return Err(Error::invalid("the model has no config.json, so that its shape is not known")
                .with_hint(
                    "open or pack the folder with config.json and tokenizer.json, not the weights file alone",
                ));
        };
        let config = LlamaConfig::from_json(&config)?;
        let mut end = config.eos.clone();
        if let Some(generation) = body.json("generation_config.json")? {
            let list = generation.get("eos_token_id").cloned().unwrap_or(Value::Null);
            let list = if let Value::Array(list) = list { list } else { vec![list] };
            end.extend(list.iter().filter_map(Value::as_u64).filter_map(|t| u32::try_from(t).ok()));
        }
        let settings = body.json("tokenizer_config.json")?.unwrap_or(Value::Null);
        Ok(Self { body, config, end, settings })
    }

    /// The shape of the network.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The store under a pack; none for a model that is not packed.
    #[must_use]
    pub fn store(&self) -> Option<&Arc<LayerStore>> {
        match &self.body {
            Body::Pack(store) => Some(store),
            Body::Folder(..) => None,
        }
    }

    /// Weights, where they lie.
    #[must_use]
    pub fn weights(&self) -> Arc<dyn Weights> {
        match &self.body {
            Body::Pack(store) => Arc::clone(store) as Arc<dyn Weights>,
            Body::Folder(_, weights) => Arc::clone(weights) as Arc<dyn Weights>,
        }
    }

    /// The network on the CPU, at the start of a sequence.
    ///
    /// # Errors
    /// As [`Llama::new`].
    pub fn network(&self) -> Result<Llama> {
        Llama::new(self.config.clone(), self.weights())
    }

    /// The network as a chain of blocks, for calibration.
    ///
    /// # Errors
    /// As [`LlamaBlocks::new`].
    pub fn blocks(&self) -> Result<LlamaBlocks> {
        LlamaBlocks::new(self.config.clone(), &*self.weights())
    }

    /// Bytes of weights and files that were read so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.body {
            Body::Pack(store) => store.pack().reader().bytes_read(),
            Body::Folder(_, weights) => weights.bytes_read(),
        }
    }

    /// Bytes of the pack, or of the weight files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        match &self.body {
            Body::Pack(store) => store.pack().reader().len(),
            Body::Folder(source, _) => source.total_bytes(),
        }
    }

    /// A hash that names the model: the root of a pack; of other models, that of all tensors and of the configuration,
    /// for which they are read once.
    ///
    /// # Errors
    /// As reading the tensors.
    pub fn identity(&self) -> Result<[u8; 32]> {
        let source = match &self.body {
            Body::Pack(store) => return Ok(store.pack().reader().root()),
            Body::Folder(source, _) => source,
        };
        let mut hash = blake3::Hasher::new();
        hash.update(&self.file("config.json")?.unwrap_or_default());
        for (i, tensor) in source.tensors().iter().enumerate() {
            // Type and shape say how many bytes follow, so that no two models are one string.
            hash.update(format!("\n{:?} {} {:?}\n", tensor.name, tensor.dtype, tensor.shape).as_bytes());
            hash.update(&source.read(i)?);
        }
        Ok(hash.finalize().into())
    }

    /// The bytes of a file that travels with the weights, none where there is no such file.
    ///
    /// # Errors
    /// As reading it.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.body.file(name)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// InvalidArgument where the model has no `tokenizer.json`; Corruption where that is none.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let Some(bytes) = self.file("tokenizer.json")? else {
            return Err(Error::invalid(
                "the model has no tokenizer.json, without which text cannot become tokens",
            )
            .with_hint("put tokenizer.json beside the weights, pack the folder, and leave out --no-files"));
        };
        Tokenizer::from_json(&bytes)
    }

    /// Tokens that end a text: those of the configuration, of the settings for generating and of the tokenizer.
    #[must_use]
    pub fn end_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut end = self.end.clone();
        end.extend(self.special_tokens().get("eos_token").and_then(|text| tokenizer.token(text)));
        end.sort_unstable();
        end.dedup();
        end
    }

    /// The chat template.
    ///
    /// # Errors
    /// InvalidArgument where the model has none; Corruption where it is no template.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_| Error::corruption("chat_template.jinja: expected UTF-8"))
        };
        let source = match self.file("chat_template.jinja")? {
            Some(bytes) => Some(text(bytes)?),
            None => match self.body.json("chat_template.json")? {
                Some(file) => named_template(file.get("chat_template")),
                None => named_template(self.settings.get("chat_template")),
            },
        };
        let source = source.ok_or_else(|| {
            Error::invalid(
                "the model has no chat template: it was not taught conversations, or the template is lost",
            )
            .with_hint("leave out --chat to let the model continue the text")
        })?;
        ChatTemplate::new(source, self.special_tokens())
    }

    /// Special tokens by what they are for: `bos_token`, `eos_token`.
    fn special_tokens(&self) -> BTreeMap<String, String> {
        let Value::Object(settings) = &self.settings else { return BTreeMap::new() };
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Object(token) => token.get("content").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
        let named = settings.iter().filter(|(name, _)| name.ends_with("_token"));
        named.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
    }
}

/// A template: the only one, or that called `default`.
fn named_template(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(template) => Some(template.clone()),
        Value::Array(list) => {
            let default = |v: &&Value| v.get("name").and_then(Value::as_str) == Some("default");
            list.iter().find(default)?.get("template").and_then(Value::as_str).map(str::to_owned)
        }
        _ => None,
    }
}

impl Body {
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Pack(store) if store.pack().files().any(|n| n == name) => store.pack().file(name).map(Some),
            Self::Pack(_) => Ok(None),
            Self::Folder(source, _) => {
                let file = source.files().iter().find(|f| f.name() == name);
                file.map(benben_io::SideFile::read).transpose()
            }
        }
    }

    fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.file(name)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes);
        value.map(Some).map_err(|e| Error::corruption(format!("{name}: expected JSON: {e}")))
    }
}
