//! The embedded store: one SQLite file, one writer thread, a few readers beside it.
//!
//! What callers, workers and owners do is in `tasks`, `attempts` and `fetching`; files that do the same as those of
//! [`tsp_store_mysql`] have the same names. `export` is for a store that takes this one over.
//!
//! What a row costs is measured by `examples/speed.rs`.

mod attempts;
mod catalog;
mod connection;
pub(crate) mod export;
mod fetching;
mod file;
mod membership;
mod options;
mod retention;
mod schema;
mod search;
mod tasks;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tsp_core::Timestamp;
use tsp_store::config_cache::ConfigCache;
use tsp_store::error::Result;

use crate::catalog::load;
use crate::connection::connect;
use crate::connection::fold;
use crate::file::private;
use crate::file::secret;
use crate::schema::initialise;
use crate::schema::migrate;

pub use crate::file::lock::ServeLock;
pub use crate::options::{DatabaseLocation, SqliteOptions, Synchronous};

use crate::connection::command::{Command, Metrics};
use crate::connection::reader::Readers;
use crate::connection::session::Session;
use crate::connection::tx::{StoreContext, Tx};
use crate::connection::writer::Writer;

/// A store in one SQLite file, or in memory. Dropping it finishes what waits and closes the file.
pub struct SqliteStore {
    // Dropped in this order: readers first, so that the writer's last checkpoint finds no reader.
    readers: Option<Readers>,
    writer: Writer,
    shared: Arc<StoreContext>,
    /// How far retention is.
    retained_from: Mutex<retention::RetentionScan>,
    path: Option<PathBuf>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens or makes the store, brings its schema up to date and loads the config cache. It blocks for the time
    /// of some reads; call it at start.
    ///
    /// # Errors
    /// [`tsp_store::StoreError::Unusable`] with what to do about it: a missing or unwritable directory, a file that
    /// is no database of ours, a newer schema, another number of shards, a wrong secret key.
    pub fn open(options: &SqliteOptions, now: Timestamp) -> Result<Arc<Self>> {
        let conn = connect::write_connection(options)?;
        if let Some(within) = options.check_within {
            fold::look_for_damage(&conn, within)?;
        }
        let session = Session::new(&conn);
        migrate::migrate(session, now)?;
        let shards = initialise::initialise_shards(session, options.shards)?;
        let sealer = secret::sealer(session, options)?;
        let config_cache = Arc::new(ConfigCache::default());
        load::load(session, &config_cache, &sealer)?;
        let shared = Arc::new(StoreContext { config_cache, sealer, shards, metrics: Metrics::new() });
        let path = match &options.location {
            DatabaseLocation::File(path) => Some(path.clone()),
            DatabaseLocation::Memory => None,
        };
        for path in path.iter().flat_map(|path| private::open_to_others(path)) {
            tracing::warn!(file = %path.display(), "others can read this file: `chmod 600` it");
        }
        let readers = path.as_ref().map(|path| Readers::start(path, options, shared.clone())).transpose()?;
        let writer = Writer::start(conn, shared.clone(), options.checkpoint_pages)?;
        Ok(Arc::new(Self { readers, writer, shared, retained_from: Mutex::default(), path }))
    }

    /// Lets running commands end, folds the log into the file and closes it. Later calls are
    /// [`tsp_store::StoreError::Unavailable`].
    pub async fn close(&self) {
        if let Some(readers) = &self.readers {
            readers.close();
        }
        self.writer.close().await;
    }

    /// Returns when a sync of the file has failed: nothing is answered any more, and the process must end.
    pub async fn failed(&self) {
        self.writer.failed().await;
    }

    pub fn has_failed(&self) -> bool {
        self.writer.has_failed()
    }

    async fn write<T, F>(&self, command: Command, rows: usize, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.writer.call(command, rows, work).await
    }

    /// Sees everything that was answered before, and nothing half done.
    async fn read<T, F>(&self, command: Command, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Session<'_>) -> Result<T> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.call(command, work).await,
            // An in-memory database has one connection.
            None => self.writer.call(command, 1, |tx| work(tx.conn)).await,
        }
    }
}
