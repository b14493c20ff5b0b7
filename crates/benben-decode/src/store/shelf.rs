//! What is in memory, and what leaves it: the state of a store, changed under one lock, never while decoding.

use super::flight::{Flight, Outcome};
use super::order::Order;
use super::rows::RowCache;
use super::statistics::Statistics;
use crate::{Form, Pack, Resident};
use benben_format::{Error, Result};
use std::sync::Arc;

/// A tensor on its way into memory: those who wait find it on the shelf, so that nothing else holds it.
pub(super) type Loading = Flight<()>;

/// Vectors up to this size leave memory last: norms are asked for at every step, and all of a network's take less
/// than one matrix.
const SMALL_VECTOR: usize = 64 << 10;

#[derive(Debug)]
enum Place {
    Disk,
    Coming(Arc<Loading>),
    Here(Arc<Resident>),
}

#[derive(Debug)]
struct Slot {
    place: Place,
    /// Bytes that it takes in memory, once that was asked for.
    size: Option<usize>,
    /// Bytes counted for it now.
    held: usize,
    /// Calls that use it or wait for it; it stays as long.
    users: usize,
    /// When it was asked for last.
    asked: u64,
    /// Decoded ahead, and not asked for since.
    fresh: bool,
    /// Not to be decoded ahead: it is read by rows, or could not be decoded.
    on_demand: bool,
    is_vector: bool,
    /// Chunks that were decoded for rows of it.
    spent: u64,
}

/// Work for a thread that decodes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) tensor: usize,
    pub(super) flight: Arc<Loading>,
    /// Whether nobody asked yet.
    pub(super) ahead: bool,
}

/// Answer to one question for a tensor.
#[derive(Debug)]
pub(super) enum Asked {
    Here(Arc<Resident>),
    Coming(Arc<Loading>),
}

/// A tensor that left memory.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) tensor: usize,
    pub(super) bytes: usize,
    pub(super) wasted: bool,
}

#[derive(Debug)]
pub(super) struct Shelf {
    pack: Arc<Pack>,
    form: Form,
    budget: usize,
    /// Matrices to look ahead, and how many of them may be decoded at once.
    ahead: usize,
    at_once: usize,
    slots: Vec<Slot>,
    order: Order,
    clock: u64,
    /// Flights that nobody asked for.
    prefetching: usize,
    pub(super) stopped: bool,
    /// Whether a matrix was used yet: before that nobody knows which of them are read by rows alone.
    walking: bool,
    pub(super) rows: RowCache,
    pub(super) counts: Statistics,
    /// Tensors that left since this was last emptied, where someone wants to know.
    pub(super) gone: Option<Vec<Gone>>,
}

