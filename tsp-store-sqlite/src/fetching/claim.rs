//! What the owner takes: earliest due times and claims.

use std::collections::BTreeSet;

use tsp_core::task::{Status, Task};
use tsp_core::transition::{Event, transition};
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_store::backend::columns::{in_flight_columns, open_columns};
use tsp_store::backend::row::{good, read_bare, read_in_flight, read_task};
use tsp_store::backend::row_count::sql_limit;
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{BareRow, ClaimRequest, ClaimResult, EarliestDue, FlightMark, InFlightPage, Owner};
use tsp_store::rules::is_plain;

use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;

/// What the rows of one claim carry at most; the others come bare.
const BYTES_PER_CLAIM: usize = 4 << 20;

statements! {
    pub(crate) CLAIM_SELECT = concat!(
        "-- claim_select\nSELECT ",
        open_columns!("key"),
        " FROM task WHERE config_id = ?1 AND phase = 0 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3"
    )
        => "SEARCH task USING INDEX task_claim (config_id=? AND due_at<?)";

    pub(crate) EARLIEST_DUE_OF = "-- head_of
    SELECT due_at FROM task WHERE config_id = ?1 AND phase = 0 ORDER BY due_at LIMIT 1"
        => "SEARCH task USING COVERING INDEX task_claim (config_id=?)";

    pub(crate) EARLIEST_DUE_NEXT = "-- head_next
    SELECT config_id, due_at FROM task WHERE phase = 0 AND config_id > ?1 ORDER BY config_id, due_at LIMIT 1"
        => "SEARCH task USING COVERING INDEX task_claim (config_id>?)";

    pub(crate) IN_FLIGHT = concat!(
        "-- in_flight\nSELECT ",
        in_flight_columns!(),
        " FROM task WHERE phase = 1 AND id > ?1 ORDER BY id LIMIT ?2"
    )
        => "SEARCH task USING INDEX task_busy (phase=? AND rowid>?)";

    CLAIM_QUARANTINE = "-- claim_quarantine
    UPDATE task SET status = 40, phase = 2, version = version + 1 WHERE id = ?1 AND phase = 0";
}

pub(crate) fn claim(
    tx: &mut Tx<'_>,
    owner: Owner,
    requests: &[ClaimRequest],
    now: Timestamp,
) -> Result<ClaimResult> {
    let mut claimed = ClaimResult::default();
    if !owns(tx, owner)? {
        claimed.deposed = true;
        return Ok(claimed);
    }
    let mut bytes = BYTES_PER_CLAIM;
    for request in requests {
        for row in due_rows(tx, *request, &mut bytes)? {
            claim_row(tx, row, owner.epoch, now, &mut claimed)?;
        }
    }
    let configs: BTreeSet<ConfigId> = requests.iter().map(|request| request.config).collect();
    for config in configs {
        claimed.earliest_due.push((config, earliest_due_of(tx.conn, config)?));
    }
    Ok(claimed)
}

/// A row as it was read for a claim.
struct DueRow {
    task: Task,
    /// Without its payload.
    bare: bool,
}

fn claim_row(
    tx: &mut Tx<'_>,
    due: DueRow,
    epoch: i64,
    now: Timestamp,
    claimed: &mut ClaimResult,
) -> Result<()> {
    let DueRow { task: row, bare } = due;
    let refused = |row: &Task| StoreError::Internal(format!("the scheduled task {} refused a claim", row.id));
    let change = transition(&row, &Event::Claim { epoch }, now).map_err(|_| refused(&row))?;
    if is_plain(&change, Status::Queued) {
        if tx.rows.save_claimed(row.version, &change.task)? {
            if bare {
                claimed.bare.push(BareRow::from(&change.task));
            } else {
                claimed.tasks.push(Box::new(change.task));
            }
        }
        return Ok(());
    }
    // It ends, and takes its payload along.
    let whole = if bare { tx.rows.open_task(row.id)? } else { Some(row) };
    let Some(row) = whole else { return Ok(()) };
    let change = transition(&row, &Event::Claim { epoch }, now).map_err(|_| refused(&row))?;
    claimed.expired.extend(tx.rows.save(row.version, change, &mut tx.sums)?);
    Ok(())
}

