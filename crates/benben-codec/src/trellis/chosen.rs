//! Paths that are chosen elsewhere, one row of the leaf after the other: error feedback needs them so.
//!
//! Rows of the leaf are columns of the matrix (node `transpose`): when a row has its symbols, its errors go into the
//! rows that follow, and the path goes on from the states in which its 32 lanes were left. A [`Chooser`] is the rule of
//! one pass; its [`Part`]s take some lanes each. Lanes never look at each other, so that parts give what the whole does.
//! What a pass gave makes the rule of the next ([`Chooser::learned`]) and in the end a [`Chooser::leaf`].

use super::cells::Cells;
use super::codebook::{REACH, Shifts, unzigzag};
use super::fit::{Coding, Form, Weights, identity};
use super::plan::Plan;
use super::survey::Survey;
use super::viterbi::{self, Costs, LANES};
use super::{MAX_CLASSES, MAX_STEP, Settings, encode};
use crate::Target;
use crate::entropy::{CHUNK_ITEMS, Trellis};
use crate::runs::rows_and_columns;
use benben_format::{EncodedLeaf, Error, Result, element_count, in_memory};
use rayon::prelude::*;

/// What each integer costs and stands for, by state and by class.
pub struct Chooser {
    form: Form,
    shifts: Shifts,
    plan: Plan,
    cells: Cells,
    costs: Costs,
    columns: usize,
}

/// Some lanes of a leaf on their way from the first row to the last.
pub struct Part<'a> {
    chooser: &'a Chooser,
    /// What their column adds to the class of each element.
    classes: Vec<u8>,
    first: usize,
    lanes: Lanes,
    row: usize,
}

/// State of each lane.
#[derive(Clone, Copy)]
enum Lanes {
    All([u8; 32]),
    Half([u8; 16]),
    Quarter([u8; 8]),
}

/// Items of a chunk: whole rows where they fit, so that a path begins anew with a row.
fn chunk_items(columns: usize) -> usize {
    let most = CHUNK_ITEMS as usize;
    if (1..=most).contains(&columns) { most / columns * columns } else { most }
}

/// Rows and columns of a leaf of `shape` that has `elements`, which are not none.
fn dimensions(shape: &[u64], elements: usize) -> Result<(u64, usize)> {
    let (rows, columns) = rows_and_columns(shape)?;
    if element_count(shape)? != elements as u64 || elements == 0 {
        return Err(Error::invalid(format!("{elements} elements for a leaf of shape {shape:?}")));
    }
    Ok((rows, in_memory(columns)?))
}

impl Chooser {
    /// The rule of a first pass, by the nearest places of targets `x`, in steps, row-major in a leaf of `shape`. A bit
    /// counts `lambda` times what it is worth at high rates.
    ///
    /// # Errors
    /// InvalidArgument where `x` does not fit the shape.
    pub fn rough(shape: &[u64], x: &[f32], form: Form, lambda: f32) -> Result<Self> {
        let (rows, columns) = dimensions(shape, x.len())?;
        let cells = Cells::new(x, rows, columns as u64, MAX_CLASSES);
        let survey = surveyed(form, columns, x, |range, survey| {
            let mut classes = vec![0; range.len()];
            cells.fill(range, &identity(), &mut classes);
            survey.guess(form.trellis(), form.zero, x[range.clone()].iter().copied(), &classes);
        });
        Ok(Self::new(form, Shifts::default(), &survey, (cells, columns), x.len(), lambda))
    }

    /// The rule that follows from a pass over a leaf of `shape`: the `symbols` that it chose for its targets `x`, in
    /// steps, both row-major. `lambda` as for [`Chooser::rough`].
    ///
    /// # Errors
    /// InvalidArgument where `x` or `symbols` do not fit the shape.
    pub fn learned(shape: &[u64], x: &[f32], symbols: &[u8], form: Form, lambda: f32) -> Result<Self> {
        let (rows, columns) = dimensions(shape, x.len())?;
        dimensions(shape, symbols.len())?;
        let cells = Cells::new(x, rows, columns as u64, MAX_CLASSES);
        let survey = survey_of(form, &cells, columns, x, symbols);
        let shifts = survey.shifts();
        Ok(Self::new(form, shifts, &survey, (cells, columns), x.len(), lambda))
    }

