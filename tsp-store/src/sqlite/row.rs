//! Reading task rows.

use std::borrow::Cow;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Row, Rows};
use tsp_core::outcome::OutcomeKind;
use tsp_core::task::{AttemptRecord, EndResult, LastOutcome, Origin, Status, Task, TokenHash};
use tsp_core::{ConfigId, Millis, NodeId, TaskId, TaskKey, Timestamp};

use crate::documents::{RowLocation, extra_from_json};
use crate::error::{Result, StoreError};

/// The columns of an open task, in the order in which [`read_task`] reads them.
macro_rules! open_columns {
    () => {
        "id, config_id, status, version, due_at, execute_at, first_due_at, created_at, attempt, charged, \
         losses, epoch, node, cancel_requested, origin, sharding_id, sharding_count, parent_id, key, \
         key_slot, started_at, begun_due_at, expire_after, token, last_attempt, last_kind, last_reason, \
         last_status, last_at, extra, payload, NULL AS result, NULL AS ended_at"
    };
}

/// The same for an ended one.
macro_rules! ended_columns {
    () => {
        "id, config_id, 50 AS status, version, due_at, execute_at, first_due_at, created_at, attempt, \
         charged, losses, epoch, NULL AS node, 0 AS cancel_requested, origin, sharding_id, \
         sharding_count, parent_id, key, key_slot, started_at, begun_due_at, expire_after, token, \
         last_attempt, last_kind, last_reason, last_status, last_at, extra, payload, result, ended_at"
    };
}

pub(super) use {ended_columns, open_columns};

/// Reads the columns of [`open_columns`] or [`ended_columns`] from the first on.
pub(super) fn read_task(row: &Row<'_>) -> Result<Task> {
    let payload = match row.get_ref(30)? {
        ValueRef::Blob(payload) => Some(Bytes::copy_from_slice(payload)),
        _ => None,
    };
    Ok(Task { payload, ..read_bare(row)? })
}

/// The same without the payload, which is not even read from the disk.
pub(super) fn read_bare(row: &Row<'_>) -> Result<Task> {
    let status: i64 = row.get(2)?;
    let ended = status == i64::from(Status::Ended.code());
    let location = RowLocation { table: if ended { "history" } else { "task" }, id: row.get(0)? };
    let time = |at: usize| -> Result<Timestamp> { Ok(Timestamp::from_ms(row.get(at)?)) };
    let maybe_time = |at: usize| -> Result<Option<Timestamp>> {
        Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp::from_ms))
    };
    let origin: i64 = row.get(14)?;
    let result: Option<i64> = row.get(31)?;
    Ok(Task {
        id: TaskId::new(location.id),
        config: ConfigId::new(row.get(1)?),
        status: location.known("status", status, Status::from_code(status))?,
        version: row.get(3)?,
        due_at: time(4)?,
        execute_at: time(5)?,
        age_from: time(6)?,
        created_at: time(7)?,
        attempt: location.number("attempt", row.get(8)?)?,
        failed_attempts: location.number("charged", row.get(9)?)?,
        worker_losses: location.number("losses", row.get(10)?)?,
        epoch: row.get(11)?,
        node: row.get::<_, Option<i64>>(12)?.map(NodeId::new),
        cancel_requested: row.get::<_, i64>(13)? != 0,
        origin: location.known("origin", origin, Origin::from_code(origin))?,
        sharding_id: location.number("sharding_id", row.get(15)?)?,
        sharding_count: location.number("sharding_count", row.get(16)?)?,
        parent: row.get::<_, Option<i64>>(17)?.map(TaskId::new),
        key: key(row, location)?,
        key_slot: row.get(19)?,
        started_at: maybe_time(20)?,
        begun_due_at: maybe_time(21)?,
        expire_after: row.get::<_, Option<i64>>(22)?.map(Millis::from_ms),
        token: token(row, location)?,
        last_outcome: last_outcome(row, location)?,
        extra: match row.get_ref(29)? {
            ValueRef::Text(text) => {
                let text =
                    str::from_utf8(text).map_err(|error| location.corrupt("extra", error.to_string()))?;
                Some(Box::new(extra_from_json(text).map_err(|why| location.corrupt("extra", why))?))
            }
            _ => None,
        },
        payload: None,
        result: result.map(|code| location.known("result", code, EndResult::from_code(code))).transpose()?,
        ended_at: maybe_time(32)?,
    })
}

