//! The store of a cluster, on MySQL or MariaDB: apps, configs and nodes in the meta database, tasks in shard
//! tables on any number of data sources.
//!
//! What callers, workers and owners do is in `tasks`, `attempts` and `fetching`; files that do the same as those of
//! [`tsp_store_sqlite`] have the same names. `import`, `moving` and `inspect` are for operators.

mod attempts;
mod catalog;
mod connection;
mod context;
mod fetching;
mod import;
mod inspect;
mod membership;
mod moving;
mod open;
mod options;
mod retention;
mod schema;
mod search;
mod tasks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use crate::attempts::store::MySqlAttemptStore;
pub use crate::fetching::store::MySqlFetcherStore;
pub use crate::import::importer::{ImportProgress, ImportReport, ImportedTable, OnPage};
pub use crate::inspect::{ClusterView, DatabaseFacts, DatabaseView, LeaseFacts, NodeFacts};
pub use crate::moving::mover::{MoveStep, OnStep, ShardSource};
pub use crate::options::{MySqlOptions, SourceOptions};
pub use crate::schema::migrate::MigrateReport;
pub use crate::schema::problem::{Problem, ProblemKind};

use crate::catalog::follow::{self, SharedRefresh};
use crate::connection::db;
use crate::context::StoreContext;
use crate::import::importer;
use crate::moving::mover;
use crate::schema::migrate;
use crate::tasks::group_commit::SubmitGroups;
use tsp_store::cluster::{NodeLease, ShardGroup};
use tsp_store::error::Result;
use tsp_store::transfer::ExportSource;

/// A store on MySQL or MariaDB. Cheap to clone.
#[derive(Clone)]
pub struct MySqlStore {
    context: Arc<StoreContext>,
    /// Submits that wait for a transaction.
    submits: Arc<SubmitGroups>,
    /// Looks at the change log for those who miss something in the config cache.
    shared_refresh: Arc<SharedRefresh>,
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore").field("core", &self.context).finish_non_exhaustive()
    }
}

impl MySqlStore {
    /// Opens the store: checks servers, schemas and settings, and loads the config cache.
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unusable`] with what to do about it: a schema that is not up to date or newer,
    /// another number of shards, a wrong secret key, too many statements for a server.
    /// [`tsp_store::StoreError::Unavailable`] when the meta database is; a data source that is unavailable is no
    /// hindrance, its shards are served when it is back.
    pub async fn open(options: &MySqlOptions) -> Result<Self> {
        let context = Arc::new(open::open(options).await?);
        let submits = Arc::new(SubmitGroups::new(context.clone()));
        Ok(Self { context, submits, shared_refresh: Arc::default() })
    }

    /// What the meta database's clock says: the service's time, before a process follows it.
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unavailable`] when the meta database is.
    pub async fn time(options: &MySqlOptions) -> Result<tsp_core::Timestamp> {
        migrate::time(options).await
    }

    /// Makes the schema of all databases, or brings it up to date; new tables have the days around `now`. May be
    /// repeated, and run by several at once.
    ///
    /// # Errors
    /// As [`MySqlStore::open`]; every database must be there.
    pub async fn migrate(options: &MySqlOptions, now: tsp_core::Timestamp) -> Result<MigrateReport> {
        migrate::migrate(options, now).await
    }

    /// Imports an embedded store into a cluster that `tsp migrate` has just made, and that nobody serves yet:
    /// open and ended tasks, attempts, schedules, apps, configs, keys, the audit log, idempotency records.
    /// Nobody may serve `source` meanwhile. `on_page` is called with each page.
    /// Interrupted, it goes on there when it is asked for again; until it is done the cluster cannot be
    /// opened, and from then on `source` cannot be served.
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unusable`] for a cluster that is in use, or has another number of shards, or when
    /// counts are not the same in the end. [`tsp_store::StoreError::Unavailable`] when a database is.
    pub async fn import_embedded(
        options: &MySqlOptions,
        source: &dyn ExportSource,
        now: tsp_core::Timestamp,
        on_page: OnPage<'_>,
    ) -> Result<ImportReport> {
        Box::pin(importer::import_embedded(options, source, now, on_page)).await
    }

    /// Looks at all databases, whatever state they are in. It takes seconds at most, changes nothing, and may
    /// be done beside a cluster that runs.
    pub async fn inspect(options: &MySqlOptions) -> ClusterView {
        Box::pin(inspect::inspect(options)).await
    }

    /// Where each shard is, by the shard map.
    ///
    /// # Errors
    /// As [`MySqlStore::open`]; only the meta database must be there.
    pub async fn shard_sources(options: &MySqlOptions) -> Result<Vec<ShardSource>> {
        mover::shard_sources(options).await
    }

    /// Moves a shard to the data source of this name while the cluster runs; `on_step` is called with each
    /// step. Interrupted, it goes on where it was when it is asked for again. Tasks of the shard stand still
    /// from [`MoveStep::Renamed`] to [`MoveStep::Switched`].
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unusable`] for a shard or a data source that is not there, or while the shard is
    /// being moved elsewhere. [`tsp_store::StoreError::Unavailable`] when a database is; the shard is back
    /// in use where it was, unless the message says that it stands still.
    pub async fn move_shard(options: &MySqlOptions, shard: u16, to: &str, on_step: OnStep<'_>) -> Result<()> {
        Box::pin(mover::move_shard(options, shard, to, on_step)).await
    }

    /// Undoes a move that was interrupted before the target's tables had their names.
    ///
    /// # Errors
    /// As [`MySqlStore::move_shard`]; [`tsp_store::StoreError::Unusable`] when it can only be ended.
    pub async fn undo_move(options: &MySqlOptions, shard: u16, on_step: OnStep<'_>) -> Result<()> {
        Box::pin(mover::undo(options, shard, on_step)).await
    }

    /// Reads once what others changed of apps and configs; the number of the last one in the config cache.
    pub async fn follow(&self) -> Result<i64> {
        follow::follow(&self.context).await
    }

    /// What a worker does, as long as `lease` lasts.
    pub fn attempt_store(&self, lease: Arc<NodeLease>) -> MySqlAttemptStore {
        let shards = self.context.all_shards().iter().map(|source_name| source_name.shard).collect();
        MySqlAttemptStore::new(self.context.clone(), lease, shards)
    }

    /// The same as several, one for the shards that now lie on each data source, so that a source that is
    /// unavailable or slow holds up only its own tasks.
    pub fn attempt_stores(&self, lease: &Arc<NodeLease>) -> Vec<MySqlAttemptStore> {
        let sources = self.context.sources().into_iter().map(|(_, shards)| shards);
        let used = sources.filter(|shards| !shards.is_empty());
        used.map(|shards| MySqlAttemptStore::new(self.context.clone(), lease.clone(), shards.into()))
            .collect()
    }

    /// What the owner of a shard group does.
    pub fn fetcher_store(&self, shard_group: ShardGroup) -> MySqlFetcherStore {
        MySqlFetcherStore::new(self.context.clone(), shard_group)
    }

    /// Closes all connections; calls that run may end. Later calls are [`tsp_store::StoreError::Unavailable`].
    pub async fn close(&self) {
        futures::future::join_all(self.context.databases().iter().map(db::Db::close)).await;
    }
}
