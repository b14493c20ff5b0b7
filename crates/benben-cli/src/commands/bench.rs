//! `benben bench`

use crate::args::{Bench, BenchTable, Global};
use crate::draw::{self, Align, Bar, Table, say};
use crate::exit::Exit;
use benben::{AtomicFile, Error, Result, open_model};
use benben_bench::coding::Coding;
use benben_bench::export::Export;
use benben_bench::integers::Integers;
use benben_bench::{Goal, Machine, Matrix, Measure, coding, export, integers, lossless, quantizers};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// 67 MB of f32: copies of it do not fit a usual third-level cache.
const WEIGHTS: usize = 1 << 24;
const QUICK_WEIGHTS: usize = 1 << 19;
/// Samples for quantizers: the bound is off by 0.01 dB.
const SAMPLES: usize = 1 << 20;
const QUICK_SAMPLES: usize = 1 << 15;
const RATES: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
const SEED: u64 = 7;

#[derive(Serialize)]
struct Report {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coding: Option<Coding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lossless: Option<Vec<lossless::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantizers: Option<Vec<quantizers::Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    integers: Option<Integers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<Export>,
}

/// What was measured on.
#[derive(Serialize)]
struct Data {
    weights: usize,
    matrices: Vec<String>,
}

pub(crate) fn run(args: &Bench, global: &Global) -> Result<Exit> {
    let threads = global.threads.map_or(1, usize::from);
    let mut report = Report {
        machine: Machine::here(threads),
        data: None,
        coding: None,
        lossless: None,
        quantizers: None,
        integers: None,
        export: None,
    };
    let clock = |verb: &str| -> Result<Measure<'_>> {
        let bar = Bar::new(verb, global);
        let measure = if args.quick { Measure::quick(threads) } else { Measure::new(threads) };
        Ok(measure?.observed(Box::new(move |p| bar.show(p))))
    };
    let wanted = |table| args.only.is_empty() || args.only.contains(&table);
    if let Some(path) = &args.integers {
        report.integers = Some(integers::measure(&*open_model(path)?, &mut clock("integers")?)?);
    } else if let Some(folder) = &args.export {
        let data = data(args, &mut report)?;
        report.export = Some(export::measure(&data, &mut clock("export")?)?);
        write(folder, &report, args.force)?;
    } else {
        if wanted(BenchTable::Coding) || wanted(BenchTable::Lossless) {
            let data = data(args, &mut report)?;
            if wanted(BenchTable::Coding) {
                report.coding = Some(coding::measure(&data, args.bits, &mut clock("coding")?)?);
            }
            if wanted(BenchTable::Lossless) {
                let model = args.model.is_some();
                report.lossless = Some(lossless::measure(&data, model, &mut clock("lossless")?)?);
            }
        }
        if wanted(BenchTable::Quantizers) {
            let samples = Matrix::gaussian(if args.quick { QUICK_SAMPLES } else { SAMPLES }, SEED);
            report.quantizers = Some(quantizers::measure(&samples, &RATES, &mut clock("quantizers")?)?);
        }
    }
    if global.json {
        draw::json(&report)?;
    } else if !global.quiet {
        show(&report)?;
    }
    Ok(Exit::Ok)
}

/// What is measured on; noted in the report.
fn data(args: &Bench, report: &mut Report) -> Result<Vec<Matrix>> {
    let weights = args.weights.unwrap_or(if args.quick { QUICK_WEIGHTS } else { WEIGHTS });
    if weights == 0 {
        return Err(Error::invalid("--weights 0 leaves nothing to measure"));
    }
    let data = match &args.model {
        Some(path) => Matrix::largest(&*open_model(path)?, weights)?,
        None => vec![Matrix::gaussian(weights, SEED)],
    };
    report.data = Some(Data {
        weights: data.iter().map(|m| m.values.len()).sum(),
        matrices: data.iter().map(|m| m.name.clone()).collect(),
    });
    Ok(data)
}

/// Writes what was exported into `folder`.
fn write(folder: &Path, report: &Report, force: bool) -> Result<()> {
    let Some(export) = &report.export else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|e| Error::from(e).context(folder.display()))?;
    let ours = serde_json::to_vec_pretty(report).map_err(|e| Error::io(format!("JSON: {e}")))?;
    let floats = export.floats.iter().map(|f| (f.file.as_str(), &f.data));
    let integers = export.integers.iter().map(|q| (q.file.as_str(), &q.data));
    for (name, bytes) in floats.chain(integers).chain([("ours.json", &ours)]) {
        let mut file = AtomicFile::create(&folder.join(name), force)?;
        file.write_all(bytes)?;
        file.commit()?;
    }
    Ok(())
}

fn show(report: &Report) -> Result<()> {
    let Machine { cpu, features, cores, threads, version, peers } = &report.machine;
    let peers: Vec<String> = peers.iter().map(|(name, version)| format!("{name} {version}")).collect();
    say!("{cpu}, {cores} cores ({}), {threads} in use", features.join(" "))?;
    say!("benben {version}, {}", peers.join(", "))?;
    if let Some(Data { weights, matrices }) = &report.data {
        let from = match &matrices[..] {
            [one] => one.clone(),
            [first, .., last] => format!("{} matrices, {first} to {last}", matrices.len()),
            [] => String::new(),
        };
        say!("{} weights: {from}", draw::count(*weights as u64))?;
    }
    if let Some(coding) = &report.coding {
        show_coding(coding)?;
    }
    if let Some(rows) = &report.lossless {
        show_lossless(rows)?;
    }
    if let Some(rows) = &report.quantizers {
        show_quantizers(rows)?;
    }
    report.integers.as_ref().map_or(Ok(()), show_integers)?;
    report.export.as_ref().map_or(Ok(()), show_export)
}

