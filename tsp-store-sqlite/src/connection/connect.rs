//! Opening connections, and clear words when that fails.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tsp_store::error::{Result, StoreError};

use crate::connection::fault::store_error;
use crate::connection::fold;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::file::private;
use crate::options::{DatabaseLocation, SqliteOptions};

statements! {
    TABLES = "-- tables\nSELECT 1 FROM sqlite_schema";
}

/// Marks a database as one of ours ("TSP1"), so that another program's file is refused.
const APPLICATION_ID: i64 = 0x5453_5031;
/// How long a writer waits for another process (`tsp key create` beside a running server).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// All texts one connection can see, so that none is prepared twice.
const STATEMENTS_MAX: usize = 256;

const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_PRIVATE_CACHE);

/// The connection that writes; makes the file if there is none.
pub(crate) fn write_connection(options: &SqliteOptions) -> Result<Connection> {
    let conn = match &options.location {
        DatabaseLocation::Memory => Connection::open_in_memory().map_err(store_error)?,
        DatabaseLocation::File(path) => {
            check_parent(path)?;
            private::ensure(path).map_err(|error| unwritable(path, &error))?;
            let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE;
            Connection::open_with_flags(path, flags).map_err(|error| explain(path, &error))?
        }
    };
    set_up(&conn, options).map_err(|error| match &options.location {
        DatabaseLocation::File(path) => explain(path, &error),
        DatabaseLocation::Memory => store_error(error),
    })?;
    refuse_foreign(Session::new(&conn), options)?;
    Ok(conn)
}

/// A connection that cannot write.
pub(crate) fn read_connection(path: &Path, options: &SqliteOptions) -> Result<Connection> {
    let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE;
    let conn = Connection::open_with_flags(path, flags).map_err(|error| explain(path, &error))?;
    set_up_reader(&conn, options).map_err(store_error)?;
    Ok(conn)
}

fn set_up_reader(conn: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // The last to close folds the log into the file; that is the writer, or none when its disk has failed.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let cache_kib = i64::from(options.page_cache_mib) * 1_024 / 8;
    conn.execute_batch(&format!(
        "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{cache_kib}; PRAGMA query_only = ON;"
    ))
}

fn set_up(conn: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // The first statement that reads the file, so what is no database fails here.
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let cache_kib = i64::from(options.page_cache_mib) * 1_024;
    conn.execute_batch(&format!(
        "PRAGMA synchronous = {}; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -{cache_kib};",
        options.synchronous.as_str()
    ))?;
    fold::count_pages(conn);
    if let Some(pages) = options.pages_max {
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    Ok(())
}

/// Marks a new file as ours; refuses one that belongs to another program.
fn refuse_foreign(conn: Session<'_>, options: &SqliteOptions) -> Result<()> {
    let id = conn.prepare("-- application_id\nPRAGMA application_id")?.one([], |row| row.get::<i64>(0))?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    if id != 0 || conn.prepare(TABLES)?.exists([])? {
        let DatabaseLocation::File(path) = &options.location else { return Ok(()) };
        let text = format!("`{}` is a database of another program: choose another file", path.display());
        return Err(StoreError::Unusable(text));
    }
    conn.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))
}

fn check_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => return Ok(()),
    };
    if parent.is_dir() {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "the directory `{}` of the database does not exist: make it first",
        parent.display()
    )))
}

fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unusable(format!(
        "`{}` cannot be opened for writing ({error}): the file and its directory must be writable by this user",
        path.display()
    ))
}

fn explain(path: &Path, error: &rusqlite::Error) -> StoreError {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            StoreError::Unusable(format!("`{shown}` is not a SQLite database: choose another file"))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            unwritable(path, error)
        }
        _ => StoreError::Unusable(format!("`{shown}` cannot be opened: {error}")),
    }
}
