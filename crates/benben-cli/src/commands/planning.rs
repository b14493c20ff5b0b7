//! From flags to a plan, for `pack` and `plan`: settled by the recipe alone, or searched for.

use crate::args::{Global, RecipeArgs};
use crate::draw::Bar;
use crate::exit;
use benben::allocate::{Allocation, Effort, Goal, Levels, NetworkTrial, Trial, allocate};
use benben::calibrate::{About, Calibration, write};
use benben::llm::{Model, Sample, samples};
use benben::quantize::{Calibrated, Sequential};
use benben::{AtomicFile, Coder, DataFree, Error, ModelSource, Plan, Progress, Result};
use std::ops::ControlFlow;
use std::path::Path;

/// Tokens of a sample that plans are judged on; more samples tell more than longer ones.
const CONTEXT: usize = 256;

/// Tokens of a sample that statistics are collected on.
const STATISTICS_CONTEXT: usize = 512;
/// Samples that statistics are collected on: 32,768 vectors for each layer, some for each of its columns.
const STATISTICS_CHUNKS: usize = 64;

/// What tensors are coded with.
#[derive(Clone, Copy)]
pub(crate) struct Coding<'a> {
    /// Each tensor for itself.
    pub(crate) coder: &'a dyn Coder,
    data: &'a Data,
}

impl<'a> Coding<'a> {
    /// The coder of the tensors of `plan`, which is the model's: where the plan is sequential, linear layers are coded
    /// now.
    pub(crate) fn settle(
        &self,
        model: &dyn ModelSource,
        plan: &Plan,
        global: &Global,
    ) -> Result<Option<Sequential<'a>>> {
        let (Some(_), Some((network, _)), Some(calibration)) =
            (&plan.recipe.sequential, &self.data.text, &self.data.calibration)
        else {
            return Ok(None);
        };
        let samples = self.data.samples(plan.recipe.seed)?;
        let bar = Bar::new("coding", global);
        let (mut blocks, weights) = (network.blocks()?, network.weights());
        let calibrated = Calibrated(calibration);
        let mut observer = |p: Progress<'_>| step(&bar, p);
        let (rest, network) = (self.coder, &mut blocks);
        Sequential::new(model, plan, &calibrated, rest, network, &*weights, &samples, &mut observer).map(Some)
    }
}

/// What to do with a plan, what its tensors are coded with, and how it was found, if it was searched for.
pub(crate) type Then<'a, T> = dyn FnMut(&Plan, Coding<'_>, Option<&Allocation>) -> Result<T> + 'a;

/// Settles or finds the plan that `args` ask for, and hands it to `then`. `path` is where `model` was opened.
pub(crate) fn with_plan<T>(
    path: &Path,
    model: &dyn ModelSource,
    args: &RecipeArgs,
    global: &Global,
    then: &mut Then<'_, T>,
) -> Result<T> {
    let mut recipe = args.recipe()?;
    let temporary = tempfile::tempdir()?;
    let folder = args.levels.as_deref().unwrap_or(temporary.path());
    if args.searches() || !args.calib.is_empty() {
        // Levels that are there are kept, and a temporary folder goes: so the end must be an orderly one.
        exit::listen();
    }
    let data = Data::open(path, args, recipe.seed, folder, global)?;
    let calibrated = data.calibration.as_ref().map(Calibrated);
    let coder: &dyn Coder = calibrated.as_ref().map_or(&DataFree, |c| c);
    if args.recipe.is_none() {
        recipe.calibration = coder.calibration();
    }
    if args.sequential {
        recipe.sequential = Some(Sequential::name(&data.samples(recipe.seed)?));
    }
    let Some(goal) = goal(model, args) else {
        let plan = Plan::new(model, &recipe)?;
        return if args.levels.is_some() {
            then(&plan, Coding { coder: &Levels::open(folder, coder)?, data: &data }, None)
        } else {
            then(&plan, Coding { coder, data: &data }, None)
        };
    };
    let levels = Levels::open(folder, coder)?;
    let effort = Effort::new(args.effort);
    let bar = Bar::new("planning", global);
    let mut observer = |p: Progress<'_>| step(&bar, p);
    let mut find = |trial: Option<&mut dyn Trial>| {
        allocate(model, &recipe, goal, &effort, &levels, trial, &mut observer)
    };
    let found = match &data.text {
        None => find(None)?,
        Some((network, text)) => {
            let tokens = network.tokenizer()?.encode(text, false)?;
            let context = CONTEXT.min(network.config().context);
            let samples = samples(&tokens, context, Some(effort.samples), Some(recipe.seed))?;
            let (mut blocks, weights) = (network.blocks()?, network.weights());
            let identity = network.identity()?;
            let mut trial = NetworkTrial::new(&mut blocks, &*weights, &levels, &identity, samples)?;
            find(Some(&mut trial))?
        }
    };
    drop(bar);
    then(&found.plan, Coding { coder: &levels, data: &data }, Some(&found))
}