    fn new(
        form: Form,
        shifts: Shifts,
        survey: &Survey,
        (cells, columns): (Cells, usize),
        elements: usize,
        lambda: f32,
    ) -> Self {
        let plan = Plan::new(survey, form, &cells, elements);
        let costs = Costs {
            zero: form.zero,
            states: form.states,
            levels: shifts.levels(form.zero),
            bits: plan.lengths(form, lambda * form.lambda()),
        };
        Self { form, shifts, plan, cells, costs, columns }
    }

    /// The codebooks and tables that cost least for targets `x`, in steps of the usual form.
    ///
    /// # Errors
    /// InvalidArgument where `x` does not fit the shape.
    pub fn best_form(shape: &[u64], x: &[f32]) -> Result<Form> {
        /// Targets that forms are tried on.
        const SAMPLE: usize = 1 << 15;
        let (rows, columns) = dimensions(shape, x.len())?;
        let cells = Cells::new(x, rows, columns as u64, MAX_CLASSES);
        // Only the forms are compared here, at one slope: the target has no part in it.
        let settings = Settings::new(Target::BitsPerWeight(1.0));
        let weights = Weights::new(x, columns as u64, &cells, &settings)?;
        if weights.energy <= 0.0 {
            return Ok(Form::USUAL);
        }
        let best = weights.best_form(f64::from(Form::USUAL.lambda()), SAMPLE);
        Ok(best.map_or(Form::USUAL, |b| b.1))
    }

    /// Codebooks and tables.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The lanes in about so many parts: 1, 2 or 4.
    #[must_use]
    pub fn parts(&self, count: usize) -> Vec<Part<'_>> {
        // Where rows are no multiple of the lanes, a column belongs to another lane in each row.
        let lanes = match count {
            _ if !self.columns.is_multiple_of(LANES) => Lanes::All([0; 32]),
            0 | 1 => Lanes::All([0; 32]),
            2 | 3 => Lanes::Half([0; 16]),
            _ => Lanes::Quarter([0; 8]),
        };
        let parts = (0..LANES).step_by(lanes.count()).map(|first| {
            let mut part = Part { chooser: self, classes: Vec::new(), first, lanes, row: 0 };
            let of = self.cells.columns();
            part.classes = part.columns().map(|c| of.get(c).copied().unwrap_or(0)).collect();
            part
        });
        parts.collect()
    }

    /// The leaf of `symbols`, chosen by this rule for targets `x`, in steps, for a leaf of `shape` with this `step`. Rows
    /// and columns are sorted anew.
    ///
    /// # Errors
    /// InvalidArgument where the symbols do not fit the shape, or the step is none.
    pub fn leaf(&self, shape: &[u64], step: f32, x: &[f32], symbols: &[u8]) -> Result<EncodedLeaf> {
        let (rows, columns) = dimensions(shape, x.len())?;
        dimensions(shape, symbols.len())?;
        if !(step > 0.0 && step <= MAX_STEP) {
            return Err(Error::invalid(format!("step {step}, expected a positive number up to 2^119")));
        }
        let cells = Cells::new(x, rows, columns as u64, MAX_CLASSES);
        let survey = survey_of(self.form, &cells, columns, x, symbols);
        let plan = Plan::new(&survey, self.form, &cells, symbols.len());
        let coding = Coding { form: self.form, step, shifts: self.shifts.clone(), plan };
        encode::leaf(&cells, shape, &coding, symbols, chunk_items(columns) as u32, &[])
    }
}

