//! The packed network with everything continuous in it as parameters.

use super::form::{Builder, Form, copied, stored};
use super::parameter::Parameter;
use super::table::Table;
use super::values;
use benben_decode::Pack;
use benben_format::{EncodedLeaf, Entry, Error, Expr, Result};
use benben_models::llm::graph::{Layer, rms_norm};
use benben_models::llm::{EMBEDDING, FINAL_NORM, LlamaConfig, Part, norms};
use burn::tensor::{Device, Tensor};
use std::collections::HashMap;

/// A pack as it is tuned: integers as dense constants, all blocks in memory.
pub(super) struct Student<'a> {
    pub(super) pack: &'a Pack,
    pub(super) config: LlamaConfig,
    pub(super) device: Device,
    /// One for each layer.
    pub(super) blocks: Vec<Block>,
    /// The last norm.
    pub(super) norm: Parameter,
    /// What tokens are looked up in.
    table: Table,
    /// The output matrix where it is another.
    output: Option<Table>,
}

/// A layer: forms that count its parameters.
pub(super) struct Block {
    pub(super) parameters: Vec<Parameter>,
    norms: [usize; 2],
    /// In the order of [`Part::ALL`]: the matrix and its bias.
    matrices: Vec<(Form, Option<usize>)>,
    /// What each tensor's name stands for.
    names: HashMap<String, Place>,
}

/// Where in a block a tensor is.
#[derive(Clone, Copy)]
enum Place {
    Matrix(usize),
    Vector(usize),
}

impl<'a> Student<'a> {
    /// The network in `pack`; with `add`, rows of matrices get factors where they have none.
    pub(super) fn new(pack: &'a Pack, config: LlamaConfig, device: Device, add: bool) -> Result<Self> {
        let block = |index| Block::new(pack, &config, &device, add, index);
        let blocks = (0..config.layers).map(block).collect::<Result<_>>()?;
        let norm = find(pack, FINAL_NORM, &[config.hidden])?;
        let mut builder = Builder { pack, device: &device, add, parameters: Vec::new() };
        builder.vector(&norm.expr, norm.dtype, true).map_err(|e| e.in_tensor(FINAL_NORM))?;
        let norm = builder.parameters.remove(0);
        let shape = [config.vocabulary, config.hidden];
        let table = |name: &str| {
            let entry = find(pack, name, &shape)?;
            Table::new(pack, entry, config.hidden, &device).map_err(|e| e.in_tensor(name))
        };
        let output = config.output_name();
        let output = (output != EMBEDDING).then(|| table(output)).transpose()?;
        Ok(Self { pack, blocks, norm, table: table(EMBEDDING)?, output, config, device })
    }

    /// The stream before the first block, with what would be stored: `[1, tokens, hidden]`.
    pub(super) fn embed(&self, tokens: &[u32]) -> Result<Tensor<3>> {
        self.table.rows(tokens, &self.table.constants(&self.device), &self.device)
    }

    /// The same with gradients by `parameters`, which are those of [`tables`](Self::tables)'s first.
    pub(super) fn embed_tracked(&self, tokens: &[u32], parameters: &[Tensor<2>]) -> Result<Tensor<3>> {
        let stream = self.table.rows(tokens, parameters, &self.device)?;
        Ok(if stream.device().is_autodiff() { stream } else { stream.autodiff() })
    }

    /// What tokens are looked up in, then the output matrix where it is another.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        [&self.table].into_iter().chain(&self.output)
    }

    /// The output matrix.
    pub(super) fn head(&self) -> &Table {
        self.output.as_ref().unwrap_or(&self.table)
    }

    /// The normed stream after the last block, with what would be stored.
    pub(super) fn normed(&self, tokens: &[u32], layer: &Layer<'_>) -> Result<Tensor<3>> {
        let mut stream = self.embed(tokens)?;
        for block in &self.blocks {
            stream = block.forward(layer, stream, &block.constants(&self.device));
        }
        let norm = self.norm.constant(&self.device).reshape([self.config.hidden]);
        Ok(rms_norm(stream, norm, self.config.norm_epsilon))
    }

    /// Every parameter, in a fixed order.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        let blocks = self.blocks.iter().flat_map(|b| &b.parameters);
        blocks.chain([&self.norm]).chain(self.tables().flat_map(|t| &t.parameters))
    }

    /// Every parameter, to be changed.
    pub(super) fn parameters_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        let tables = [&mut self.table].into_iter().chain(&mut self.output);
        let blocks = self.blocks.iter_mut().flat_map(|b| &mut b.parameters);
        blocks.chain([&mut self.norm]).chain(tables.flat_map(|t| &mut t.parameters))
    }

    /// A tensor of the pack with its parameters as they are now.
    pub(super) fn expression(&self, entry: &Entry) -> Result<Expr<EncodedLeaf>> {
        if entry.name == FINAL_NORM {
            return vector(entry, &self.norm, self.pack);
        }
        if let Some(table) = self.tables().find(|t| t.name == entry.name) {
            return table.expression(entry, self.pack);
        }
        let found = self.blocks.iter().find_map(|b| Some((b, *b.names.get(&entry.name)?)));
        match found {
            Some((block, Place::Vector(at))) => vector(entry, &block.parameters[at], self.pack),
            Some((block, Place::Matrix(at))) => {
                block.matrices[at].0.rebuild(&entry.expr, &block.parameters, self.pack.reader())
            }
            None => copied(&entry.expr, self.pack.reader()),
        }
    }
}

