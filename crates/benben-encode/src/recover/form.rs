//! Expressions of a pack as graphs: integers are constants, what scales them are parameters.

use super::codes::Coded;
use super::parameter::Parameter;
use benben_codec::raw;
use benben_decode::Pack;
use benben_format::{Chunk, Dtype, EncodedLeaf, Expr, LeafSource, Reader, Result, StoredLeaf, element_count};
use benben_models::llm::graph::{Rotation, tensor};
use burn::tensor::{Device, Tensor};

/// Bits of a factor's mantissa: all that bf16 has. Steps of recovery are of 1e-4 to 1e-3, and with 5 bits what moves by less
/// than 1.6 % in all stays where it was: SmolLM2 in 49.5 MB lost 1.2 % of its divergence in 20 steps then, 2.7 % without that
/// (other chunks held out), for 0.16 % more bytes.
const FACTOR: u32 = 7;

/// How a matrix is computed. Numbers count the parameters of its block.
#[derive(Debug)]
pub(super) enum Form {
    /// What is not tuned, `[rows, columns]`.
    Constant(Box<Tensor<2>>),
    /// A parameter by itself.
    Free(usize),
    /// Rows and columns multiplied by parameters.
    Scale {
        rows: Option<usize>,
        columns: Option<usize>,
        of: Box<Self>,
    },
    /// Vectors come into a basis first.
    Rotate {
        basis: Box<Rotation>,
        of: Box<Self>,
    },
    Sum(Vec<Self>),
    Product(Vec<Self>),
    /// Sums of codewords: matrix `at` of those of its block, whose values are in the place of parameter `first`. `turned`:
    /// they are those of its transpose.
    Coded {
        at: usize,
        first: usize,
        turned: bool,
    },
}

/// Reads forms of one block.
pub(super) struct Builder<'a> {
    pub(super) pack: &'a Pack,
    pub(super) device: &'a Device,
    /// Whether rows that have no factors get some.
    pub(super) add: bool,
    pub(super) parameters: Vec<Parameter>,
    /// Matrices of codewords; none where their codes are left alone.
    pub(super) coded: Option<Vec<Coded>>,
}

type Node = Expr<StoredLeaf>;

impl Builder<'_> {
    /// The matrix that `expr` is.
    pub(super) fn matrix(&mut self, expr: &Node) -> Result<Form> {
        self.part(expr, self.add)
    }

    /// A vector: norms and biases are tuned whatever they are stored as. `scales` says that it multiplies.
    pub(super) fn vector(&mut self, expr: &Node, dtype: Dtype, scales: bool) -> Result<usize> {
        let values = self.pack.evaluate(expr)?;
        let mantissa = mantissa(dtype);
        Ok(self.push(if scales {
            Parameter::vector(values, mantissa)
        } else {
            Parameter::matrix([1, values.len()], values, mantissa)
        }))
    }

    fn part(&mut self, expr: &Node, add: bool) -> Result<Form> {
        Ok(match expr {
            Expr::Scale { rows, columns, of } => {
                let count = self.shape(expr)?[0];
                let rows = match rows {
                    Some(rows) => Some(self.factors(rows)?),
                    None if add => Some(self.ones(count)),
                    None => None,
                };
                let columns = columns.as_deref().map(|e| self.factors(e)).transpose()?;
                Form::Scale { rows, columns, of: Box::new(self.part(of, false)?) }
            }
            Expr::Rotate { seed, block, of } => {
                let columns = self.shape(expr)?[1];
                let basis = Rotation::new(columns, *seed, *block as usize, self.device).into();
                Form::Rotate { basis, of: Box::new(self.part(of, add)?) }
            }
            // Factors of low rank need no rows of their own.
            Expr::Sum(terms) => Form::Sum(
                terms
                    .iter()
                    .map(|term| self.part(term, add && !matches!(term, Expr::Product(_))))
                    .collect::<Result<_>>()?,
            ),
            Expr::Product(factors) => {
                Form::Product(factors.iter().map(|factor| self.factor(factor)).collect::<Result<_>>()?)
            }
            other => {
                let shape = self.shape(other)?;
                let constant = match self.coded(other)? {
                    Some(coded) => coded,
                    None => Form::Constant(Box::new(tensor(self.pack.evaluate(other)?, shape, self.device))),
                };
                if add {
                    Form::Scale { rows: Some(self.ones(shape[0])), columns: None, of: Box::new(constant) }
                } else {
                    constant
                }
            }
        })
    }

    /// The matrix where it is one of codewords, or the transpose of one.
    fn coded(&mut self, expr: &Node) -> Result<Option<Form>> {
        let (Some(coded), Some((leaf, turned))) = (&mut self.coded, leaf_of(expr)) else { return Ok(None) };
        let (at, first) = (coded.len(), self.parameters.len());
        Ok(Coded::new(leaf, self.pack.reader(), first)?.map(|(matrix, books)| {
            coded.push(matrix);
            self.parameters.extend(books);
            Form::Coded { at, first, turned }
        }))
    }

    fn factor(&mut self, expr: &Node) -> Result<Form> {
        match expr {
            Expr::Leaf(leaf) if leaf.spec.codec == raw::CODEC => {
                let parameter = Parameter::matrix(
                    self.shape(expr)?,
                    self.pack.evaluate(expr)?,
                    mantissa(leaf.spec.dtype),
                );
                Ok(Form::Free(self.push(parameter)))
            }
            other => self.part(other, false),
        }
    }

    fn factors(&mut self, expr: &Node) -> Result<usize> {
        let values = self.pack.evaluate(expr)?;
        Ok(self.push(Parameter::vector(values, FACTOR)))
    }

    fn ones(&mut self, count: usize) -> usize {
        self.push(Parameter::vector(vec![1.0; count], FACTOR))
    }

    fn push(&mut self, parameter: Parameter) -> usize {
        self.parameters.push(parameter);
        self.parameters.len() - 1
    }

    fn shape(&self, expr: &Node) -> Result<[usize; 2]> {
        let (rows, columns) = expr.signature(self.pack.reader().limits())?.matrix()?;
        Ok([benben_format::in_memory(rows)?, benben_format::in_memory(columns)?])
    }
}

