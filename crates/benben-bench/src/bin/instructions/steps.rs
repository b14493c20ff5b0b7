//! The parent that steps, the child that decodes, and the table.

use benben::codec::entropy::Kernel;
use benben_bench::{Job, Matrix, Rans, Sample, Scratch};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// Symbols of one chunk, of which there are two.
const CHUNK: u32 = 2048;
/// Steps are counted from the write of this symbol of the first chunk to that of the other, 8 groups on.
const FIRST: usize = 64;
const LAST: usize = FIRST + 8 * 32;
/// How far a figure may be from the table: compilers differ, and a kernel that spills a register shows more.
const TOLERANCE: f64 = 0.25;
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const HEADER: &str = "\
# Instructions of the inner loop for each symbol, by kernel and job, on Gaussian integers of 3 bits.
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
        ["child", kernel, job] => child(kernel, job),
        [] => table().map(|_| ExitCode::SUCCESS),
        ["--write"] => {
            let mut text = HEADER.to_owned();
            for (kernel, job, count) in table()?.into_iter().flatten() {
                writeln!(text, "{:<13} {:<14} {count:6.2}", kernel.name(), job.name())
                    .map_err(told("table"))?;
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
            let Some(count) = count(kernel, job)? else {
                println!(
                    "skipped: this system lets no process step through its child, or has no debug registers"
                );
                return Ok(None);
            };
            println!("{:<13} {:<14} {count:6.2}", kernel.name(), job.name());
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
        // Names of kernels have spaces: the line is what stands before its last word, spaces aside.
        let name: Vec<&str> = kernel.name().split_whitespace().chain([job.name()]).collect();
        let line = text.lines().find_map(|line| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            let count = words.pop()?;
            (words == name).then_some(count)
        });
        let expected: f64 = line
            .ok_or_else(|| format!("{TABLE} has no line for {kernel} {job}"))?
            .parse()
            .map_err(told("a count of the table"))?;
        let off = (count / expected - 1.0).abs();
        if off.is_nan() || off > TOLERANCE {
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

/// Instructions for each symbol between the writes of two symbols; none where this system does not let us see.
///
/// The child runs freely to the first write, which a debug register catches, then step by step to the second. How many
/// symbols were written meanwhile is read from its memory: kernels take two chunks at a time, or one.
fn count(kernel: Kernel, job: Job) -> Outcome<Option<f64>> {
    let program = std::env::current_exe().map_err(told("own name"))?;
    let mut command = Command::new(program);
    command.args(["child", kernel.name(), job.name()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Ended(command.spawn().map_err(told("child"))?);
    let pid = Pid::from_raw(i32::try_from(child.0.id()).map_err(told("child"))?);
    let mut line = String::new();
    let pipe = child.0.stdout.take().ok_or("the child has no output")?;
    BufReader::new(pipe).read_line(&mut line).map_err(told("child"))?;
    match waitpid(pid, None).map_err(told("waiting for the child"))? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, code) if code == i32::from(NOT_PERMITTED) => return Ok(None),
        other => return Err(format!("the child did not stop: {other:?}")),
    }
    let out = Written { pid, at: line.trim().parse().map_err(told("address"))?, job };
    if watch(pid, out.address(FIRST)).is_err() || ptrace::cont(pid, None).is_err() {
        return Ok(None);
    }
    match waitpid(pid, None).map_err(told("waiting for the child"))? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
        // It came to its second stop: this machine's debug registers do not work.
        WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(None),
        other => return Err(format!("the child came to something else than a write: {other:?}")),
    }
    let before = out.count()?;
    watch(pid, out.address(LAST)).map_err(told("debug register"))?;
    let mut steps = 0;
    loop {
        ptrace::step(pid, None).map_err(told("stepping"))?;
        match waitpid(pid, None).map_err(told("waiting for the child"))? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => steps += 1,
            other => return Err(format!("the child came to something else than a step: {other:?}")),
        }
        // The lowest bit of DR6 says that the write was seen.
        if ptrace::read_user(pid, register(6)).map_err(told("debug register"))? & 1 == 1 {
            break;
        }
    }
    let symbols = out.count()? - before;
    Ok(Some(f64::from(steps) / symbols as f64))
}

