//! Reading task rows.

use std::borrow::Cow;

use bytes::Bytes;
use sqlx::mysql::MySqlRow;
use sqlx::{Decode, MySql, Row as _, Type};
use tsp_core::outcome::OutcomeKind;
use tsp_core::task::{AttemptRecord, EndResult, LastOutcome, Origin, Status, Task, TokenHash};
use tsp_core::{ConfigId, Millis, NodeId, TaskId, TaskKey, Timestamp};

use crate::documents::{RowLocation, extra_from_json};
use crate::error::{Result, StoreError};

/// The columns of an open task, in the order in which [`read_task`] reads them.
macro_rules! open_columns {
    () => {
        "id, config_id, status, version, due_at, execute_at, first_due_at, created_at, attempt, charged, \
         losses, epoch, node, cancel_requested, origin, sharding_id, sharding_count, parent_id, task_key, \
         key_slot, started_at, begun_due_at, expire_after, token, last_attempt, last_kind, last_reason, \
         last_status, last_at, extra, payload, NULL AS result, NULL AS ended_at"
    };
}

/// The same without what a row carries: an `extra` comes only if it is no JSON, for whoever reads it to say so.
macro_rules! bare_columns {
    () => {
        "id, config_id, status, version, due_at, execute_at, first_due_at, created_at, attempt, charged, \
         losses, epoch, node, cancel_requested, origin, sharding_id, sharding_count, parent_id, task_key, \
         key_slot, started_at, begun_due_at, expire_after, token, last_attempt, last_kind, last_reason, \
         last_status, last_at, IF(JSON_VALID(extra), NULL, extra) AS extra, NULL AS payload, \
         NULL AS result, NULL AS ended_at"
    };
}

/// The same for an ended one.
macro_rules! ended_columns {
    () => {
        "id, config_id, 50 AS status, version, due_at, execute_at, first_due_at, created_at, attempt, \
         charged, losses, epoch, NULL AS node, 0 AS cancel_requested, origin, sharding_id, \
         sharding_count, parent_id, task_key, key_slot, started_at, begun_due_at, expire_after, token, \
         last_attempt, last_kind, last_reason, last_status, last_at, extra, payload, result, ended_at"
    };
}

pub(super) use {bare_columns, ended_columns, open_columns};

/// A row and where it stands: what cannot be decoded is reported by its column.
struct Fields<'r> {
    row: &'r MySqlRow,
    location: RowLocation,
}

impl<'r> Fields<'r> {
    fn get<T: Decode<'r, MySql> + Type<MySql>>(&self, at: usize, column: &'static str) -> Result<T> {
        self.row.try_get(at).map_err(|error| self.location.corrupt(column, error.to_string()))
    }

    fn number<T: TryFrom<i64>>(&self, at: usize, column: &'static str) -> Result<T> {
        self.location.number(column, self.get(at, column)?)
    }

    fn time(&self, at: usize, column: &'static str) -> Result<Timestamp> {
        Ok(Timestamp::from_ms(self.get(at, column)?))
    }

    fn maybe_time(&self, at: usize, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(at, column)?.map(Timestamp::from_ms))
    }

    fn key(&self, at: usize) -> Result<Option<TaskKey>> {
        let Some(text) = self.get::<Option<&str>>(at, "task_key")? else { return Ok(None) };
        TaskKey::of_stored(text)
            .map(Some)
            .map_err(|error| self.location.corrupt("task_key", error.to_string()))
    }

    fn token(&self, at: usize) -> Result<Option<TokenHash>> {
        let Some(token) = self.get::<Option<&[u8]>>(at, "token")? else { return Ok(None) };
        TokenHash::try_from(token).map(Some).map_err(|_| self.location.corrupt("token", "is not 32 bytes"))
    }

    fn last_outcome(&self, at: usize) -> Result<Option<LastOutcome>> {
        let Some(kind) = self.get::<Option<i64>>(at + 1, "last_kind")? else { return Ok(None) };
        Ok(Some(LastOutcome {
            attempt: self.number(at, "last_attempt")?,
            kind: self.location.known("last_kind", kind, OutcomeKind::from_code(kind))?,
            reason: Cow::Owned(self.get(at + 2, "last_reason")?),
            http_status: self.http_status(at + 3)?,
            at: self.time(at + 4, "last_at")?,
        }))
    }

    fn http_status(&self, at: usize) -> Result<Option<u16>> {
        match self.get::<Option<i64>>(at, "http_status")? {
            Some(_) => self.number(at, "http_status").map(Some),
            None => Ok(None),
        }
    }
}

