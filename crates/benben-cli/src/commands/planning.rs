//! From flags to a plan, for `pack` and `plan`: settled by the recipe alone, or searched for.

use super::recover;
use crate::args::{Global, RecipeArgs};
use crate::draw::{Bar, complain};
use crate::exit;
use benben::allocate::{Allocation, Effort, Goal, Levels, NetworkTrial, Trial, allocate};
use benben::calibrate::{About, Calibration, write};
use benben::llm::{Model, Sample, samples};
use benben::quantize::{Calibrated, Sequential};
use benben::{AtomicFile, Coder, DataFree, Error, ModelSource, Plan, Progress, Recipe, Recovery, Result};
use std::ops::ControlFlow;
use std::path::Path;

/// Tokens of a sample that plans are judged on; more samples tell more than longer ones.
const CONTEXT: usize = 256;

/// Tokens of a sample that statistics are collected on.
const STATISTICS_CONTEXT: usize = 512;
/// Samples that statistics are collected on: 32,768 vectors for each layer, some for each of its columns.
const STATISTICS_CHUNKS: usize = 64;

/// Chunks that gradients are measured on where nobody says how many; more change plans little.
const GRADIENT_CHUNKS: usize = 16;
/// The effort from which gradients are measured, and finished packs are tuned.
const EFFORT_WITH_GRADIENTS: u8 = 5;
/// Steps of a recovery where nobody says how many.
#[cfg(feature = "recover")]
pub(crate) const RECOVERY_STEPS: u32 = 40;
/// Bytes that tuning adds for each row and column of a matrix, at most: factors leave their coarse grid.
const RECOVERY_BYTES: f64 = 0.4;

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

/// What to do with a plan.
pub(crate) type Then<'a, T> = dyn FnMut(Found<'_>) -> Result<T> + 'a;

/// A plan and what belongs to it.
pub(crate) struct Found<'a> {
    pub(crate) plan: &'a Plan,
    /// What its tensors are coded with.
    pub(crate) coding: Coding<'a>,
    /// How it was found, if it was searched for.
    pub(crate) search: Option<&'a Allocation>,
    /// The model and the text that the finished pack is tuned with, if it is.
    pub(crate) tuning: Option<(&'a Model, &'a str)>,
}

/// Settles or finds the plan that `args` ask for, and hands it to `then`. `path` is where `model` was opened.
pub(crate) fn with_plan<T>(
    path: &Path,
    model: &dyn ModelSource,
    args: &RecipeArgs,
    global: &Global,
    then: &mut Then<'_, T>,
) -> Result<T> {
    let mut recipe = args.recipe()?;
    if args.recover.map_or(!recipe.recovery.is_empty(), |steps| steps > 0) {
        recover::require("recovery")?;
    }
    let temporary = tempfile::tempdir()?;
    let folder = args.levels.as_deref().unwrap_or(temporary.path());
    if args.searches() || !args.calib.is_empty() {
        // Levels that are there are kept, and a temporary folder goes: so the end must be an orderly one.
        exit::listen();
    }
    let data = Data::open(path, args, &recipe, folder, global)?;
    let calibrated = data.calibration.as_ref().map(Calibrated);
    let coder: &dyn Coder = calibrated.as_ref().map_or(&DataFree, |c| c);
    if args.recipe.is_none() {
        recipe.calibration = coder.calibration();
    }
    if args.sequential {
        recipe.sequential = Some(Sequential::name(&data.samples(recipe.seed)?));
    }
    data.recoveries(args, &mut recipe.recovery)?;
    let tuning = data.text.as_ref().map(|(model, text)| (model, text.as_str()));
    let tuning = tuning.filter(|_| !recipe.recovery.is_empty());
    let Some(goal) = goal(model, args, tuning.is_some()) else {
        let plan = Plan::new(model, &recipe)?;
        let levels = args.levels.as_ref().map(|_| Levels::open(folder, coder)).transpose()?;
        let coder = levels.as_ref().map_or(coder, |levels| levels);
        return then(Found { plan: &plan, coding: Coding { coder, data: &data }, search: None, tuning });
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
    then(Found {
        plan: &found.plan,
        coding: Coding { coder: &levels, data: &data },
        search: Some(&found),
        tuning,
    })
}

/// Chunks of `context` tokens, as calibration cuts them.
pub(crate) fn chunks(
    tokens: &[u32],
    context: usize,
    most: usize,
    seed: Option<u64>,
) -> Result<Vec<Vec<u32>>> {
    let found = samples(tokens, context, Some(most), seed)?;
    found
        .into_iter()
        .map(|sample| match sample {
            Sample::Tokens(tokens) => Ok(tokens),
            _ => Err(Error::unsupported("gradients are of language models")),
        })
        .collect()
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

    fn open(path: &Path, args: &RecipeArgs, recipe: &Recipe, folder: &Path, global: &Global) -> Result<Self> {
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
            (None, Some(text)) => Some(statistics(&network, text, args, recipe, folder, global)?),
            (None, None) => None,
        };
        Ok(Self { calibration, text: text.map(|text| (network, text)) })
    }

    /// Settles which recoveries follow the packing: those of the recipe, or what flags say.
    fn recoveries(&self, args: &RecipeArgs, found: &mut Vec<Recovery>) -> Result<()> {
        let usual = match args.effort {
            effort if effort < EFFORT_WITH_GRADIENTS || !recover::BUILT => 0,
            effort => 20 << (effort - EFFORT_WITH_GRADIENTS),
        };
        match (args.recover, &self.text) {
            (None, _) if args.recipe.is_some() => {}
            (None, Some((model, text))) if usual > 0 => *found = vec![recover::about(model, text, usual)?],
            (None | Some(0), _) => found.clear(),
            (Some(steps), Some((model, text))) => *found = vec![recover::about(model, text, steps as usize)?],
            (Some(_), None) => {
                return Err(Error::invalid("--recover needs a text").with_hint("give it by --calib"));
            }
        }
        if !found.is_empty() && self.text.is_none() {
            return Err(Error::invalid("the recipe ends with a recovery, and there is no text for it")
                .with_hint(
                    "give --calib with the text that it was made on, or --recover 0 to leave it out",
                ));
        }
        Ok(())
    }
}

