//! Open tasks of a config: how many there are, and a cancel of all.

use tsp_core::task::Status;
use tsp_core::transition::{Event, transition};
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_store::backend::row::good;
use tsp_store::backend::row_count::sql_limit;
use tsp_store::error::Result;
use tsp_store::tasks::{Actor, CancelCount};

use crate::catalog::audit_log::log;
use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;

statements! {
    CANCEL_SCHEDULED = "-- cancel_scheduled
    SELECT id FROM task WHERE config_id = ?1 AND phase = 0 ORDER BY due_at, id LIMIT ?2"
        => "SEARCH task USING COVERING INDEX task_claim (config_id=?)";

    CANCEL_PAUSED = "-- cancel_paused
    SELECT id FROM task WHERE config_id = ?1 AND phase = 2 ORDER BY due_at LIMIT ?2"
        => "SEARCH task USING COVERING INDEX task_paused (config_id=?)";

    CANCEL_AWAITING = "-- cancel_awaiting
    SELECT id FROM task WHERE phase = 3 AND config_id = ?1 LIMIT ?2"
        => "SCAN task USING INDEX task_awaiting";

    CANCEL_QUEUED = "-- cancel_queued
    SELECT id FROM task WHERE phase = 1 AND status = 10 AND config_id = ?1 LIMIT ?2"
        => "SEARCH task USING INDEX task_busy (phase=?)";

    CANCEL_EXECUTING = "-- cancel_executing
    SELECT id FROM task
    WHERE phase = 1 AND status = 30 AND config_id = ?1 AND NOT cancel_requested LIMIT ?2"
        => "SEARCH task USING INDEX task_busy (phase=?)";

    OPEN_SCHEDULED = "-- open_scheduled\nSELECT count(*) FROM task WHERE config_id = ?1 AND phase = 0"
        => "SEARCH task USING COVERING INDEX task_claim (config_id=?)";

    OPEN_PAUSED = "-- open_paused\nSELECT count(*) FROM task WHERE config_id = ?1 AND phase = 2"
        => "SEARCH task USING COVERING INDEX task_paused (config_id=?)";

    OPEN_AWAITING = "-- open_awaiting\nSELECT count(*) FROM task WHERE phase = 3 AND config_id = ?1"
        => "SCAN task USING INDEX task_awaiting";

    OPEN_BUSY = "-- open_busy\nSELECT count(*) FROM task WHERE phase = 1 AND config_id = ?1"
        => "SEARCH task USING INDEX task_busy (phase=?)";
}

/// The open rows of a config that a cancel still changes, in one small index after the other.
const CANCELLABLE: [&str; 5] =
    [CANCEL_SCHEDULED, CANCEL_PAUSED, CANCEL_AWAITING, CANCEL_QUEUED, CANCEL_EXECUTING];

const OPEN_COUNTS: [&str; 4] = [OPEN_SCHEDULED, OPEN_PAUSED, OPEN_AWAITING, OPEN_BUSY];

pub(crate) fn cancel_open(
    tx: &mut Tx<'_>,
    config: ConfigId,
    limit: usize,
    by: &Actor,
    now: Timestamp,
) -> Result<CancelCount> {
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
    Ok(CancelCount { cancelled, left: open_count(tx.conn, config)? })
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
