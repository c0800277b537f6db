//! The store of a cluster, on MySQL or MariaDB: apps, configs and nodes in the meta database, tasks in shard
//! tables on any number of data sources.
//!
//! * `options`, `core`, `db`, `session`, `tx`, `pool`, `gate`, `text`, `fault`: connections and statements.

mod begin;
mod bind;
mod cancel;
mod core;
mod db;
mod deeds;
mod fault;
mod finish;
mod gate;
mod group;
mod hot;
mod kept;
mod options;
mod pool;
mod row;
mod run;
mod runner;
mod search;
mod session;
mod submit;
mod task_store;
mod tasks;
mod text;
mod tx;

use std::fmt;
use std::sync::Arc;

pub use options::{MySqlOptions, SourceOptions};
pub use runner::MySqlRunner;

use self::core::Core;

/// A store on MySQL or MariaDB. Cheap to clone.
#[derive(Clone)]
pub struct MySqlStore {
    core: Arc<Core>,
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore").field("core", &self.core).finish_non_exhaustive()
    }
}
