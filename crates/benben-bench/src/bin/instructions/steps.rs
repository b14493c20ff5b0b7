//! The parent that steps, the child that decodes, and the table.

use benben::codec::entropy::Kernel;
use benben_bench::{Job, Matrix, Rans, Sample, Scratch};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fmt::Display;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// Symbols of one chunk, of which two are decoded side by side.
const CHUNK: u32 = 2048;
/// How far a figure may be from the table: compilers differ, and a kernel that spills a register shows more.
const TOLERANCE: f64 = 0.25;
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const HEADER: &str = "\
# Instructions for each symbol, by kernel and job; two chunks side by side, Gaussian integers of 3 bits.
# Written by `cargo run --release -p benben-bench --bin instructions -- --write`; a test holds builds within 25 %.
";

type Outcome<T> = Result<T, String>;

fn told<T>(what: &str) -> impl FnOnce(T) -> String + '_
where
    T: Display,
{
    move |e| format!("{what}: {e}")
}

pub(crate) fn run(args: Vec<String>) -> Outcome<ExitCode> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["child", kernel, job, chunk] => child(kernel, job, chunk),
        [] => table().map(|_| ExitCode::SUCCESS),
        ["--write"] => {
            let mut text = HEADER.to_owned();
            for (kernel, job, count) in table()?.into_iter().flatten() {
                writeln!(text, "{kernel:<8} {job:<14} {count:6.2}").map_err(told("table"))?;
            }
            let mut file = benben::AtomicFile::create(Path::new(TABLE), true).map_err(told(TABLE))?;
            std::io::Write::write_all(&mut file, text.as_bytes()).map_err(told(TABLE))?;
            file.commit().map_err(told(TABLE))?;
            Ok(ExitCode::SUCCESS)
        }
        ["--check"] => check(),
        _ => Err("expected nothing, --write or --check".into()),
    }
}

/// One line of the table.
type Count = (Kernel, Job, f64);

/// Counts all there are; none where that is not permitted.
fn table() -> Outcome<Option<Vec<Count>>> {
    if cfg!(debug_assertions) {
        println!("skipped: a build without optimization says nothing");
        return Ok(None);
    }
    let mut found = Vec::new();
    for kernel in Kernel::ALL {
        if !kernel.is_available() {
            println!("skipped: this machine has no {kernel}");
            continue;
        }
        for job in Job::ALL {
            let Some(short) = steps(kernel, job, CHUNK)? else {
                println!("skipped: this system lets no process step through its child");
                return Ok(None);
            };
            let long = steps(kernel, job, 2 * CHUNK)?.unwrap_or(short);
            let count = (long - short) as f64 / f64::from(2 * CHUNK);
            println!("{kernel:<8} {job:<14} {count:6.2}");
            found.push((kernel, job, count));
        }
    }
    Ok(Some(found))
}

/// Compares with the table in the repository.
fn check() -> Outcome<ExitCode> {
    let text = std::fs::read_to_string(TABLE).map_err(told(TABLE))?;
    let mut wrong = 0;
    for (kernel, job, count) in table()?.into_iter().flatten() {
        let names = [kernel.name(), job.name()];
        let line = text.lines().find_map(|l| match l.split_whitespace().collect::<Vec<_>>()[..] {
            [k, j, count] if [k, j] == names => Some(count),
            _ => None,
        });
        let expected: f64 = line
            .ok_or_else(|| format!("{TABLE} has no line for {kernel} {job}"))?
            .parse()
            .map_err(told("a count of the table"))?;
        let off = count / expected - 1.0;
        // Written so that a figure that is no number counts as wrong.
        if !(off.abs() <= TOLERANCE) {
            eprintln!(
                "{kernel} {job}: {count:.2} instructions for each symbol, the table says {expected:.2}"
            );
            wrong += 1;
        }
    }
    if wrong > 0 {
        eprintln!("where that is meant, `instructions --write` brings the table up to date");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A child that is ended with its handle, however that goes.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Instructions from the first stop of a child to its second; none where it may not be stepped through.
fn steps(kernel: Kernel, job: Job, chunk: u32) -> Outcome<Option<u64>> {
    let program = std::env::current_exe().map_err(told("own name"))?;
    let mut command = Command::new(program);
    command.args(["child", kernel.name(), job.name(), &chunk.to_string()]).stdin(Stdio::null());
    // Standard output is the table's.
    let child = Ended(command.stdout(Stdio::null()).spawn().map_err(told("child"))?);
    let pid = Pid::from_raw(i32::try_from(child.0.id()).map_err(told("child"))?);
    let stopped = |status| matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP));
    match waitpid(pid, None).map_err(told("waiting for the child"))? {
        status if stopped(status) => {}
        WaitStatus::Exited(_, code) if code == i32::from(NOT_PERMITTED) => return Ok(None),
        other => return Err(format!("the child did not stop: {other:?}")),
    }
    let mut count = 0;
    loop {
        match ptrace::step(pid, None) {
            Err(Errno::EPERM | Errno::ENOSYS | Errno::EIO) if count == 0 => return Ok(None),
            other => other.map_err(told("stepping"))?,
        }
        match waitpid(pid, None).map_err(told("waiting for the child"))? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => count += 1,
            status if stopped(status) => return Ok(Some(count)),
            other => return Err(format!("the child came to something else than a step: {other:?}")),
        }
    }
}

/// How a child ends that may not be traced.
const NOT_PERMITTED: u8 = 77;

/// Decodes between two stops.
fn child(kernel: &str, job: &str, chunk: &str) -> Outcome<ExitCode> {
    let kernel = Kernel::ALL.into_iter().find(|k| k.name() == kernel).ok_or("which kernel?")?;
    let job = Job::ALL.into_iter().find(|j| j.name() == job).ok_or("which job?")?;
    let chunk: u32 = chunk.parse().map_err(told("size of a chunk"))?;
    // One thread, and it is this one: only what is stepped through is counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().map_err(told("pool"))?;

    let mut matrix = Matrix::gaussian(2 * chunk as usize, 7);
    // The largest symbol is 20 whatever else there is: the kernels choose their look-up by it.
    matrix.values[0] = 5.0 * matrix.rms() as f32;
    let sample = Sample::quantize(&[matrix], 3.0).map_err(told("sample"))?;
    let mut rans = Rans::in_chunks(kernel, job, &sample, chunk);
    rans.encode().map_err(told("encoder"))?;
    let mut scratch = Scratch::new(&sample);
    // What is done once, the look at the processor for one, is done here.
    rans.decode(&mut scratch).map_err(told("decoder"))?;

    if ptrace::traceme().is_err() {
        return Ok(ExitCode::from(NOT_PERMITTED));
    }
    raise(Signal::SIGSTOP).map_err(told("first stop"))?;
    let decoded = rans.decode(&mut scratch);
    raise(Signal::SIGSTOP).map_err(told("second stop"))?;
    decoded.and_then(|()| rans.check(&scratch)).map_err(told("decoder"))?;
    Ok(ExitCode::SUCCESS)
}
