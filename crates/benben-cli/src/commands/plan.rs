//! `benben plan`

use super::planning::{Found, with_plan};
use crate::args::{Global, Plan as Args};
use crate::draw::{self, Align, Table, say};
use crate::exit::Exit;
use benben::allocate::Allocation;
use benben::{AtomicFile, Plan, Result, open_model};
use serde::Serialize;
use std::io::Write;

pub(crate) fn run(args: &Args, global: &Global) -> Result<Exit> {
    let model = super::without_files(open_model(&args.source)?, args.no_files);
    with_plan(&args.source, &*model, &args.recipe, global, &mut |Found { plan, search: found, .. }| {
        // A recipe that is only settled stays as it was asked for: patterns, not tensors.
        let recipe = found.map_or(&plan.recipe, |f| &f.recipe).to_toml()?;
        if args.write_recipe.as_deref() == Some("-".as_ref()) {
            draw::text(recipe.as_bytes())?;
            return Ok(Exit::Ok);
        }
        if let Some(path) = &args.write_recipe {
            let mut file = AtomicFile::create(path, args.force)?;
            file.write_all(recipe.as_bytes())?;
            file.commit()?;
        }
        show(plan, found, global)?;
        Ok(Exit::Ok)
    })
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<Search>,
}

/// How a plan was found.
#[derive(Serialize)]
struct Search {
    uniform_loss: Option<f64>,
    programme_loss: Option<f64>,
    loss: Option<f64>,
    evaluations: usize,
}

/// Prints a plan: what `pack --dry-run` prints too.
pub(crate) fn show(plan: &Plan, found: Option<&Allocation>, global: &Global) -> Result<()> {
    if global.json {
        let search = found.map(|f| Search {
            uniform_loss: f.uniform_loss,
            programme_loss: f.programme_loss,
            loss: f.loss,
            evaluations: f.evaluations,
        });
        return draw::json(&Report { plan, search });
    }
    if global.quiet {
        return Ok(());
    }
    let measured = plan.tensors.iter().any(|t| t.predicted_loss.is_some());
    let mut heads = vec![
        ("shape", Align::Right),
        ("from", Align::Left),
        ("method", Align::Left),
        ("bits/weight", Align::Right),
        ("size", Align::Right),
        ("rel. error", Align::Right),
    ];
    if measured {
        heads.push(("loss, nats", Align::Right));
    }
    heads.push(("tensor", Align::Left));
    let mut table = Table::new(&heads);
    for t in &plan.tensors {
        let mut row = vec![
            draw::shape(&t.shape),
            t.source_type.clone(),
            t.method.clone(),
            format!("{:.2}", t.predicted_bytes as f64 * 8.0 / t.elements.max(1) as f64),
            draw::bytes(t.predicted_bytes),
            draw::error(Some(t.predicted_relative_mse)),
        ];
        if measured {
            row.push(t.predicted_loss.map_or(String::new(), |loss| format!("{loss:.5}")));
        }
        row.push(t.name.clone());
        table.row(row);
    }
    table.print()?;
    say!(
        "\npredicted: {} from {} ({:.1} %), {:.2} bits per weight; files take {}",
        draw::bytes(plan.predicted_bytes),
        draw::bytes(plan.source_bytes),
        100.0 * plan.predicted_bytes as f64 / plan.source_bytes.max(1) as f64,
        plan.predicted_bits_per_weight,
        draw::bytes(plan.file_bytes)
    )?;
    say!(
        "packing takes about {} of memory and {:.0} s of one core",
        draw::bytes(plan.predicted_peak_memory),
        plan.predicted_seconds.ceil()
    )?;
    found.map_or(Ok(()), show_search)
}

/// Says what a search came to.
pub(crate) fn show_search(found: &Allocation) -> Result<()> {
    let Some(loss) = found.loss else { return Ok(()) };
    let others = [("one level for all", found.uniform_loss), ("losses that add up", found.programme_loss)];
    let others = others.into_iter().filter_map(|(what, loss)| Some(format!("{what}: {:.5}", loss?)));
    let others: Vec<String> = others.collect();
    let beside = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    // In the network's order they are coded when the plan stands.
    let apart = if found.recipe.sequential.is_some() { ", each tensor coded for itself" } else { "" };
    say!(
        "loss on the text{apart}: {loss:.5} nats for each token{beside}; {} samples were run",
        found.evaluations
    )
}
