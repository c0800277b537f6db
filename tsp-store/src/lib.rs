//! Where tasks live. Every access to data goes through the traits of this crate; SQL is known here only.
//!
//! * [`TaskStore`]: what callers do. [`AttemptStore`]: what workers do. [`FetcherStore`], [`RetentionStore`] and
//!   [`AuditorStore`]: what the owner of a fetch scope does. [`Catalog`]: apps, keys, configs; beside it
//!   [`ConfigBarrier`], [`AuditLog`] and [`IdSlots`]. [`cluster`]: nodes and leases.
//! * [`transfer`]: how one store hands its rows to another.
//! * [`sqlite`]: the embedded back end. [`memory`]: for tests and the simulation.
//! * [`conformance`]: what a store means; every back end passes it.
//!
//! A store saves what `tsp-core` decides (`transition`, `schedule::step`, `config::save`); it chooses nothing.

pub mod attempts;
pub mod catalog;
pub mod cluster;
pub mod config_cache;
pub mod conformance;
pub mod error;
pub mod fetching;
pub mod forward;
pub mod id_source;
pub mod idempotency;
pub mod memory;
pub mod mysql;
pub mod parks;
pub mod search;
pub mod sqlite;
pub mod tasks;
pub mod transfer;

mod backend;
mod documents;
mod footing;
mod rules;

pub use attempts::AttemptStore;
pub use catalog::{AuditLog, Catalog, ConfigBarrier};
pub use config_cache::ConfigCache;
pub use error::{Cause, Result, StoreError};
pub use fetching::{AuditorStore, EmbeddedOwnership, FetcherStore, RetentionStore};
pub use footing::Footing;
pub use id_source::{IdSlots, IdSource};
pub use tasks::TaskStore;

/// What serves callers.
pub trait Store: TaskStore + Catalog + ConfigBarrier {}

impl<T: TaskStore + Catalog + ConfigBarrier> Store for T {}

/// A store with one owner for all its shards.
pub trait WholeStore:
    Store + AttemptStore + FetcherStore + RetentionStore + AuditorStore + EmbeddedOwnership + IdSlots + AuditLog
{
}

impl<T> WholeStore for T where
    T: Store
        + AttemptStore
        + FetcherStore
        + RetentionStore
        + AuditorStore
        + EmbeddedOwnership
        + IdSlots
        + AuditLog
{
}