impl Shelf {
    pub(super) fn new(pack: &Arc<Pack>, options: &super::Options, order: Order, threads: usize) -> Self {
        let slot = |tensor: crate::Tensor<'_>| Slot {
            place: Place::Disk,
            size: None,
            held: 0,
            users: 0,
            asked: 0,
            fresh: false,
            on_demand: false,
            is_vector: tensor.shape().len() < 2,
            spent: 0,
        };
        let budget = options.budget.unwrap_or(usize::MAX);
        Self {
            pack: Arc::clone(pack),
            form: options.form,
            budget,
            ahead: options.prefetch,
            at_once: threads.min(options.prefetch),
            slots: pack.tensors().map(slot).collect(),
            order,
            clock: 0,
            prefetching: 0,
            stopped: false,
            walking: false,
            rows: RowCache::new(budget),
            counts: Statistics::default(),
            gone: options.watch.is_some().then(Vec::new),
        }
    }

    /// Asks for tensors that are used together. Adds the answers to `asked`, and what has to be decoded to `jobs`.
    /// With `walk`, the network is where it asks.
    pub(super) fn ask(
        &mut self,
        tensors: &[usize],
        walk: bool,
        asked: &mut Vec<Asked>,
        jobs: &mut Vec<Job>,
    ) -> Result<()> {
        // Sizes first: nothing has begun where one of them is an error.
        let mut missing = 0;
        let mut together = 0usize;
        for &tensor in tensors {
            if let Place::Here(_) = self.slots[tensor].place {
                together = together.saturating_add(self.slots[tensor].held);
            } else {
                let size = self.size(tensor)?;
                together = together.saturating_add(size);
                missing += size * usize::from(matches!(self.slots[tensor].place, Place::Disk));
            }
        }
        // They are held from now on, so that none of them makes room for another.
        tensors.iter().for_each(|&tensor| self.slots[tensor].users += 1);
        // What exceeds the budget by itself comes on top of it: emptying the memory would not make it fit.
        if missing > 0 && together <= self.budget {
            self.make_room(missing, None);
        }
        for &tensor in tensors {
            self.clock += 1;
            // Vectors are small, and often taken out once, before any walk.
            if walk && !self.slots[tensor].is_vector {
                self.walking = true;
                self.order.advance(tensor);
            }
            let slot = &mut self.slots[tensor];
            slot.asked = self.clock;
            slot.on_demand = false;
            slot.fresh = false;
            asked.push(match &slot.place {
                Place::Here(resident) => {
                    self.counts.hits += 1;
                    Asked::Here(Arc::clone(resident))
                }
                Place::Coming(flight) => {
                    self.counts.misses += 1;
                    self.counts.late += 1;
                    Asked::Coming(Arc::clone(flight))
                }
                Place::Disk => {
                    self.counts.misses += 1;
                    let flight = self.begin(tensor);
                    jobs.push(Job { tensor, flight: Arc::clone(&flight), ahead: false });
                    Asked::Coming(flight)
                }
            });
        }
        Ok(())
    }

    /// The tensor if it is in memory, for its rows; if not, it is not decoded ahead until it is asked for whole.
    pub(super) fn peek(&mut self, tensor: usize) -> Option<Arc<Resident>> {
        self.clock += 1;
        self.walking = true;
        let slot = &mut self.slots[tensor];
        slot.asked = self.clock;
        let Place::Here(resident) = &slot.place else {
            slot.on_demand = true;
            return None;
        };
        slot.users += 1;
        Some(Arc::clone(resident))
    }

    /// Whether a table is better decoded whole than for another `chunks` of its `all` chunks: where that comes to half
    /// of the work (no more than twice what was the least, whatever follows), and there is room to spare.
    pub(super) fn worth_whole(&mut self, tensor: usize, chunks: u64, all: u64) -> bool {
        let slot = &mut self.slots[tensor];
        slot.spent = slot.spent.saturating_add(chunks);
        let enough = slot.spent.saturating_mul(2) > all;
        let size = if enough { self.size(tensor).ok() } else { None };
        size.is_some_and(|size| self.counts.bytes_held.saturating_add(size) <= self.budget)
    }

    /// A tensor that was asked for and has arrived.
    pub(super) fn take(&self, tensor: usize) -> Result<Arc<Resident>> {
        match &self.slots[tensor].place {
            Place::Here(resident) => Ok(Arc::clone(resident)),
            // It has a user, and stays as long.
            _ => Err(Error::invalid(format!("tensor number {tensor} left memory while it was in use"))),
        }
    }

    /// A call is done with tensors that it asked for.
    pub(super) fn give_back(&mut self, tensors: &[usize]) {
        tensors.iter().for_each(|&tensor| self.slots[tensor].users -= 1);
    }

    /// What to decode ahead now: the nearest of the next matrices, as long as they fit without pushing out anything
    /// that is used before them.
    pub(super) fn look_ahead(&mut self, jobs: &mut Vec<Job>) {
        if self.stopped || !self.walking || self.prefetching >= self.at_once {
            return;
        }
        let slots = &self.slots;
        // Vectors between the matrices do not count; a walk of nothing else is not searched to its end.
        let next = self
            .order
            .ahead()
            .take(4 * self.ahead + 8)
            .filter(|&t| !slots[t].is_vector && !slots[t].on_demand);
        let next: Vec<usize> =
            next.take(self.ahead).filter(|&t| matches!(slots[t].place, Place::Disk)).collect();
        for tensor in next {
            if self.prefetching >= self.at_once {
                return;
            }
            let Place::Disk = self.slots[tensor].place else { continue };
            // An error is told to whoever asks.
            let Ok(size) = self.size(tensor) else { continue };
            if !self.make_room(size, self.order.distance(tensor)) {
                return;
            }
            let flight = self.begin(tensor);
            self.prefetching += 1;
            self.slots[tensor].fresh = true;
            jobs.push(Job { tensor, flight, ahead: true });
        }
    }

    fn begin(&mut self, tensor: usize) -> Arc<Loading> {
        let flight = Arc::new(Flight::new());
        let slot = &mut self.slots[tensor];
        slot.place = Place::Coming(Arc::clone(&flight));
        slot.held = slot.size.unwrap_or(0);
        self.counts.bytes_held += self.slots[tensor].held;
        self.note_peak();
        flight
    }

    /// Puts down what was decoded.
    pub(super) fn land(&mut self, job: &Job, outcome: Outcome<Arc<Resident>>) -> Outcome<()> {
        self.prefetching -= usize::from(job.ahead);
        let slot = &mut self.slots[job.tensor];
        let reserved = slot.held;
        slot.held = 0;
        slot.place = Place::Disk;
        let outcome = outcome.map(|resident| {
            slot.held = resident.bytes();
            // What the index knows is the most that it may take: from now on it is known.
            slot.size = Some(slot.held);
            slot.place = Place::Here(resident);
            self.counts.bytes_decoded += slot.held as u64;
            self.counts.prefetched += u64::from(job.ahead);
        });
        if !matches!(outcome, Outcome::Done(())) {
            slot.fresh = false;
            slot.on_demand = true;
        }
        self.counts.bytes_held = self.counts.bytes_held - reserved + slot.held;
        self.note_peak();
        outcome
    }

    /// Lets go of tensors until the budget is kept, or all that is left is in use.
    pub(super) fn trim(&mut self) {
        self.make_room(0, None);
    }

    /// Makes room for `bytes`, as far as that goes; says whether they fit. With `due`, uses before that of what they
    /// are for, nothing leaves that is used sooner, and nothing at all unless they come to fit.
    pub(super) fn make_room(&mut self, bytes: usize, due: Option<usize>) -> bool {
        let wanted = self.counts.bytes_held.saturating_add(bytes);
        if wanted <= self.budget {
            return true;
        }
        if due.is_some() {
            let leaving = (0..self.slots.len()).filter(|&tensor| self.rank(tensor, due).is_some());
            let leaving: usize = leaving.map(|tensor| self.slots[tensor].held).sum();
            if wanted - leaving > self.budget {
                return false;
            }
        }
        while self.counts.bytes_held.saturating_add(bytes) > self.budget {
            let ranks = (0..self.slots.len()).filter_map(|tensor| Some((self.rank(tensor, due)?, tensor)));
            match ranks.max() {
                Some((_, tensor)) => self.evict(tensor),
                // Rows are decoded again more dearly than anything else of their size, and go last.
                None if due.is_none() && self.rows.bytes() > 0 => {
                    self.counts.bytes_held -= self.rows.clear();
                }
                None => return false,
            }
        }
        true
    }

    /// How readily a tensor is let go of; none for one that must stay.
    fn rank(&self, tensor: usize, due: Option<usize>) -> Option<(u8, u64)> {
        let slot = &self.slots[tensor];
        if slot.users > 0 || !matches!(slot.place, Place::Here(_)) {
            return None;
        }
        let idle = self.clock - slot.asked;
        if slot.is_vector && slot.held <= SMALL_VECTOR {
            return due.is_none().then_some((0, idle));
        }
        match self.order.distance(tensor) {
            None => Some((2, idle)),
            Some(distance) => due.is_none_or(|due| distance > due).then_some((1, distance as u64)),
        }
    }

    fn evict(&mut self, tensor: usize) {
        let slot = &mut self.slots[tensor];
        let bytes = std::mem::take(&mut slot.held);
        let wasted = std::mem::take(&mut slot.fresh);
        slot.spent = 0;
        // Nobody else holds it: freed here, under the lock, so that
        // whoever is told that there is room finds it.
        slot.place = Place::Disk;
        self.counts.bytes_held -= bytes;
        self.counts.evicted += 1;
        self.counts.wasted += u64::from(wasted);
        if let Some(gone) = &mut self.gone {
            gone.push(Gone { tensor, bytes, wasted });
        }
    }

    fn size(&mut self, tensor: usize) -> Result<usize> {
        if let Some(size) = self.slots[tensor].size {
            return Ok(size);
        }
        let of = self.pack.tensors().nth(tensor);
        let of = of.ok_or_else(|| Error::invalid(format!("tensor number {tensor}")))?;
        let size = Resident::predicted_bytes(&of, self.form).map_err(|e| e.in_tensor(of.name()))?;
        self.slots[tensor].size = Some(size);
        Ok(size)
    }

    /// Keeps a row that was decoded by itself, where there is room without letting go of a tensor's next use.
    pub(super) fn keep_row(&mut self, tensor: usize, row: u32, values: &[f32]) {
        let bytes = RowCache::bytes_of(values);
        // Never more than the cache's share of the budget: at worst as much is pushed out of the tensors.
        if self.rows.takes(bytes) && self.make_room(bytes, Some(0)) {
            self.counts.bytes_held += bytes;
            self.counts.bytes_held -= self.rows.put(tensor, row, values);
            self.note_peak();
        }
    }

    fn note_peak(&mut self) {
        self.counts.bytes_peak = self.counts.bytes_peak.max(self.counts.bytes_held);
    }
}
