//! The one idea: a stored tensor is an expression, a small formula over coded leaves
//! (`format-spec/expression.md`).
//!
//! Where a node speaks of rows and columns, a tensor of shape `[d0, d1, .., dn]` is the matrix of `d0` rows
//! and `d1 * .. * dn` columns; a one-dimensional tensor has one column. Inner nodes compute in f32.

use crate::{Dtype, EncodedLeaf, Error, LeafSpec, Limits, Result, element_count};

/// An expression over leaves `L`: [`EncodedLeaf`] before it is written, [`StoredLeaf`] in a pack.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr<L> {
    /// Values that a codec stores.
    Leaf(L),
    /// Sum of terms of one shape, added in order.
    Sum(Vec<Self>),
    /// Matrix chain a * b * .., multiplied from the left; row by row, in order of the inner index.
    Product(Vec<Self>),
    /// Another tensor of this pack.
    Ref {
        /// Its name.
        tensor: String,
        /// Its shape, repeated here so that a tree is readable alone.
        shape: Vec<u64>,
        /// Its dtype.
        dtype: Dtype,
    },
    /// Zero but for the groups that a mask keeps.
    Sparse {
        /// Shape of the value.
        shape: Vec<u64>,
        /// Rows and columns of one group; `[1, 1]` masks single elements.
        group: [u32; 2],
        /// u8 or bool, one element for each group, row-major; non-zero keeps.
        mask: Box<Self>,
        /// `[kept groups, group rows * group columns]`, in the order of the mask.
        values: Box<Self>,
    },
    /// Rows and columns multiplied by factors: `rows[i] * of[i][j] * columns[j]`.
    Scale {
        /// One factor for each row.
        rows: Option<Box<Self>>,
        /// One factor for each column.
        columns: Option<Box<Self>>,
        /// What is scaled.
        of: Box<Self>,
    },
    /// Rows (axis 0) or columns (axis 1) in another order: value `[i]` is `of[order[i]]`.
    Permute {
        /// 0 for rows, 1 for columns.
        axis: u8,
        /// u32 positions.
        order: Box<Self>,
        /// What is permuted.
        of: Box<Self>,
    },
    /// Rows as columns and columns as rows, of a value of two dimensions.
    Transpose(Box<Self>),
    /// Inverse of a randomized Hadamard transform of each row, blocks of `block` columns:
    /// `value = signs * H(of) / sqrt(block)`.
    Rotate {
        /// Seed of the signs.
        seed: u64,
        /// Columns of one block, a power of two that divides the columns.
        block: u32,
        /// What is rotated back.
        of: Box<Self>,
    },
    /// A node of a later version. Reading it is refused by name, unless it is ancillary: then it stands
    /// for its one operand.
    Unknown {
        /// Name of the node.
        node: String,
        /// Its version.
        version: u16,
        /// Whether it may be ignored.
        ancillary: bool,
        /// Its operands: their leaves belong to the pack whether they can be read or not.
        operands: Vec<Self>,
    },
}

/// A leaf in a pack: its segment and the first of its entries in the chunk table.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredLeaf {
    /// What is known without reading any chunk.
    pub spec: LeafSpec,
    /// Index into the segment table.
    pub segment: u32,
    /// Index into the chunk table; streams follow one another.
    pub first_chunk: u64,
}

/// Access to the part that the format itself must know of a leaf.
pub trait HasSpec {
    /// What is known of the leaf.
    fn spec(&self) -> &LeafSpec;
}

impl HasSpec for StoredLeaf {
    fn spec(&self) -> &LeafSpec {
        &self.spec
    }
}

impl HasSpec for EncodedLeaf {
    fn spec(&self) -> &LeafSpec {
        &self.spec
    }
}

/// Shape and dtype of a value, known before anything is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Outermost first.
    pub shape: Vec<u64>,
    /// f32 for everything computed.
    pub dtype: Dtype,
}

impl Signature {
    /// Rows and columns of the value seen as a matrix.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) where the columns do not fit 63 bits.
    pub fn matrix(&self) -> Result<(u64, u64)> {
        matrix(&self.shape)
    }

