//! `benben pack`

use super::planning::{Coding, Found, step, with_plan};
use crate::args::{Global, Pack};
use crate::draw::{self, Align, Bar, Table, complain, say};
use crate::exit::Exit;
use benben::{Error, ModelSource, PackReport, Plan, Result, open_model};
use std::io::{IsTerminal, Seek, Write};
use std::path::Path;
use std::time::Instant;

pub(crate) fn run(args: &Pack, global: &Global) -> Result<Exit> {
    let model = open_model(&args.source)?;
    let model = super::without_files(model, args.no_files);
    with_plan(&args.source, &*model, &args.recipe, global, &mut |found| packed(args, global, &*model, &found))
}

fn packed(
    args: &Pack,
    global: &Global,
    model: &dyn ModelSource,
    Found { plan, coding, search: found, tuning }: &Found<'_>,
) -> Result<Exit> {
    let found = *found;
    if args.dry_run {
        super::plan::show(plan, found, global)?;
        return Ok(Exit::Ok);
    }
    // A pack's bytes are those that its recipe gives, whatever was predicted on the way to it.
    let settled = found.map(|f| Plan::new(model, &f.recipe)).transpose()?;
    let plan = settled.as_ref().unwrap_or(plan);
    // Without the model and a text there is none: that has been checked.
    let recoveries = &plan.recipe.recovery;
    let output = args.output.clone().unwrap_or_else(|| super::beside(&args.source, "benben"));
    if output == Path::new("-") {
        if !recoveries.is_empty() {
            return Err(Error::invalid("a recovery reads the pack again: it needs a file")
                .with_hint("give -o FILE, or --recover 0"));
        }
        return to_stdout(model, plan, *coding, global);
    }
    keep_the_source(&args.source, &output)?;
    let mut file = benben::AtomicFile::create(&output, args.force)?;
    let started = Instant::now();
    let sequential = coding.settle(model, plan, global)?;
    let coder = sequential.as_ref().map_or(coding.coder, |s| s);
    let bar = Bar::new("packing", global);
    let mut report = benben::pack_with(model, plan, coder, &mut file, &mut |p| step(&bar, p))?;
    drop(bar);
    file.commit()?;
    if !global.json && !global.quiet {
        if let Some(found) = found {
            super::plan::show_search(found)?;
        }
        show(&report, &output, args.verbose, model.format() == "benben", started)?;
    }
    let exit = match tuning {
        Some((model, text)) => super::recover::after_packing(model, text, recoveries, &output, global)?,
        None => Exit::Ok,
    };
    if tuning.is_some() {
        let tuned = benben::open(&output)?;
        report.root = benben::hex(&tuned.reader().root());
        report.packed_bytes = tuned.reader().len();
        report.bits_per_weight = report.packed_bytes as f64 * 8.0 / report.weights.max(1) as f64;
    }
    if let Some(most) = args.recipe.size.filter(|most| report.packed_bytes > *most as u64) {
        complain!(
            "note: recovery took {} bytes more than --size leaves it",
            report.packed_bytes - most as u64
        );
    }
    if global.json {
        draw::json(&report)?;
    }
    Ok(exit)
}

/// Refuses an output that is a part of the source: not even --force means that.
fn keep_the_source(source: &Path, output: &Path) -> Result<()> {
    let (Ok(from), Ok(to)) = (source.canonicalize(), output.canonicalize()) else { return Ok(()) };
    let in_folder = from.is_dir() && to.starts_with(&from) && to.extension() != Some("benben".as_ref());
    if from != to && !in_folder || to.is_dir() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} is what is being packed: it is not replaced", output.display()))
        .with_hint("give another name with -o"))
}

fn to_stdout(model: &dyn ModelSource, plan: &Plan, coding: Coding<'_>, global: &Global) -> Result<Exit> {
    if std::io::stdout().is_terminal() {
        return Err(Error::invalid("a pack is binary: it is not written to a terminal")
            .with_hint("redirect stdout, or give -o FILE"));
    }
    if global.json {
        return Err(Error::invalid("the pack and --json cannot both go to stdout").with_hint("give -o FILE"));
    }
    let mut file = tempfile::tempfile()?;
    let sequential = coding.settle(model, plan, global)?;
    let coder = sequential.as_ref().map_or(coding.coder, |s| s);
    let bar = Bar::new("packing", global);
    benben::pack_with(model, plan, coder, &mut file, &mut |p| step(&bar, p))?;
    file.rewind()?;
    let mut out = std::io::stdout().lock();
    let sent = std::io::copy(&mut file, &mut out).and_then(|_| out.flush());
    sent.map_err(|e| Error::from(e).context("stdout"))?;
    Ok(Exit::Ok)
}

fn show(report: &PackReport, output: &Path, verbose: bool, repacked: bool, started: Instant) -> Result<()> {
    if verbose {
        let mut table = Table::new(&[
            ("shape", Align::Right),
            ("dtype", Align::Left),
            ("stored as", Align::Left),
            ("bits/weight", Align::Right),
            ("size", Align::Right),
            ("rel. error", Align::Right),
            ("tensor", Align::Left),
        ]);
        for t in &report.tensors {
            table.row([
                draw::shape(&t.shape),
                t.dtype.clone(),
                t.expression.clone(),
                format!("{:.3}", t.bits_per_weight),
                draw::bytes(t.bytes),
                draw::error(t.relative_mse),
                t.name.clone(),
            ]);
        }
        table.print()?;
        say!("")?;
    }
    // What many tensors have in common is said once.
    let mut notes: Vec<(&str, &str, usize)> = Vec::new();
    for t in &report.tensors {
        let Some(note) = t.note.as_deref() else { continue };
        match notes.iter_mut().find(|(_, own, _)| *own == note) {
            Some((.., others)) => *others += 1,
            None => notes.push((&t.name, note, 0)),
        }
    }
    for (name, note, others) in notes {
        match others {
            0 => say!("note: {name}: {note}")?,
            _ => say!("note: {name} and {others} more: {note}")?,
        }
    }
    if repacked && report.tensors.iter().any(|t| t.relative_mse.is_some_and(|e| e > 0.0)) {
        say!("note: the source is a pack: errors count from it, not from the model that it was made of")?;
    }
    let worst = report.tensors.iter().filter_map(|t| t.relative_mse).fold(0.0, f64::max);
    say!(
        "{}: {} from {} ({:.1} %), {:.3} bits per weight, largest relative error {}",
        output.display(),
        draw::bytes(report.packed_bytes),
        draw::bytes(report.source_bytes),
        100.0 * report.packed_bytes as f64 / report.source_bytes.max(1) as f64,
        report.bits_per_weight,
        draw::error(Some(worst)),
    )?;
    let seconds = started.elapsed().as_secs_f64();
    say!(
        "{} tensors, {} weights; files take {}; {seconds:.1} s, {:.1} M weights/s",
        report.tensors.len(),
        draw::count(report.weights),
        draw::bytes(report.file_bytes),
        report.weights as f64 / seconds.max(1e-9) / 1e6
    )
}