/// The leaf that a matrix is, and whether it is turned.
fn leaf_of(expr: &Node) -> Option<(&StoredLeaf, bool)> {
    match expr {
        Expr::Leaf(leaf) => Some((leaf, false)),
        Expr::Transpose(of) => match &**of {
            Expr::Leaf(leaf) => Some((leaf, true)),
            _ => None,
        },
        _ => None,
    }
}

/// Bits of a mantissa that a tuned vector of this dtype gets: no more than bf16 has. Half a unit is then 0.2 % at most,
/// and norms that were published as bf16 in f32 stay as small.
fn mantissa(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F16 => 10,
        _ => 7,
    }
}

impl Form {
    /// Whether it is a matrix of integers, or numbers, between factors, in some basis, and nothing else.
    pub(super) fn is_scaled_constant(&self) -> bool {
        match self {
            Self::Rotate { of, .. } => matches!(**of, Self::Scale { .. }) && of.is_scaled_constant(),
            Self::Scale { of, .. } => matches!(**of, Self::Constant(_)),
            _ => false,
        }
    }

    /// Products with the vectors of `x`, `[batch, length, columns]`; `parameters` are those of the block.
    pub(super) fn forward(&self, x: Tensor<3>, parameters: &[Tensor<2>]) -> Tensor<3> {
        let times = |x: Tensor<3>, matrix: Tensor<2>| x.matmul(matrix.transpose().unsqueeze());
        match self {
            // Of the same kind as the input: a graph multiplies tensors with gradients, or none has any.
            Self::Constant(matrix) if x.device().is_autodiff() => times(x, (**matrix).clone().autodiff()),
            Self::Constant(matrix) => times(x, (**matrix).clone()),
            Self::Free(matrix) => times(x, parameters[*matrix].clone()),
            Self::Coded { first, turned: true, .. } => x.matmul(parameters[*first].clone().unsqueeze()),
            Self::Coded { first, turned: false, .. } => times(x, parameters[*first].clone()),
            Self::Scale { rows, columns, of } => {
                let scaled = |x: Tensor<3>, by: &Option<usize>| match by {
                    Some(by) => x * parameters[*by].clone().unsqueeze(),
                    None => x,
                };
                scaled(of.forward(scaled(x, columns), parameters), rows)
            }
            Self::Rotate { basis, of } => {
                let [batch, length, columns] = x.dims();
                let turned = basis.forth(x.reshape([batch * length, columns]));
                of.forward(turned.reshape([batch, length, columns]), parameters)
            }
            Self::Sum(terms) => {
                let mut terms = terms.iter();
                // The signature of a sum has been checked: there is a first term.
                let first =
                    terms.next().map_or_else(|| x.clone(), |term| term.forward(x.clone(), parameters));
                terms.fold(first, |sum, term| sum + term.forward(x.clone(), parameters))
            }
            Self::Product(factors) => factors.iter().rev().fold(x, |x, factor| factor.forward(x, parameters)),
        }
    }

