//! A network block by block: at most one block's matrices are in memory at a time.

use super::layer::{Layer, rms_norm};
use super::positions::Positions;
use super::tensor;
use crate::llm::config::{EMBEDDING, FINAL_NORM, LlamaConfig};
use crate::llm::part::{Part, norms, require};
use benben_decode::Weights;
use benben_format::Result;
use burn::tensor::{Device, Tensor};
use std::sync::Arc;

/// A network of the Llama family whose blocks are loaded as they are asked for.
#[derive(Clone)]
pub struct Network {
    config: LlamaConfig,
    weights: Arc<dyn Weights>,
    device: Device,
}

/// A dense matrix `[rows, columns]` and its bias.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// The matrix.
    pub weight: Tensor<2>,
    /// Added to its products.
    pub bias: Option<Tensor<1>>,
}

/// The weights of one layer.
#[derive(Debug, Clone)]
pub struct Block {
    /// Before attention and before the feed-forward part.
    pub norms: [Tensor<1>; 2],
    /// In the order of [`Part::ALL`].
    pub matrices: Vec<Matrix>,
}

/// What turns the stream into logits.
#[derive(Debug, Clone)]
pub struct Head {
    /// The weight of the last norm.
    pub norm: Tensor<1>,
    /// `[vocabulary, hidden]`
    pub matrix: Tensor<2>,
}

impl Network {
    /// The network that `config` describes, on `weights`, computed on `device`. Nothing is read yet.
    #[must_use]
    pub fn new(config: LlamaConfig, weights: Arc<dyn Weights>, device: Device) -> Self {
        Self { config, weights, device }
    }

    /// The shape of the network.
    #[must_use]
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Where it is computed.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The stream before the first block: `[1, tokens, hidden]`.
    ///
    /// # Errors
    /// InvalidArgument for a token outside the vocabulary; otherwise as decoding.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor<3>> {
        require(&*self.weights, EMBEDDING, [self.config.vocabulary, self.config.hidden])?;
        let mut stream = vec![0.0; tokens.len() * self.config.hidden];
        self.weights.rows(EMBEDDING, tokens, &mut stream)?;
        Ok(tensor(stream, [1, tokens.len(), self.config.hidden], &self.device))
    }

    /// The weights of layer `index`.
    ///
    /// # Errors
    /// Corruption where a tensor is missing or has another shape than the configuration says; otherwise as decoding.
    pub fn block(&self, index: usize) -> Result<Block> {
        let norm = |name: &String| self.vector(name, self.config.hidden);
        let [before_attention, before_feed] = norms(index);
        let matrix = |part: &Part| {
            let shape = part.shape(&self.config);
            let weight = self.matrix(&part.name(index), shape)?;
            let bias = part.biased(&self.config).then(|| self.vector(&part.bias(index), shape[0]));
            Ok(Matrix { weight, bias: bias.transpose()? })
        };
        Ok(Block {
            norms: [norm(&before_attention)?, norm(&before_feed)?],
            matrices: Part::ALL.iter().map(matrix).collect::<Result<_>>()?,
        })
    }

    /// The last norm and the output matrix.
    ///
    /// # Errors
    /// As [`block`](Self::block).
    pub fn head(&self) -> Result<Head> {
        let shape = [self.config.vocabulary, self.config.hidden];
        Ok(Head {
            norm: self.vector(FINAL_NORM, self.config.hidden)?,
            matrix: self.matrix(self.config.output_name(), shape)?,
        })
    }

    /// Logits of a sequence from its beginning, `[1, tokens, vocabulary]`; one block is in memory at a time.
    ///
    /// # Errors
    /// As [`embed`](Self::embed) and [`block`](Self::block).
    pub fn logits(&self, tokens: &[u32]) -> Result<Tensor<3>> {
        let positions = Positions::new(&self.config, tokens.len(), &self.device);
        let layer = Layer { config: &self.config, positions: &positions };
        let mut stream = self.embed(tokens)?;
        for index in 0..self.config.layers {
            stream = self.block(index)?.forward(&layer, stream);
        }
        let head = self.head()?;
        Ok(head.logits(head.normed(&self.config, stream)))
    }

    fn vector(&self, name: &str, length: usize) -> Result<Tensor<1>> {
        require(&*self.weights, name, [length, 1])?;
        Ok(tensor(self.weights.vector(name)?, [length], &self.device))
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor<2>> {
        require(&*self.weights, name, shape)?;
        Ok(tensor(self.weights.vector(name)?, shape, &self.device))
    }
}

impl Matrix {
    /// Its products with the vectors of `x`.
    #[must_use]
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = x.matmul(self.weight.clone().transpose().unsqueeze());
        match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }
}

impl Block {
    /// The stream after the block, from that before it.
    #[must_use]
    pub fn forward(&self, layer: &Layer<'_>, x: Tensor<3>) -> Tensor<3> {
        layer.forward(x, self.norms.clone(), &mut |part, x| self.matrix(part).forward(x))
    }

    /// One of its matrices.
    #[must_use]
    pub fn matrix(&self, part: Part) -> &Matrix {
        &self.matrices[part as usize]
    }
}

impl Head {
    /// The normed stream, which the output matrix is multiplied with.
    #[must_use]
    pub fn normed(&self, config: &LlamaConfig, x: Tensor<3>) -> Tensor<3> {
        rms_norm(x, self.norm.clone(), config.norm_epsilon)
    }

    /// Logits `[.., vocabulary]` of the normed stream.
    #[must_use]
    pub fn logits(&self, normed: Tensor<3>) -> Tensor<3> {
        normed.matmul(self.matrix.clone().transpose().unsqueeze())
    }
}
