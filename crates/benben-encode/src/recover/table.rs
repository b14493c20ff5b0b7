//! The matrix that tokens are looked up in, or that gives logits: often one and the same. Its factors are tuned from
//! both sides. At 2 bits for each weight it is a large part of the error.

use super::form::{Builder, Form};
use super::head::each_tile;
use super::parameter::Parameter;
use super::student::gradients;
use super::values;
use benben_decode::Pack;
use benben_format::{EncodedLeaf, Entry, Error, Expr, Result};
use benben_models::llm::graph::tensor;
use burn::tensor::{Device, Tensor};

/// A table `[rows, hidden]` as it is tuned.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) parameters: Vec<Parameter>,
    form: Form,
    hidden: usize,
    /// What is looked up, factors and basis left out.
    values: Vec<f32>,
}

impl Table {
    /// The tensor `entry` of `pack`. Factors are tuned where it is made of them; new ones would take two bytes for every
    /// word.
    pub(super) fn new(pack: &Pack, entry: &Entry, hidden: usize, device: &Device) -> Result<Self> {
        let mut builder = Builder { pack, device, add: false, parameters: Vec::new(), coded: None };
        let mut form = builder.matrix(&entry.expr)?;
        let (mut inner, mut parameters) = (&entry.expr, builder.parameters);
        if form.is_scaled_constant() {
            while let Expr::Rotate { of, .. } | Expr::Scale { of, .. } = inner {
                inner = of;
            }
        } else {
            form = Form::Constant(Box::new(constant(pack, entry, device)?));
            parameters.clear();
        }
        Ok(Self { name: entry.name.clone(), parameters, form, hidden, values: pack.evaluate(inner)? })
    }

    /// The rows of `tokens`, `[1, tokens, hidden]`; `parameters` are its own, as constants or with gradients.
    pub(super) fn rows(
        &self,
        tokens: &[u32],
        parameters: &[Tensor<2>],
        device: &Device,
    ) -> Result<Tensor<3>> {
        let hidden = self.hidden;
        let row = |token: &u32| self.values.get(*token as usize * hidden..)?.get(..hidden);
        let found: Option<Vec<&[f32]>> = tokens.iter().map(row).collect();
        let found = found.ok_or_else(|| Error::invalid("a token outside the vocabulary"))?;
        let found = tensor(found.concat(), [1, tokens.len(), hidden], device);
        let tracked = parameters.iter().any(|p| p.device().is_autodiff());
        let mut stream = if tracked { found.autodiff() } else { found };
        let (basis, form) = match &self.form {
            Form::Rotate { basis, of } => (Some(basis), &**of),
            form => (None, form),
        };
        if let Form::Scale { rows, columns, .. } = form {
            if let Some(columns) = columns {
                stream = stream * parameters[*columns].clone().unsqueeze();
            }
            if let Some(rows) = rows {
                let ids: Vec<i32> = tokens.iter().map(|t| t.cast_signed()).collect();
                let ids = Tensor::from_data(ids.as_slice(), &parameters[*rows].device());
                stream = stream * parameters[*rows].clone().select(1, ids).reshape([1, tokens.len(), 1]);
            }
        }
        Ok(match basis {
            Some(basis) => {
                let turned = basis.back(stream.reshape([tokens.len(), hidden]));
                turned.reshape([1, tokens.len(), hidden])
            }
            None => stream,
        })
    }

    /// Logits of the normed stream `[tokens, hidden]`, as they would be stored: see [`each_tile`].
    pub(super) fn logits(
        &self,
        normed: Tensor<2>,
        device: &Device,
        each: &mut dyn FnMut(usize, &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let own = self.constants(device);
        each_tile(normed, &mut |first, tile| {
            each(first, &mut values(self.form.forward(tile.unsqueeze(), &own))?)
        })
    }

    /// The gradients of a loss by the normed stream, and by its own parameters, where `each` turns logits into the
    /// gradient of the loss by them.
    pub(super) fn gradient(
        &self,
        normed: Tensor<2>,
        device: &Device,
        each: &mut dyn FnMut(usize, &mut [f32]) -> Result<()>,
    ) -> Result<(Tensor<2>, Vec<Vec<f32>>)> {
        let mut parts = Vec::new();
        let mut sums: Vec<Vec<f32>> = self.parameters.iter().map(|p| vec![0.0; p.values.len()]).collect();
        each_tile(normed, &mut |first, tile| {
            let x = tile.autodiff().require_grad();
            let own = self.tracked(device);
            let logits = self.form.forward(x.clone().unsqueeze(), &own);
            let shape = logits.dims();
            let mut by_logits = values(logits.clone().inner())?;
            each(first, &mut by_logits)?;
            let found = (logits * tensor(by_logits, shape, device).autodiff()).sum().backward();
            let missing = || Error::unsupported("a gradient is missing from the graph");
            parts.push(x.grad(&found).ok_or_else(missing)?);
            for (sum, gradient) in sums.iter_mut().zip(gradients(&own, &found)?) {
                sum.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x);
            }
            Ok(())
        })?;
        Ok((Tensor::cat(parts, 0), sums))
    }

    /// Its parameters as they would be stored.
    pub(super) fn constants(&self, device: &Device) -> Vec<Tensor<2>> {
        self.parameters.iter().map(|p| p.constant(device)).collect()
    }

    /// Its parameters with gradients.
    pub(super) fn tracked(&self, device: &Device) -> Vec<Tensor<2>> {
        self.parameters.iter().map(|p| p.tracked(device)).collect()
    }

    /// The tensor with its parameters as they are now.
    pub(super) fn expression(&self, entry: &Entry, pack: &Pack) -> Result<Expr<EncodedLeaf>> {
        self.form.rebuild(&entry.expr, &self.parameters, &[], pack.reader())
    }
}

fn constant(pack: &Pack, entry: &Entry, device: &Device) -> Result<Tensor<2>> {
    let side = |i: usize| benben_format::in_memory(entry.shape[i]);
    Ok(tensor(pack.evaluate(&entry.expr)?, [side(0)?, side(1)?], device))
}
