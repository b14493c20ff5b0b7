//! `benben plan`

use crate::args::{Global, Plan as Args};
use crate::draw::{self, Align, Table, say};
use crate::exit::Exit;
use benben::{AtomicFile, Plan, Result, open_model};
use std::io::Write;

pub(crate) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let model = super::without_files(open_model(&args.source)?, args.no_files);
    let recipe = args.recipe.recipe()?;
    let plan = Plan::new(&*model, &recipe)?;
    if args.write_recipe.as_deref() == Some("-".as_ref()) {
        draw::text(recipe.to_toml()?.as_bytes())?;
        return Ok(Exit::Ok);
    }
    if let Some(path) = &args.write_recipe {
        let mut file = AtomicFile::create(path, args.force)?;
        file.write_all(recipe.to_toml()?.as_bytes())?;
        file.commit()?;
    }
    show(&plan, global)?;
    Ok(Exit::Ok)
}

/// Prints a plan: what `pack --dry-run` prints too.
pub(crate) fn show(plan: &Plan, global: &Global) -> Result<()> {
    if global.json {
        return draw::json(plan);
    }
    if global.quiet {
        return Ok(());
    }
    let mut table = Table::new(&[
        ("shape", Align::Right),
        ("from", Align::Left),
        ("method", Align::Left),
        ("bits/weight", Align::Right),
        ("size", Align::Right),
        ("rel. error", Align::Right),
        ("tensor", Align::Left),
    ]);
    for t in &plan.tensors {
        table.row([
            draw::shape(&t.shape),
            t.source_type.clone(),
            t.method.clone(),
            format!("{:.2}", t.predicted_bytes as f64 * 8.0 / t.elements.max(1) as f64),
            draw::bytes(t.predicted_bytes),
            draw::error(Some(t.predicted_relative_mse)),
            t.name.clone(),
        ]);
    }
    table.print()?;
    say!(
        "\npredicted: {} from {} ({:.1} %), {:.2} bits per weight; files take {}",
        draw::bytes(plan.predicted_bytes),
        draw::bytes(plan.source_bytes),
        100.0 * plan.predicted_bytes as f64 / plan.source_bytes.max(1) as f64,
        plan.predicted_bits_per_weight,
        draw::bytes(plan.file_bytes)
    )
}
