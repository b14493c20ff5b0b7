//! Tensors of a pack at hand while a network runs, within a budget of memory.
//!
//! **Where a tensor is.** In the file, or in memory in the form that [`Options`] name. What is in memory stays while
//! the budget allows it; what is used is decoded once however many threads ask, while they wait.
//!
//! **What leaves memory.** A network walks through all its matrices for every token. Of a cyclic walk through more than
//! fits, letting go of the least recently used keeps nothing: each tensor leaves just before it is used again. The walk
//! is known, though, so that the tensor leaves whose next use lies furthest ahead (Belady 1966), which is optimal; what
//! the walk does not name goes first, the least recently used of it. Of 64 equal matrices asked for in rounds, with
//! room for 32, the least recently used policy finds 0 % in memory and this one 50 %, with room for 16 it is 0 % and
//! 25 % (`tests/store/walks.rs` prints it). The walk is learned from the first round unless it is given.
//!
//! **Memory.** At most the budget and the tensors of one call that is running, for each thread that calls. A call whose
//! tensors fit into the budget makes room for them; one whose tensors do not comes on top of it, and what it needed
//! leaves when it is done. Decoding takes working memory besides, for each thread: half a tensor to dense values; to
//! codes 4 bytes for each of at most 4 Mi weights, and a byte for each weight of a transposed leaf (2 where most are
//! above 127, or where it is of f16; 4 of what else is transposed), whose rows touch all that is packed. Pages of a mapped
//! file are given back once a tensor is decoded.
//!
//! **Threads.** Decoding runs in a pool of the store's own, and a caller who waits only waits: whoever calls from a
//! worker of rayon's must not come to depend on that pool, or on what it would steal from it.

mod flight;
mod options;
mod order;
mod rows;
mod shared;
mod shelf;
mod statistics;
mod table;

pub use options::Options;
pub use statistics::{Event, Statistics, Watch};

use crate::{Pack, Resident, Weights};
use benben_format::{Error, Result};
use flight::{Flight, Outcome};
use order::Order;
use rayon::{ThreadPool, ThreadPoolBuilder};
use shared::Shared;
use shelf::{Asked, Job, Shelf};
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Hands out the tensors of a pack to a running network, each decoded once, within a budget of memory.
///
/// ```no_run
/// use benben_decode::{LayerStore, Pack, Weights, store::Options};
/// let pack = Pack::open("model.benben".as_ref())?;
/// let store = LayerStore::with_options(pack.into(), &Options { budget: Some(64 << 20), ..Options::default() })?;
/// let mut y = vec![0.0; 1536];
/// store.product("model.layers.0.mlp.up_proj.weight", &[1.0; 576], 1, &mut y)?;
/// println!("{} bytes in memory", store.statistics().bytes_held);
/// # Ok::<(), benben_decode::Error>(())
/// ```
///
/// The same calls give the same bits whatever the budget, the number of threads, and what is decoded ahead.
pub struct LayerStore {
    shared: Arc<Shared>,
    threads: usize,
    pool: OnceLock<Result<ThreadPool>>,
    /// Bytes that had been read of the pack before.
    read_before: u64,
    bounded: bool,
}

