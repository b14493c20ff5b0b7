//! The `benben` command: flags to facade calls, results to tables or JSON. Nothing is decided here.

mod args;
mod commands;
mod draw;
mod exit;
mod memory;

use args::{Args, Command};
use benben::Result;
use clap::Parser;
use exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    // Whatever is half written goes away, and what was there before stays.
    let handler = ctrlc::set_handler(|| {
        if exit::told_to_stop() {
            return;
        }
        benben::discard_unfinished();
        draw::complain!("\ninterrupted: nothing was written");
        #[allow(clippy::exit, reason = "a signal ends the program from another thread")]
        std::process::exit(exit::INTERRUPTED);
    });
    if let Err(e) = handler {
        draw::complain!("warning: Ctrl-C will not clean up: {e}");
    }
    let outcome = run(&args).unwrap_or_else(|e| exit::report(&e));
    outcome.into()
}

fn run(args: &Args) -> Result<Exit> {
    if let Some(threads) = args.global.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
        pool.map_err(|e| benben::Error::invalid(format!("--threads {threads}: {e}")))?;
    }
    match &args.command {
        Command::Pack(a) => commands::pack::run(a, &args.global),
        Command::Plan(a) => commands::plan::run(a, &args.global),
        Command::Calibrate(a) => commands::calibrate::run(a, &args.global),
        Command::Recover(a) => commands::recover::run(a, &args.global),
        Command::Unpack(a) => commands::unpack::run(a, &args.global),
        Command::Inspect(a) => commands::inspect::run(a, &args.global),
        Command::Verify(a) => commands::verify::run(a, &args.global),
        Command::Compare(a) => commands::compare::run(a, &args.global),
        Command::Run(a) => commands::run::run(a, &args.global),
        Command::Eval(a) => commands::eval::run(a, &args.global),
        Command::Demo(a) => commands::demo::run(a, &args.global),
        Command::Bench(a) => commands::bench::run(a, &args.global),
        Command::Completions(a) => commands::completions::run(a),
    }
}