/// Where the registers for debugging stand in Linux's `struct user` of x86-64.
fn register(number: usize) -> ptrace::AddressType {
    std::ptr::without_provenance_mut(848 + 8 * number)
}

/// Stops at the next write to the four bytes at `address`.
fn watch(pid: Pid, address: usize) -> nix::Result<()> {
    // Enabled for this process (1), on writes (1 << 16), four bytes wide (3 << 18).
    let address = i64::try_from(address).map_err(|_| Errno::EINVAL)?;
    ptrace::write_user(pid, register(7), 0)?;
    ptrace::write_user(pid, register(0), address)?;
    ptrace::write_user(pid, register(7), 1 | 1 << 16 | 3 << 18)
}

/// What the child decodes to.
struct Written {
    pid: Pid,
    at: usize,
    job: Job,
}

impl Written {
    const fn width(&self) -> usize {
        if matches!(self.job, Job::Symbols) { 1 } else { 4 }
    }

    fn address(&self, symbol: usize) -> usize {
        self.at + symbol * self.width()
    }

    /// Symbols that are written so far.
    fn count(&self) -> Outcome<usize> {
        let mut memory = File::open(format!("/proc/{}/mem", self.pid)).map_err(told("memory"))?;
        let mut bytes = vec![0; 2 * CHUNK as usize * self.width()];
        memory.seek(SeekFrom::Start(self.at as u64)).map_err(told("memory"))?;
        memory.read_exact(&mut bytes).map_err(told("memory"))?;
        Ok(match self.job {
            Job::Symbols => bytes.iter().filter(|&&s| s != u8::MAX).count(),
            _ => bytes.as_chunks().0.iter().filter(|&&v| !f32::from_le_bytes(v).is_nan()).count(),
        })
    }
}

/// How a child ends that may not be traced.
const NOT_PERMITTED: u8 = 77;

/// Decodes between two stops.
fn child(kernel: &str, job: &str) -> Outcome<ExitCode> {
    let kernel = Kernel::ALL.into_iter().find(|k| k.name() == kernel).ok_or("which kernel?")?;
    let job = Job::ALL.into_iter().find(|j| j.name() == job).ok_or("which job?")?;
    // One thread, and it is this one: only what is stepped through is counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().map_err(told("pool"))?;

    let mut matrix = Matrix::gaussian(2 * CHUNK as usize, 7);
    // Five standard deviations make the largest symbol 20 whatever else there is: the kernels choose their look-up by it.
    matrix.values[0] = 5.0;
    let sample = Sample::quantize(&[matrix], 3.0).map_err(told("sample"))?;
    let mut rans = Rans::in_chunks(kernel, job, &sample, CHUNK);
    rans.encode().map_err(told("encoder"))?;
    let mut scratch = Scratch::new(&sample);
    // What is done once, the look at the processor for one, is done here.
    rans.decode(&mut scratch).map_err(told("decoder"))?;
    rans.check(&scratch).map_err(told("decoder"))?;
    scratch.spoil();
    let at = match job {
        Job::Symbols => scratch.symbols().as_ptr().addr(),
        _ => scratch.values().as_ptr().addr(),
    };
    println!("{at}");

    if ptrace::traceme().is_err() {
        return Ok(ExitCode::from(NOT_PERMITTED));
    }
    raise(Signal::SIGSTOP).map_err(told("first stop"))?;
    let decoded = rans.decode(&mut scratch);
    raise(Signal::SIGSTOP).map_err(told("second stop"))?;
    decoded.and_then(|()| rans.check(&scratch)).map_err(told("decoder"))?;
    Ok(ExitCode::SUCCESS)
}
