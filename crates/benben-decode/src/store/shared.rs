//! What a store shares with the threads that decode for it, and what these do.

use super::flight::{Flights, Outcome};
use super::shelf::{Gone, Job, Shelf};
use super::{Event, Options};
use crate::{Pack, Resident, Tensor};
use benben_format::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the threads that decode know.
pub(super) struct Shared {
    pub(super) pack: Arc<Pack>,
    pub(super) options: Options,
    pub(super) shelf: Mutex<Shelf>,
    pub(super) flights: Arc<Flights>,
}

impl Shared {
    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tensor(&self, tensor: usize) -> Result<Tensor<'_>> {
        let found = self.pack.tensors().nth(tensor);
        found
            .ok_or_else(|| Error::invalid(format!("tensor number {tensor} of {}", self.pack.tensors().len())))
    }

    /// Decodes one tensor, on a thread of the store's pool, and whatever is due after it.
    pub(super) fn load(self: Arc<Self>, job: Job) {
        let started = Instant::now();
        let outcome = Outcome::of(|| {
            let tensor = self.tensor(job.tensor)?;
            let resident = Resident::load(&tensor, self.options.form).map_err(|e| e.in_tensor(tensor.name()));
            self.release(&tensor);
            resident.map(Arc::new)
        });
        for job in self.finish(&job, outcome, started.elapsed()) {
            self.flights.begin();
            let shared = Arc::clone(&self);
            rayon::spawn(move || shared.load(job));
        }
        let flights = Arc::clone(&self.flights);
        drop((self, job));
        flights.end();
    }

    /// Lands work for which no thread could be started: whoever waits is told.
    pub(super) fn refuse(&self, job: &Job, error: Error) {
        let outcome = Outcome::Failed(error);
        let mut shelf = self.shelf();
        shelf.stopped = true;
        let outcome = shelf.land(job, outcome);
        drop(shelf);
        job.flight.land(outcome);
    }

    /// Gives back the pages of the file in which a tensor lies.
    pub(super) fn release(&self, tensor: &Tensor<'_>) {
        let reader = self.pack.reader();
        tensor.entry().expr.leaves().into_iter().for_each(|leaf| reader.release(leaf));
    }

    pub(super) fn finish(&self, job: &Job, outcome: Outcome<Arc<Resident>>, took: Duration) -> Vec<Job> {
        let mut jobs = Vec::new();
        let bytes = if let Outcome::Done(resident) = &outcome { resident.bytes() } else { 0 };
        let mut shelf = self.shelf();
        let outcome = shelf.land(job, outcome);
        shelf.look_ahead(&mut jobs);
        let gone = shelf.gone.as_mut().map(std::mem::take);
        drop(shelf);
        if self.options.watch.is_some() {
            let name = self.tensor(job.tensor).map_or("", |tensor| tensor.name());
            match &outcome {
                Outcome::Done(()) => {
                    self.tell(&Event::Loaded { tensor: name, bytes, took, ahead: job.ahead });
                }
                Outcome::Failed(error) => self.tell(&Event::Failed { tensor: name, error, ahead: job.ahead }),
                Outcome::Panicked(_) => {}
            }
        }
        job.flight.land(outcome);
        self.tell_gone(gone);
        jobs
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Some(watch) = &self.options.watch {
            watch(event);
        }
    }

    pub(super) fn tell_gone(&self, gone: Option<Vec<Gone>>) {
        for gone in gone.into_iter().flatten() {
            if let Ok(tensor) = self.tensor(gone.tensor) {
                let (bytes, wasted) = (gone.bytes, gone.wasted);
                self.tell(&Event::Evicted { tensor: tensor.name(), bytes, wasted });
            }
        }
    }
}
