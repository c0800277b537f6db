//! What the owner rescues: rows of lost messages, of lost workers, of receivers that did not complete.

use tsp_core::task::Task;
use tsp_core::transition::{Event, Rules, transition};
use tsp_core::{NodeId, TaskId, Timestamp};
use tsp_store::backend::columns::open_columns;
use tsp_store::backend::row::{good, read_task};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::error::Result;
use tsp_store::fetching::Owner;

use crate::attempts::batch::{mark_worker_lost_on, release};
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;

statements! {
    pub(crate) WAITS_OVER = concat!(
        "-- waits_over\nSELECT ",
        open_columns!("key"),
        " FROM task WHERE phase = 3 AND due_at <= ?1 ORDER BY due_at LIMIT ?2"
    )
        => "SEARCH task USING INDEX task_awaiting (due_at<?)";

    pub(crate) NEXT_DEADLINE = "-- next_deadline
    SELECT due_at FROM task WHERE phase = 3 ORDER BY due_at LIMIT 1"
        => "SCAN task USING COVERING INDEX task_awaiting";
}

pub(crate) fn return_to_scheduled(
    tx: &mut Tx<'_>,
    owner: Owner,
    rows: Vec<(TaskId, i64)>,
    now: Timestamp,
) -> Result<Vec<Task>> {
    if owns(tx, owner)? { release(tx, rows, now) } else { Ok(Vec::new()) }
}

pub(crate) fn mark_worker_lost(
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
        let Some(row) = good(tx.rows.open_task(id))?.flatten() else { continue };
        changed.extend(mark_worker_lost_on(tx, &row, node, now)?);
    }
    Ok(changed)
}

pub(crate) fn end_waits(
    tx: &mut Tx<'_>,
    owner: Owner,
    limit: usize,
    jitter_fraction: f64,
    now: Timestamp,
) -> Result<Vec<Task>> {
    if !owns(tx, owner)? {
        return Ok(Vec::new());
    }
    let over = tx.conn.prepare(WAITS_OVER)?.all_good([now.ms(), sql_limit(limit)], |row| read_task(row))?;
    let mut changed = Vec::with_capacity(over.len());
    for row in over {
        let config = tx.config(row.config);
        let rules = Rules::of(config.as_deref(), jitter_fraction);
        let Ok(change) = transition(&row, &Event::Deadline { rules }, now) else { continue };
        if let Some(task) = tx.rows.save(row.version, change, &mut tx.sums)? {
            changed.push(*task);
        }
    }
    Ok(changed)
}

pub(crate) fn next_deadline(conn: Session<'_>) -> Result<Option<Timestamp>> {
    conn.prepare(NEXT_DEADLINE)?.first([], |row| Ok(Timestamp::from_ms(row.get(0)?)))
}