/// Draws, and stops where Ctrl-C was pressed.
pub(crate) fn step(bar: &Bar, progress: Progress<'_>) -> ControlFlow<()> {
    let _ = bar.show(progress);
    if exit::stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// What `--calib` gives.
struct Data {
    calibration: Option<Calibration>,
    /// The network, and the text that it is to read.
    text: Option<(Model, String)>,
}

impl Data {
    /// What the network is run on for statistics.
    fn samples(&self, seed: u64) -> Result<Vec<Sample>> {
        let Some((network, text)) = &self.text else {
            return Err(Error::invalid("--sequential runs the network, and statistics alone are no text")
                .with_hint("give --calib TEXT, with or without a file of `benben calibrate`"));
        };
        let tokens = network.tokenizer()?.encode(text, false)?;
        let context = STATISTICS_CONTEXT.min(network.config().context);
        samples(&tokens, context, Some(STATISTICS_CHUNKS), Some(seed))
    }

    fn open(path: &Path, args: &RecipeArgs, seed: u64, folder: &Path, global: &Global) -> Result<Self> {
        let (mut calibration, mut text) = (None, None);
        for file in &args.calib {
            let (kind, twice) = match super::calibrate::open(file)? {
                Some(found) => ("calibration", calibration.replace(found).is_some()),
                None => ("text", text.replace(super::text(file)?).is_some()),
            };
            if twice {
                return Err(Error::invalid(format!("--calib {}: the second {kind}", file.display()))
                    .with_hint("give one text, one file of `benben calibrate`, or one of each"));
            }
        }
        if args.calib.is_empty() {
            return Ok(Self { calibration: None, text: None });
        }
        let network = Model::open(path, &benben::store::Options::default())?;
        let calibration = match (calibration, &text) {
            (Some(found), _) => {
                found.check_model(&network.identity()?)?;
                Some(found)
            }
            (None, Some(text)) => Some(collect(&network, text, seed, folder, global)?),
            (None, None) => None,
        };
        Ok(Self { calibration, text: text.map(|text| (network, text)) })
    }
}

/// Statistics of the network's layers on `text`; kept in `folder`, where they may be from an earlier run.
fn collect(network: &Model, text: &str, seed: u64, folder: &Path, global: &Global) -> Result<Calibration> {
    let context = STATISTICS_CONTEXT.min(network.config().context);
    let about = About {
        context,
        seed: Some(seed),
        ..About::new(&network.identity()?, blake3::hash(text.as_bytes()).as_bytes())
    };
    let name = format!("{} {} {context} {STATISTICS_CHUNKS} {seed}", about.model, about.data);
    let name = blake3::hash(name.as_bytes()).to_hex();
    std::fs::create_dir_all(folder).map_err(|e| Error::from(e).context(folder.display()))?;
    let path = folder.join(format!("{}.calibration", &name[..32]));
    if !path.exists() {
        let tokens = network.tokenizer()?.encode(text, false)?;
        let samples = samples(&tokens, context, Some(STATISTICS_CHUNKS), Some(seed))?;
        let bar = Bar::new("calibrating", global);
        let mut file = AtomicFile::create(&path, false)?;
        let (mut blocks, weights) = (network.blocks()?, network.weights());
        write(&mut blocks, &*weights, &samples, &about, &mut file, &mut |p| step(&bar, p))?;
        file.commit()?;
    }
    Calibration::open(&path)
}

fn goal(model: &dyn ModelSource, args: &RecipeArgs) -> Option<Goal> {
    let weights: u64 = model.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum();
    match (args.size, args.max_loss, args.bpw) {
        (Some(bytes), ..) => Some(Goal::Bytes(bytes as u64)),
        (None, Some(loss), _) => Some(Goal::Loss(loss)),
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "recipes allow 0 to 32 bits for each weight"
        )]
        (None, None, Some(bits)) if !args.calib.is_empty() => {
            Some(Goal::Bytes((bits * weights as f64 / 8.0) as u64))
        }
        _ => None,
    }
}
