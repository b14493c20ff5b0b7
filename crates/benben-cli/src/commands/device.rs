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
            Device::Wgpu if self.dense => Err(Error::unsupported(
                "--dense says how the processor keeps weights; --device wgpu has codes",
            )
            .with_hint("leave out one of them")),
            Device::Wgpu => wgpu(model),
        }
    }

    /// What computes, by name: a driver in software says so.
    pub(crate) fn device_name(&self) -> Result<String> {
        match self.device {
            Device::Cpu => Ok("cpu".into()),
            #[cfg(feature = "wgpu")]
            Device::Wgpu => {
                let adapter = benben_burn::gpu::Adapter::find()?;
                let kind = if adapter.is_software() { " (software, no GPU)" } else { "" };
                Ok(format!("wgpu: {}{kind}", adapter.name()))
            }
            #[cfg(not(feature = "wgpu"))]
            Device::Wgpu => Ok("wgpu".into()),
        }
    }
}

/// The network on the graphics processor.
#[cfg(feature = "wgpu")]
fn wgpu(model: &Model) -> Result<Box<dyn LanguageModel>> {
    let adapter = benben_burn::gpu::Adapter::find()?;
    Ok(Box::new(benben_burn::Llama::open(model, adapter.device())?))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(_: &Model) -> Result<Box<dyn LanguageModel>> {
    Err(Error::unsupported("--device wgpu: this build of benben computes on the processor alone")
        .with_hint("leave out --device, or build with `--features wgpu`"))
}
