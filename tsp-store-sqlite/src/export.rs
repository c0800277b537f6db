//! Reads everything out, for a store that takes it over.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ring::digest::{SHA256, digest};
use rusqlite::types::{FromSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{ToSql, params_from_iter};
use tsp_core::Timestamp;
use tsp_core::task::Status;
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{EmbeddedOwnership as _, FetcherStore as _};
use tsp_store::transfer::{Balance, Cell, CountBy, ExportSource, Page, Sealer, TableColumns};

use crate::SqliteStore;
use crate::connection::command::Command;
use crate::connection::row::Row;
use crate::connection::session::Session;
use crate::connection::statements::statements;

statements! {
    IDENTITY = "-- identity\nSELECT value FROM settings WHERE name = 'secret_probe'";
    LAST_NODE = "-- last_node\nSELECT coalesce(max(id), 0) FROM node";
    BALANCE = "-- balance\nSELECT accepted, ended, dropped FROM balance WHERE id = 1";
    EPOCH_LAST = "-- epoch_last\nSELECT coalesce(max(epoch), 0) FROM shard_epoch";
    ID_SLOTS = "-- id_slots\nSELECT slot, used_until FROM id_slot";

    LAST_IDS = "-- last_ids\nSELECT name, seq FROM sqlite_sequence
    WHERE name IN ('app', 'config', 'api_key', 'audit', 'node')";

    CARRIED_OVER = "-- carried_over\nINSERT INTO settings (name, value) VALUES ('carried_over', ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

    CARRIED_OVER_FIND = "-- carried_over_find\nSELECT value FROM settings WHERE name = 'carried_over'";
}

/// A page ends with the row that makes it so large.
const PAGE_BYTES: usize = 8 << 20;
/// Rows that return to scheduled in one call.
const RELEASED_AT_ONCE: usize = 500;

fn cell(value: ValueRef<'_>) -> Result<Cell> {
    match value {
        ValueRef::Null => Ok(Cell::Null),
        ValueRef::Integer(number) => Ok(Cell::Int(number)),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Cell::Text(text.to_owned())),
            Err(_) => Err(StoreError::Internal("a text is not UTF-8".to_owned())),
        },
        ValueRef::Blob(bytes) => Ok(Cell::Blob(bytes.to_vec())),
        ValueRef::Real(_) => Err(StoreError::Internal("no column of ours is a float".to_owned())),
    }
}

fn length(cell: &Cell) -> usize {
    match cell {
        Cell::Null | Cell::Int(_) => 8,
        Cell::Text(text) => text.len(),
        Cell::Blob(bytes) => bytes.len(),
    }
}

/// A cell as a value of a statement.
struct Bound<'c>(&'c Cell);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Cell::Null => ToSqlOutput::Owned(Value::Null),
            Cell::Int(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Cell::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

#[async_trait]
impl ExportSource for SqliteStore {
    async fn identity(&self) -> Result<String> {
        let text: String = self.read(Command::Export, move |conn| one(conn, IDENTITY)).await?;
        Ok(hex::encode(&digest(&SHA256, text.as_bytes()).as_ref()[..16]))
    }

    fn sealer(&self) -> &Sealer {
        &self.shared.sealer
    }

    fn shard_count(&self) -> u16 {
        self.shared.shards
    }

    async fn release_all(&self, now: Timestamp) -> Result<()> {
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

    async fn last_node(&self) -> Result<i64> {
        self.read(Command::Export, move |conn| one(conn, LAST_NODE)).await
    }

    async fn page(&self, of: TableColumns, after: Option<Vec<Cell>>, limit: usize) -> Result<Page> {
        self.read(Command::Export, move |conn| page(conn, of, after.as_deref(), limit)).await
    }

    async fn counts(&self, table: &'static str, by: CountBy) -> Result<BTreeMap<i64, i64>> {
        let of = match by {
            CountBy::Table => "0",
            CountBy::TaskShard => "task_id >> 13 & 511",
            CountBy::Shard => "shard",
            CountBy::Config => "config_id",
        };
        let text = format!("-- counts\nSELECT {of}, count(*) FROM {table} GROUP BY 1");
        let counts = self.read(Command::Export, move |conn| pairs(conn, &text)).await?;
        Ok(counts.into_iter().collect())
    }

    async fn balance(&self) -> Result<Balance> {
        self.read(Command::Export, |conn| {
            conn.prepare(BALANCE)?.one([], |row| {
                Ok(Balance { accepted: row.get(0)?, ended: row.get(1)?, dropped: row.get(2)? })
            })
        })
        .await
    }

    async fn last_epoch(&self) -> Result<i64> {
        self.read(Command::Export, move |conn| one(conn, EPOCH_LAST)).await
    }

    async fn id_slots(&self) -> Result<Vec<(i64, i64)>> {
        self.read(Command::Export, move |conn| pairs(conn, ID_SLOTS)).await
    }

    async fn last_ids(&self) -> Result<Vec<(String, i64)>> {
        self.read(Command::Export, move |conn| pairs(conn, LAST_IDS)).await
    }

    async fn mark_imported(&self, now: Timestamp) -> Result<()> {
        self.write(Command::Export, 1, move |tx| {
            tx.conn.prepare(CARRIED_OVER)?.execute_one([now.to_string()])
        })
        .await
    }
}

/// When the store was imported by another one.
fn imported_at(conn: Session<'_>) -> Result<Option<String>> {
    conn.prepare(CARRIED_OVER_FIND)?.first([], |row| row.get(0))
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

fn one<T: FromSql>(conn: Session<'_>, text: &str) -> Result<T> {
    conn.prepare(text)?.one([], |row| row.get(0))
}

fn pairs<T: FromSql>(conn: Session<'_>, text: &str) -> Result<Vec<(T, i64)>> {
    conn.prepare(text)?.all([], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn page(conn: Session<'_>, of: TableColumns, after: Option<&[Cell]>, limit: usize) -> Result<Page> {
    let TableColumns { table, columns, keys } = of;
    let names = keys.join(", ");
    let beyond = match after {
        Some(after) => format!("WHERE ({names}) > ({})", vec!["?"; after.len()].join(", ")),
        None => String::new(),
    };
    let text = format!("-- page\nSELECT {columns} FROM {table} {beyond} ORDER BY {names} LIMIT {limit}");
    let mut statement = conn.prepare(&text)?;
    let width = statement.column_count();
    let mut rows = statement.rows(params_from_iter(after.unwrap_or_default().iter().map(Bound)))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let row = cells(&row, width)?;
        bytes += row.iter().map(length).sum::<usize>();
        page.push(row);
    }
    Ok(page)
}

fn cells(row: &Row<'_>, width: usize) -> Result<Vec<Cell>> {
    (0..width).map(|at| cell(row.value(at).map_err(StoreError::Internal)?)).collect()
}
