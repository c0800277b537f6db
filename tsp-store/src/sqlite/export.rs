//! Reads everything out, for a store that takes it over. Rows leave as they stand, a page after the other in
//! the order of their keys, so that it goes on from a bookmark.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{ToSql, params_from_iter};
use serde::{Deserialize, Serialize};
use tsp_core::Timestamp;
use tsp_core::task::Status;

use crate::documents::Sealer;
use crate::error::{Result, StoreError};
use crate::fetching::{EmbeddedOwnership as _, FetcherStore as _};
use crate::sqlite::SqliteStore;
use crate::sqlite::connection::command::Command;
use crate::sqlite::connection::row::Row;
use crate::sqlite::connection::session::Session;

/// A page ends with the row that makes it so large.
const PAGE_BYTES: usize = 8 << 20;
/// Rows that return to scheduled in one call.
const RELEASED_AT_ONCE: usize = 500;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
}

impl Cell {
    fn read(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Null => Ok(Self::Null),
            ValueRef::Integer(number) => Ok(Self::Int(number)),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Ok(Self::Text(text.to_owned())),
                Err(_) => Err(StoreError::Internal("a text is not UTF-8".to_owned())),
            },
            ValueRef::Blob(bytes) => Ok(Self::Blob(bytes.to_vec())),
            ValueRef::Real(_) => Err(StoreError::Internal("no column of ours is a float".to_owned())),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

/// A table, the columns that are read, and those of its primary key, which stand first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static str,
    pub(crate) keys: &'static [&'static str],
}

/// Rows, each with a cell for each column.
pub(crate) type Page = Vec<Vec<Cell>>;

/// The auditor's sums: accepted, ended, dropped.
pub(crate) type Balance = [i64; 3];

impl SqliteStore {
    /// Tells this store from all others: copies of its file give the same.
    pub(crate) async fn identity(&self) -> Result<String> {
        let probe = "-- identity\nSELECT value FROM settings WHERE name = 'secret_probe'";
        let text: String = self.read(Command::Export, move |conn| one(conn, probe)).await?;
        Ok(hex::encode(&digest(&SHA256, text.as_bytes()).as_ref()[..16]))
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.shared.sealer
    }

    pub(crate) fn shard_count(&self) -> u16 {
        self.shared.shards
    }

    /// Gives back what earlier processes had claimed or begun, as the next server at its start would.
    pub(crate) async fn release_all(&self, now: Timestamp) -> Result<()> {
        let node = self.register_node("export", now).await?;
        let owner = self.take_shards(node, now).await?;
        loop {
            // What has returned is in flight no more, so each page is the first.
            let page = self.in_flight(None, RELEASED_AT_ONCE).await?.rows;
            let found = page.len();
            let (queued, begun): (Vec<_>, Vec<_>) =
                page.into_iter().partition(|row| row.status == Status::Queued);
            let queued = queued.into_iter().map(|row| (row.id, row.version)).collect();
            let begun = begun.into_iter().filter_map(|row| row.node.map(|node| (row.id, node))).collect();
            let given = self.return_to_scheduled(owner, queued, now).await?.len()
                + self.mark_worker_lost(owner, begun, now).await?.len();
            if found == 0 {
                return Ok(());
            }
            if given == 0 {
                return Err(StoreError::Internal(format!("{found} tasks could not be given back")));
            }
        }
    }

    /// The last id that a process was given: with another one, the store has been in use since.
    pub(crate) async fn last_node(&self) -> Result<i64> {
        let last = "-- last_node\nSELECT coalesce(max(id), 0) FROM node";
        self.read(Command::Export, move |conn| one(conn, last)).await
    }

    /// Rows after `after`, a key of `out`; fewer when they are long. None: that was the last page.
    pub(crate) async fn page(&self, out: Out, after: Option<Vec<Cell>>, limit: usize) -> Result<Page> {
        self.read(Command::Export, move |conn| page(conn, out, after.as_deref(), limit)).await
    }

    /// How many rows `table` has of each number that `of` gives.
    pub(crate) async fn counts(&self, table: &'static str, of: &'static str) -> Result<BTreeMap<i64, i64>> {
        self.read(Command::Export, move |conn| {
            let text = format!("-- counts\nSELECT {of}, count(*) FROM {table} GROUP BY 1");
            Ok(conn.prepare(&text)?.all([], |row| Ok((row.get(0)?, row.get(1)?)))?.into_iter().collect())
        })
        .await
    }

