//! `benben inspect`

use super::Patterns;
use crate::args::{Global, Inspect};
use crate::draw::{self, Align, Table, say};
use crate::exit::Exit;
use benben::{Contents, Result};

pub(crate) fn run(args: &Inspect, global: &Global) -> Result<Exit> {
    if let Some(calibration) = super::calibrate::open(&args.pack)? {
        return super::calibrate::list(&calibration, args, global);
    }
    let pack = benben::open(&args.pack)?;
    let patterns = Patterns::new(&args.tensor)?;
    let mut contents = Contents::new(&pack);
    patterns.check(contents.tensors.iter().map(|t| t.name.as_str()))?;
    contents.tensors.retain(|t| patterns.matches(&t.name));
    if global.json {
        draw::json(&contents)?;
        return Ok(Exit::Ok);
    }
    if global.quiet {
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("size", Align::Right),
        ("bits/weight", Align::Right),
        ("rel. error", Align::Right),
        ("dtype", Align::Left),
        ("shape", Align::Right),
        ("stored as", Align::Left),
        ("tensor", Align::Left),
    ]);
    for t in &contents.tensors {
        table.row([
            draw::bytes(t.bytes),
            format!("{:.3}", t.bits_per_weight),
            draw::error(t.relative_mse),
            t.dtype.clone(),
            draw::shape(&t.shape),
            t.unreadable
                .as_ref()
                .map_or_else(|| t.expression.clone(), |why| format!("{} ({why})", t.expression)),
            t.name.clone(),
        ]);
    }
    table.print()?;
    if !contents.files.is_empty() {
        say!("")?;
        let mut files =
            Table::new(&[("size", Align::Right), ("unpacked", Align::Right), ("file", Align::Left)]);
        for f in &contents.files {
            files.row([draw::bytes(f.bytes), draw::bytes(f.file_bytes), f.name.clone()]);
        }
        files.print()?;
    }
    if args.show_recipe
        && let Some(recipe) = &contents.recipe
    {
        say!("\n{}", recipe.trim_end())?;
    }
    say!(
        "\n{} from {} ({:.1} %), {:.3} bits per weight over {} weights; index {}",
        draw::bytes(contents.packed_bytes),
        draw::bytes(contents.source_bytes),
        100.0 * contents.packed_bytes as f64 / contents.source_bytes.max(1) as f64,
        contents.bits_per_weight,
        draw::count(contents.weights),
        draw::bytes(contents.index_bytes)
    )?;
    say!("written by {}, root {}", contents.generator, contents.root)?;
    Ok(Exit::Ok)
}
