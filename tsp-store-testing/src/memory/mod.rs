//! The store in memory: B-trees behind one lock.
//!
//! It is for tests and for the simulation. Every iteration is in a fixed order and no call ever waits, so
//! one seed gives one history and any executor can drive it. [`MemoryStore::dump`] shows all rows to a
//! checker; [`MemoryStore::set_faults`] makes calls fail before they are applied, or lose their answer
//! after.

mod attempts;
mod catalog;
mod fetching;
mod fire;
mod leases;
mod ledger;
mod rows;
mod search;
mod state;
mod tasks;

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tsp_core::task::Task;
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::{Cause, Result, StoreError};
use tsp_store::fetching::Owner;

pub use leases::{DatabaseClock, LeaseFaultHook, META, MemoryLeases};
pub use ledger::{Ledger, NodeRow, Occurrence};
use state::State;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// It fails with [`StoreError::Unavailable`] and changes nothing.
    Before,
    /// A change is applied and its answer lost: [`StoreError::Unknown`]. A read is only
    /// [`StoreError::Unavailable`].
    After,
}

/// Asked once for each call, with the name of the trait's method.
pub type FaultHook = Box<dyn FnMut(&'static str) -> Fault + Send>;

pub struct MemoryStore {
    shards: u16,
    config_cache: Arc<ConfigCache>,
    state: Arc<Mutex<State>>,
    faults: Mutex<Option<FaultHook>>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store with this many logical shards, at least 1.
    pub fn new(shards: u16) -> Self {
        let shards = shards.max(1);
        let config_cache = Arc::new(ConfigCache::default());
        let state = Arc::new(Mutex::new(State::new(shards, config_cache.clone())));
        Self { shards, config_cache, state, faults: Mutex::new(None) }
    }

    /// The same rows as a node of a cluster sees them: by a config cache of its own, which may lag behind.
    #[must_use]
    pub fn beside(&self, config_cache: Arc<ConfigCache>) -> Self {
        Self { shards: self.shards, config_cache, state: self.state.clone(), faults: Mutex::new(None) }
    }

    /// Of a cluster: `owner` holds the lease of these rows, as whoever calls has just seen.
    pub fn hand_to(&self, owner: Owner) {
        self.lock().owner = Some(owner);
    }

    /// From now on `hook` decides about the fault of each call.
    pub fn set_faults(&self, hook: FaultHook) {
        *self.faults.lock() = Some(hook);
    }

    pub fn clear_faults(&self) {
        *self.faults.lock() = None;
    }

    /// All rows as they are in this moment. Never faulty.
    pub fn dump(&self) -> Ledger {
        self.lock().ledger()
    }

    /// The open tasks in this moment. Never faulty.
    pub fn open_tasks(&self) -> Vec<Task> {
        self.lock().rows.all_open().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if !Arc::ptr_eq(&state.config_cache, &self.config_cache) {
            state.config_cache = self.config_cache.clone();
        }
        state
    }

    fn fault(&self, call: &'static str) -> Fault {
        self.faults.lock().as_mut().map_or(Fault::None, |hook| hook(call))
    }

    /// A call that may change something.
    fn write<T>(&self, call: &'static str, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        match self.fault(call) {
            Fault::None => work(&mut self.lock()),
            Fault::Before => Err(unavailable(call)),
            Fault::After => {
                work(&mut self.lock())?;
                Err(StoreError::Unknown(format!("the answer of `{call}` was lost by a fault")))
            }
        }
    }

    /// A call that changes nothing.
    fn read<T>(&self, call: &'static str, work: impl FnOnce(&State) -> T) -> Result<T> {
        match self.fault(call) {
            Fault::None => Ok(work(&self.lock())),
            Fault::Before | Fault::After => Err(unavailable(call)),
        }
    }
}

fn unavailable(call: &'static str) -> StoreError {
    Cause::Away.because(format!("`{call}` failed by a fault"))
}

#[cfg(test)]
mod tests;