fn key(row: &Row<'_>, location: RowLocation) -> Result<Option<TaskKey>> {
    match row.get_ref(18)? {
        ValueRef::Text(text) => {
            let text = str::from_utf8(text).map_err(|error| location.corrupt("key", error.to_string()))?;
            TaskKey::of_stored(text).map(Some).map_err(|error| location.corrupt("key", error.to_string()))
        }
        _ => Ok(None),
    }
}

fn token(row: &Row<'_>, location: RowLocation) -> Result<Option<TokenHash>> {
    match row.get_ref(23)? {
        ValueRef::Blob(token) => {
            TokenHash::try_from(token).map(Some).map_err(|_| location.corrupt("token", "is not 32 bytes"))
        }
        _ => Ok(None),
    }
}

fn last_outcome(row: &Row<'_>, location: RowLocation) -> Result<Option<LastOutcome>> {
    let Some(kind) = row.get::<_, Option<i64>>(25)? else { return Ok(None) };
    Ok(Some(LastOutcome {
        attempt: location.number("last_attempt", row.get(24)?)?,
        kind: location.known("last_kind", kind, OutcomeKind::from_code(kind))?,
        reason: Cow::Owned(row.get(26)?),
        http_status: http_status(row, 27, location)?,
        at: Timestamp::from_ms(row.get(28)?),
    }))
}

fn http_status(row: &Row<'_>, at: usize, location: RowLocation) -> Result<Option<u16>> {
    row.get::<_, Option<i64>>(at)?.map(|status| location.number("http_status", status)).transpose()
}

/// Reads `task_id, attempt, started_at, ended_at, due_at, node, kind, reason, http_status, excerpt`.
pub(super) fn read_attempt(row: &Row<'_>) -> Result<AttemptRecord> {
    let location = RowLocation { table: "attempt", id: row.get(0)? };
    let kind: i64 = row.get(6)?;
    Ok(AttemptRecord {
        task: TaskId::new(location.id),
        attempt: location.number("attempt", row.get(1)?)?,
        started_at: Timestamp::from_ms(row.get(2)?),
        ended_at: Timestamp::from_ms(row.get(3)?),
        due_at: Timestamp::from_ms(row.get(4)?),
        node: row.get::<_, Option<i64>>(5)?.map(NodeId::new),
        kind: location.known("kind", kind, OutcomeKind::from_code(kind))?,
        reason: Cow::Owned(row.get(7)?),
        http_status: http_status(row, 8, location)?,
        excerpt: row.get::<_, Option<Box<str>>>(9)?,
    })
}

/// The first row of a query, if there is one.
pub(super) fn first<T>(mut rows: Rows<'_>, read: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<Option<T>> {
    rows.next()?.map(read).transpose()
}

/// Every row of a query; whoever calls this has put a limit into it.
pub(super) fn all<T>(mut rows: Rows<'_>, mut read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut read_rows = Vec::new();
    while let Some(row) = rows.next()? {
        read_rows.push(read(row)?);
    }
    Ok(read_rows)
}

/// Every row that can be read; a bad one is reported and does not stop its neighbours.
pub(super) fn all_good<T>(mut rows: Rows<'_>, mut read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut good = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(value) => good.push(value),
            Err(error @ StoreError::Corrupt { .. }) => tracing::error!(%error, "a row was skipped"),
            Err(error) => return Err(error),
        }
    }
    Ok(good)
}
