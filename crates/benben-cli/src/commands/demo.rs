//! `benben demo`

use crate::args::{Demo, Global};
use crate::draw::{self, Align, Bar, Table, say};
use crate::exit::Exit;
use benben::{AtomicFile, Error, Plan, Recipe, Result, Selection, compare, open_model, pack, unpack};
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// The demo model, part of the program so that it runs anywhere. How it was trained stands beside it.
const FILES: [(&str, &[u8]); 4] = [
    ("model.safetensors", include_bytes!("../../../../examples/models/demo/model.safetensors")),
    ("config.json", include_bytes!("../../../../examples/models/demo/config.json")),
    ("tokenizer.json", include_bytes!("../../../../examples/models/demo/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../../examples/models/demo/tokenizer_config.json")),
];
const PRESETS: [&str; 2] = ["lossless", "balanced"];

#[derive(Serialize)]
struct Row {
    preset: &'static str,
    source_bytes: u64,
    packed_bytes: u64,
    bits_per_weight: f64,
    relative_mse: f64,
    max_error: f64,
    identical: bool,
    verified: bool,
    pack_seconds: f64,
    unpack_seconds: f64,
}

pub(crate) fn run(args: &Demo, global: &Global) -> Result<Exit> {
    let temporary = tempfile::tempdir()?;
    let folder = args.keep.as_deref().unwrap_or(temporary.path());
    let source = folder.join("demo-model");
    std::fs::create_dir_all(&source).map_err(|e| Error::from(e).context(source.display()))?;
    for (name, bytes) in FILES {
        let mut file = AtomicFile::create(&source.join(name), true)?;
        file.write_all(bytes)?;
        file.commit()?;
    }
    let rows =
        PRESETS.into_iter().map(|p| round_trip(p, folder, &source, global)).collect::<Result<Vec<_>>>()?;
    if global.json {
        draw::json(&rows)?;
    } else if !global.quiet {
        show(&rows)?;
        if args.keep.is_some() {
            say!("\nkept in {}", folder.display())?;
        }
    }
    Ok(if rows.iter().all(|r| r.verified) { Exit::Ok } else { Exit::Failed })
}

/// Packs, verifies, unpacks and compares.
fn round_trip(preset: &'static str, folder: &Path, source: &Path, global: &Global) -> Result<Row> {
    let packed = folder.join(format!("demo-{preset}.benben"));
    let unpacked = folder.join(format!("demo-{preset}"));
    let model = open_model(source)?;
    let plan = Plan::new(&*model, &Recipe::preset(preset)?)?;
    let started = Instant::now();
    let bar = Bar::new("packing", global);
    let mut file = AtomicFile::create(&packed, true)?;
    let report = pack(&*model, &plan, &mut file, &mut |p| bar.show(p))?;
    file.commit()?;
    drop(bar);
    let pack_seconds = started.elapsed().as_secs_f64();
    let opened = benben::open(&packed)?;
    let verified = opened.verify(&mut benben::ignore)?.is_good();
    let started = Instant::now();
    unpack(&opened, &unpacked, &Selection::default(), true, &mut benben::ignore)?;
    let unpack_seconds = started.elapsed().as_secs_f64();
    let found = compare(&*model, &*open_model(&unpacked)?, |_| true, &mut benben::ignore)?;
    Ok(Row {
        preset,
        source_bytes: report.source_bytes,
        packed_bytes: report.packed_bytes,
        bits_per_weight: report.bits_per_weight,
        relative_mse: found.relative_mse,
        max_error: found.max_error,
        identical: found.is_identical(),
        verified,
        pack_seconds,
        unpack_seconds,
    })
}

fn show(rows: &[Row]) -> Result<()> {
    say!("A small language model, packed twice, checked, unpacked, and compared with the original:\n")?;
    let mut table = Table::new(&[
        ("preset", Align::Left),
        ("original", Align::Right),
        ("packed", Align::Right),
        ("of original", Align::Right),
        ("bits/weight", Align::Right),
        ("error in the weights", Align::Right),
        ("checked", Align::Left),
        ("pack", Align::Right),
        ("unpack", Align::Right),
    ]);
    for r in rows {
        table.row([
            r.preset.into(),
            draw::bytes(r.source_bytes),
            draw::bytes(r.packed_bytes),
            format!("{:.1} %", 100.0 * r.packed_bytes as f64 / r.source_bytes.max(1) as f64),
            format!("{:.2}", r.bits_per_weight),
            if r.identical {
                "none, bit for bit".into()
            } else {
                format!("{:.3} %", 100.0 * r.relative_mse.sqrt())
            },
            if r.verified { "ok".into() } else { "FAILED".into() },
            format!("{:.2} s", r.pack_seconds),
            format!("{:.2} s", r.unpack_seconds),
        ]);
    }
    table.print()?;
    say!(
        "\nThe packs hold configuration and tokenizer too. The error is the size of the difference between the weights \
         and\ntheir originals, relative to the weights. Try your own model: benben pack MODEL.safetensors"
    )
}