    /// Bytes of the value.
    ///
    /// # Errors
    /// [`Limit`](crate::ErrorKind::Limit) where they do not fit 63 bits.
    pub fn bytes(&self) -> Result<u64> {
        element_count(&self.shape)?
            .checked_mul(self.dtype.size() as u64)
            .ok_or_else(|| Error::limit(format!("shape {:?} of {} is too large", self.shape, self.dtype)))
    }

    /// Refuses more dimensions, or more bytes decoded, than `limits` allow.
    fn check_size(&self, limits: &Limits) -> Result<()> {
        if self.shape.len() > limits.rank {
            let rank = self.shape.len();
            return Err(Error::limit(format!("{rank} dimensions, the limit is {}", limits.rank)));
        }
        // Inner values are held as f32 whatever they are stored as.
        let bytes = self.bytes()?.max(element_count(&self.shape)?.saturating_mul(4));
        if bytes > limits.tensor_bytes {
            return Err(Error::limit(format!("{bytes} bytes decoded, the limit is {}", limits.tensor_bytes))
                .with_hint("raise the memory limit if you trust this file"));
        }
        Ok(())
    }
}

/// Rows and columns of a tensor of `shape` seen as a matrix.
///
/// # Errors
/// [`Limit`](crate::ErrorKind::Limit) where the columns do not fit 63 bits.
pub fn matrix(shape: &[u64]) -> Result<(u64, u64)> {
    match shape {
        [] => Ok((1, 1)),
        [rows, rest @ ..] => Ok((*rows, element_count(rest)?)),
    }
}

impl<L> Expr<L> {
    /// Name of the node; for a leaf see its codec.
    pub fn node(&self) -> &str {
        match self {
            Self::Leaf(_) => "leaf",
            Self::Sum(_) => "sum",
            Self::Product(_) => "product",
            Self::Ref { .. } => "ref",
            Self::Sparse { .. } => "sparse",
            Self::Scale { .. } => "scale",
            Self::Permute { .. } => "permute",
            Self::Transpose(_) => "transpose",
            Self::Rotate { .. } => "rotate",
            Self::Unknown { node, .. } => node,
        }
    }

    /// Operands in the order in which the file lists them.
    pub fn operands(&self) -> Vec<&Self> {
        match self {
            Self::Leaf(_) | Self::Ref { .. } => vec![],
            Self::Sum(terms) | Self::Product(terms) => terms.iter().collect(),
            Self::Sparse { mask, values, .. } => vec![mask, values],
            Self::Scale { rows, columns, of } => {
                rows.as_deref().into_iter().chain(columns.as_deref()).chain([&**of]).collect()
            }
            Self::Permute { order, of, .. } => vec![order, of],
            Self::Transpose(of) | Self::Rotate { of, .. } => vec![of],
            Self::Unknown { operands, .. } => operands.iter().collect(),
        }
    }

    /// What an unknown ancillary node stands for.
    pub fn stands_for(&self) -> Option<&Self> {
        match self {
            Self::Unknown { ancillary: true, operands, .. } => match operands.as_slice() {
                [operand] => Some(operand),
                _ => None,
            },
            _ => None,
        }
    }

    /// Every leaf, in the order in which the file lists them.
    pub fn leaves(&self) -> Vec<&L> {
        let mut found = Vec::new();
        self.collect_leaves(&mut found);
        found
    }