/// A survey of all chunks; parts of a fixed size, summed in order: no thread count changes a sum.
fn surveyed(
    form: Form,
    columns: usize,
    x: &[f32],
    of: impl Fn(&std::ops::Range<usize>, &mut Survey) + Sync,
) -> Survey {
    let starts: Vec<usize> = (0..x.len()).step_by(chunk_items(columns)).collect();
    let surveys: Vec<Survey> = starts
        .par_iter()
        .map(|&at| {
            let mut survey = Survey::empty(form.trellis());
            of(&(at..(at + chunk_items(columns)).min(x.len())), &mut survey);
            survey
        })
        .collect();
    surveys.iter().fold(Survey::empty(form.trellis()), Survey::merge)
}

fn survey_of(form: Form, cells: &Cells, columns: usize, x: &[f32], symbols: &[u8]) -> Survey {
    surveyed(form, columns, x, |range, survey| {
        let mut classes = vec![0; range.len()];
        cells.fill(range, &identity(), &mut classes);
        let x = x[range.clone()].iter().map(|x| x.clamp(-REACH, REACH));
        survey.add(form.trellis(), form.zero, x, &[], &classes, &symbols[range.clone()]);
    })
}

impl Part<'_> {
    /// Columns of the leaf that belong to its lanes, in order.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        let (first, count) = (self.first, self.lanes.count());
        (0..self.chooser.columns).filter(move |c| (first..first + count).contains(&(c % LANES)))
    }

    /// Takes the next row: `x` in steps, one for each of its columns; writes the symbols and what they stand for, in
    /// steps. What is beyond the reach of a symbol, 252 steps, gets the outermost.
    pub fn next(&mut self, x: &[f32], symbols: &mut [u8], values: &mut [f32]) {
        let Self { chooser, classes, row, .. } = self;
        let (columns, chunk) = (chooser.columns, chunk_items(chooser.columns));
        let count = self.lanes.count();
        let base = chooser.cells.of_row(*row as u64, &chooser.plan.group_of);
        let own: Vec<u8> = classes.iter().map(|c| c + base).collect();
        let x: Vec<f32> = x.iter().map(|x| x.clamp(-REACH, REACH)).collect();
        let at = *row * columns;
        let mut from = 0;
        while from < columns {
            let to = columns.min(from + chunk - (at + from) % chunk);
            if (at + from).is_multiple_of(chunk) {
                self.lanes.reset();
            }
            // Where the lanes are parted, rows and chunks are whole rounds of all lanes.
            let part = from * count / LANES..to * count / LANES;
            let piece = Piece {
                costs: &chooser.costs,
                x: &x[part.clone()],
                classes: &own[part.clone()],
                phase: (at + from) % chunk % LANES,
            };
            let (symbols, values) = (&mut symbols[part.clone()], &mut values[part]);
            match &mut self.lanes {
                Lanes::All(states) => piece.choose(states, symbols, values),
                Lanes::Half(states) => piece.choose(states, symbols, values),
                Lanes::Quarter(states) => piece.choose(states, symbols, values),
            }
            from = to;
        }
        *row += 1;
    }
}

impl Lanes {
    fn count(&self) -> usize {
        match self {
            Self::All(_) => 32,
            Self::Half(_) => 16,
            Self::Quarter(_) => 8,
        }
    }

    fn reset(&mut self) {
        match self {
            Self::All(states) => states.fill(0),
            Self::Half(states) => states.fill(0),
            Self::Quarter(states) => states.fill(0),
        }
    }
}

/// Elements of one row and one chunk.
struct Piece<'a> {
    costs: &'a Costs,
    x: &'a [f32],
    classes: &'a [u8],
    /// Lane of the first.
    phase: usize,
}