/// Statistics of the network's layers, with gradients where they are asked for, or where the recipe was made with them.
fn statistics(
    network: &Model,
    text: &str,
    args: &RecipeArgs,
    recipe: &Recipe,
    folder: &Path,
    global: &Global,
) -> Result<Calibration> {
    let plain = collect(network, text, recipe.seed, folder, global)?;
    let asked = match (&args.recipe, &recipe.calibration) {
        (None, _) => args.effort >= EFFORT_WITH_GRADIENTS,
        (Some(_), Some(name)) => Calibrated(&plain).calibration().as_ref() != Some(name),
        (Some(_), None) => false,
    };
    if !asked {
        return Ok(plain);
    }
    if !recover::BUILT {
        if !global.quiet {
            complain!(
                "note: gradients, which make better plans, are left out: this build has not the feature `recover`"
            );
        }
        return Ok(plain);
    }
    let name = benben::hex(&plain.identity());
    let path = folder.join(format!("{}-{GRADIENT_CHUNKS}.calibration", &name[..32]));
    if !path.exists() {
        let mut with = plain;
        let tokens = network.tokenizer()?.encode(text, false)?;
        let context = STATISTICS_CONTEXT.min(network.config().context);
        let chunks = chunks(&tokens, context, GRADIENT_CHUNKS, Some(recipe.seed))?;
        recover::gradients(network, &mut with, &chunks, recipe.seed, global)?;
        with.save(&path, false)?;
    }
    Calibration::open(&path)
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

fn goal(model: &dyn ModelSource, args: &RecipeArgs, tuned: bool) -> Option<Goal> {
    let weights: u64 = model.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum();
    // What tuning will add.
    let matrices = model.tensors().iter().filter(|t| tuned && t.shape.len() == 2 && t.dtype.is_float());
    let sides = matrices.map(|t| t.shape.iter().sum::<u64>()).sum::<u64>();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of what there is")]
    let kept = (sides as f64 * RECOVERY_BYTES) as u64;
    match (args.size, args.max_loss, args.bpw) {
        (Some(bytes), ..) => Some(Goal::Bytes((bytes as u64).saturating_sub(kept))),
        (None, Some(loss), _) => Some(Goal::Loss(loss)),
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "recipes allow 0 to 32 bits for each weight"
        )]
        (None, None, Some(bits)) if !args.calib.is_empty() => {
            Some(Goal::Bytes(((bits * weights as f64 / 8.0) as u64).saturating_sub(kept)))
        }
        _ => None,
    }
}
