//! From a pack to memory, a block of rows at a time.

use super::codebooks::Codebooks;
use super::fine::{Fine, Meaning};
use super::node::{BLOCK, Node, blocks};
use super::sparse::Sparse;
use super::strips::Strips;
use super::turned::{Stored, Turned};
use super::{Form, Panels, Tensor};
use crate::evaluate::{self, Evaluator};
use crate::product::{LANES, Turned as Integers, most_bytes as panel_bytes};
use benben_codec::lattice::{self, Lattice};
use benben_codec::{pvq, raw, rvq, ternary};
use benben_format::{Dtype, Error, Expr, LeafSource, LeafSpec, Result, StoredLeaf, in_memory};

/// The tensor as codes.
pub(super) fn tensor(tensor: &Tensor<'_>) -> Result<Node> {
    let evaluator = tensor.evaluator();
    evaluator.reader.signature(tensor.entry())?;
    Loader { evaluator }.node(&tensor.entry().expr)
}

/// Most bytes of the tensor in `form`.
pub(super) fn most_bytes(tensor: &Tensor<'_>, form: Form) -> Result<usize> {
    let evaluator = tensor.evaluator();
    evaluator.reader.signature(tensor.entry())?;
    Loader { evaluator }.most_bytes(&tensor.entry().expr, form)
}

/// A matrix of values of `dtype`.
pub(super) fn from_bytes([rows, columns]: [usize; 2], dtype: Dtype, bytes: &[u8]) -> Result<Node> {
    if !fits(rows, columns) {
        let mut values = vec![0.0; rows * columns];
        dtype.to_f32(bytes, &mut values)?;
        return Ok(Node::Few { rows, columns, values });
    }
    let mut panels = Panels::new(rows, columns, None);
    match dtype {
        Dtype::F16 | Dtype::BF16 => panels.push_halves(bytes, dtype == Dtype::BF16),
        _ => {
            for range in blocks(rows, columns) {
                let mut values = vec![0.0; range.len() * columns];
                let at = |row: usize| row * columns * dtype.size();
                dtype.to_f32(&bytes[at(range.start)..at(range.end)], &mut values)?;
                panels.push_values(&values);
            }
        }
    }
    Ok(Node::Panels(panels))
}

fn fits(rows: usize, columns: usize) -> bool {
    Node::fits(rows, columns)
}

/// What a leaf becomes.
enum Plan {
    Lattice {
        reach: u32,
        exceptions: u64,
    },
    Halves {
        brain: bool,
    },
    Trits,
    Codebooks {
        dim: usize,
        groups: u16,
        stages: u8,
    },
    /// Integers of a lattice that panels do not reach.
    Fine {
        exceptions: u64,
    },
    /// Integers with a gain for each `dim` of them.
    Points {
        dim: usize,
    },
    Values,
}

impl Plan {
    fn of(spec: &LeafSpec) -> Result<Self> {
        Ok(match (spec.codec.as_str(), spec.dtype) {
            (raw::CODEC, Dtype::F16) => Self::Halves { brain: false },
            (raw::CODEC, Dtype::BF16) => Self::Halves { brain: true },
            (ternary::CODEC, _) => Self::Trits,
            (rvq::CODEC, _) => {
                let (dim, groups, stages) = rvq::extent(spec)?;
                // Groups follow the last dimension.
                if groups == 1 || spec.shape.len() == 2 {
                    Self::Codebooks { dim, groups, stages }
                } else {
                    Self::Values
                }
            }
            _ => match lattice::reach(spec)? {
                Some((reach @ ..=256, exceptions)) => Self::Lattice { reach, exceptions },
                // An exception by itself is 16 bytes.
                Some((..=32768, exceptions)) if exceptions < spec.elements()? / 16 => {
                    Self::Fine { exceptions }
                }
                None if spec.codec == pvq::CODEC => match pvq::numbered(spec)? {
                    Some(dim @ 4..) => Self::Points { dim },
                    _ => Self::Values,
                },
                _ => Self::Values,
            },
        })
    }
}

impl Plan {
    /// Whether it stays as it is stored where a matrix is transposed.
    fn turns(&self) -> bool {
        matches!(self, Self::Codebooks { .. } | Self::Fine { .. } | Self::Points { .. })
    }

