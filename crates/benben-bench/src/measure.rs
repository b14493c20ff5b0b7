//! The clock: contestants take turns, and the median of their turns counts.

use benben::{Error, Observer, Progress, Result, ignore};
use std::time::Instant;

/// How much is measured, and with what.
pub struct Measure<'a> {
    /// Turns of each contestant.
    rounds: usize,
    /// Seconds after which a contestant gets no more turns: zstd -19 takes minutes.
    budget: f64,
    pool: rayon::ThreadPool,
    observer: Box<Observer<'a>>,
}

/// What one contestant does in a turn.
pub(crate) struct Task<'a> {
    pub(crate) name: String,
    pub(crate) turn: Box<dyn FnMut() -> Result<()> + Send + 'a>,
}

impl<'a> Measure<'a> {
    /// Nine turns, on `threads` threads.
    ///
    /// # Errors
    /// Io where the system gives no threads.
    pub fn new(threads: usize) -> Result<Self> {
        Self::with(threads, 9, 2.0)
    }

    /// Three short turns: for a look, and for tests.
    ///
    /// # Errors
    /// As [`Measure::new`].
    pub fn quick(threads: usize) -> Result<Self> {
        Self::with(threads, 3, 0.2)
    }

    fn with(threads: usize, rounds: usize, budget: f64) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        let pool = pool.map_err(|e| Error::io(format!("{threads} threads: {e}")))?;
        Ok(Self { rounds, budget, pool, observer: Box::new(ignore) })
    }

    /// Tells `observer` which contestant's turn it is.
    #[must_use]
    pub fn observed(mut self, observer: Box<Observer<'a>>) -> Self {
        self.observer = observer;
        self
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Seconds of each task, the median of its turns. The first turn warms up, and counts only where it was so long
    /// that there is no other.
    pub(crate) fn race(&mut self, tasks: &mut [Task<'_>]) -> Result<Vec<f64>> {
        let mut times = vec![Vec::new(); tasks.len()];
        let mut spent = vec![0.0; tasks.len()];
        let total = ((self.rounds + 1) * tasks.len()) as u64;
        for round in 0..=self.rounds {
            for (i, task) in tasks.iter_mut().enumerate() {
                self.tell(&task.name, (round * times.len() + i) as u64, total)?;
                if spent[i] > self.budget {
                    continue;
                }
                let seconds = self.time(&mut task.turn)?;
                spent[i] += seconds;
                if round > 0 || spent[i] > self.budget {
                    times[i].push(seconds);
                }
            }
        }
        Ok(times.into_iter().map(median).collect())
    }

    /// Seconds of one turn in the pool: with one thread its CPU time where the system tells, else by the clock on the
    /// wall. On a busy machine short turns end before anyone cuts in and long ones do not, which made ratios twice too
    /// large.
    pub(crate) fn time(&self, turn: &mut (dyn FnMut() -> Result<()> + Send)) -> Result<f64> {
        let alone = self.threads() == 1;
        self.pool.install(|| {
            let (started, cpu) = (Instant::now(), cpu_seconds().filter(|_| alone));
            turn()?;
            let seconds = match (cpu, cpu_seconds()) {
                (Some(before), Some(after)) => after - before,
                _ => started.elapsed().as_secs_f64(),
            };
            // A clock too coarse for the turn must not make it infinitely fast.
            Ok(seconds.max(1e-9))
        })
    }

    /// Says where the work is.
    pub(crate) fn tell(&mut self, item: &str, done: u64, total: u64) -> Result<()> {
        let flow = (self.observer)(Progress { item, done, total });
        if flow.is_break() { Err(Error::interrupted()) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Measure<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds, budget, .. } = self;
        f.debug_struct("Measure").field("rounds", rounds).field("budget", budget).finish_non_exhaustive()
    }
}

/// Seconds that this thread has run.
#[cfg(target_os = "linux")]
fn cpu_seconds() -> Option<f64> {
    let now = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().ok()?;
    Some(now.tv_sec() as f64 + now.tv_nsec() as f64 * 1e-9)
}

#[cfg(not(target_os = "linux"))]
fn cpu_seconds() -> Option<f64> {
    None
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_gets_its_turns_and_an_error_ends_the_race() {
        let turns = AtomicUsize::new(0);
        let count = || Task {
            name: "count".into(),
            turn: Box::new(|| {
                turns.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }),
        };
        let mut measure = Measure::with(2, 3, 10.0).unwrap();
        let times = measure.race(&mut [count(), count()]).unwrap();
        assert!(times.len() == 2 && times.iter().all(|t| *t > 0.0));
        assert_eq!(turns.load(Ordering::Relaxed), 8);
        let fail = Task { name: "fail".into(), turn: Box::new(|| Err(Error::corruption("wrong"))) };
        assert!(measure.race(&mut [fail]).is_err());
    }

    #[test]
    fn a_long_task_has_one_turn_which_counts() {
        let turns = AtomicUsize::new(0);
        let turn = Box::new(|| {
            turns.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let mut measure = Measure::with(1, 5, 0.0).unwrap();
        let times = measure.race(&mut [Task { name: "long".into(), turn }]).unwrap();
        assert_eq!((times[0] > 0.0, turns.load(Ordering::Relaxed)), (true, 1));
    }
}
