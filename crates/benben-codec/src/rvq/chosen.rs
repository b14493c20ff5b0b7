//! Codewords that are chosen vector by vector: error feedback needs them so.
//!
//! A [`Chooser`] is the rule of one pass over a matrix whose rows hold whole vectors: codebooks, prices and lambda, all
//! fixed. It gives the values that vectors decode to ([`Chooser::values`]) and, by the same choice, the leaf of all
//! targets of the pass ([`Chooser::leaf`]).

use super::encode::{Scale, gather, leaf};
use super::layout::Layout;
use super::settings::Settings;
use super::stored::Stage;
use super::train::{Data, Goal, Quantizer};
use super::trial;
use super::whole::Whole;
use crate::Target;
use benben_format::{EncodedLeaf, Error, ErrorKind, Result, element_count};

/// Codebooks of one group, with what a bit costs.
pub struct Chooser {
    stages: Vec<Stage>,
    quantizer: Quantizer,
    lambda: f64,
    beam: u8,
    chunk_items: u32,
    seed: u64,
    scale: Scale,
    dim: u8,
}

impl Chooser {
    /// The rule that is best for the targets `x` of a tensor of `shape` at the settings' target. Vectors do not cross
    /// rows: their dimension divides the last axis.
    ///
    /// # Errors
    /// As [`encode`](super::encode()); InvalidArgument for several groups, and for a dimension that does not divide the
    /// last axis.
    pub fn learned(shape: &[u64], x: &[f32], settings: &Settings<'_>) -> Result<Self> {
        settings.check(x, shape)?;
        let row = shape.last().copied().unwrap_or(1);
        if settings.groups != 1 || row == 0 || settings.dim.is_some_and(|d| row % u64::from(d) != 0) {
            return Err(Error::invalid(format!(
                "rvq: codewords chosen row by row want one group and rows of whole vectors, found rows of {row}"
            )));
        }
        let scale = Scale::of(x);
        let fits = |dim: u8| row % u64::from(dim) == 0;
        let layout = |dim: u8| {
            let layout = Layout::new(shape, dim, 1, ErrorKind::InvalidArgument).ok();
            layout.filter(|_| fits(dim))
        };
        let power = scale.mean_square;
        let goal = match settings.target {
            Target::BitsPerWeight(bits) => Goal::Bits(bits),
            Target::RelativeMse(y) => Goal::Distortion(y * power),
        };
        let choices = trial::choose(settings, layout, |l| gather(l, x, scale, None), goal);
        let chosen = choices.into_iter().next();
        let chosen = chosen.ok_or_else(|| Error::invalid("rvq: no dimension fits these rows"))?;
        let layout = chosen.layout;
        let data = gather(&layout, x, scale, None);
        let draft = Whole { settings, layout, data: &data, power, spare: 0.0 }.code(chosen)?;
        let dim = layout.dim as u8;
        Ok(Self {
            quantizer: Quantizer {
                books: draft.stages.iter().map(Stage::book).collect(),
                bits: draft.stages.iter().map(Stage::prices).collect(),
                maps: Vec::new(),
            },
            lambda: draft.lambda,
            stages: draft.stages,
            beam: settings.beam,
            chunk_items: settings.chunk_items,
            seed: settings.seed,
            scale,
            dim,
        })
    }

    /// Elements of a vector.
    pub fn dim(&self) -> usize {
        self.dim.into()
    }

    /// What the vectors of targets `x`, one after the other, decode to.
    pub fn values(&self, x: &[f32], values: &mut [f32]) {
        let dim = self.dim();
        let values_in = x.iter().map(|&v| self.scale.down(v)).collect();
        let data = Data { dim, values: values_in, weights: Vec::new() };
        let coded = self.quantizer.search(&data, self.lambda, self.beam.into());
        let codes = coded.codes.chunks(self.quantizer.books.len().max(1));
        for (values, codes) in values.chunks_mut(dim).zip(codes) {
            values.fill(0.0);
            for (book, &code) in self.quantizer.books.iter().zip(codes) {
                values.iter_mut().zip(book.word(code.into())).for_each(|(v, w)| *v += w);
            }
            values.iter_mut().for_each(|v| *v = self.scale.up_value(*v));
        }
    }

    /// The leaf that holds what [`Chooser::values`] gives for the targets `x` of a tensor of `shape`.
    ///
    /// # Errors
    /// InvalidArgument where `x` does not fit the shape, or rows do not hold whole vectors.
    pub fn leaf(&self, shape: &[u64], x: &[f32]) -> Result<EncodedLeaf> {
        let whole = shape.last().is_some_and(|r| r % u64::from(self.dim) == 0);
        if element_count(shape)? != x.len() as u64 || !whole {
            return Err(Error::invalid(format!("rvq: {} targets for a tensor of shape {shape:?}", x.len())));
        }
        let layout = Layout::new(shape, self.dim, 1, ErrorKind::InvalidArgument)?;
        let settings = Settings {
            beam: self.beam,
            chunk_items: self.chunk_items,
            seed: self.seed,
            ..Settings::default()
        };
        let data = gather(&layout, x, self.scale, None);
        let whole =
            Whole { settings: &settings, layout, data: &data, power: self.scale.mean_square, spare: 0.0 };
        leaf(whole.draft(self.stages.clone(), self.lambda)?.0, &layout, shape, self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_leaf_holds_what_was_chosen(
            (rows, columns) in (1usize..40, 1usize..60), scale in -8i32..8, bits in 1.0f64..4.0, seed: u32,
        ) {
            let mut state = u64::from(seed);
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 2f32.powi(scale)
            };
            let x: Vec<f32> = (0..rows * columns).map(|_| random() + random()).collect();
            let other: Vec<f32> = (0..rows * columns).map(|_| random() + random()).collect();
            let shape = [rows as u64, columns as u64];
            let chooser = Chooser::learned(&shape, &x, &Settings::new(Target::BitsPerWeight(bits))).unwrap();
            let mut values = vec![0f32; x.len()];
            for (values, x) in values.chunks_mut(columns).zip(other.chunks(columns)) {
                chooser.values(x, values);
            }
            let leaf = chooser.leaf(&shape, &other).unwrap();
            let mut decoded = vec![0f32; x.len()];
            super::super::decode(&leaf, 0..x.len() as u64, &mut decoded).unwrap();
            prop_assert_eq!(decoded, values);
        }
    }
}
