//! What the owner rescues: rows of lost messages, of lost workers, of receivers that did not complete.

use rusqlite::{Connection, params};
use tsp_core::task::Task;
use tsp_core::transition::{Event, Rules, transition};
use tsp_core::{NodeId, TaskId, Timestamp};

use crate::backend::columns::open_columns;
use crate::backend::row::{good, read_task};
use crate::error::Result;
use crate::fetching::Owner;

use super::attempts::release;
use super::claim::owns;
use super::row::{all_good, first};
use super::tx::Tx;

pub(super) const WAITS_OVER: &str = concat!(
    "-- waits_over\nSELECT ",
    open_columns!("key"),
    " FROM task WHERE status = 45 AND due_at <= ?1 ORDER BY due_at LIMIT ?2"
);

pub(super) const NEXT_DEADLINE: &str = "-- next_deadline
SELECT due_at FROM task WHERE status = 45 ORDER BY due_at LIMIT 1";

pub(super) fn return_to_scheduled(
    tx: &mut Tx<'_>,
    owner: Owner,
    rows: Vec<(TaskId, i64)>,
    now: Timestamp,
) -> Result<Vec<Task>> {
    if owns(tx, owner)? { release(tx, rows, now) } else { Ok(Vec::new()) }
}

pub(super) fn mark_worker_lost(
    tx: &mut Tx<'_>,
    owner: Owner,
    rows: Vec<(TaskId, NodeId)>,
    now: Timestamp,
) -> Result<Vec<Task>> {
    let mut changed = Vec::with_capacity(rows.len());
    if !owns(tx, owner)? {
        return Ok(changed);
    }
    for (id, node) in rows {
        let Some(row) = good(tx.hot.open_task(id))?.flatten() else { continue };
        changed.extend(mark_one_lost(tx, &row, node, now)?);
    }
    Ok(changed)
}

/// The same for attempts that a living worker finds under its own id and does not run.
pub(super) fn release_orphans(
    tx: &mut Tx<'_>,
    node: NodeId,
    rows: &[(TaskId, u32)],
    now: Timestamp,
) -> Result<Vec<Task>> {
    let mut changed = Vec::with_capacity(rows.len());
    for (id, attempt) in rows {
        let Some(row) = good(tx.hot.open_task(*id))?.flatten() else { continue };
        if row.attempt == *attempt {
            changed.extend(mark_one_lost(tx, &row, node, now)?);
        }
    }
    Ok(changed)
}

/// The task goes on at once: a loss knows no delay, so no jitter either.
fn mark_one_lost(tx: &mut Tx<'_>, row: &Task, node: NodeId, now: Timestamp) -> Result<Option<Task>> {
    let config = tx.config(row.config);
    let rules = Rules::of(config.as_deref(), 0.0);
    let Ok(change) = transition(row, &Event::NodeLost { node, rules }, now) else { return Ok(None) };
    Ok(tx.hot.save(row.version, change, &mut tx.sums)?.map(|task| *task))
}

pub(super) fn end_waits(
    tx: &mut Tx<'_>,
    owner: Owner,
    limit: usize,
    jitter_fraction: f64,
    now: Timestamp,
) -> Result<Vec<Task>> {
    if !owns(tx, owner)? {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut waits = tx.conn.prepare_cached(WAITS_OVER)?;
    let over = all_good(waits.query(params![now.ms(), limit])?, |row| read_task(row))?;
    let mut changed = Vec::with_capacity(over.len());
    for row in over {
        let config = tx.config(row.config);
        let rules = Rules::of(config.as_deref(), jitter_fraction);
        let Ok(change) = transition(&row, &Event::Deadline { rules }, now) else { continue };
        if let Some(task) = tx.hot.save(row.version, change, &mut tx.sums)? {
            changed.push(*task);
        }
    }
    Ok(changed)
}

pub(super) fn next_deadline(conn: &Connection) -> Result<Option<Timestamp>> {
    let mut statement = conn.prepare_cached(NEXT_DEADLINE)?;
    first(statement.query([])?, |row| Ok(Timestamp::from_ms(row.get(0)?)))
}