/// Reads the columns of [`open_columns`] or [`ended_columns`] from the first on.
pub(super) fn read_task(row: &MySqlRow) -> Result<Task> {
    let status: i64 = row.try_get(2)?;
    let ended = status == i64::from(Status::Ended.code());
    let location = RowLocation { table: if ended { "history" } else { "task" }, id: row.try_get(0)? };
    let fields = Fields { row, location };
    let origin: i64 = fields.get(14, "origin")?;
    let result: Option<i64> = fields.get(31, "result")?;
    Ok(Task {
        id: TaskId::new(location.id),
        config: ConfigId::new(fields.get(1, "config_id")?),
        status: location.known("status", status, Status::from_code(status))?,
        version: fields.get(3, "version")?,
        due_at: fields.time(4, "due_at")?,
        execute_at: fields.time(5, "execute_at")?,
        age_from: fields.time(6, "first_due_at")?,
        created_at: fields.time(7, "created_at")?,
        attempt: fields.number(8, "attempt")?,
        failed_attempts: fields.number(9, "charged")?,
        worker_losses: fields.number(10, "losses")?,
        epoch: fields.get(11, "epoch")?,
        node: fields.get::<Option<i64>>(12, "node")?.map(NodeId::new),
        cancel_requested: fields.get::<i64>(13, "cancel_requested")? != 0,
        origin: location.known("origin", origin, Origin::from_code(origin))?,
        sharding_id: fields.number(15, "sharding_id")?,
        sharding_count: fields.number(16, "sharding_count")?,
        parent: fields.get::<Option<i64>>(17, "parent_id")?.map(TaskId::new),
        key: fields.key(18)?,
        key_slot: fields.get(19, "key_slot")?,
        started_at: fields.maybe_time(20, "started_at")?,
        begun_due_at: fields.maybe_time(21, "begun_due_at")?,
        expire_after: fields.get::<Option<i64>>(22, "expire_after")?.map(Millis::from_ms),
        token: fields.token(23)?,
        last_outcome: fields.last_outcome(24)?,
        extra: match fields.get::<Option<&str>>(29, "extra")? {
            Some(text) => {
                Some(Box::new(extra_from_json(text).map_err(|why| location.corrupt("extra", why))?))
            }
            None => None,
        },
        payload: fields.get::<Option<&[u8]>>(30, "payload")?.map(Bytes::copy_from_slice),
        result: result.map(|code| location.known("result", code, EndResult::from_code(code))).transpose()?,
        ended_at: fields.maybe_time(32, "ended_at")?,
    })
}

/// Reads `task_id, attempt, started_at, ended_at, due_at, node, kind, reason, http_status, excerpt`.
pub(super) fn read_attempt(row: &MySqlRow) -> Result<AttemptRecord> {
    let fields = Fields { row, location: RowLocation { table: "attempt", id: row.try_get(0)? } };
    let kind: i64 = fields.get(6, "kind")?;
    Ok(AttemptRecord {
        task: TaskId::new(fields.location.id),
        attempt: fields.number(1, "attempt")?,
        started_at: fields.time(2, "started_at")?,
        ended_at: fields.time(3, "ended_at")?,
        due_at: fields.time(4, "due_at")?,
        node: fields.get::<Option<i64>>(5, "node")?.map(NodeId::new),
        kind: fields.location.known("kind", kind, OutcomeKind::from_code(kind))?,
        reason: Cow::Owned(fields.get(7, "reason")?),
        http_status: fields.http_status(8)?,
        excerpt: fields.get::<Option<Box<str>>>(9, "excerpt")?,
    })
}

/// Every row that can be read; a bad one is reported and does not stop its neighbours.
pub(super) fn all_good<T>(rows: &[MySqlRow], mut read: impl FnMut(&MySqlRow) -> Result<T>) -> Result<Vec<T>> {
    let mut good = Vec::with_capacity(rows.len());
    for row in rows {
        match read(row) {
            Ok(value) => good.push(value),
            Err(error @ StoreError::Corrupt { .. }) => tracing::error!(%error, "a row was skipped"),
            Err(error) => return Err(error),
        }
    }
    Ok(good)
}