    /// `expr`, which this form was built from, with parameters that have changed in new leaves.
    pub(super) fn rebuild(
        &self,
        expr: &Node,
        parameters: &[Parameter],
        coded: &[Coded],
        reader: &Reader,
    ) -> Result<Expr<EncodedLeaf>> {
        let list = |forms: &[Self], exprs: &[Node]| {
            let parts = forms.iter().zip(exprs);
            parts
                .map(|(form, expr)| form.rebuild(expr, parameters, coded, reader))
                .collect::<Result<Vec<_>>>()
        };
        Ok(match (self, expr) {
            (
                Self::Scale { rows, columns, of },
                Expr::Scale { rows: old_rows, columns: old_columns, of: old },
            ) => Expr::Scale {
                rows: scaled(*rows, old_rows.as_deref(), parameters, reader)?,
                columns: scaled(*columns, old_columns.as_deref(), parameters, reader)?,
                of: Box::new(of.rebuild(old, parameters, coded, reader)?),
            },
            (Self::Rotate { of, .. }, Expr::Rotate { seed, block, of: old }) => {
                let of = Box::new(of.rebuild(old, parameters, coded, reader)?);
                Expr::Rotate { seed: *seed, block: *block, of }
            }
            (Self::Scale { rows, columns, of }, other) => {
                let of = of.rebuild(other, parameters, coded, reader)?;
                match (scaled(*rows, None, parameters, reader)?, scaled(*columns, None, parameters, reader)?)
                {
                    (None, None) => of,
                    (rows, columns) => Expr::Scale { rows, columns, of: Box::new(of) },
                }
            }
            (Self::Coded { at, first, turned }, _) => {
                let coded = &coded[*at];
                let leaf = coded.leaf(&parameters[*first..*first + coded.books()], reader)?;
                if *turned { Expr::Transpose(Box::new(Expr::Leaf(leaf))) } else { Expr::Leaf(leaf) }
            }
            (Self::Sum(forms), Expr::Sum(terms)) => Expr::Sum(list(forms, terms)?),
            (Self::Product(forms), Expr::Product(factors)) => Expr::Product(list(forms, factors)?),
            (Self::Free(parameter), Expr::Leaf(leaf)) if parameters[*parameter].changed() => {
                Expr::Leaf(stored(&parameters[*parameter], leaf.spec.dtype, &leaf.spec.shape)?)
            }
            (_, other) => copied(other, reader)?,
        })
    }
}

/// Factors: as they were, or a new leaf. New factors that have stayed 1 are none.
fn scaled(
    parameter: Option<usize>,
    old: Option<&Node>,
    parameters: &[Parameter],
    reader: &Reader,
) -> Result<Option<Box<Expr<EncodedLeaf>>>> {
    Ok(match (parameter.map(|p| &parameters[p]).filter(|p| p.changed()), old) {
        // A mantissa of 5 bits fits bf16, whose range is that of f32: column steps of 1e-5 are no special case.
        (Some(found), _) => {
            Some(Box::new(Expr::Leaf(stored(found, Dtype::BF16, &[found.values.len() as u64])?)))
        }
        (None, Some(old)) => Some(Box::new(copied(old, reader)?)),
        (None, None) => None,
    })
}

/// A parameter as a leaf.
pub(super) fn stored(parameter: &Parameter, dtype: Dtype, shape: &[u64]) -> Result<EncodedLeaf> {
    debug_assert_eq!(element_count(shape).ok(), Some(parameter.values.len() as u64));
    raw::encode(&dtype.from_f32(&parameter.stored())?, dtype, shape)
}

/// An expression of a pack with its chunks, as they are.
pub(super) fn copied(expr: &Node, reader: &Reader) -> Result<Expr<EncodedLeaf>> {
    expr.clone().try_map(&mut |leaf: StoredLeaf| copied_leaf(&leaf, reader))
}

/// A leaf of a pack with its chunks, as they are.
pub(super) fn copied_leaf(leaf: &StoredLeaf, reader: &Reader) -> Result<EncodedLeaf> {
    let source = reader.leaf(leaf);
    let streams = leaf.spec.streams.iter().enumerate().map(|(s, stream)| {
        let chunk = |i| source.chunk(s, i).map(|c| Chunk::new(c.mode, c.bytes.into_owned()));
        (0..stream.chunks()).map(chunk).collect()
    });
    Ok(EncodedLeaf { chunks: streams.collect::<Result<_>>()?, spec: leaf.spec.clone() })
}