/// Goals as they stand in the last column.
fn verdict<'a>(goals: impl IntoIterator<Item = &'a Goal>) -> String {
    goals.into_iter().map(Goal::to_string).collect::<Vec<_>>().join(", ")
}

/// `of` by `unit` with as many digits as matter, `-` for none.
fn scaled(of: Option<f64>, unit: f64, digits: usize) -> String {
    of.map_or("-".into(), |x| format!("{:.digits$}", x / unit))
}

fn show_coding(coding: &Coding) -> Result<()> {
    say!(
        "\nSymbols: entropy {:.3} bits by matrix, {:.3} by class of rows\n",
        coding.entropy,
        coding.class_entropy
    )?;
    let mut table = Table::new(&[
        ("coder", Align::Left),
        ("to", Align::Left),
        ("bits", Align::Right),
        ("over entropy", Align::Right),
        ("encode Msym/s", Align::Right),
        ("decode Gsym/s", Align::Right),
        ("GB/s written", Align::Right),
        ("x constriction", Align::Right),
        ("x memcpy", Align::Right),
        ("goal", Align::Left),
    ]);
    for row in &coding.rows {
        let over = row.bits_per_symbol.map(|b| 100.0 * (b / coding.entropy - 1.0));
        table.row([
            row.coder.clone(),
            row.writes.into(),
            scaled(row.bits_per_symbol, 1.0, 3),
            over.map_or("-".into(), |o| format!("{o:+.2} %")),
            scaled(row.encode_per_second, 1e6, 0),
            format!("{:.3}", row.decode_per_second / 1e9),
            format!("{:.2}", row.written_per_second / 1e9),
            format!("{:.1}", row.to_constriction),
            format!("{:.2}", row.to_memcpy),
            verdict(&row.goal),
        ]);
    }
    table.print()
}

fn show_lossless(rows: &[lossless::Row]) -> Result<()> {
    say!("\nFloats, bit for bit\n")?;
    let mut table = Table::new(&[
        ("type", Align::Left),
        ("coder", Align::Left),
        ("of source", Align::Right),
        ("encode GB/s", Align::Right),
        ("decode GB/s", Align::Right),
        ("x memcpy", Align::Right),
        ("goal", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.dtype.to_string(),
            row.coder.clone(),
            format!("{:.2} %", 100.0 * row.ratio),
            scaled(row.encode_per_second, 1e9, 3),
            format!("{:.2}", row.decode_per_second / 1e9),
            format!("{:.2}", row.to_memcpy),
            verdict(&row.goal),
        ]);
    }
    table.print()
}

fn show_quantizers(rows: &[quantizers::Row]) -> Result<()> {
    say!("\nQuantizers on Gaussian samples, side information counted, speeds of one core\n")?;
    let mut table = Table::new(&[
        ("codec", Align::Left),
        ("bits", Align::Right),
        ("rel. error", Align::Right),
        ("dB above bound", Align::Right),
        ("encode M/s", Align::Right),
        ("decode M/s", Align::Right),
        ("goals", Align::Left),
    ]);
    for row in rows {
        table.row([
            row.codec.into(),
            format!("{:.3}", row.bits_per_weight),
            draw::error(Some(row.relative_mse)),
            format!("{:.2}", row.db_above_bound),
            format!("{:.2}", row.encode_per_second / 1e6),
            format!("{:.0}", row.decode_per_second / 1e6),
            verdict(&row.goals),
        ]);
    }
    table.print()
}

fn show_integers(found: &Integers) -> Result<()> {
    say!("\nIntegers by class tables, everything counted\n")?;
    let mut table = Table::new(&[
        ("shape", Align::Right),
        ("tables", Align::Right),
        ("bytes", Align::Right),
        ("bits/weight", Align::Right),
        ("tensor", Align::Left),
    ]);
    for t in &found.tensors {
        table.row([
            draw::shape(&t.shape),
            t.tables.to_string(),
            draw::count(t.bytes as u64),
            format!("{:.4}", t.bits_per_weight),
            t.name.clone(),
        ]);
    }
    table.print()?;
    say!(
        "\n{} integers in {} bytes: {:.4} bits each, entropy by tensor {:.4}; encode {:.1} M/s, decode {:.0} M/s",
        draw::count(found.weights as u64),
        draw::count(found.bytes as u64),
        found.bits_per_weight,
        found.entropy,
        found.encode_per_second / 1e6,
        found.decode_per_second / 1e6
    )
}

fn show_export(export: &Export) -> Result<()> {
    say!("\nExported, with our figures\n")?;
    let mut table = Table::new(&[
        ("file", Align::Left),
        ("bytes stored", Align::Right),
        ("share or bits", Align::Right),
        ("decode M/s", Align::Right),
    ]);
    for of in &export.floats {
        table.row([
            of.file.clone(),
            draw::count(of.bytes),
            format!("{:.2} %", 100.0 * of.bytes as f64 / of.source_bytes as f64),
            format!("{:.0}", of.decode_per_second / of.dtype.size() as f64 / 1e6),
        ]);
    }
    for of in &export.integers {
        table.row([
            of.file.clone(),
            draw::count(of.ours.bytes as u64),
            format!("{:.4} bits", of.ours.bits_per_weight),
            format!("{:.0}", of.ours.decode_per_second / 1e6),
        ]);
    }
    table.print()
}
