//! New tasks.

use rusqlite::{Connection, params};
use tsp_core::config::OnDuplicateKey;
use tsp_core::task::Task;
use tsp_core::transition::{Event, Note, transition};
use tsp_core::{ConfigId, TaskKey, Timestamp};

use crate::error::{Result, StoreError};
use crate::idempotency::Kept;
use crate::rules::refused;
use crate::tasks::{Submit, Submitted};

use super::kept::keeping;
use super::row::{first, open_columns, read_task};
use super::tx::Tx;

pub(super) const CANONICAL: &str = concat!(
    "-- task_canonical\nSELECT ",
    open_columns!(),
    " FROM task WHERE config_id = ?1 AND key = ?2 AND key_slot = 0"
);

pub(super) fn submit(tx: &mut Tx<'_>, batch: Vec<Submit>, now: Timestamp) -> Result<Vec<Kept<Submitted>>> {
    batch.into_iter().map(|submit| submit_one(tx, submit, now)).collect()
}

fn submit_one(tx: &mut Tx<'_>, submit: Submit, now: Timestamp) -> Result<Kept<Submitted>> {
    let Submit { mut task, on_duplicate, own_payload, keep } = submit;
    keeping(tx, keep, now, |tx| {
        if let Some(refused) = refused(&task, tx.config(task.config).as_deref(), tx.shared.shards) {
            return Ok(refused);
        }
        if ended_before(tx.conn, &task)? {
            return again(tx, &task);
        }
        // Nearly every key is new, so the insert is tried first.
        if tx.hot.insert(&task, &mut tx.sums)? {
            return Ok(Submitted::Created(task));
        }
        if tx.hot.open_task(task.id)?.is_some() {
            return again(tx, &task);
        }
        if on_duplicate == OnDuplicateKey::Add {
            task.key_slot = task.id.get();
            if tx.hot.insert(&task, &mut tx.sums)? {
                return Ok(Submitted::Created(task));
            }
            return Err(StoreError::Internal(format!("the slot of task {} is taken", task.id)));
        }
        let holder = holder(tx, &task)?;
        if on_duplicate == OnDuplicateKey::Ignore {
            return Ok(Submitted::Existing(Box::new(holder)));
        }
        let payload = task.payload.filter(|_| own_payload);
        let reset = Event::Reset { execute_at: task.execute_at, payload };
        let Ok(change) = transition(&holder, &reset, now) else {
            // An open task takes every reset.
            return Err(StoreError::Internal(format!("task {} refused a reset", holder.id)));
        };
        let after_current = change.note == Note::AfterCurrent;
        match tx.hot.save(holder.version, change, &mut tx.sums)? {
            Some(task) => Ok(Submitted::Reset { task, after_current }),
            None => Err(StoreError::Internal(format!("task {} changed within a transaction", holder.id))),
        }
    })
}

const ENDED_BEFORE: &str = "-- task_ended_before\nSELECT 1 FROM history WHERE id = ?1";

/// An id is never in both tables, or the task could not end.
fn ended_before(conn: &Connection, task: &Task) -> Result<bool> {
    Ok(conn.prepare_cached(ENDED_BEFORE)?.exists([task.id.get()])?)
}

/// An id that comes again is the same submit again (its first answer was lost), or a bug.
fn again(tx: &Tx<'_>, task: &Task) -> Result<Submitted> {
    match super::tasks::task(tx.conn, task.id)? {
        Some(row) if row.config == task.config && row.key == task.key => {
            Ok(Submitted::Created(Box::new(row)))
        }
        _ => Err(StoreError::Internal(format!("task id {} is used already", task.id))),
    }
}

/// The open task that stands in the way of `task`.
fn holder(tx: &Tx<'_>, task: &Task) -> Result<Task> {
    let held = match &task.key {
        Some(key) => canonical(tx.conn, task.config, key)?,
        None => None,
    };
    held.ok_or_else(|| StoreError::Internal(format!("task {} was refused and no key holds it", task.id)))
}

/// The canonical open task of a key.
pub(super) fn canonical(conn: &Connection, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
    first(conn.prepare_cached(CANONICAL)?.query(params![config.get(), key.as_str()])?, read_task)
}
