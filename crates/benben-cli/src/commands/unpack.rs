//! `benben unpack`

use crate::args::{Global, Unpack};
use crate::draw::{self, Bar, say};
use crate::exit::Exit;
use benben::{Error, ErrorKind, Limits, Pack, Result, Selection, unpack};
use serde::Serialize;

/// Lines for what was left out; a large model has hundreds of tensors.
const MOST_LISTED: usize = 5;

#[derive(Serialize)]
struct Report<'a> {
    tensors: usize,
    files: usize,
    weight_bytes: u64,
    paths: &'a [std::path::PathBuf],
    skipped: &'a [(String, String)],
}

pub(crate) fn run(args: &Unpack, global: &Global) -> Result<Exit> {
    let pack = match benben::open(&args.pack) {
        Err(e) if args.truncated && e.kind() == ErrorKind::InsufficientData => {
            Pack::from_truncated(benben::open_bytes(&args.pack)?, Limits::default())?
        }
        other => other?,
    };
    let output = args.output.clone().unwrap_or_else(|| args.pack.with_extension(""));
    if output == std::path::Path::new("-") {
        return Err(
            Error::invalid("a model is not written to stdout").with_hint("-o FOLDER, or -o FILE.safetensors")
        );
    }
    let selection =
        Selection { patterns: args.tensor.clone(), dtype: args.dtype, skip_unreadable: args.truncated };
    let bar = Bar::new("unpacking", global);
    let done = unpack(&pack, &output, &selection, args.force, &mut |p| bar.show(p))?;
    drop(bar);
    if global.json {
        draw::json(&Report {
            tensors: done.tensors,
            files: done.files,
            weight_bytes: done.weight_bytes,
            paths: &done.paths,
            skipped: &done.skipped,
        })?;
    } else if !global.quiet {
        for (name, why) in done.skipped.iter().take(MOST_LISTED) {
            say!("left out {name}: {why}")?;
        }
        if done.skipped.len() > MOST_LISTED {
            say!("left out {} more; --json lists them all", done.skipped.len() - MOST_LISTED)?;
        }
        say!(
            "{}: {} tensors ({}) and {} files",
            output.display(),
            done.tensors,
            draw::bytes(done.weight_bytes),
            done.files
        )?;
    }
    Ok(if done.skipped.is_empty() { Exit::Ok } else { Exit::NotMet })
}