    /// Most bytes of a matrix in this form.
    fn most_bytes(&self, [rows, columns]: [usize; 2]) -> Result<usize> {
        Ok(match *self {
            Self::Lattice { reach, exceptions } => panel_bytes(rows, columns, Some((reach, exceptions)), 1),
            Self::Halves { .. } => panel_bytes(rows, columns, None, 2),
            Self::Codebooks { dim, groups, stages } => {
                Codebooks::most_bytes(rows, columns, dim, groups, stages)
            }
            // Each group has its levels beside: with one column or two that is more than the values.
            Self::Trits => dense_bytes([rows, columns])
                .saturating_add(rows.div_ceil(LANES).saturating_mul(2 * 4 * LANES)),
            Self::Fine { exceptions } => {
                let exceptions = in_memory(exceptions)?.saturating_mul(size_of::<(u64, f32)>());
                let codes = rows.saturating_mul(columns).saturating_mul(2);
                codes.saturating_add(exceptions).saturating_add(FINE_TABLE)
            }
            Self::Points { dim } => {
                let all = rows.saturating_mul(columns);
                all.saturating_mul(2).saturating_add(all.div_ceil(dim).saturating_mul(4))
            }
            Self::Values => dense_bytes([rows, columns]),
        })
    }
}

/// Most bytes of the shifts of a lattice: one for each magnitude that has a symbol.
const FINE_TABLE: usize = 1 << 10;

/// Bytes of f32 values.
fn dense_bytes([rows, columns]: [usize; 2]) -> usize {
    if fits(rows, columns) {
        panel_bytes(rows, columns, None, 4)
    } else {
        rows.saturating_mul(columns).saturating_mul(4)
    }
}

struct Loader<'a> {
    evaluator: Evaluator<'a>,
}

