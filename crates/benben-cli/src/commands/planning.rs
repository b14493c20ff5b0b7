//! From flags to a plan, for `pack` and `plan`: settled by the recipe alone, or searched for.

use crate::args::{Global, RecipeArgs};
use crate::draw::Bar;
use crate::exit;
use benben::allocate::{Allocation, Effort, Goal, Levels, NetworkTrial, Trial, allocate};
use benben::llm::{Model, samples};
use benben::{Coder, DataFree, Error, ModelSource, Plan, Progress, Result};
use std::ops::ControlFlow;
use std::path::Path;

/// Tokens of a sample that plans are judged on; more samples tell more than longer ones.
const CONTEXT: usize = 256;

/// What to do with a plan, the coder that its tensors are coded with, and how it was found, if it was searched for.
pub(crate) type Then<'a, T> = dyn FnMut(&Plan, &dyn Coder, Option<&Allocation>) -> Result<T> + 'a;

/// Settles or finds the plan that `args` ask for, and hands it to `then`. `path` is where `model` was opened.
pub(crate) fn with_plan<T>(
    path: &Path,
    model: &dyn ModelSource,
    args: &RecipeArgs,
    global: &Global,
    then: &mut Then<'_, T>,
) -> Result<T> {
    let recipe = args.recipe()?;
    let Some(goal) = goal(model, args) else {
        if args.calib.is_some() {
            return Err(Error::invalid("--calib is of use where a plan is searched for")
                .with_hint("add --size, --bpw or --max-loss"));
        }
        return then(&Plan::new(model, &recipe)?, &DataFree, None);
    };
    let temporary = tempfile::tempdir()?;
    let levels = Levels::open(args.levels.as_deref().unwrap_or(temporary.path()), &DataFree)?;
    let effort = Effort::new(args.effort);
    exit::listen();
    let bar = Bar::new("planning", global);
    let mut observer = |p: Progress<'_>| {
        let _ = bar.show(p);
        if exit::stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut find = |trial: Option<&mut dyn Trial>| {
        allocate(model, &recipe, goal, &effort, &levels, trial, &mut observer)
    };
    let found = match &args.calib {
        None => find(None)?,
        Some(text) => {
            let text = super::text(text)?;
            let network = Model::open(path, &benben::store::Options::default())?;
            let tokens = network.tokenizer()?.encode(&text, false)?;
            let context = CONTEXT.min(network.config().context);
            let samples = samples(&tokens, context, Some(effort.samples), Some(recipe.seed))?;
            let (mut blocks, weights) = (network.blocks()?, network.weights());
            let identity = network.identity()?;
            let mut trial = NetworkTrial::new(&mut blocks, &*weights, &levels, &identity, samples)?;
            find(Some(&mut trial))?
        }
    };
    drop(bar);
    // Predictions of the plan that is shown are those of levels; the one that is packed is as the recipe alone gives it.
    then(&found.plan, &levels, Some(&found))
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
        (None, None, Some(bits)) if args.calib.is_some() => {
            Some(Goal::Bytes((bits * weights as f64 / 8.0) as u64))
        }
        _ => None,
    }
}