fn vector(entry: &Entry, parameter: &Parameter, pack: &Pack) -> Result<Expr<EncodedLeaf>> {
    if parameter.changed() {
        Ok(Expr::Leaf(stored(parameter, entry.dtype, &entry.shape)?))
    } else {
        copied(&entry.expr, pack.reader())
    }
}

/// The tensor called `name`, which must have this shape.
fn find<'a>(pack: &'a Pack, name: &str, shape: &[usize]) -> Result<&'a Entry> {
    let entry = pack.tensor(name)?.entry();
    if !entry.shape.iter().copied().eq(shape.iter().map(|d| *d as u64)) {
        let message = format!("expected shape {shape:?} by config.json, found {:?}", entry.shape);
        return Err(Error::corruption(message).in_tensor(name));
    }
    Ok(entry)
}

impl Block {
    fn new(pack: &Pack, config: &LlamaConfig, device: &Device, add: bool, index: usize) -> Result<Self> {
        let mut builder = Builder { pack, device, add, parameters: Vec::new() };
        let mut names = HashMap::new();
        let mut vector = |builder: &mut Builder<'_>, name: String, length: usize, scales: bool| {
            let entry = find(pack, &name, &[length])?;
            let at = builder.vector(&entry.expr, entry.dtype, scales).map_err(|e| e.in_tensor(&name))?;
            names.insert(name, Place::Vector(at));
            Ok::<_, Error>(at)
        };
        let [before_attention, before_feed] = norms(index);
        let norms = [
            vector(&mut builder, before_attention, config.hidden, true)?,
            vector(&mut builder, before_feed, config.hidden, true)?,
        ];
        let mut matrices = Vec::with_capacity(Part::ALL.len());
        for part in Part::ALL {
            let (name, shape) = (part.name(index), part.shape(config));
            let entry = find(pack, &name, &shape)?;
            let form = builder.matrix(&entry.expr).map_err(|e| e.in_tensor(&name))?;
            let bias = part.biased(config).then(|| vector(&mut builder, part.bias(index), shape[0], false));
            matrices.push((form, bias.transpose()?));
        }
        for part in Part::ALL {
            names.insert(part.name(index), Place::Matrix(part as usize));
        }
        Ok(Self { parameters: builder.parameters, norms, matrices, names })
    }

    /// The stream after the block; `parameters` are its own, as constants or with gradients.
    pub(super) fn forward(&self, layer: &Layer<'_>, x: Tensor<3>, parameters: &[Tensor<2>]) -> Tensor<3> {
        let norms = self.norms.map(|at| {
            let norm = parameters[at].clone();
            let [_, length] = norm.dims();
            norm.reshape([length])
        });
        layer.forward(x, norms, &mut |part, x| {
            let (form, bias) = &self.matrices[part as usize];
            let y = form.forward(x, parameters);
            match bias {
                Some(at) => y + parameters[*at].clone().unsqueeze(),
                None => y,
            }
        })
    }

    /// Its parameters as they would be stored.
    pub(super) fn constants(&self, device: &Device) -> Vec<Tensor<2>> {
        self.parameters.iter().map(|p| p.constant(device)).collect()
    }

    /// Its parameters with gradients.
    pub(super) fn tracked(&self, device: &Device) -> Vec<Tensor<2>> {
        self.parameters.iter().map(|p| p.tracked(device)).collect()
    }
}

/// Gradients of `tensors`, row-major; zeros for what the loss does not depend on.
pub(super) fn gradients(tensors: &[Tensor<2>], found: &burn::tensor::Gradients) -> Result<Vec<Vec<f32>>> {
    let one = |tensor: &Tensor<2>| match tensor.grad(found) {
        Some(gradient) => values(gradient),
        None => Ok(vec![0.0; tensor.dims().iter().product()]),
    };
    tensors.iter().map(one).collect()
}
