//! What commands do with the back ends themselves, without a server or beside one.

use std::path::Path;

use tsp_core::Timestamp;
pub(crate) use tsp_queue::nsq::{NsqdView, diagnose_lookupd, diagnose_nsqd};
use tsp_store::Catalog;
pub(crate) use tsp_store_mysql::{
    ClusterView, DatabaseFacts, DatabaseView, ImportProgress, ImportReport, NodeFacts, Problem, ProblemKind,
};
use tsp_store_mysql::{MoveStep, MySqlOptions, MySqlStore, ShardSource};
use tsp_store_sqlite::{ServeLock, SqliteStore};

use super::{cluster, store, store_failure};
use crate::failure::{Failure, Result};
use crate::settings::{Settings, StoreLocation};

/// Opens an embedded store, runs `work` on this thread, and closes the store again.
pub(crate) fn on_store<T>(
    settings: &Settings,
    now: Timestamp,
    work: impl AsyncFnOnce(&SqliteStore) -> Result<T>,
) -> Result<T> {
    embedded(settings)?;
    block_on(async {
        let store = store::open(&settings.store, now)?;
        let done = work(&store).await;
        store.close().await;
        done
    })
}

/// The same for what both deployment modes have: apps, configs and keys.
pub(crate) fn on_catalog<T>(
    settings: &Settings,
    now: Timestamp,
    work: impl AsyncFnOnce(&dyn Catalog) -> Result<T>,
) -> Result<T> {
    if !matches!(settings.store.location, StoreLocation::Cluster(_)) {
        return on_store(settings, now, async |store| work(store).await);
    }
    block_on(async {
        let store = cluster::open_store(settings).await?;
        let done = work(&store).await;
        store.close().await;
        done
    })
}

pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(work)
}

/// The database must be there: a command that looks at it would otherwise make an empty one.
pub(crate) fn existing(settings: &Settings) -> Result<&Path> {
    let path = embedded(settings)?;
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::not_found(format!("there is no database `{}`", path.display()))
        .advise("set `store.url`, or `--config` to the file that does; `tsp serve` makes the database"))
}

/// The file of an embedded store.
fn embedded(settings: &Settings) -> Result<&Path> {
    match &settings.store.location {
        StoreLocation::File(path) => Ok(path),
        StoreLocation::Memory => Err(Failure::usage("a store in memory belongs to its server alone")
            .advise("set `store.url` to the database file of the server, `sqlite:tsp.db`")),
        StoreLocation::Cluster(_) => Err(Failure::usage("this is for the embedded store, not for a cluster")
            .advise("use the tools of the database server, such as `mariadb-dump`")),
    }
}

/// Held by whoever serves the database; an error while somebody else does.
pub(crate) fn serve_lock(database: &Path) -> tsp_store::Result<ServeLock> {
    ServeLock::acquire(database)
}

/// See [`MySqlStore::import_embedded`].
pub(crate) fn import_embedded(
    from: &Settings,
    to: &Settings,
    now: Timestamp,
    mut on_page: impl FnMut(ImportProgress) + Send,
) -> Result<ImportReport> {
    let options = cluster::options(to)?;
    let _lock = serve_lock(embedded(from)?).map_err(|error| store_failure(&error))?;
    on_store(from, now, async |store| {
        let mut on_page = |progress| {
            on_page(progress);
            true
        };
        let done = MySqlStore::import_embedded(&options, store, now, &mut on_page).await;
        done.map_err(|error| store_failure(&error))
    })
}

/// See [`MySqlStore::inspect`].
pub(crate) async fn inspect(options: &MySqlOptions) -> ClusterView {
    MySqlStore::inspect(options).await
}

/// See [`MySqlStore::shard_sources`].
pub(crate) fn shard_sources(settings: &Settings) -> Result<Vec<ShardSource>> {
    let options = cluster::options(settings)?;
    block_on(async { MySqlStore::shard_sources(&options).await.map_err(|error| store_failure(&error)) })
}

/// Moves a shard to the data source of this name, or undoes a move that was broken off.
pub(crate) fn move_shard(
    settings: &Settings,
    shard: u16,
    to: Option<&str>,
    mut on_step: impl FnMut(MoveStep) + Send,
) -> Result {
    let options = cluster::options(settings)?;
    let mut on_step = |step| {
        on_step(step);
        true
    };
    block_on(async {
        let done = match to {
            Some(to) => MySqlStore::move_shard(&options, shard, to, &mut on_step).await,
            None => MySqlStore::undo_move(&options, shard, &mut on_step).await,
        };
        done.map_err(|error| store_failure(&error))
    })
}