impl std::fmt::Debug for LayerStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerStore")
            .field("pack", &self.shared.pack)
            .field("options", &self.shared.options)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl LayerStore {
    /// A store over `pack` that keeps whatever was used; nothing is decoded yet.
    #[must_use]
    pub fn new(pack: Arc<Pack>) -> Self {
        let walk = (0..pack.tensors().len()).collect();
        Self::following(pack, &Options::default(), walk)
    }

    /// A store over `pack` with a budget, a form, an order; nothing is decoded yet.
    ///
    /// # Errors
    /// InvalidArgument where the order names a tensor that the pack has not.
    pub fn with_options(pack: Arc<Pack>, options: &Options) -> Result<Self> {
        let walk = match &options.order {
            Some(names) => names.iter().map(|name| position(&pack, name)).collect::<Result<_>>()?,
            None => (0..pack.tensors().len()).collect(),
        };
        Ok(Self::following(pack, options, walk))
    }

    fn following(pack: Arc<Pack>, options: &Options, walk: Vec<usize>) -> Self {
        let threads = if options.threads == 0 { rayon::current_num_threads() } else { options.threads };
        let order = Order::new(walk, pack.tensors().len(), options.order.is_none());
        let shelf = Mutex::new(Shelf::new(&pack, options, order, threads));
        let read_before = pack.reader().bytes_read();
        let shared = Shared { pack, options: options.clone(), shelf, flights: Arc::default() };
        let bounded = options.budget.is_some();
        Self { shared: Arc::new(shared), threads, pool: OnceLock::new(), read_before, bounded }
    }

    /// The pack under the store.
    #[must_use]
    pub fn pack(&self) -> &Arc<Pack> {
        &self.shared.pack
    }

    /// What the store was asked for.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// What happened so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let counts = self.shared.shelf().counts;
        Statistics { bytes_read: self.shared.pack.reader().bytes_read() - self.read_before, ..counts }
    }

    /// The tensor called `name` in memory. It stays there, outside of the budget if need be, until it is dropped.
    ///
    /// # Errors
    /// InvalidArgument where there is no such tensor; otherwise as [`Resident::load`].
    pub fn get(&self, name: &str) -> Result<Held<'_>> {
        self.acquire(&[name], true).map(Held)
    }

    /// The tensors called `names`, in use together; with `walk` as a step of the network.
    fn acquire(&self, names: &[&str], walk: bool) -> Result<Group<'_>> {
        let pack = &self.shared.pack;
        let tensors = names.iter().map(|name| position(pack, name)).collect::<Result<Vec<_>>>()?;
        let mut asked = Vec::with_capacity(names.len());
        self.change(|shelf, jobs| {
            shelf.ask(&tensors, walk, &mut asked, jobs)?;
            shelf.look_ahead(jobs);
            Ok(())
        })?;
        let mut group = Group { store: self, tensors, residents: Vec::with_capacity(names.len()) };
        let mut started = None;
        for (asked, &tensor) in asked.into_iter().zip(&group.tensors) {
            group.residents.push(match asked {
                Asked::Here(resident) => resident,
                Asked::Coming(flight) => {
                    started.get_or_insert_with(Instant::now);
                    flight.wait()?;
                    self.shared.shelf().take(tensor)?
                }
            });
        }
        if let (Some(started), Some(name)) = (started, names.first()) {
            self.note_stall(name, started.elapsed());
        }
        Ok(group)
    }

    fn note_stall(&self, tensor: &str, waited: Duration) {
        self.shared.shelf().counts.stall += waited;
        self.shared.tell(&Event::Stalled { tensor, waited });
    }

    /// Changes the state under the lock, then sends off the work that came of it.
    fn change<T>(&self, change: impl FnOnce(&mut Shelf, &mut Vec<Job>) -> Result<T>) -> Result<T> {
        let mut jobs = Vec::new();
        let mut shelf = self.shared.shelf();
        let changed = change(&mut shelf, &mut jobs);
        let gone = shelf.gone.as_mut().map(std::mem::take);
        drop(shelf);
        self.shared.tell_gone(gone);
        if jobs.is_empty() {
            return changed;
        }
        for job in jobs {
            match self.pool() {
                Ok(pool) => {
                    self.shared.flights.begin();
                    let shared = Arc::clone(&self.shared);
                    pool.spawn(move || shared.load(job));
                }
                Err(error) => self.shared.refuse(&job, error),
            }
        }
        changed
    }

    fn pool(&self) -> Result<&ThreadPool> {
        let build = || {
            let builder = ThreadPoolBuilder::new().num_threads(self.threads);
            let pool = builder.thread_name(|i| format!("benben-store-{i}")).build();
            pool.map_err(|e| Error::from(std::io::Error::other(e)).context("threads that decode"))
        };
        self.pool.get_or_init(build).as_ref().map_err(Clone::clone)
    }

    /// Runs `work` in the store's pool and waits for it, running nothing else meanwhile.
    fn elsewhere<T: Clone + Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let flight = Arc::new(Flight::new());
        let (shared, landing) = (Arc::clone(&self.shared), Arc::clone(&flight));
        self.pool()?.spawn(move || {
            let outcome = Outcome::of(|| work(&shared));
            drop(shared);
            landing.land(outcome);
        });
        flight.wait()
    }
}

impl Drop for LayerStore {
    fn drop(&mut self) {
        self.shared.shelf().stopped = true;
        self.shared.flights.wait();
    }
}

/// Where the tensor called `name` stands in the pack.
fn position(pack: &Pack, name: &str) -> Result<usize> {
    match pack.reader().position(name) {
        Some(position) => Ok(position),
        None => Err(pack.tensor(name).err().unwrap_or_else(|| Error::invalid(format!("no tensor {name:?}")))),
    }
}

/// Tensors that are in use together.
struct Group<'a> {
    store: &'a LayerStore,
    tensors: Vec<usize>,
    residents: Vec<Arc<Resident>>,
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.residents.clear();
        let done = self.store.change(|shelf, jobs| {
            shelf.give_back(&self.tensors);
            if self.store.bounded {
                shelf.trim();
                shelf.look_ahead(jobs);
            }
            Ok(())
        });
        // This change has no error of its own.
        drop(done);
    }
}

/// A tensor in memory, in use until it is dropped.
pub struct Held<'a>(Group<'a>);

impl Deref for Held<'_> {
    type Target = Resident;

    fn deref(&self) -> &Resident {
        &self.0.residents[0]
    }
}

impl std::fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Held").field(&**self).finish()
    }
}

impl Weights for LayerStore {
    fn contains(&self, name: &str) -> bool {
        self.shared.pack.reader().position(name).is_some()
    }

    fn shape(&self, name: &str) -> Result<[usize; 2]> {
        let (rows, columns) = benben_format::matrix(self.shared.pack.tensor(name)?.shape())?;
        Ok([benben_format::in_memory(rows)?, benben_format::in_memory(columns)?])
    }

    fn vector(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.get(name)?.to_f32())
    }

    fn rows(&self, name: &str, ids: &[u32], out: &mut [f32]) -> Result<()> {
        self.look_up(name, ids, out)
    }

    fn products(&self, names: &[&str], x: &[f32], vectors: usize, out: &mut [&mut [f32]]) -> Result<()> {
        if names.len() != out.len() {
            return Err(Error::invalid(format!("{} outputs for {} matrices", out.len(), names.len())));
        }
        let held = self.acquire(names, true)?;
        let matrices: Vec<&Resident> = held.residents.iter().map(|m| &**m).collect();
        Resident::products(&matrices, x, vectors, out)
    }
}
