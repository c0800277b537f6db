//! Folding the log into the file: after the answers, and with its errors seen. What SQLite does by itself after a
//! commit makes its callers wait, and keeps a failed sync to itself.

use std::cell::Cell;
use std::os::raw::c_int;
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode};
use tokio::time::Instant;
use tsp_store::error::{Result, StoreError};

use crate::connection::fault::{store_error, sync_failed};

/// How often the look for damage looks at the time, in steps of SQLite.
const STEPS: c_int = 10_000;

thread_local! {
    /// Pages in the log after the last commit of this thread.
    static PAGES: Cell<c_int> = const { Cell::new(0) };
}

/// From now on this connection does not fold by itself.
pub(crate) fn count_pages(conn: &Connection) {
    conn.wal_hook(Some(|_: &Wal, pages| {
        PAGES.set(pages);
        Ok(())
    }));
}

/// As far as readers allow it.
pub(crate) fn fold_above(conn: &Connection, pages: c_int) {
    if PAGES.get() < pages {
        return;
    }
    PAGES.set(0);
    let folded = conn.prepare_cached("-- fold\nPRAGMA wal_checkpoint(PASSIVE)");
    if let Err(error) = folded.and_then(|mut fold| fold.query_row([], |_| Ok(()))) {
        let error = store_error(error);
        tracing::warn!(%error, "the log of the database could not be folded into its file");
    }
}

/// Leaves one file behind, not a database and its log.
pub(crate) fn fold_all(conn: &Connection) -> Result<()> {
    conn.query_row("-- checkpoint\nPRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(store_error)
}

/// After a stop that was none: what the log holds is written once more, because a disk that failed may have been
/// told to be well since, and then every page is looked at. Says whether the time sufficed for all of them.
pub(crate) fn look_for_damage(conn: &Connection, within: Duration) -> Result<bool> {
    let started = Instant::now();
    if let Err(error) = fold_all(conn) {
        if sync_failed() {
            return Err(error);
        }
        // Such as on a full disk, which must not keep the service from starting.
        tracing::warn!(%error, "the log of the database could not be folded into its file");
    }
    let end = started + within;
    conn.progress_handler(STEPS, Some(move || Instant::now() >= end)).map_err(store_error)?;
    let found = conn.query_row("-- check\nPRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    conn.progress_handler(0, None::<fn() -> bool>).map_err(store_error)?;
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match found {
        Ok(found) if found == "ok" => {
            tracing::info!(ms, "the last stop was not clean; the database was checked and is sound");
            Ok(true)
        }
        Ok(found) => {
            Err(StoreError::Unusable(format!("the database file is damaged ({found}): restore a backup")))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            tracing::warn!(
                ms,
                "the last stop was not clean, and the database is too large to be looked through at a start: \
                 `tsp doctor` looks at all of it"
            );
            Ok(false)
        }
        Err(error) => Err(store_error(error)),
    }
}
