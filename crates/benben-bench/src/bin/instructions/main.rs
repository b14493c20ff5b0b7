//! Instructions that each kernel retires for a symbol: figures without noise, to be kept beside the code.
//!
//! ```console
//! cargo run --release -p benben-bench --bin instructions              # measure, and print
//! cargo run --release -p benben-bench --bin instructions -- --write   # ... and replace instructions.txt
//! cargo run --release -p benben-bench --bin instructions -- --check   # ... and compare with it; a test does this
//! ```
//!
//! A child decodes between two stops while its parent steps through it, an instruction at a time. That counts exactly,
//! needs no permission that a debugger lacks, works in virtual machines without counters, and knows AVX-512, which
//! valgrind does not. The difference of two chunks of 4096 symbols and two of 2048 leaves out all that does not grow
//! with the symbols: slot tables, the start, and the last groups, which are decoded singly.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod steps;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> ExitCode {
    match steps::run(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() -> ExitCode {
    println!("skipped: instructions are counted on Linux, x86-64");
    ExitCode::SUCCESS
}
