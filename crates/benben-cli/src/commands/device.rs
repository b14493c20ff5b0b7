//! A language model on the device that was asked for.

use crate::args::{Device, ModelArgs};
use benben::llm::{LanguageModel, Model};
use benben::store::Options;
use benben::{Error, Form, Result};
use std::path::Path;

impl ModelArgs {
    /// The model at `path`, its weights kept as the flags say.
    pub(crate) fn open(&self, path: &Path) -> Result<Model> {
        let form = if self.dense { Form::Dense } else { Form::Codes };
        Model::open(path, &Options { budget: self.memory, form, ..Options::default() })
    }

    /// The model that another is measured against: whole, whatever the flags say of memory.
    pub(crate) fn open_reference(&self, path: &Path) -> Result<Model> {
        Self { memory: None, ..self.clone() }.open(path)
    }

    /// The network of `model`, at the start of a sequence.
    pub(crate) fn network(&self, model: &Model) -> Result<Box<dyn LanguageModel>> {
        match self.device {
            Device::Cpu => Ok(Box::new(model.network()?)),
            Device::Wgpu => wgpu(model),
        }
    }
}

/// The network on the graphics processor.
fn wgpu(_: &Model) -> Result<Box<dyn LanguageModel>> {
    Err(Error::unsupported("--device wgpu: this build of benben computes on the processor alone")
        .with_hint("leave out --device"))
}
