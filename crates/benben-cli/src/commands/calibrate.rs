//! `benben calibrate`

use super::Patterns;
use crate::args::{Calibrate, Global, Inspect};
use crate::draw::{self, Align, Bar, Table, say};
use crate::exit::Exit;
use benben::calibrate::{About, Calibration, write};
use benben::llm::{Model, samples};
use benben::{AtomicFile, Error, ErrorKind, Result};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    about: &'a About,
    tensors: Vec<Entry<'a>>,
    influence: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Vec<f32>>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    columns: usize,
    vectors: u64,
    rms: f64,
    rows: bool,
}

pub(crate) fn run(args: &Calibrate, global: &Global) -> Result<Exit> {
    if args.gradients.is_some() {
        super::recover::require("--gradients")?;
    }
    let text = super::text(&args.data)?;
    let model = Model::open(&args.model, &benben::store::Options::default())?;
    let tokens = model.tokenizer()?.encode(&text, false)?;
    let samples = samples(&tokens, args.context, Some(args.chunks as usize), args.seed)?;
    let mut network = model.blocks()?;
    let output = args.output.clone().unwrap_or_else(|| super::beside(&args.model, "calibration"));
    let mut file = AtomicFile::create(&output, args.force)?;
    let about = About {
        context: args.context,
        seed: args.seed,
        ..About::new(&model.identity()?, blake3::hash(text.as_bytes()).as_bytes())
    };
    let started = Instant::now();
    let bar = Bar::new("calibrating", global);
    write(&mut network, &*model.weights(), &samples, &about, &mut file, &mut |p| bar.show(p))?;
    drop(bar);
    file.commit()?;
    if let Some(most) = args.gradients {
        let chunks = super::planning::chunks(&tokens, args.context, most as usize, args.seed)?;
        let mut calibration = Calibration::open(&output)?;
        // The statistics are whole and kept, whatever becomes of gradients.
        super::recover::gradients(&model, &mut calibration, &chunks, args.seed.unwrap_or(1), global)?;
        calibration.save(&output, true)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    if let Some(rows) = &args.rows {
        let mut calibration = Calibration::open(&output)?;
        calibration.add_rows(&*benben::open_model(rows)?).map_err(|e| e.context(rows.display()))?;
        calibration.save(&output, true)?;
    }
    if global.json {
        let calibration = Calibration::open(&output)?;
        draw::json(&Report { seconds: Some(seconds), ..Report::new(&calibration, &output, |_| true)? })?;
    } else if !global.quiet {
        let bytes = std::fs::metadata(&output).map_or(0, |m| m.len());
        say!(
            "{}: {} from {} chunks of {} tokens, in {seconds:.1} s",
            output.display(),
            draw::bytes(bytes),
            samples.len(),
            args.context
        )?;
        if samples.len() < args.chunks as usize {
            say!("note: the text has no more chunks; --chunks asks for {}", args.chunks)?;
        }
        if args.influence {
            influence(&Calibration::open(&output)?)?;
        }
    }
    Ok(Exit::Ok)
}

/// The table of blocks.
fn influence(calibration: &Calibration) -> Result<()> {
    let mut table =
        Table::new(&[("block", Align::Right), ("1 - cosine", Align::Right), ("change", Align::Right)]);
    let change = calibration.change()?.unwrap_or_default();
    for (i, turn) in calibration.influence()?.into_iter().enumerate() {
        let change = change.get(i).map_or(String::new(), |x| format!("{x:.5}"));
        table.row([i.to_string(), format!("{turn:.5}"), change]);
    }
    say!("")?;
    table.print()
}

/// The calibration at `path`; none where it is something else.
pub(crate) fn open(path: &Path) -> Result<Option<Calibration>> {
    match Calibration::open(path) {
        Ok(calibration) => Ok(Some(calibration)),
        Err(e) if e.kind() == ErrorKind::Compatibility && e.message().contains("calibration") => Err(e),
        Err(e) if e.kind() == ErrorKind::Corruption && e.message().contains("calibration") => Err(e),
        // A pack, or anything else: its own reader says what is wrong with it.
        Err(_) => Ok(None),
    }
}

/// What `benben inspect` shows of a calibration.
pub(crate) fn list(calibration: &Calibration, args: &Inspect, global: &Global) -> Result<Exit> {
    if args.show_recipe {
        return Err(Error::invalid("a calibration has no recipe"));
    }
    let patterns = Patterns::new(&args.tensor)?;
    patterns.check(calibration.names().collect::<Vec<_>>().into_iter())?;
    if global.quiet && !global.json {
        return Ok(Exit::Ok);
    }
    let report = Report::new(calibration, &args.pack, |name| patterns.matches(name))?;
    if global.json {
        draw::json(&report)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("columns", Align::Right),
        ("vectors", Align::Right),
        ("rms", Align::Right),
        ("rows", Align::Left),
        ("tensor", Align::Left),
    ]);
    for t in &report.tensors {
        table.row([
            t.columns.to_string(),
            draw::count(t.vectors),
            format!("{:.3}", t.rms),
            if t.rows { "weighed" } else { "alike" }.into(),
            t.name.to_owned(),
        ]);
    }
    table.print()?;
    let about = report.about;
    say!(
        "\n{} from {} chunks of {} tokens; model {}, data {}",
        draw::bytes(report.bytes),
        about.samples,
        about.context,
        about.model,
        about.data
    )?;
    Ok(Exit::Ok)
}

impl<'a> Report<'a> {
    fn new(calibration: &'a Calibration, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let mut tensors = Vec::new();
        for name in calibration.names().filter(|name| wanted(name)) {
            let Some((columns, vectors)) = calibration.size(name) else { continue };
            let squares = calibration.layer(name)?.map_or(0.0, |layer| {
                layer.second_moment.diagonal().map(f64::from).sum::<f64>() / columns as f64
            });
            let rows = calibration.rows(name)?.is_some();
            tensors.push(Entry { name, columns, vectors, rms: squares.sqrt(), rows });
        }
        Ok(Self {
            about: calibration.about(),
            tensors,
            influence: calibration.influence()?,
            change: calibration.change()?,
            bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
            seconds: None,
        })
    }
}
