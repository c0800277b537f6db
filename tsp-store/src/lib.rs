//! Where tasks live: the traits through which all data is reached, and what the back ends share.
//!
//! * [`TaskStore`]: what callers do. [`AttemptStore`]: what workers do. [`FetcherStore`], [`RetentionStore`] and
//!   [`AuditorStore`]: what the owner of a fetch scope does. [`Catalog`]: apps, keys, configs; beside it
//!   [`ConfigBarrier`], [`AuditLog`] and [`IdSlots`]. [`cluster`]: nodes and leases.
//! * [`transfer`]: how one store hands its rows to another.
//! * [`backend`], [`documents`], [`rules`]: row codec, columns, searches and limits, the same in every back end.
//!
//! Back ends are crates of their own: `tsp-store-sqlite`, `tsp-store-mysql`, and in memory `tsp-store-testing`, where
//! the conformance suite says what a store means.
//!
//! A store saves what `tsp-core` decides (`transition`, `schedule::step`, `config::save`); it chooses nothing.

pub mod attempts;
pub mod backend;
pub mod catalog;
pub mod cluster;
pub mod config_cache;
pub mod documents;
pub mod error;
pub mod fetching;
pub mod forward;
pub mod id_source;
pub mod idempotency;
pub mod parks;
pub mod rules;
pub mod search;
pub mod tasks;
pub mod transfer;

mod config_read_guard;

pub use attempts::AttemptStore;
pub use catalog::{AuditLog, Catalog, ConfigBarrier};
pub use config_cache::ConfigCache;
pub use config_read_guard::ConfigReadGuard;
pub use error::{Cause, Result, StoreError};
pub use fetching::{AuditorStore, EmbeddedOwnership, FetcherStore, RetentionStore};
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
