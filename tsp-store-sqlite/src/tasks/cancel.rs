//! Open tasks of a config: how many there are, and a cancel of all.

use tsp_core::task::Status;
use tsp_core::transition::{Event, transition};
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_store::backend::row::good;
use tsp_store::backend::row_count::sql_limit;
use tsp_store::error::Result;
use tsp_store::tasks::{Actor, Cancelled};

use crate::catalog::audit_log::log;
use crate::connection::session::Session;
use crate::connection::tx::Tx;

/// The open rows of a config that a cancel still changes, in one small index after the other.
const CANCELLABLE: [&str; 5] = [
    "-- cancel_scheduled
    SELECT id FROM task WHERE config_id = ?1 AND phase = 0 ORDER BY due_at, id LIMIT ?2",
    "-- cancel_paused
    SELECT id FROM task WHERE config_id = ?1 AND phase = 2 ORDER BY due_at LIMIT ?2",
    "-- cancel_awaiting
    SELECT id FROM task WHERE phase = 3 AND config_id = ?1 LIMIT ?2",
    "-- cancel_queued
    SELECT id FROM task WHERE phase = 1 AND status = 10 AND config_id = ?1 LIMIT ?2",
    "-- cancel_executing
    SELECT id FROM task
    WHERE phase = 1 AND status = 30 AND config_id = ?1 AND NOT cancel_requested LIMIT ?2",
];

const OPEN_COUNTS: [&str; 4] = [
    "-- open_scheduled\nSELECT count(*) FROM task WHERE config_id = ?1 AND phase = 0",
    "-- open_paused\nSELECT count(*) FROM task WHERE config_id = ?1 AND phase = 2",
    "-- open_awaiting\nSELECT count(*) FROM task WHERE phase = 3 AND config_id = ?1",
    "-- open_busy\nSELECT count(*) FROM task WHERE phase = 1 AND config_id = ?1",
];

pub(crate) fn cancel_open(
    tx: &mut Tx<'_>,
    config: ConfigId,
    limit: usize,
    by: &Actor,
    now: Timestamp,
) -> Result<Cancelled> {
    let mut cancelled = 0;
    let mut left = limit;
    for sql in CANCELLABLE {
        let ids =
            tx.conn.prepare(sql)?.all([config.get(), sql_limit(left)], |row| Ok(TaskId::new(row.get(0)?)))?;
        left = left.saturating_sub(ids.len());
        for id in ids {
            let Some(row) = good(tx.rows.open_task(id))?.flatten() else { continue };
            let Ok(change) = transition(&row, &Event::Cancel, now) else { continue };
            let saved = tx.rows.save(row.version, change, &mut tx.sums)?;
            let detail = "with all open tasks of its config";
            log(tx.conn, by, "task.cancel", &id.to_string(), detail, now)?;
            cancelled += usize::from(saved.is_some_and(|task| task.status == Status::Ended));
        }
    }
    Ok(Cancelled { cancelled, left: open_count(tx.conn, config)? })
}

/// How many open tasks a config has.
pub(crate) fn open_count(conn: Session<'_>, config: ConfigId) -> Result<usize> {
    let mut open = 0;
    for sql in OPEN_COUNTS {
        let count: i64 = conn.prepare(sql)?.one([config.get()], |row| row.get(0))?;
        open += usize::try_from(count).unwrap_or(0);
    }
    Ok(open)
}

/// For the golden plans.
#[cfg(test)]
pub(crate) const BY_INDEX: [&str; 9] = [
    CANCELLABLE[0],
    CANCELLABLE[1],
    CANCELLABLE[2],
    CANCELLABLE[3],
    CANCELLABLE[4],
    OPEN_COUNTS[0],
    OPEN_COUNTS[1],
    OPEN_COUNTS[2],
    OPEN_COUNTS[3],
];
