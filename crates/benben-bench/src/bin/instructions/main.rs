//! Instructions that each kernel retires for a symbol: figures without noise, to be kept beside the code.
//!
//! ```console
//! cargo run --release -p benben-bench --bin instructions              # measure, and print
//! cargo run --release -p benben-bench --bin instructions -- --write   # ... and replace instructions.txt
//! cargo run --release -p benben-bench --bin instructions -- --check   # ... and compare with it; a test does this
//! ```
//!
//! A child decodes while its parent steps through the inner loop, an instruction at a time, between two writes that a
//! debug register catches. That counts exactly, works in virtual machines without counters, and knows AVX-512, which
//! valgrind does not. What comes before and after (slot tables, the last groups, which are decoded singly) is not in it.
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
