//! What workers do with rows: begin, finish, release.

use rusqlite::Connection;
use tsp_core::task::{Status, Task};
use tsp_core::transition::{Event, Refused, Rules, transition};
use tsp_core::{NodeId, TaskId, Timestamp};

use crate::attempts::{Begin, BeginResult, Each, Finish, FinishResult};
use crate::backend::row::{good, read_executing};
use crate::error::{Result, StoreError};

use super::row::all_good;
use super::task_rows::{is_plain, open_task};
use super::tx::Tx;

/// An error that is not a bad row's own ends the command: what was done of it is rolled back.
pub(super) fn begin(
    tx: &mut Tx<'_>,
    node: NodeId,
    batch: Vec<Begin>,
    now: Timestamp,
) -> Result<Each<BeginResult>> {
    batch.into_iter().map(|begin| of_one(begin_one(tx, node, begin, now))).collect()
}

fn begin_one(tx: &mut Tx<'_>, node: NodeId, begin: Begin, now: Timestamp) -> Result<BeginResult> {
    let inline = begin.row.filter(|row| row.id == begin.id && row.version == begin.version);
    let row = match inline {
        Some(row) => *row,
        None => match tx.hot.open_task(begin.id)? {
            Some(row) => row,
            None => return Ok(BeginResult::Drop(None)),
        },
    };
    let runnable = tx.config(row.config).is_some_and(|config| config.runnable());
    let event = Event::Begin { version: begin.version, node, runnable, token: begin.token };
    let change = match transition(&row, &event, now) {
        Ok(change) => change,
        Err(Refused::NotDue { due_at }) => return Ok(BeginResult::Wait(due_at)),
        Err(_) => return Ok(BeginResult::Drop(None)),
    };
    if is_plain(&change, Status::Executing) {
        // A row of another version than the message's is stale, whether it came inline or was read.
        let begun = tx.hot.save_begun(row.version, &change.task)?;
        return Ok(if begun { BeginResult::Run(Box::new(change.task)) } else { BeginResult::Drop(None) });
    }
    Ok(BeginResult::Drop(tx.hot.save(row.version, change, &mut tx.sums)?))
}

pub(super) fn finish(
    tx: &mut Tx<'_>,
    node: NodeId,
    batch: Vec<Finish>,
    now: Timestamp,
) -> Result<Each<FinishResult>> {
    batch.into_iter().map(|finish| of_one(finish_one(tx, node, finish, now))).collect()
}

/// The fence is `(executing, attempt, node)`, not the version: a cancel or reset may have come since begin.
/// The inline row is tried first; if the stored one has moved on, it is read and decided again.
fn finish_one(tx: &mut Tx<'_>, node: NodeId, finish: Finish, now: Timestamp) -> Result<FinishResult> {
    let now = finish.ended_at.map_or(now, |ended_at| ended_at.min(now));
    let mut row = finish.row.filter(|row| row.id == finish.id);
    let inline = row.is_some();
    if !inline {
        row = tx.hot.open_task(finish.id)?.map(Box::new);
    }
    let Some(row) = row else { return Ok(FinishResult::TooLate) };
    if let Some(saved) = close(tx, node, &finish.verdict, finish.attempt, finish.jitter_fraction, &row, now)?
    {
        return Ok(FinishResult::Saved(saved));
    }
    if !inline {
        return Ok(FinishResult::TooLate);
    }
    let Some(stored) = tx.hot.open_task(finish.id)? else { return Ok(FinishResult::TooLate) };
    let saved = close(tx, node, &finish.verdict, finish.attempt, finish.jitter_fraction, &stored, now)?;
    Ok(saved.map_or(FinishResult::TooLate, FinishResult::Saved))
}

/// Closes the attempt on `row`. `None`: it is closed, or the stored row is another one.
fn close(
    tx: &mut Tx<'_>,
    node: NodeId,
    verdict: &tsp_core::Verdict,
    attempt: u32,
    jitter_fraction: f64,
    row: &Task,
    now: Timestamp,
) -> Result<Option<Box<Task>>> {
    let config = tx.config(row.config);
    let rules = Rules::of(config.as_deref(), jitter_fraction);
    match transition(row, &Event::Finish { attempt, node, verdict, rules }, now) {
        Ok(change) => tx.hot.save(row.version, change, &mut tx.sums),
        Err(_) => Ok(None),
    }
}

pub(super) fn release(tx: &mut Tx<'_>, batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>> {
    let mut released = Vec::with_capacity(batch.len());
    for (id, version) in batch {
        let Some(row) = good(tx.hot.open_task(id))?.flatten() else { continue };
        let Ok(change) = transition(&row, &Event::Release { version }, now) else { continue };
        if let Some(task) = tx.hot.save(row.version, change, &mut tx.sums)? {
            released.push(*task);
        }
    }
    Ok(released)
}

/// Read one by one: a message without its row is rare in one process.
pub(super) fn load(conn: &Connection, ids: &[TaskId]) -> Result<Each<Option<Box<Task>>>> {
    ids.iter().map(|id| of_one(open_task(conn, *id).map(|row| row.map(Box::new)))).collect()
}

/// `status` stands twice because SQLite takes a partial index only for its own words.
pub(super) const EXECUTING: &str = "-- executing
SELECT id, attempt FROM task WHERE status BETWEEN 10 AND 30 AND status = 30 AND node = ?";

pub(super) fn executing(conn: &Connection, node: NodeId) -> Result<Vec<(TaskId, u32)>> {
    let mut statement = conn.prepare_cached(EXECUTING)?;
    all_good(statement.query([node.get()])?, |row| read_executing(row))
}

/// A bad row's error is its own; it is found when the row is read, before anything is written.
fn of_one<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error @ StoreError::Corrupt { .. }) => Ok(Err(error)),
        other => other.map(Ok),
    }
}
