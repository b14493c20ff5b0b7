//! One tensor on its way into memory, and those who wait for it.

use benben_format::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, PoisonError};

/// What came of a piece of work on another thread.
#[derive(Debug, Clone)]
pub(super) enum Outcome<T> {
    Done(T),
    Failed(Error),
    /// The message of a panic; everyone who waits panics too.
    Panicked(String),
}

impl<T> Outcome<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(value) => Outcome::Done(change(value)),
            Self::Failed(error) => Outcome::Failed(error),
            Self::Panicked(message) => Outcome::Panicked(message),
        }
    }

    /// Runs `work` and keeps a panic in hand: left alone, it would end the process from inside a pool.
    pub(super) fn of(work: impl FnOnce() -> Result<T>) -> Self {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Self::Done(value),
            Ok(Err(error)) => Self::Failed(error),
            Err(payload) => Self::Panicked(message(&*payload)),
        }
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}

/// The outcome of work that is done elsewhere, awaited by any number of threads.
///
/// Waiting blocks the thread and runs nothing else on it. A worker of rayon's that steals work while it waits may
/// steal a call that waits for the very work lower in its own stack; whoever lands a flight must therefore be on
/// another thread that never waits for this one (the store's own pool).
#[derive(Debug)]
pub(super) struct Flight<T> {
    outcome: Mutex<Option<Outcome<T>>>,
    landed: Condvar,
}

impl<T: Clone> Flight<T> {
    pub(super) fn new() -> Self {
        Self { outcome: Mutex::new(None), landed: Condvar::new() }
    }

    /// Hands the outcome to all who wait.
    pub(super) fn land(&self, outcome: Outcome<T>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.landed.notify_all();
    }

    /// Waits for the outcome.
    pub(super) fn wait(&self) -> Result<T> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*outcome {
                None => outcome = self.landed.wait(outcome).unwrap_or_else(PoisonError::into_inner),
                Some(Outcome::Done(value)) => return Ok(value.clone()),
                Some(Outcome::Failed(error)) => return Err(error.clone()),
                Some(Outcome::Panicked(message)) => {
                    let message = message.clone();
                    drop(outcome);
                    resume_unwind(Box::new(message))
                }
            }
        }
    }
}

/// How many flights are in the air. By itself, so that a thread has let go of all else when it counts itself out.
#[derive(Debug, Default)]
pub(super) struct Flights {
    count: Mutex<usize>,
    none: Condvar,
}

impl Flights {
    /// One more is in the air.
    pub(super) fn begin(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// One is done.
    pub(super) fn end(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            self.none.notify_all();
        }
    }

    /// Waits until none is in the air.
    pub(super) fn wait(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self.none.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn all_who_wait_are_given_the_same() {
        for failing in [false, true] {
            let flight = Arc::new(Flight::new());
            let waiting: Vec<_> = (0..4)
                .map(|_| {
                    let flight = Arc::clone(&flight);
                    std::thread::spawn(move || flight.wait())
                })
                .collect();
            flight.land(Outcome::of(|| if failing { Err(Error::invalid("no")) } else { Ok(7) }));
            for thread in waiting {
                let expected = if failing { Err(Error::invalid("no")) } else { Ok(7) };
                assert_eq!(thread.join().unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_panic_reaches_those_who_wait() {
        let flight: Flight<u8> = Flight::new();
        flight.land(Outcome::of(|| panic!("number {}", 5)));
        let caught = catch_unwind(AssertUnwindSafe(|| flight.wait())).unwrap_err();
        assert_eq!(caught.downcast_ref::<String>().unwrap(), "number 5");
    }
}
