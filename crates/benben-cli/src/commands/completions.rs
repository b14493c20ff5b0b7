//! `benben completions`

use crate::args::{Args, Completions};
use crate::exit::Exit;
use clap::CommandFactory;

pub(crate) fn run(args: &Completions) -> Exit {
    clap_complete::generate(args.shell, &mut Args::command(), "benben", &mut std::io::stdout());
    Exit::Ok
}
