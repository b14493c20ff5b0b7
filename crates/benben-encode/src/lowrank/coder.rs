//! Methods with a rank: a product on top of what a codec stored, or in its place.

use super::factors::Spectrum;
use super::metric::Metric;
use super::norm::Known;
use super::stored::{LEAF, LEAVES, Stored, bytes, decoded};
use crate::coder::{Coded, Task};
use crate::method::{Codec, Method};
use benben_codec::Target;
use benben_format::{EncodedLeaf, Error, Expr, Result, in_memory, matrix};

/// Bits for each entry of factors that are tried. One bit more takes three quarters off what rounding of factors adds.
const BITS: [f64; 4] = [4.0, 5.0, 6.0, 8.0];
/// What is tried first.
const USUAL: f64 = 5.0;
/// Fewest bits for each entry; below, fewer components say more.
const LEAST: f64 = 0.3;
/// Most; beyond, `raw` says as much.
const MOST: f64 = 16.0;
/// Tries of meeting a loss, and how near it is met.
const TRIES: usize = 6;
const CLOSE: f64 = 0.98;

/// Codes without the rank.
pub(crate) type Base<'a> = dyn Fn(&Task<'_>) -> Result<Coded> + 'a;

/// A product on top of what `base` stores, by what is `known` of the layer.
///
/// **Source**: EoRA (Liu et al. 2024): the residual W - Ŵ in the eigenspace of the inputs. Here the bits that the factors
/// take are the codec's loss: everything is counted, so that the total meets the target, and factors are coded with as
/// many bits as make `loss 2^(2 bits)` least. What feedback leaves is nearly white under its metric, so that few
/// components take little off it; where the matrix itself has large ones, the product is taken first and the codec
/// stores the rest (as SVDQuant does, Li et al. 2024). The better of both is kept: in the same bytes, rank 4 takes the
/// loss of SmolLM2-135M's first query matrix from 1.4e-4 to 1.0e-4 at 2.5 bits, and makes that of its values 9 % larger.
///
/// # Errors
/// As `base`; InvalidArgument where the factors alone take what is asked for.
pub(crate) fn compensate(task: &Task<'_>, known: Known<'_>, base: &Base<'_>) -> Result<(Coded, f64)> {
    let Some(work) = Work::new(task, known)? else {
        let coded = base(&Task { method: &without(task.method), ..*task })?;
        let values = decoded(&coded.expr, task.shape)?;
        let errors: Vec<f32> = task.values.iter().zip(&values).map(|(w, v)| w - v).collect();
        let error = known.cost(&errors, in_memory(matrix(task.shape)?.1)?);
        return Ok((coded, error));
    };
    if task.method.codec == Codec::Lowrank {
        return work.alone();
    }
    match task.target {
        Target::BitsPerWeight(bits) => work.at_bits(bits, base),
        Target::RelativeMse(loss) => work.at_loss(loss, base),
    }
}

/// The method without its rank.
fn without(method: &Method) -> Method {
    Method { rank: None, metric: None, ..*method }
}

/// Whether a rank can be had for tensors of this shape: products are matrices.
pub(crate) fn has_rank(shape: &[u64]) -> bool {
    shape.len() == 2 && shape.iter().all(|&n| n > 0)
}

/// Those of `ranks` by which a product beside `coded` may pay, after the codec or before it: what it takes off is more
/// than what its bytes would as bits of the codec, one for every factor of 4.
pub(crate) fn promising(
    task: &Task<'_>,
    known: Known<'_>,
    coded: &Expr<EncodedLeaf>,
    ranks: &[u16],
) -> Result<Vec<u16>> {
    if !has_rank(task.shape) || task.values.is_empty() {
        return Ok(Vec::new());
    }
    let (rows, columns) = matrix(task.shape)?;
    let (rows, columns) = (in_memory(rows)?, in_memory(columns)?);
    let values = decoded(coded, task.shape)?;
    let errors: Vec<f32> = task.values.iter().zip(&values).map(|(w, v)| w - v).collect();
    let spectrum = Spectrum::new(&errors, rows, columns, &known.metric(task.method.metric)?)?;
    let whole = Spectrum::new(task.values, rows, columns, &Metric::plain())?;
    let pays = |rank: &&u16| {
        let rank = usize::from(**rank);
        let share = USUAL * (rank * (rows + columns)) as f64 / errors.len() as f64;
        // Half of the bits at most: more is for matrices that are products, and lowrank.
        if matches!(task.target, Target::BitsPerWeight(bits) if 2.0 * share > bits) {
            return false;
        }
        let gain = gain(&spectrum, rank).max(gain(&whole, rank));
        rank < rows.min(columns) && gain > BITS[0] * (rank * (rows + columns)) as f64 / errors.len() as f64
    };
    Ok(ranks.iter().filter(pays).copied().collect())
}