impl Piece<'_> {
    fn choose<const L: usize>(&self, states: &mut [u8; L], symbols: &mut [u8], values: &mut [f32]) {
        states.rotate_left(self.phase % L);
        let mut path = *states;
        viterbi::continued(self.costs, self.x, &[], self.classes, symbols, states);
        for (symbols, values) in symbols.chunks(L).zip(values.chunks_mut(L)) {
            for ((state, &symbol), value) in path.iter_mut().zip(symbols).zip(values) {
                *value = self.costs.levels[usize::from(*state & 1)][(unzigzag(symbol) + 128) as usize & 255];
                *state = Trellis::next(u32::from(*state), symbol) as u8;
            }
        }
        states.rotate_right(self.phase % L);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pass(chooser: &Chooser, columns: usize, parts: usize, x: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let (mut symbols, mut values) = (vec![0; x.len()], vec![0f32; x.len()]);
        for mut part in chooser.parts(parts) {
            let of: Vec<usize> = part.columns().collect();
            let (mut s, mut v) = (vec![0; of.len()], vec![0.0; of.len()]);
            for at in (0..x.len()).step_by(columns) {
                let target: Vec<f32> = of.iter().map(|c| x[at + c]).collect();
                part.next(&target, &mut s, &mut v);
                for (i, c) in of.iter().enumerate() {
                    (symbols[at + c], values[at + c]) = (s[i], v[i]);
                }
            }
        }
        (symbols, values)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_leaf_holds_what_was_chosen(
            rows in 1usize..40,
            columns in prop_oneof![1usize..70, Just(32), Just(96)],
            (loud, outlier) in (0.2f32..40.0, 1.0f32..1000.0),
            (zero, states) in (any::<bool>(), any::<bool>()),
            seed: u32,
        ) {
            let mut state = u64::from(seed);
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let shape = [rows as u64, columns as u64];
            let mut x: Vec<f32> = (0..rows * columns).map(|_| loud * (random() + random() * random())).collect();
            x[rows * columns / 2] *= outlier;
            let form = Form { zero, states };
            let mut chooser = Chooser::rough(&shape, &x, form, 1.0).unwrap();
            for _ in 0..2 {
                let (symbols, values) = pass(&chooser, columns, 1, &x);
                for parts in [2, 4] {
                    prop_assert!(pass(&chooser, columns, parts, &x) == (symbols.clone(), values.clone()));
                }
                let leaf = chooser.leaf(&shape, 0.5, &x, &symbols).unwrap();
                let mut decoded = vec![0f32; x.len()];
                super::super::decode(&leaf, 0..x.len() as u64, &mut decoded).unwrap();
                for (d, v) in decoded.iter().zip(&values) {
                    prop_assert_eq!(*d, v * 0.5);
                }
                chooser = Chooser::learned(&shape, &x, &symbols, form, 1.0).unwrap();
            }
        }
    }

    /// Paths begin anew where chunks do: between rows, or within a row that is longer than a chunk.
    #[test]
    fn chunks_cut_paths() {
        let columns = CHUNK_ITEMS as usize;
        for (rows, columns) in [(9, columns / 4 + 7), (2, columns + 64), (2, columns + 5)] {
            let x: Vec<f32> =
                (0..rows * columns).map(|i| ((i * i % 7919) as f32 * 0.01).sin() * 3.0).collect();
            let shape = [rows as u64, columns as u64];
            let chooser = Chooser::rough(&shape, &x, Form::USUAL, 1.0).unwrap();
            let (symbols, values) = pass(&chooser, columns, 1, &x);
            assert!(pass(&chooser, columns, 4, &x) == (symbols.clone(), values.clone()));
            let leaf = chooser.leaf(&shape, 0.5, &x, &symbols).unwrap();
            let mut decoded = vec![0f32; x.len()];
            super::super::decode(&leaf, 0..x.len() as u64, &mut decoded).unwrap();
            assert!(decoded.iter().zip(&values).all(|(d, v)| *d == v * 0.5), "{rows} x {columns}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let chooser = Chooser::rough(&[2, 3], &[0.5; 6], Form::USUAL, 1.0).unwrap();
        assert!(chooser.leaf(&[2, 3], 1.0, &[0.5; 6], &[0; 5]).is_err());
        assert!(chooser.leaf(&[2, 3], 0.0, &[0.5; 6], &[0; 6]).is_err());
        assert!(Chooser::learned(&[2, 3], &[0.0; 6], &[0; 5], Form::USUAL, 1.0).is_err());
        assert!(Chooser::rough(&[0, 3], &[], Form::USUAL, 1.0).is_err());
    }
}