impl Loader<'_> {
    fn matrix(&self, node: &evaluate::Node) -> Result<[usize; 2]> {
        let (rows, columns) = self.evaluator.signature(node)?.matrix()?;
        Ok([in_memory(rows)?, in_memory(columns)?])
    }

    fn node(&self, node: &evaluate::Node) -> Result<Node> {
        let [rows, columns] = self.matrix(node)?;
        let one = |of: &evaluate::Node| self.node(of).map(Box::new);
        let each = |nodes: &[evaluate::Node]| nodes.iter().map(|n| self.node(n)).collect::<Result<Vec<_>>>();
        match node {
            Expr::Leaf(leaf) if fits(rows, columns) => self.leaf(leaf, node, [rows, columns]),
            Expr::Leaf(_) => self.values(node, [rows, columns]),
            Expr::Sparse { group, mask, values, .. } => {
                self.sparse(*group, mask, values, node, [rows, columns])
            }
            Expr::Ref { tensor, .. } => self.node(&self.evaluator.target(tensor)?.expr),
            Expr::Sum(terms) => each(terms).map(Node::Sum),
            Expr::Product(factors) => each(factors).map(Node::Product),
            Expr::Scale { rows: gains, columns: steps, of } => {
                let factors = |node: &Option<Box<evaluate::Node>>, count: usize| {
                    node.as_ref().map(|n| self.evaluator.elements(n, 0..count as u64)).transpose()
                };
                Ok(Node::Scale {
                    rows: factors(gains, rows)?,
                    columns: factors(steps, columns)?,
                    of: one(of)?,
                })
            }
            Expr::Permute { axis: 0, order, of } => {
                let order = self.evaluator.positions(order, 0..rows as u64, rows as u64)?;
                Ok(Node::PermuteRows { order, of: one(of)? })
            }
            Expr::Permute { order, of, .. } => {
                let order = self.evaluator.positions(order, 0..columns as u64, columns as u64)?;
                Ok(Node::PermuteColumns { order, of: one(of)? })
            }
            Expr::Transpose(of) => self.transposed(of, node, [rows, columns]),
            Expr::Rotate { seed, block, of } => {
                Ok(Node::Rotate { seed: *seed, block: *block as usize, of: one(of)? })
            }
            Expr::Unknown { node: name, .. } => match node.stands_for() {
                Some(operand) => self.node(operand),
                None => Err(Error::compatibility(format!("node {name} is not known to this build"))),
            },
        }
    }

    fn leaf(&self, leaf: &StoredLeaf, node: &evaluate::Node, shape: [usize; 2]) -> Result<Node> {
        let [rows, columns] = shape;
        let source = self.evaluator.reader.leaf(leaf);
        let mut panels = Panels::new(rows, columns, None);
        match Plan::of(source.spec())? {
            Plan::Values => return self.values(node, shape),
            Plan::Codebooks { dim, groups, .. } => {
                let parts = rvq::parts(&source)?;
                return Ok(Node::Codebooks(Codebooks::new(rows, columns, dim, parts, groups == 1)));
            }
            Plan::Trits => return self.trits(&source, node, shape),
            Plan::Fine { .. } => {
                let Some(lattice) = Lattice::of(&source)? else { return self.values(node, shape) };
                let mut fine = Fine::new(rows, columns, Meaning::Lattice(lattice.into()));
                Strips::of(source.spec(), rows * columns).rows(
                    shape,
                    1,
                    |elements, out| lattice::integers(&source, elements, out),
                    |_, integers| fine.push(integers),
                )?;
                return Ok(Node::Fine(fine));
            }
            Plan::Points { dim } => {
                let all = rows * columns;
                let gains = Vec::with_capacity(all.div_ceil(dim));
                let mut fine = Fine::new(rows, columns, Meaning::Gains { dim, gains });
                for range in Strips::of_groups(source.spec(), all.div_ceil(dim), dim).ranges() {
                    let mut points = vec![0.0; (range.end * dim).min(all) - range.start * dim];
                    let mut gains = vec![0.0; range.len()];
                    pvq::points(&source, range.start as u64..range.end as u64, &mut points, &mut gains)?;
                    fine.push(&points);
                    fine.push_gains(&gains);
                }
                return Ok(Node::Fine(fine));
            }
            Plan::Halves { brain } => {
                Strips::of(source.spec(), rows * columns).rows(
                    shape,
                    2,
                    |elements, out| raw::decode_bytes(&source, elements, out),
                    |_, bytes| panels.push_halves(bytes, brain),
                )?;
            }
            Plan::Lattice { .. } => {
                let Some(lattice) = Lattice::of(&source)? else { return self.values(node, shape) };
                panels = Panels::new(rows, columns, Some(&lattice));
                Strips::of(source.spec(), rows * columns).rows(
                    shape,
                    1,
                    |elements, out| lattice::integers(&source, elements, out),
                    |range, integers| {
                        let start = (range.start * columns) as u64;
                        let end = start + integers.len() as u64;
                        let from = lattice.exceptions.partition_point(|e| e.0 < start);
                        let to = lattice.exceptions.partition_point(|e| e.0 < end);
                        panels.push_integers(integers, &lattice, &lattice.exceptions[from..to], start);
                    },
                )?;
            }
        }
        Ok(Node::Panels(panels))
    }

    /// Places and narrow values, unless values alone are fewer bytes.
    fn sparse(
        &self,
        group: [u32; 2],
        mask: &evaluate::Node,
        values: &evaluate::Node,
        node: &evaluate::Node,
        shape: [usize; 2],
    ) -> Result<Node> {
        let (kept, width) = self.evaluator.signature(values)?.matrix()?;
        let mask = self.evaluator.bytes(mask)?;
        let mut sparse = Sparse::new(shape, group.map(|g| g as usize), &mask, kept)?;
        drop(mask);
        // Blocks of anything but a leaf may each take all of it.
        let step =
            if matches!(values, Expr::Leaf(_)) { (BLOCK as u64 / width.max(1)).max(1) } else { kept.max(1) };
        let mut at = 0;
        while at < kept {
            let end = kept.min(at + step);
            sparse.push(&self.evaluator.rows(values, at..end)?);
            at = end;
        }
        let sparse = sparse.finish();
        if sparse.bytes() < dense_bytes(shape) {
            return Ok(Node::Sparse(sparse.into()));
        }
        self.values(node, shape)
    }

    /// The integers of a lattice turned round before they are packed, halves likewise; codewords and points as they are;
    /// of anything else the values.
    fn transposed(&self, of: &evaluate::Node, node: &evaluate::Node, shape: [usize; 2]) -> Result<Node> {
        let [rows, columns] = shape;
        // Each block of rows would take all that is stored: at once, whatever it is.
        let values = || {
            let values = self.evaluator.rows(node, 0..rows as u64)?;
            if !fits(rows, columns) {
                return Ok(Node::Few { rows, columns, values });
            }
            let mut panels = Panels::new(rows, columns, None);
            panels.push_values(&values);
            Ok(Node::Panels(panels))
        };
        let Expr::Leaf(leaf) = of else { return values() };
        let source = self.evaluator.reader.leaf(leaf);
        let plan = Plan::of(source.spec())?;
        if let (true, &Plan::Halves { brain }) = (fits(rows, columns), &plan) {
            let mut bytes = vec![0; 2 * rows * columns];
            raw::decode_bytes(&source, 0..(rows * columns) as u64, &mut bytes)?;
            let mut panels = Panels::new(rows, columns, None);
            for range in blocks(rows, columns) {
                let turned = evaluate::transposed(bytes.as_chunks::<2>().0, rows, range);
                panels.push_halves(turned.as_flattened(), brain);
            }
            return Ok(Node::Panels(panels));
        }
        if fits(rows, columns) && plan.turns() {
            match self.leaf(leaf, of, [columns, rows])? {
                Node::Codebooks(books) => return Ok(Node::Turned(Turned(Stored::Codebooks(books)))),
                Node::Fine(fine) => return Ok(Node::Turned(Turned(Stored::Fine(fine)))),
                _ => {}
            }
        }
        if !fits(rows, columns) || !matches!(plan, Plan::Lattice { .. }) {
            return values();
        }
        let Some(mut lattice) = Lattice::of(&source)? else { return values() };
        let mut integers = Integers::new(rows, columns);
        let mut strip = Vec::new();
        for range in Strips::of(source.spec(), rows * columns).ranges() {
            strip.resize(range.len(), 0.0);
            lattice::integers(&source, range.start as u64..range.end as u64, &mut strip)?;
            integers.push(&strip);
        }
        drop(strip);
        let (m, n) = (rows as u64, columns as u64);
        lattice.exceptions.iter_mut().for_each(|e| e.0 = e.0 % m * n + e.0 / m);
        lattice.exceptions.sort_unstable_by_key(|e| e.0);
        let mut panels = Panels::new(rows, columns, Some(&lattice));
        panels.push_turned(&integers, &lattice, &lattice.exceptions);
        Ok(Node::Panels(panels))
    }

    /// Trits where rows have levels of their own, which ours have; else values.
    fn trits(&self, source: &dyn LeafSource, node: &evaluate::Node, shape: [usize; 2]) -> Result<Node> {
        let [rows, columns] = shape;
        let (run, levels) = ternary::levels(source)?;
        if run % columns as u64 != 0 {
            return self.values(node, shape);
        }
        let of = |row: usize| levels.get(in_memory((row * columns) as u64 / run).unwrap_or(usize::MAX));
        let mut panels = Panels::new(rows, columns, None);
        Strips::of(source.spec(), rows * columns).rows(
            shape,
            1,
            |elements, out| ternary::trits(source, elements, out),
            |range, trits| {
                let levels: Vec<[f32; 2]> = range.filter_map(of).copied().collect();
                panels.push_trits(trits, &levels);
            },
        )?;
        Ok(Node::Panels(panels))
    }

    fn values(&self, node: &evaluate::Node, [rows, columns]: [usize; 2]) -> Result<Node> {
        if !fits(rows, columns) {
            let values = self.evaluator.rows(node, 0..rows as u64)?;
            return Ok(Node::Few { rows, columns, values });
        }
        let mut panels = Panels::new(rows, columns, None);
        for range in blocks(rows, columns) {
            panels.push_values(&self.evaluator.rows(node, range.start as u64..range.end as u64)?);
        }
        Ok(Node::Panels(panels))
    }

    fn most_bytes(&self, node: &evaluate::Node, form: Form) -> Result<usize> {
        let [rows, columns] = self.matrix(node)?;
        let all = |nodes: &[&evaluate::Node]| -> Result<usize> {
            let mut sum = 0usize;
            for node in nodes {
                sum = sum.saturating_add(self.most_bytes(node, form)?);
            }
            Ok(sum)
        };
        let values = || dense_bytes([rows, columns]);
        Ok(match node {
            Expr::Leaf(leaf) if fits(rows, columns) => {
                let plan = Plan::of(&leaf.spec)?;
                let codes = plan.most_bytes([rows, columns])?;
                match (form, plan) {
                    (Form::Codes, _) | (_, Plan::Codebooks { .. }) => codes,
                    (Form::Dense, _) => values(),
                }
            }
            Expr::Ref { tensor, .. } => self.most_bytes(&self.evaluator.target(tensor)?.expr, form)?,
            Expr::Sum(nodes) | Expr::Product(nodes) => all(&nodes.iter().collect::<Vec<_>>())?,
            Expr::Scale { of, .. } => {
                all(&[of])?.saturating_add((rows.saturating_add(columns)).saturating_mul(4))
            }
            Expr::Permute { of, .. } => all(&[of])?.saturating_add(rows.max(columns).saturating_mul(8)),
            Expr::Transpose(of) => match &**of {
                Expr::Leaf(leaf) if fits(rows, columns) => match (Plan::of(&leaf.spec)?, form) {
                    (plan @ Plan::Codebooks { .. }, _) => plan.most_bytes([columns, rows])?,
                    (plan, Form::Codes) if plan.turns() => plan.most_bytes([columns, rows])?,
                    (plan @ (Plan::Lattice { .. } | Plan::Halves { .. }), Form::Codes) => {
                        plan.most_bytes([rows, columns])?
                    }
                    _ => values(),
                },
                _ => values(),
            },
            Expr::Sparse { group, values: of, .. } if form == Form::Codes => {
                let kept = self.evaluator.signature(of)?.matrix()?.0;
                Sparse::most_bytes([rows as u64, columns as u64], *group, kept)?.min(values())
            }
            Expr::Rotate { of, .. } => all(&[of])?,
            Expr::Unknown { .. } => match node.stands_for() {
                Some(operand) => all(&[operand])?,
                None => 0,
            },
            _ => values(),
        })
    }
}