    pub(crate) async fn balance(&self) -> Result<Balance> {
        self.read(Command::Export, |conn| {
            let text = "-- balance\nSELECT accepted, ended, dropped FROM balance WHERE id = 1";
            conn.prepare(text)?.one([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))
        })
        .await
    }

    /// The highest epoch of any shard.
    pub(crate) async fn last_epoch(&self) -> Result<i64> {
        let last = "-- epoch_last\nSELECT coalesce(max(epoch), 0) FROM shard_epoch";
        self.read(Command::Export, move |conn| one(conn, last)).await
    }

    /// Each id slot, and the time up to which its ids may have been used.
    pub(crate) async fn id_slots(&self) -> Result<Vec<(i64, i64)>> {
        self.pairs("-- id_slots\nSELECT slot, used_until FROM id_slot").await
    }

    /// The highest id that was ever given in each of these tables.
    pub(crate) async fn last_ids(&self) -> Result<Vec<(String, i64)>> {
        let text = "-- last_ids\nSELECT name, seq FROM sqlite_sequence
            WHERE name IN ('app', 'config', 'api_key', 'audit', 'node')";
        self.read(Command::Export, move |conn| {
            conn.prepare(text)?.all([], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
    }

    /// All there are.
    #[cfg(test)]
    pub(crate) async fn tables(&self) -> Result<Vec<String>> {
        self.read(Command::Export, |conn| {
            let text =
                "-- tables\nSELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
            conn.prepare(text)?.all([], |row| row.get(0))
        })
        .await
    }

    async fn pairs(&self, text: &'static str) -> Result<Vec<(i64, i64)>> {
        self.read(Command::Export, move |conn| {
            conn.prepare(text)?.all([], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
    }

    /// From now on the store refuses to be served: its tasks live elsewhere.
    pub(crate) async fn mark_imported(&self, now: Timestamp) -> Result<()> {
        self.write(Command::Export, 1, move |tx| {
            let text = "-- carried_over\nINSERT INTO settings (name, value) VALUES ('carried_over', ?)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            tx.conn.prepare(text)?.execute_one([now.to_string()])
        })
        .await
    }
}

/// When the store was imported by another one.
fn imported_at(conn: Session<'_>) -> Result<Option<String>> {
    let text = "-- carried_over_find\nSELECT value FROM settings WHERE name = 'carried_over'";
    conn.prepare(text)?.first([], |row| row.get(0))
}

/// # Errors
/// [`StoreError::Unusable`] for a store whose tasks live elsewhere: each would be called back twice.
pub(super) fn refuse_imported(conn: Session<'_>) -> Result<()> {
    let Some(at) = imported_at(conn)? else { return Ok(()) };
    Err(StoreError::Unusable(format!(
        "the tasks of this database were carried over to a cluster at {at}: serve that one. To go back to this \
         database all the same, delete the row `carried_over` of its table `settings`"
    )))
}

fn one<T: rusqlite::types::FromSql>(conn: Session<'_>, text: &str) -> Result<T> {
    conn.prepare(text)?.one([], |row| row.get(0))
}

fn page(conn: Session<'_>, out: Out, after: Option<&[Cell]>, limit: usize) -> Result<Page> {
    let Out { table, columns, keys } = out;
    let names = keys.join(", ");
    let beyond = match after {
        Some(after) => format!("WHERE ({names}) > ({})", vec!["?"; after.len()].join(", ")),
        None => String::new(),
    };
    let text = format!("-- page\nSELECT {columns} FROM {table} {beyond} ORDER BY {names} LIMIT {limit}");
    let mut statement = conn.prepare(&text)?;
    let width = statement.column_count();
    let mut rows = statement.rows(params_from_iter(after.unwrap_or_default()))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let row = cells(&row, width)?;
        bytes += row.iter().map(Cell::len).sum::<usize>();
        page.push(row);
    }
    Ok(page)
}

fn cells(row: &Row<'_>, width: usize) -> Result<Vec<Cell>> {
    (0..width).map(|at| Cell::read(row.value(at).map_err(StoreError::Internal)?)).collect()
}