    fn collect_leaves<'a>(&'a self, found: &mut Vec<&'a L>) {
        if let Self::Leaf(leaf) = self {
            found.push(leaf);
        }
        for operand in self.operands() {
            operand.collect_leaves(found);
        }
    }

    /// The same tree over other leaves.
    ///
    /// # Errors
    /// Whatever `f` returns first.
    pub fn try_map<M>(self, f: &mut impl FnMut(L) -> Result<M>) -> Result<Expr<M>> {
        let mut list = |terms: Vec<Self>| terms.into_iter().map(|t| t.try_map(f)).collect::<Result<Vec<_>>>();
        Ok(match self {
            Self::Leaf(leaf) => Expr::Leaf(f(leaf)?),
            Self::Sum(terms) => Expr::Sum(list(terms)?),
            Self::Product(terms) => Expr::Product(list(terms)?),
            Self::Ref { tensor, shape, dtype } => Expr::Ref { tensor, shape, dtype },
            Self::Sparse { shape, group, mask, values } => {
                Expr::Sparse { shape, group, mask: boxed(*mask, f)?, values: boxed(*values, f)? }
            }
            Self::Scale { rows, columns, of } => Expr::Scale {
                rows: rows.map(|e| boxed(*e, f)).transpose()?,
                columns: columns.map(|e| boxed(*e, f)).transpose()?,
                of: boxed(*of, f)?,
            },
            Self::Permute { axis, order, of } => {
                Expr::Permute { axis, order: boxed(*order, f)?, of: boxed(*of, f)? }
            }
            Self::Transpose(of) => Expr::Transpose(boxed(*of, f)?),
            Self::Rotate { seed, block, of } => Expr::Rotate { seed, block, of: boxed(*of, f)? },
            Self::Unknown { node, version, ancillary, operands } => {
                Expr::Unknown { node, version, ancillary, operands: list(operands)? }
            }
        })
    }
}

/// The error of a critical node of a later version.
fn unknown(node: &str, version: u16) -> Error {
    Error::compatibility(format!("node {node} version {version} is not known to this build"))
        .with_hint("a newer Benben reads this tensor")
}

fn boxed<L, M>(expr: Expr<L>, f: &mut impl FnMut(L) -> Result<M>) -> Result<Box<Expr<M>>> {
    Ok(Box::new(expr.try_map(f)?))
}

impl<L: HasSpec> Expr<L> {
    /// One line that says how a tensor is stored, for tables: `scalar`, `sum(ternary, ternary)`, `ref(name)`.
    pub fn describe(&self) -> String {
        match self {
            Self::Leaf(leaf) => leaf.spec().codec.clone(),
            Self::Ref { tensor, .. } => format!("ref({tensor})"),
            other => {
                let operands: Vec<String> = other.operands().into_iter().map(Self::describe).collect();
                format!("{}({})", other.node(), operands.join(", "))
            }
        }
    }

    /// Shape and dtype of the value. Operands are checked on the way: their number, shapes and dtypes, and
    /// that no value on the way to this one is larger than `limits` allow.
    ///
    /// # Errors
    /// Corruption where operands do not fit each other, Limit, and Compatibility for an unknown critical node.
    pub fn signature(&self, limits: &Limits) -> Result<Signature> {
        self.signature_at(limits, 0)
    }

    fn signature_at(&self, limits: &Limits, depth: usize) -> Result<Signature> {
        if depth >= limits.depth {
            return Err(Error::limit(format!("expression is nested deeper than {}", limits.depth)));
        }
        let of = |e: &Self| e.signature_at(limits, depth + 1);
        let found = match self {
            Self::Leaf(leaf) => {
                let spec = leaf.spec();
                Signature { shape: spec.shape.clone(), dtype: spec.dtype }
            }
            Self::Ref { shape, dtype, .. } => Signature { shape: shape.clone(), dtype: *dtype },
            Self::Sum(terms) => self.sum_signature(terms, of)?,
            Self::Product(terms) => self.product_signature(terms, limits, of)?,
            Self::Sparse { shape, group, mask, values } => {
                self.sparse_signature(shape, *group, &of(mask)?, &of(values)?)?
            }
            Self::Scale { rows, columns, of: scaled } => {
                let value = self.float(of(scaled)?)?;
                let (m, n) = value.matrix()?;
                for (factors, expected) in [(rows, m), (columns, n)] {
                    if let Some(factors) = factors {
                        let found = self.float(of(factors)?)?;
                        self.expect("factors", expected, element_count(&found.shape)?)?;
                    }
                }
                value
            }
            Self::Permute { axis, order, of: permuted } => {
                let (value, order) = (of(permuted)?, of(order)?);
                let (m, n) = value.matrix()?;
                let expected = match axis {
                    0 => m,
                    1 => n,
                    a => return Err(Error::corruption(format!("permute: axis must be 0 or 1, found {a}"))),
                };
                if order.dtype != Dtype::U32 {
                    return Err(Error::corruption(format!(
                        "permute: positions must be u32, found {}",
                        order.dtype
                    )));
                }
                self.expect("positions", expected, element_count(&order.shape)?)?;
                value
            }
            Self::Transpose(turned) => {
                let mut value = self.float(of(turned)?)?;
                if value.shape.len() != 2 {
                    return Err(Error::corruption(format!(
                        "transpose: expected two dimensions, found shape {:?}",
                        value.shape
                    )));
                }
                value.shape.reverse();
                value
            }
            Self::Rotate { block, of: rotated, .. } => {
                let value = self.float(of(rotated)?)?;
                let columns = value.matrix()?.1;
                if !block.is_power_of_two() || columns % u64::from(*block) != 0 {
                    return Err(Error::corruption(format!(
                        "rotate: block must be a power of two that divides {columns} columns, found {block}"
                    )));
                }
                value
            }
            Self::Unknown { node, version, .. } => match self.stands_for() {
                Some(operand) => of(operand)?,
                None => return Err(unknown(node, *version)),
            },
        };
        found.check_size(limits)?;
        Ok(found)
    }