/// The rows of a claim request, whole as long as they fit into `bytes`. One that cannot be read is
/// quarantined, that is paused: left scheduled it would be the earliest of its config for ever.
fn due_rows(tx: &Tx<'_>, request: ClaimRequest, bytes: &mut usize) -> Result<Vec<DueRow>> {
    let mut statement = tx.conn.prepare(CLAIM_SELECT)?;
    let mut rows = statement.rows([request.config.get(), request.due_by.ms(), sql_limit(request.limit)])?;
    let mut due = Vec::with_capacity(request.limit.min(512));
    let mut bad = Vec::new();
    while let Some(row) = rows.next()? {
        let bare = *bytes == 0;
        let read = if bare { read_bare(&row) } else { read_task(&row) };
        match read.and_then(scheduled) {
            Ok(task) => {
                *bytes = bytes.saturating_sub(task.bytes());
                due.push(DueRow { task, bare });
            }
            Err(error @ StoreError::Corrupt { id, .. }) => {
                tracing::error!(%error, "a row is quarantined: it is paused until somebody repairs it");
                bad.push(id);
            }
            Err(error) => return Err(error),
        }
    }
    drop(rows);
    for id in bad {
        tx.conn.prepare(CLAIM_QUARANTINE)?.execute_one([id])?;
    }
    Ok(due)
}

/// A row of the index of scheduled ones, unless its phase is not that of its status.
fn scheduled(task: Task) -> Result<Task> {
    if task.status == Status::Scheduled {
        return Ok(task);
    }
    let why = format!("is 0 and its status is {}", task.status.code());
    Err(StoreError::Corrupt { table: "task", column: "phase", id: task.id.get(), why })
}

/// The earliest due time of a config's scheduled rows.
pub(crate) fn earliest_due_of(conn: Session<'_>, config: ConfigId) -> Result<Option<Timestamp>> {
    conn.prepare(EARLIEST_DUE_OF)?.first([config.get()], |row| Ok(Timestamp::from_ms(row.get(0)?)))
}

/// One seek per config that has scheduled rows.
pub(crate) fn earliest_due(conn: Session<'_>) -> Result<Vec<EarliestDue>> {
    let mut statement = conn.prepare(EARLIEST_DUE_NEXT)?;
    let mut earliest_due: Vec<EarliestDue> = Vec::new();
    loop {
        let after = earliest_due.last().map_or(i64::MIN, |earliest| earliest.config.get());
        let next = statement.first([after], |row| {
            Ok(EarliestDue { config: ConfigId::new(row.get(0)?), due_at: Timestamp::from_ms(row.get(1)?) })
        })?;
        match next {
            Some(earliest) => earliest_due.push(earliest),
            None => return Ok(earliest_due),
        }
    }
}

/// By id: a begin moves no row in that order.
pub(crate) fn in_flight(conn: Session<'_>, after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> {
    let mut id = after.map_or(i64::MIN, |mark| mark.id.get());
    let mut page = InFlightPage::default();
    let mut left = limit;
    let mut statement = conn.prepare(IN_FLIGHT)?;
    let mut rows = statement.rows([id, sql_limit(limit)])?;
    while let Some(row) = rows.next()? {
        (left, id) = (left - 1, row.get(0)?);
        page.rows.extend(good(read_in_flight(&row))?);
    }
    // Only the id is gone by.
    let mark = FlightMark { status: Status::Queued, due_at: Timestamp::ZERO, id: TaskId::new(id) };
    page.next = (left == 0).then_some(mark);
    Ok(page)
}
