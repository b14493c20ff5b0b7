//! `benben verify`

use crate::args::{Global, Verify};
use crate::draw::{self, Bar, complain, say};
use crate::exit::{self, Exit};
use benben::{Comparison, Error, ErrorKind, PackedModel, Result, compare, open_model};
use serde::Serialize;

#[derive(Serialize)]
struct Report {
    ok: bool,
    root: Option<String>,
    packed_bytes: Option<u64>,
    tensors: usize,
    files: usize,
    faults: Vec<FaultReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worst_relative_mse: Option<f64>,
}

#[derive(Serialize)]
struct FaultReport {
    name: String,
    kind: String,
    message: String,
}

impl FaultReport {
    fn new(name: &str, error: &Error) -> Self {
        Self { name: name.into(), kind: error.kind().to_string(), message: error.message().into() }
    }
}

pub(crate) fn run(args: &Verify, global: &Global) -> Result<Exit> {
    let pack = match benben::open(&args.pack) {
        Ok(pack) => pack,
        Err(e) => return refused(&e, global),
    };
    let bar = Bar::new("verifying", global);
    let found = pack.verify(&mut |p| bar.show(p))?;
    drop(bar);
    let (root, packed_bytes) = (benben::hex(&pack.reader().root()), pack.reader().len());
    let mut exit = match (found.is_good(), found.is_only_incompatible()) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::Unsupported,
        (false, false) => Exit::Failed,
    };
    let (mut worst, mut unlike) = (None, None);
    if let (Some(source), Exit::Ok) = (&args.against, exit) {
        let bar = Bar::new("comparing", global);
        let comparison =
            compare(&*open_model(source)?, &PackedModel::new(pack)?, |_| true, &mut |p| bar.show(p))?;
        drop(bar);
        worst = Some(comparison.worst_relative_mse);
        unlike = Some(&comparison).filter(|c| !c.same_tensors()).map(unlikeness);
        if !comparison.same_tensors() || args.max_mse.is_some_and(|most| comparison.worst_relative_mse > most)
        {
            exit = Exit::NotMet;
        }
    }
    if global.json {
        draw::json(&Report {
            ok: exit == Exit::Ok,
            root: Some(root),
            packed_bytes: Some(packed_bytes),
            tensors: found.tensors,
            files: found.files,
            faults: found.faults.iter().map(|f| FaultReport::new(&f.name, &f.error)).collect(),
            worst_relative_mse: worst,
        })?;
        return Ok(exit);
    }
    for fault in &found.faults {
        complain!("{}: {}", fault.name, fault.error);
    }
    if !global.quiet {
        let verdict = match exit {
            Exit::Ok => "ok",
            Exit::NotMet => "NOT MET",
            _ => "FAILED",
        };
        say!(
            "{verdict}: {} tensors and {} files of {} decoded, {} faults",
            found.tensors,
            found.files,
            draw::bytes(packed_bytes),
            found.faults.len()
        )?;
        if let Some(unlike) = unlike {
            say!("the source is another model: {unlike}")?;
        } else if let Some(worst) = worst {
            say!("largest relative error against the source: {}", draw::error(Some(worst)))?;
        }
        say!("root {root}")?;
    }
    Ok(exit)
}

/// How many tensors are not in both.
fn unlikeness(found: &Comparison) -> String {
    format!(
        "{} tensors are only in it, {} only in the pack, {} have other shapes; `benben compare` lists them",
        found.only_in_first.len(),
        found.only_in_second.len(),
        found.shapes_differ.len()
    )
}

/// A pack that does not even open.
fn refused(error: &Error, global: &Global) -> Result<Exit> {
    if global.json {
        let faults = vec![FaultReport::new("pack", error)];
        let (tensors, files) = (0, 0);
        draw::json(&Report {
            ok: false,
            root: None,
            packed_bytes: None,
            tensors,
            files,
            faults,
            worst_relative_mse: None,
        })?;
    }
    let exit = exit::report(error);
    // What is given to verify may be anything: that it is no good pack is the answer, not a wrong question.
    Ok(if error.kind() == ErrorKind::InvalidArgument { Exit::Failed } else { exit })
}