    fn sum_signature(&self, terms: &[Self], of: impl Fn(&Self) -> Result<Signature>) -> Result<Signature> {
        let mut terms = terms.iter().map(|t| self.float(of(t)?));
        let first = terms.next().ok_or_else(|| Error::corruption("sum: has no terms"))??;
        for term in terms {
            let term = term?;
            if term.shape != first.shape {
                return Err(Error::corruption(format!(
                    "sum: expected shape {:?}, found {:?}",
                    first.shape, term.shape
                )));
            }
        }
        Ok(Signature { dtype: Dtype::F32, ..first })
    }

    fn product_signature(
        &self,
        factors: &[Self],
        limits: &Limits,
        of: impl Fn(&Self) -> Result<Signature>,
    ) -> Result<Signature> {
        let mut factors = factors.iter().map(|t| self.float(of(t)?));
        let mut product = factors.next().ok_or_else(|| Error::corruption("product: has no factors"))??;
        for factor in factors {
            let factor = factor?;
            if product.shape.is_empty() {
                return Err(Error::corruption("product: the first factor has no dimension for the rows"));
            }
            self.expect("inner dimension", product.matrix()?.1, factor.matrix()?.0)?;
            product.shape.truncate(1);
            product.shape.extend(factor.shape.iter().skip(1));
            // What the first factors make can be larger than what all of them make.
            product.check_size(limits)?;
        }
        Ok(Signature { dtype: Dtype::F32, ..product })
    }

    fn sparse_signature(
        &self,
        shape: &[u64],
        group: [u32; 2],
        mask: &Signature,
        values: &Signature,
    ) -> Result<Signature> {
        // The count of groups is at most that of elements, which must not wrap.
        element_count(shape)?;
        let (m, n) = matrix(shape)?;
        let [rows, columns] = group.map(u64::from);
        if rows == 0 || columns == 0 || m % rows != 0 || n % columns != 0 {
            return Err(Error::corruption(format!(
                "sparse: groups of {rows} x {columns} do not tile {m} x {n}"
            )));
        }
        if !matches!(mask.dtype, Dtype::U8 | Dtype::Bool) || !values.dtype.is_float() {
            return Err(Error::corruption(format!(
                "sparse: expected a u8 mask and float values, found {} and {}",
                mask.dtype, values.dtype
            )));
        }
        let groups = (m / rows) * (n / columns);
        self.expect("mask elements", groups, element_count(&mask.shape)?)?;
        let (kept, width) = values.matrix()?;
        self.expect("values of a group", rows * columns, width)?;
        if kept > groups {
            return Err(Error::corruption(format!("sparse: {kept} kept groups of {groups}")));
        }
        Ok(Signature { shape: shape.into(), dtype: Dtype::F32 })
    }

    fn float(&self, found: Signature) -> Result<Signature> {
        if found.dtype.is_float() {
            Ok(found)
        } else {
            Err(Error::corruption(format!("{}: expected floats, found {}", self.node(), found.dtype)))
        }
    }

    fn expect(&self, what: &str, expected: u64, found: u64) -> Result<()> {
        if expected == found {
            Ok(())
        } else {
            Err(Error::corruption(format!("{}: expected {what} {expected}, found {found}", self.node())))
        }
    }
}
