//! Commands that work straight on the database, beside a running server or without one.

use tsp_core::Timestamp;
use tsp_store::sqlite::SqliteStore;

use crate::failure::{Failure, Result};
use crate::settings::{Settings, StorePlace};
use crate::wiring::open_store;

/// Opens the store, runs `work` on this thread, and closes the store again.
pub(super) fn on_store<T>(
    settings: &Settings,
    now: Timestamp,
    work: impl AsyncFnOnce(&SqliteStore) -> Result<T>,
) -> Result<T> {
    if settings.store.place == StorePlace::Memory {
        return Err(Failure::usage("a store in memory belongs to its server alone")
            .advise("set `store.url` to the database file of the server, `sqlite:tsp.db`"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let store = open_store(&settings.store, now)?;
        let done = work(&store).await;
        store.close().await;
        done
    })
}

/// The database must be there: a command that looks at it would otherwise make an empty one.
pub(super) fn existing(settings: &Settings) -> Result<&std::path::Path> {
    match &settings.store.place {
        StorePlace::File(path) if path.is_file() => Ok(path),
        StorePlace::File(path) => {
            Err(Failure::not_found(format!("there is no database `{}`", path.display())).advise(
                "set `store.url`, or `--config` to the file that does; `tsp serve` makes the database",
            ))
        }
        StorePlace::Memory => Err(Failure::usage("a store in memory belongs to its server alone")
            .advise("set `store.url` to the database file of the server, `sqlite:tsp.db`")),
    }
}
