//! New tasks.

use rusqlite::params;
use tsp_core::task::Task;
use tsp_core::transition::OutcomeDetail;
use tsp_core::transition::submit::{Clash, admit, clash, is_repeated};
use tsp_core::{ConfigId, TaskKey, Timestamp};
use tsp_store::backend::columns::open_columns;
use tsp_store::backend::row::read_task;
use tsp_store::error::{Result, StoreError};
use tsp_store::idempotency::IdempotencyResult;
use tsp_store::tasks::{Submit, SubmitOutcome};

use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::tasks::idempotency::idempotent;

statements! {
    pub(crate) CANONICAL = concat!(
        "-- task_canonical\nSELECT ",
        open_columns!("key"),
        " FROM task WHERE config_id = ?1 AND key = ?2 AND key_slot = 0"
    )
        => "SEARCH task USING INDEX task_key (config_id=? AND key=? AND key_slot=?)";

    ENDED_BEFORE = "-- task_ended_before\nSELECT 1 FROM history WHERE id = ?1";
}

pub(crate) fn submit(
    tx: &mut Tx<'_>,
    batch: Vec<Submit>,
    now: Timestamp,
) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> {
    batch.into_iter().map(|submit| submit_one(tx, submit, now)).collect()
}

fn submit_one(tx: &mut Tx<'_>, submit: Submit, now: Timestamp) -> Result<IdempotencyResult<SubmitOutcome>> {
    let Submit { mut task, on_duplicate, own_payload, idempotency } = submit;
    idempotent(tx, idempotency, now, |tx| {
        match admit(&task, tx.config(task.config).as_deref(), tx.shared.shards, false) {
            Ok(key_slot) => task.key_slot = key_slot,
            Err(refusal) => return Ok(refusal.into()),
        }
        if ended_before(tx.conn, &task)? {
            return again(tx, &task);
        }
        // Nearly every key is new, so the insert is tried first.
        if tx.rows.insert_task(&task, &mut tx.sums)? {
            return Ok(SubmitOutcome::Created(task));
        }
        if tx.rows.open_task(task.id)?.is_some() {
            return again(tx, &task);
        }
        let holder = match &task.key {
            Some(key) => canonical(tx.conn, task.config, key)?,
            None => None,
        };
        match clash(&task, on_duplicate, own_payload, holder, now) {
            Clash::Insert { key_slot } => {
                task.key_slot = key_slot;
                if tx.rows.insert_task(&task, &mut tx.sums)? {
                    return Ok(SubmitOutcome::Created(task));
                }
                Err(StoreError::Internal(format!("task {} was refused and nobody holds its key", task.id)))
            }
            Clash::Existing(holder) => Ok(SubmitOutcome::Existing(holder)),
            Clash::Reset(change) => {
                let (id, after_current) =
                    (change.task.id, change.outcome_detail == OutcomeDetail::AfterCurrent);
                match tx.rows.save(change.task.version - 1, *change, &mut tx.sums)? {
                    Some(task) => Ok(SubmitOutcome::Reset { task, after_current }),
                    None => Err(StoreError::Internal(format!("task {id} changed within a transaction"))),
                }
            }
        }
    })
}

/// An id is never in both tables, or the task could not end.
fn ended_before(conn: Session<'_>, task: &Task) -> Result<bool> {
    conn.prepare(ENDED_BEFORE)?.exists([task.id.get()])
}

/// A repeated id is the same submit again (its first answer was lost), or a bug.
fn again(tx: &Tx<'_>, task: &Task) -> Result<SubmitOutcome> {
    match crate::tasks::change::task(tx.conn, task.id)? {
        Some(row) if is_repeated(task, &row) => Ok(SubmitOutcome::Created(Box::new(row))),
        _ => Err(StoreError::Internal(format!("task id {} is used already", task.id))),
    }
}

/// The canonical open task of a key.
pub(crate) fn canonical(conn: Session<'_>, config: ConfigId, key: &TaskKey) -> Result<Option<Task>> {
    conn.prepare(CANONICAL)?.first(params![config.get(), key.as_str()], |row| read_task(row))
}
