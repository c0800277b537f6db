//! Where tasks live. Every access to data goes through the traits of this crate; SQL is known here only.
//!
//! * [`TaskStore`]: what callers do. [`AttemptStore`]: what workers do. [`FetcherStore`]: what the owner of
//!   a partition does. [`Catalog`]: apps, keys, configs. [`cluster`]: nodes and leases.
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

mod backend;
mod documents;
mod footing;
mod rules;

pub use attempts::AttemptStore;
pub use catalog::Catalog;
pub use config_cache::ConfigCache;
pub use error::{Cause, Result, StoreError};
pub use fetching::{EmbeddedOwnership, FetcherStore};
pub use footing::Footing;
pub use id_source::IdSource;
pub use tasks::TaskStore;

/// What serves callers.
pub trait Store: TaskStore + Catalog {}

impl<T: TaskStore + Catalog> Store for T {}

/// A store with one owner for all its shards.
pub trait WholeStore: Store + AttemptStore + FetcherStore + EmbeddedOwnership {}

impl<T: Store + AttemptStore + FetcherStore + EmbeddedOwnership> WholeStore for T {}