/// Bits for each weight that a product of `rank` saves, by what it takes off the norm.
fn gain(spectrum: &Spectrum, rank: usize) -> f64 {
    0.5 * (spectrum.energy() / spectrum.left_by(rank).max(f64::MIN_POSITIVE)).log2()
}

/// One tensor with its rank.
struct Work<'a> {
    task: &'a Task<'a>,
    known: Known<'a>,
    shape: [usize; 2],
    rank: usize,
    /// Loss of zeros, and their squared error.
    energy: (f64, f64),
}

impl<'a> Work<'a> {
    /// None where the task has no rank, or no shape for one.
    fn new(task: &'a Task<'a>, known: Known<'a>) -> Result<Option<Self>> {
        let Some(rank) = task.method.rank else { return Ok(None) };
        if !has_rank(task.shape) {
            if task.method.codec == Codec::Lowrank {
                let message = format!("codec lowrank stores matrices, not the shape {:?}", task.shape);
                return Err(Error::unsupported(message));
            }
            return Ok(None);
        }
        let shape = [in_memory(task.shape[0])?, in_memory(task.shape[1])?];
        let energy = (known.cost(task.values, shape[1]), Known::default().cost(task.values, shape[1]));
        Ok(Some(Self { task, known, shape, rank: usize::from(rank), energy }))
    }

