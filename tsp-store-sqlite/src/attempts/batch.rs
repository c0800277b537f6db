//! What workers do with rows besides begin and finish.

use tsp_core::task::Task;
use tsp_core::transition::{Event, Rules, transition};
use tsp_core::{NodeId, TaskId, Timestamp};
use tsp_store::attempts::Each;
use tsp_store::backend::row::{good, read_executing};
use tsp_store::error::{Result, StoreError};

use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::tasks::rows::open_task;

statements! {
    pub(crate) EXECUTING = "-- executing
    SELECT id, attempt FROM task WHERE phase = 1 AND status = 30 AND node = ?"
        => "SEARCH task USING INDEX task_busy (phase=?)";
}

pub(crate) fn release(tx: &mut Tx<'_>, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
    let mut released = Vec::with_capacity(batch.len());
    for (id, version) in batch {
        let Some(row) = good(tx.rows.open_task(id))?.flatten() else { continue };
        let Ok(change) = transition(&row, &Event::Release { version }, now) else { continue };
        if let Some(task) = tx.rows.save(row.version, change, &mut tx.sums)? {
            released.push(*task);
        }
    }
    Ok(released)
}

/// Read one by one: a message without its row is rare in one process.
pub(crate) fn load(conn: Session<'_>, ids: &[TaskId]) -> Result<Each<Option<Box<Task>>>> {
    ids.iter().map(|id| of_one(open_task(conn, *id).map(|row| row.map(Box::new)))).collect()
}

pub(crate) fn executing(conn: Session<'_>, node: NodeId) -> Result<Vec<(TaskId, u32)>> {
    conn.prepare(EXECUTING)?.all_good([node.get()], |row| read_executing(row))
}

/// `worker_lost` for attempts that a living worker finds under its own id and does not run.
pub(crate) fn release_orphans(
    tx: &mut Tx<'_>,
    node: NodeId,
    rows: &[(TaskId, u32)],
    now: Timestamp,
) -> Result<Vec<Task>> {
    let mut changed = Vec::with_capacity(rows.len());
    for (id, attempt) in rows {
        let Some(row) = good(tx.rows.open_task(*id))?.flatten() else { continue };
        if row.attempt == *attempt {
            changed.extend(mark_worker_lost_on(tx, &row, node, now)?);
        }
    }
    Ok(changed)
}

/// The task goes on at once: a loss knows no delay, so no jitter either.
pub(crate) fn mark_worker_lost_on(
    tx: &mut Tx<'_>,
    row: &Task,
    node: NodeId,
    now: Timestamp,
) -> Result<Option<Task>> {
    let config = tx.config(row.config);
    let rules = Rules::of(config.as_deref(), 0.0);
    let Ok(change) = transition(row, &Event::NodeLost { node, rules }, now) else { return Ok(None) };
    Ok(tx.rows.save(row.version, change, &mut tx.sums)?.map(|task| *task))
}

/// A bad row's error is its own; it is found when the row is read, before anything is written.
pub(crate) fn of_one<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error @ StoreError::Corrupt { .. }) => Ok(Err(error)),
        other => other.map(Ok),
    }
}
