//! The packed network with everything continuous in it as parameters.

use super::codes::Coded;
use super::form::{Builder, Form, copied, stored};
use super::parameter::Parameter;
use super::table::Table;
use super::values;
use benben_decode::Pack;
use benben_format::{EncodedLeaf, Entry, Error, Expr, Reader, Result};
use benben_models::llm::graph::{Layer, rms_norm, tensor};
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
    /// Matrices of codewords, which are parameters too.
    pub(super) coded: Vec<Coded>,
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
        let mut builder = Builder { pack, device: &device, add, parameters: Vec::new(), coded: None };
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

    /// Puts gradients by codewords in the place of those by matrices of codewords; these are added to `matrices`, which
    /// is empty or has them in the order of [`coded`](Self::coded).
    pub(super) fn by_parameters(&self, gradients: &mut [Vec<f32>], matrices: Option<&mut Vec<Vec<f32>>>) {
        let mut rest = gradients;
        let mut found = matrices.as_ref().map(|_| Vec::new());
        for block in &self.blocks {
            let (own, after) = rest.split_at_mut(block.parameters.len());
            block.by_parameters(own, found.as_mut());
            rest = after;
        }
        if let (Some(sums), Some(found)) = (matrices, found) {
            add(sums, found);
        }
    }

    /// Codes of all of them, one after the other.
    pub(super) fn codes(&self) -> Vec<u8> {
        self.coded().flat_map(|(coded, _)| coded.codes()).collect()
    }

    /// Takes codes as [`codes`](Self::codes) gives them.
    pub(super) fn set_codes(&mut self, codes: &[u8]) -> Result<()> {
        let mut rest = codes;
        for block in &mut self.blocks {
            let Block { parameters, coded, .. } = block;
            for coded in coded {
                let books = &parameters[coded.first..coded.first + coded.books()];
                let sizes: Vec<usize> = books.iter().map(|p| p.values.len()).collect();
                let (own, after) = rest.split_at(coded.count().min(rest.len()));
                if !coded.set(own, &sizes) {
                    return Err(Error::corruption("codes that do not fit the pack"));
                }
                rest = after;
            }
        }
        Ok(())
    }

    /// Takes a step of codes by the gradients by all `matrices` of codewords: see [`Coded::step`].
    pub(super) fn step_codes(&mut self, matrices: &[Vec<f32>], bounds: (f32, f32)) -> Result<()> {
        let mut rest = matrices;
        for block in &mut self.blocks {
            let (own, after) = rest.split_at(block.coded.len().min(rest.len()));
            block.step_codes(own, bounds, self.pack.reader())?;
            rest = after;
        }
        Ok(())
    }

    /// Matrices of codewords with their codebooks, in a fixed order.
    pub(super) fn coded(&self) -> impl Iterator<Item = (&Coded, &[Parameter])> {
        self.blocks.iter().flat_map(|b| b.coded.iter().map(|c| (c, b.books(c))))
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
                let reader = self.pack.reader();
                block.matrices[at].0.rebuild(&entry.expr, &block.parameters, &block.coded, reader)
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
        let mut builder = Builder { pack, device, add, parameters: Vec::new(), coded: Some(Vec::new()) };
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
        let coded = builder.coded.unwrap_or_default();
        Ok(Self { parameters: builder.parameters, coded, norms, matrices, names })
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

    /// Its parameters as they would be stored; in the place of the first codebook of a matrix, the matrix.
    pub(super) fn constants(&self, device: &Device) -> Vec<Tensor<2>> {
        let mut tensors: Vec<_> = self.parameters.iter().map(|p| p.constant(device)).collect();
        for coded in &self.coded {
            let words: Vec<_> = self.books(coded).iter().map(Parameter::stored).collect();
            tensors[coded.first] = tensor(coded.values(&words), coded.shape(), device);
        }
        tensors
    }

    /// The same with gradients.
    pub(super) fn tracked(&self, device: &Device) -> Vec<Tensor<2>> {
        let mut tensors: Vec<_> = self.parameters.iter().map(|p| p.tracked(device)).collect();
        for coded in &self.coded {
            let words: Vec<_> = self.books(coded).iter().map(|p| p.values.clone()).collect();
            let values = tensor(coded.values(&words), coded.shape(), device);
            tensors[coded.first] = values.autodiff().require_grad();
        }
        tensors
    }

    /// The codebooks of one of its matrices.
    pub(super) fn books(&self, coded: &Coded) -> &[Parameter] {
        &self.parameters[coded.first..coded.first + coded.books()]
    }

    /// Puts gradients by codewords in the place of those by matrices, which go to `matrices` in the order of
    /// [`coded`](Self::coded).
    pub(super) fn by_parameters(&self, gradients: &mut [Vec<f32>], mut matrices: Option<&mut Vec<Vec<f32>>>) {
        for coded in &self.coded {
            let sizes: Vec<usize> = self.books(coded).iter().map(|p| p.values.len()).collect();
            let by_values = std::mem::take(&mut gradients[coded.first]);
            let by_words = coded.by_words(&by_values, &sizes);
            gradients[coded.first..].iter_mut().zip(by_words).for_each(|(old, new)| *old = new);
            if let Some(matrices) = &mut matrices {
                matrices.push(by_values);
            }
        }
    }

    /// Takes a step of codes by the gradients by `matrices`: see [`Coded::step`].
    pub(super) fn step_codes(
        &mut self,
        matrices: &[Vec<f32>],
        bounds: (f32, f32),
        reader: &Reader,
    ) -> Result<()> {
        let Self { parameters, coded, .. } = self;
        for (coded, gradient) in coded.iter_mut().zip(matrices) {
            let books = &parameters[coded.first..coded.first + coded.books()];
            coded.step(gradient, books, bounds, reader)?;
        }
        Ok(())
    }
}

/// Adds `found` to `sums`, which may be empty yet.
pub(super) fn add(sums: &mut Vec<Vec<f32>>, found: Vec<Vec<f32>>) {
    if sums.is_empty() {
        *sums = found;
    } else {
        sums.iter_mut().flatten().zip(found.iter().flatten()).for_each(|(sum, x)| *sum += x);
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
