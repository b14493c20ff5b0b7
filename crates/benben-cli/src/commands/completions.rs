//! `benben completions`

use crate::args::{Args, Completions};
use crate::draw;
use crate::exit::Exit;
use benben::Result;
use clap::CommandFactory;

pub(crate) fn run(args: &Completions) -> Result<Exit> {
    // The generator panics where it cannot write: it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "benben", &mut script);
    draw::text(&script)?;
    Ok(Exit::Ok)
}