    fn stored<'b>(&self, residual: &'b [f32]) -> Result<Option<Stored<'b>>>
    where
        'a: 'b,
    {
        let [rows, columns] = self.shape;
        let metric = self.known.metric(self.task.method.metric)?;
        let spectrum = Spectrum::new(residual, rows, columns, &metric)?;
        if spectrum.rank() == 0 {
            return Ok(None);
        }
        let found = spectrum.factors(residual, self.rank, &metric)?;
        // Factors by another metric are coded by it too: what it does not know must not help it.
        let known = match metric.columns {
            super::Side::Moment(_) => self.known,
            _ => Known { moment: None, rows: self.known.rows },
        };
        Stored::new(residual, self.shape, known, &found).map(Some)
    }

    /// What is left after `expr`.
    fn errors(&self, of: &[f32], expr: &Expr<EncodedLeaf>) -> Result<Vec<f32>> {
        let values = decoded(expr, self.task.shape)?;
        Ok(of.iter().zip(values).map(|(w, v)| w - v).collect())
    }

    fn bits(&self, bytes: u64) -> f64 {
        bytes as f64 * 8.0 / self.task.values.len() as f64
    }

    /// Bits for each entry of factors where they take `bits` for each weight.
    fn each(&self, bits: f64, stored: &Stored<'_>) -> f64 {
        (bits * self.task.values.len() as f64 - LEAVES * LEAF * 8.0) / stored.entries() as f64
    }

    /// Factors in `bits` for each weight: nearly as many, and rather fewer.
    fn fill(&self, stored: &Stored<'_>, bits: f64) -> Result<Expr<EncodedLeaf>> {
        let mut asked = self.each(bits, stored).clamp(LEAST, MOST);
        let mut best: Option<(f64, Expr<EncodedLeaf>)> = None;
        for _ in 0..3 {
            let expr = stored.code(asked)?;
            let over = self.bits(bytes(&expr)) - bits;
            // What is over counts more than what is left.
            let miss = if over > 0.0 { 4.0 * over } else { -over };
            let step = over * self.task.values.len() as f64 / stored.entries() as f64;
            if best.as_ref().is_none_or(|(least, _)| miss < *least) {
                best = Some((miss, expr));
            }
            asked = (asked - step).clamp(LEAST, MOST);
            if miss < 0.002 * bits || step.abs() < 0.02 {
                break;
            }
        }
        best.map(|(_, expr)| expr).ok_or_else(|| Error::invalid("no trial was made"))
    }

    /// Bits for each weight that factors take at `bits` for each entry.
    fn share(&self, bits: f64) -> f64 {
        let [rows, columns] = self.shape;
        let entries = self.rank.min(rows).min(columns) * (rows + columns);
        (bits * entries as f64 + LEAVES * LEAF * 8.0) / self.task.values.len() as f64
    }

    fn coded(&self, expr: Expr<EncodedLeaf>) -> Result<(Coded, f64)> {
        let errors = self.errors(self.task.values, &expr)?;
        let (error, squared) =
            (self.known.cost(&errors, self.shape[1]), Known::default().cost(&errors, self.shape[1]));
        let relative = |x: f64, of: f64| if of > 0.0 { x / of } else { 0.0 };
        let coded = Coded {
            bits_per_weight: self.bits(bytes(&expr)),
            relative_mse: relative(squared, self.energy.1),
            loss: relative(error, self.energy.0),
            cost: None,
            expr,
        };
        Ok((coded, error))
    }

    /// The bits of [`BITS`] at which loss and bits together are least.
    fn best(&self, residual: &[f32], stored: &Stored<'_>) -> Result<f64> {
        let mut best = (f64::INFINITY, USUAL);
        for bits in BITS {
            let expr = stored.code(bits)?;
            let error = self.known.cost(&self.errors(residual, &expr)?, self.shape[1]);
            let score = error.max(f64::MIN_POSITIVE).log2() / 2.0 + self.bits(bytes(&expr));
            if score < best.0 {
                best = (score, bits);
            }
        }
        Ok(best.1)
    }

    fn at_bits(&self, bits: f64, base: &Base<'_>) -> Result<(Coded, f64)> {
        let method = without(self.task.method);
        let at = |share: f64| {
            if bits - self.share(share) < 0.05 {
                let (rank, share) = (self.rank, self.share(share));
                return Err(Error::invalid(format!(
                    "{bits} bits for each weight: rank {rank} takes {share:.2} of them"
                ))
                .with_hint("ask for a smaller rank or more bits"));
            }
            let target = Target::BitsPerWeight(bits - self.share(share));
            base(&Task { method: &method, target, ..*self.task })
        };
        let mut share = USUAL;
        let mut coded = at(share)?;
        for second in [false, true] {
            let residual = self.errors(self.task.values, &coded.expr)?;
            let Some(stored) = self.stored(&residual)? else { return self.coded(coded.expr) };
            if !second {
                let best = self.best(&residual, &stored)?;
                if best != share && bits - self.share(best) >= 0.05 {
                    share = best;
                    coded = at(share)?;
                    continue;
                }
            }
            // What the codec left or overdrew is the factors'.
            let product = self.fill(&stored, bits - coded.bits_per_weight)?;
            let after = self.coded(sum(coded.expr, product))?;
            let before = match self.first(share)? {
                Some((product, rest)) => {
                    let left = bits - self.bits(bytes(&product));
                    if left < 0.05 {
                        return Ok(after);
                    }
                    let target = Target::BitsPerWeight(left);
                    let coded = base(&Task { method: &method, target, values: &rest, ..*self.task })?;
                    self.coded(sum(coded.expr, product))?
                }
                None => return Ok(after),
            };
            return Ok(if before.0.loss < after.0.loss { before } else { after });
        }
        self.coded(coded.expr)
    }

    /// A product of the matrix itself and what it leaves, for the codec to store: where a few components are most of the
    /// matrix, all its weights become smaller. None where they are not.
    fn first(&self, share: f64) -> Result<Option<(Expr<EncodedLeaf>, Vec<f32>)>> {
        let [rows, columns] = self.shape;
        // With feedback it is the size of weights that takes bits, not what they do to outputs: the plain norm.
        let spectrum = Spectrum::new(self.task.values, rows, columns, &Metric::plain())?;
        if spectrum.rank() == 0 || gain(&spectrum, self.rank) < 0.5 * self.share(share) {
            return Ok(None);
        }
        let found = spectrum.factors(self.task.values, self.rank, &Metric::plain())?;
        let stored = Stored::new(self.task.values, self.shape, Known::default(), &found)?;
        let product = stored.code(share)?;
        let rest = self.errors(self.task.values, &product)?;
        Ok(Some((product, rest)))
    }

    fn at_loss(&self, loss: f64, base: &Base<'_>) -> Result<(Coded, f64)> {
        let method = without(self.task.method);
        let (mut asked, mut share) = (loss, None);
        let mut best: Option<(Coded, f64)> = None;
        for _ in 0..TRIES {
            let target = Target::RelativeMse(asked);
            let coded = base(&Task { method: &method, target, ..*self.task })?;
            let residual = self.errors(self.task.values, &coded.expr)?;
            let Some(stored) = self.stored(&residual)? else { return self.coded(coded.expr) };
            let bits = match share {
                Some(bits) => bits,
                None => *share.insert(self.best(&residual, &stored)?),
            };
            let found = self.coded(sum(coded.expr, stored.code(bits)?))?;
            let reached = found.0.loss;
            // A loss that is met comes first, then the fewest bits; before one is met, the nearest.
            let better = best.as_ref().is_none_or(|(b, _)| match (reached <= loss, b.loss <= loss) {
                (true, true) => found.0.bits_per_weight < b.bits_per_weight,
                (false, false) => reached < b.loss,
                (met, _) => met,
            });
            if better {
                best = Some(found);
            }
            if (CLOSE * loss..=loss).contains(&reached) {
                break;
            }
            asked = (asked * 0.5 * (1.0 + CLOSE) * loss / reached.max(1e-12)).clamp(1e-9, 0.999);
        }
        let (coded, error) = best.ok_or_else(|| Error::invalid("no trial was made"))?;
        let Some((product, rest)) = self.first(share.unwrap_or(USUAL))? else { return Ok((coded, error)) };
        // Of what the product leaves, more may be lost.
        let asked = loss * self.energy.0 / self.known.cost(&rest, self.shape[1]).max(f64::MIN_POSITIVE);
        if asked >= 0.999 {
            return Ok((coded, error));
        }
        let target = Target::RelativeMse(asked);
        let rest = base(&Task { method: &method, target, values: &rest, ..*self.task })?;
        let before = self.coded(sum(rest.expr, product))?;
        let better = before.0.loss <= loss && before.0.bits_per_weight < coded.bits_per_weight;
        Ok(if better { before } else { (coded, error) })
    }

    /// The product in place of the matrix.
    fn alone(&self) -> Result<(Coded, f64)> {
        let Some(stored) = self.stored(self.task.values)? else {
            // Zeros have no factors.
            let method = Method::new(Codec::Scalar);
            let zeros = method.encode(self.task.values, self.task.shape, Target::BitsPerWeight(1.0), 0)?.0;
            return self.coded(zeros);
        };
        match self.task.target {
            Target::BitsPerWeight(bits) => {
                let wanted = self.each(bits, &stored);
                if wanted < LEAST {
                    return Err(Error::invalid(format!(
                        "{bits} bits for each weight are {wanted:.2} for each entry of factors of rank {}",
                        self.rank
                    ))
                    .with_hint("ask for a smaller rank or more bits"));
                }
                self.coded(self.fill(&stored, bits)?)
            }
            Target::RelativeMse(loss) => {
                let mut least = self.coded(stored.code(MOST)?)?;
                if least.0.loss > loss {
                    let (rank, reached) = (self.rank, least.0.loss);
                    return Err(Error::invalid(format!(
                        "rank {rank} leaves {reached:.1e} of the norm, {loss:.1e} is asked for"
                    ))
                    .with_hint("ask for a larger rank, or give bpw"));
                }
                let (mut low, mut high) = (LEAST, MOST);
                for _ in 0..TRIES {
                    let middle = 0.5 * (low + high);
                    let found = self.coded(stored.code(middle)?)?;
                    if found.0.loss <= loss {
                        (least, high) = (found, middle);
                    } else {
                        low = middle;
                    }
                }
                Ok(least)
            }
        }
    }
}

/// `base + product`; terms of a base that is a sum stay on one level.
fn sum(base: Expr<EncodedLeaf>, product: Expr<EncodedLeaf>) -> Expr<EncodedLeaf> {
    match base {
        Expr::Sum(mut terms) => {
            terms.push(product);
            Expr::Sum(terms)
        }
        base => Expr::Sum(vec![base, product]),
    }
}
