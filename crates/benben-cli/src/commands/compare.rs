//! `benben compare`

use crate::args::{Compare, Global};
use crate::draw::{self, Align, Bar, Table};
use crate::exit::Exit;
use benben::{Comparison, Error, Result, compare, open_model};

pub(crate) fn run(args: &Compare, global: &Global) -> Result<Exit> {
    let (first, second) = (open_model(&args.first)?, open_model(&args.second)?);
    let wanted = super::matcher(&args.tensor)?;
    let bar = Bar::new("comparing", global);
    let found = compare(&*first, &*second, wanted, &mut |p| bar.show(p))?;
    drop(bar);
    if found.tensors.is_empty() && found.same_tensors() && !args.tensor.is_empty() {
        return Err(Error::invalid(format!("no tensor matches {:?}", args.tensor)));
    }
    if global.json {
        draw::json(&found)?;
    } else if !global.quiet {
        show(&found);
    }
    let within = args.max_mse.is_none_or(|most| found.worst_relative_mse <= most);
    let met = found.same_tensors() && within && (!args.exact || found.is_identical());
    Ok(if met { Exit::Ok } else { Exit::NotMet })
}

fn show(found: &Comparison) {
    let mut table = Table::new(&[
        ("tensor", Align::Left),
        ("shape", Align::Right),
        ("dtype", Align::Left),
        ("rel. error", Align::Right),
        ("max error", Align::Right),
    ]);
    for t in &found.tensors {
        let (relative, largest) = if t.identical {
            ("exact".into(), "0".into())
        } else {
            (format!("{:.2e}", t.relative_mse), format!("{:.2e}", t.max_error))
        };
        table.row([t.name.clone(), draw::shape(&t.shape), t.dtype.clone(), relative, largest]);
    }
    table.print();
    println!();
    for name in &found.only_in_first {
        println!("only in the first: {name}");
    }
    for name in &found.only_in_second {
        println!("only in the second: {name}");
    }
    for (name, a, b) in &found.shapes_differ {
        println!("shapes differ: {name}: {} and {}", draw::shape(a), draw::shape(b));
    }
    if found.is_identical() {
        println!("identical: {} tensors, bit for bit", found.tensors.len());
    } else {
        println!(
            "{} tensors: relative error {:.2e} in all, {:.2e} at worst; largest difference {:.2e}",
            found.tensors.len(),
            found.relative_mse,
            found.worst_relative_mse,
            found.max_error
        );
    }
}
