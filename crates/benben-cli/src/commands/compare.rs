//! `benben compare`

use super::Patterns;
use crate::args::{Compare, Global};
use crate::draw::{self, Align, Bar, Table, say};
use crate::exit::Exit;
use benben::{Comparison, Result, compare, open_model};

/// Lines for tensors that are not in both; two unlike models have hundreds.
const MOST_LISTED: usize = 20;

pub(crate) fn run(args: &Compare, global: &Global) -> Result<Exit> {
    let (first, second) = (open_model(&args.first)?, open_model(&args.second)?);
    let patterns = Patterns::new(&args.tensor)?;
    patterns.check(first.tensors().iter().chain(second.tensors()).map(|t| t.name.as_str()))?;
    let bar = Bar::new("comparing", global);
    let found = compare(&*first, &*second, |name| patterns.matches(name), &mut |p| bar.show(p))?;
    drop(bar);
    let within = args.max_mse.is_none_or(|most| found.worst_relative_mse <= most);
    let met = found.same_tensors() && within && (!args.exact || found.is_identical());
    if global.json {
        draw::json(&found)?;
    } else if !global.quiet {
        show(&found)?;
        if !met {
            say!("NOT MET: {}", unmet(&found, args.max_mse.filter(|_| !within)))?;
        }
    }
    Ok(if met { Exit::Ok } else { Exit::NotMet })
}

/// Which check it was.
fn unmet(found: &Comparison, most: Option<f64>) -> String {
    let worst = found.tensors.iter().max_by(|a, b| a.relative_mse.total_cmp(&b.relative_mse));
    match (found.same_tensors(), most, worst) {
        (false, _, _) => "the models have different tensors".into(),
        (true, Some(most), Some(worst)) => {
            format!(
                "{} has relative error {:.2e}, at most {most:.2e} was asked for",
                worst.name, worst.relative_mse
            )
        }
        _ => "not every tensor is the same to the bit".into(),
    }
}

fn show(found: &Comparison) -> Result<()> {
    let mut table = Table::new(&[
        ("shape", Align::Right),
        ("dtype", Align::Left),
        ("rel. error", Align::Right),
        ("max error", Align::Right),
        ("tensor", Align::Left),
    ]);
    for t in &found.tensors {
        let (relative, largest) = if t.identical {
            ("exact".into(), "0".into())
        } else {
            (format!("{:.2e}", t.relative_mse), format!("{:.2e}", t.max_error))
        };
        table.row([draw::shape(&t.shape), t.dtype.clone(), relative, largest, t.name.clone()]);
    }
    if !found.tensors.is_empty() {
        table.print()?;
        say!("")?;
    }
    let lines = found.only_in_first.iter().map(|name| format!("only in the first: {name}"));
    let lines = lines.chain(found.only_in_second.iter().map(|name| format!("only in the second: {name}")));
    let lines = lines.chain(
        found
            .shapes_differ
            .iter()
            .map(|(name, a, b)| format!("shapes differ: {name}: {} and {}", draw::shape(a), draw::shape(b))),
    );
    let lines: Vec<String> = lines.collect();
    for line in lines.iter().take(MOST_LISTED) {
        say!("{line}")?;
    }
    if lines.len() > MOST_LISTED {
        say!("and {} tensors more that differ so; --json lists them all", lines.len() - MOST_LISTED)?;
    }
    match found.tensors.len() {
        0 => say!("nothing to compare: no tensor of the same name and shape is in both"),
        count if found.is_identical() => say!("identical: {count} tensors, bit for bit"),
        count => say!(
            "{count} tensors: relative error {:.2e} in all, {:.2e} at worst; largest difference {:.2e}",
            found.relative_mse,
            found.worst_relative_mse,
            found.max_error
        ),
    }
}
