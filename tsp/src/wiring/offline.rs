//! What commands do with the back ends themselves, without a server or beside one.

use std::path::Path;

use tsp_core::Timestamp;
use tsp_store::Catalog;
use tsp_store_sqlite::{ServeLock, SqliteStore};

#[cfg(feature = "cluster")]
use super::cluster;
use super::store;
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
    match settings.store.location {
        #[cfg(feature = "cluster")]
        StoreLocation::Cluster(_) => block_on(async {
            let store = cluster::open_store(settings).await?;
            let done = work(&store).await;
            store.close().await;
            done
        }),
        _ => on_store(settings, now, async |store| work(store).await),
    }
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
pub(super) fn embedded(settings: &Settings) -> Result<&Path> {
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
