//! Many open rows saved by one statement: retries, releases, flags.

use serde_json::{Value, json};
use tsp_core::task::Task;
use tsp_core::{Millis, NodeId, Timestamp};
use tsp_store::backend::row_count::{exactly, exactly_one, one_or_none};
use tsp_store::documents::extra_to_json;
use tsp_store::error::{Result, StoreError};

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;

pub(crate) const TASK_UPDATE: &str = "-- task_update
UPDATE task_{shard} SET status = ?, version = ?, due_at = ?, execute_at = ?, first_due_at = ?, attempt = ?,
    charged = ?, losses = ?, epoch = ?, node = ?, cancel_requested = ?, started_at = ?, begun_due_at = ?,
    expire_after = ?, token = ?, last_attempt = ?, last_kind = ?, last_reason = ?, last_status = ?,
    last_at = ?, extra = ?, payload = ?
WHERE id = ? AND version = ?";

/// One parameter and one text for any number of rows. The list comes first, so each row is found by its id.
/// Columns of bytes are sent as text.
pub(crate) const TASKS_UPDATE: &str = "-- tasks_update
UPDATE JSON_TABLE(?, '$[*]' COLUMNS (
    id BIGINT PATH '$[0]', was BIGINT PATH '$[1]', status INT PATH '$[2]', version BIGINT PATH '$[3]',
    due_at BIGINT PATH '$[4]', execute_at BIGINT PATH '$[5]', first_due_at BIGINT PATH '$[6]',
    attempt BIGINT PATH '$[7]', charged BIGINT PATH '$[8]', losses BIGINT PATH '$[9]',
    epoch BIGINT PATH '$[10]', node BIGINT PATH '$[11]', cancel_requested INT PATH '$[12]',
    started_at BIGINT PATH '$[13]', begun_due_at BIGINT PATH '$[14]', expire_after BIGINT PATH '$[15]',
    token VARCHAR(128) PATH '$[16]', last_attempt BIGINT PATH '$[17]', last_kind INT PATH '$[18]',
    last_reason TEXT PATH '$[19]', last_status INT PATH '$[20]', last_at BIGINT PATH '$[21]',
    extra MEDIUMTEXT PATH '$[22]', payload MEDIUMTEXT PATH '$[23]'
)) AS v STRAIGHT_JOIN task_{shard} AS t ON t.id = v.id AND t.version = v.was
SET t.status = v.status, t.version = v.version, t.due_at = v.due_at, t.execute_at = v.execute_at,
    t.first_due_at = v.first_due_at, t.attempt = v.attempt, t.charged = v.charged, t.losses = v.losses,
    t.epoch = v.epoch, t.node = v.node, t.cancel_requested = v.cancel_requested,
    t.started_at = v.started_at, t.begun_due_at = v.begun_due_at, t.expire_after = v.expire_after,
    t.token = UNHEX(v.token), t.last_attempt = v.last_attempt, t.last_kind = v.last_kind,
    t.last_reason = v.last_reason, t.last_status = v.last_status, t.last_at = v.last_at,
    t.extra = v.extra, t.payload = v.payload";

/// Fewer rows than this are not worth a list.
const LIST_MIN: usize = 3;
/// A larger payload or extra goes by itself.
const LISTED_BYTES_MAX: usize = 16 << 10;

/// Saves an open row that was decided on `version`. `false`: it has another version now.
pub(crate) async fn update(tx: &mut Tx<'_>, on: &ShardDb, version: i64, task: &Task) -> Result<bool> {
    let mut values = Values::default();
    values.update(task);
    values.put(task.id.get()).put(version);
    let sql = on.sql(TASK_UPDATE);
    let changed = values.ask(&sql)?.execute(tx.conn()).await?;
    one_or_none(changed, "task_update")
}

/// Saves open rows that this transaction has locked at these versions. Returns how many: all of them.
pub(crate) async fn update_rows(tx: &mut Tx<'_>, on: &ShardDb, rows: &[(i64, &Task)]) -> Result<usize> {
    let mut listed = Vec::with_capacity(rows.len());
    for (version, task) in rows {
        match listed_row(*version, task)? {
            Some(row) if rows.len() >= LIST_MIN => listed.push(row),
            _ => {
                let updated = update(tx, on, *version, task).await?;
                exactly_one(u64::from(updated), "task_update")?;
            }
        }
    }
    for chunk in listed.chunks(ROWS_MAX) {
        let list = serde_json::to_string(chunk).map_err(|error| StoreError::Internal(error.to_string()))?;
        let updated = query(&on.sql(TASKS_UPDATE)).bind(list).execute(tx.conn()).await?;
        exactly(chunk.len(), updated, "tasks_update")?;
    }
    Ok(rows.len())
}

/// A row of the list. `None`: it is too large for it, or its payload is no text.
fn listed_row(version: i64, task: &Task) -> Result<Option<Value>> {
    let extra = task.extra.as_deref().map_or(Ok(None), extra_to_json).map_err(StoreError::Internal)?;
    let payload = match task.payload.as_deref().map(str::from_utf8) {
        None => None,
        Some(Ok(payload)) => Some(payload),
        Some(Err(_)) => return Ok(None),
    };
    if extra.as_ref().map_or(0, String::len) + payload.map_or(0, str::len) > LISTED_BYTES_MAX {
        return Ok(None);
    }
    let last = task.last_outcome.as_ref();
    Ok(Some(json!([
        task.id.get(),
        version,
        task.status.code(),
        task.version,
        task.due_at.ms(),
        task.execute_at.ms(),
        task.age_from.ms(),
        task.attempt,
        task.failed_attempts,
        task.worker_losses,
        task.epoch,
        task.node.map(NodeId::get),
        u8::from(task.cancel_requested),
        task.started_at.map(Timestamp::ms),
        task.begun_due_at.map(Timestamp::ms),
        task.expire_after.map(Millis::ms),
        task.token.map(hex::encode),
        last.map(|last| last.attempt),
        last.map(|last| last.kind.code()),
        last.map(|last| &*last.reason),
        last.and_then(|last| last.http_status),
        last.map(|last| last.at.ms()),
        extra,
        payload,
    ])))
}
