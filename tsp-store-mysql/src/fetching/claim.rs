//! What the owner takes: earliest due times and claims.

use std::collections::BTreeSet;

use tsp_core::task::{Status, Task};
use tsp_core::transition::{Change, Event, transition};
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_store::backend::columns::in_flight_columns;
use tsp_store::backend::row::{read_in_flight, read_task};
use tsp_store::backend::row_count::{exactly, exactly_one, sql_limit};
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{BareRow, ClaimRequest, ClaimResult, EarliestDue, FlightMark, InFlightPage, Owner};
use tsp_store::rules::is_plain;

use crate::attempts::batch::sorted_ids;
use crate::connection::bind::Values;
use crate::connection::row::{all_good, bare_columns};
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;
use crate::fetching::group_rows::GroupRows;
use crate::tasks::rows::{lock_tasks, save_ended};

/// Workers load what they begin, so nothing that a row carries is read here.
pub(crate) const CLAIM_SELECT: &str = concat!(
    "-- claim_select\nSELECT ",
    bare_columns!(),
    " FROM task_{shard} FORCE INDEX (claim)
WHERE config_id = ? AND phase = 0 AND due_at <= ? ORDER BY due_at, id LIMIT ? FOR UPDATE"
);

/// After the epoch stands the list: the server takes the rows by their ids, whatever else it could go by.
pub(crate) const CLAIM_MARK: &str = "-- claim_mark
UPDATE task_{shard} FORCE INDEX (PRIMARY) SET status = 10, epoch = ?, version = version + 1
WHERE id IN ({list}) AND status = 0";

const CLAIM_QUARANTINE: &str = "-- claim_quarantine
UPDATE task_{shard} SET status = 40, version = version + 1 WHERE id = ? AND status = 0";

pub(crate) const EARLIEST_DUE_OF: &str = "-- head_of
SELECT due_at FROM task_{shard} FORCE INDEX (claim) WHERE config_id = ? AND phase = 0 ORDER BY due_at LIMIT 1";

/// A loose index scan and a seek: three seeks for each config that has rows, none for the others. Not `MIN(due_at)`:
/// MariaDB scans loosely over no generated column.
pub(crate) const EARLIEST_DUE: &str = "-- heads
SELECT c.config_id, (
    SELECT t.due_at FROM task_{shard} AS t FORCE INDEX (claim)
    WHERE t.config_id = c.config_id AND t.phase = 0 ORDER BY t.due_at LIMIT 1
) FROM (SELECT DISTINCT config_id FROM task_{shard} FORCE INDEX (claim)) AS c";

/// By id: a row does not change its place while it is in flight.
pub(crate) const IN_FLIGHT: &str = concat!(
    "-- in_flight\nSELECT ",
    in_flight_columns!(),
    " FROM task_{shard} FORCE INDEX (state)
WHERE phase = 1 AND id > ? ORDER BY id LIMIT ?"
);

pub(crate) async fn claim(
    of: &GroupRows,
    owner: Owner,
    requests: &[ClaimRequest],
    now: Timestamp,
) -> Result<ClaimResult> {
    let shard = &of.shard()?;
    shard
        .transact("claim", move |tx| {
            Box::pin(async move {
                let mut claimed = ClaimResult::default();
                if !owns(tx, of, owner).await? {
                    claimed.deposed = true;
                    return Ok(claimed);
                }
                for request in requests.iter().filter(|request| request.limit > 0) {
                    claim_request(tx, of, *request, owner.epoch, now, &mut claimed).await?;
                }
                let configs: BTreeSet<ConfigId> = requests.iter().map(|request| request.config).collect();
                for config in configs {
                    claimed.earliest_due.push((config, earliest_due_of(tx, of, config).await?));
                }
                Ok(claimed)
            })
        })
        .await
}

async fn claim_request(
    tx: &mut Tx<'_>,
    of: &GroupRows,
    request: ClaimRequest,
    epoch: i64,
    now: Timestamp,
    claimed: &mut ClaimResult,
) -> Result<()> {
    let mut taken = Vec::new();
    let mut ends = Vec::new();
    for row in due_rows(tx, of, request).await? {
        let change = claim_of(&row, epoch, now)?;
        if is_plain(&change, Status::Queued) {
            taken.push(change.task);
        } else {
            ends.push(row.id);
        }
    }
    let shard = of.shard()?;
    for chunk in sorted_ids(&taken).chunks(ROWS_MAX) {
        let values = Values::of_ids(std::iter::once(epoch).chain(chunk.iter().copied()));
        let marked = values.ask(&shard.sql(CLAIM_MARK))?.execute(tx.conn()).await?;
        exactly(chunk.len(), marked, "claim_mark")?;
    }
    claimed.bare.extend(taken.iter().map(BareRow::from));
    if !ends.is_empty() {
        // They take along what they carry.
        let whole = lock_tasks(tx, &shard, &ends).await?;
        let changes = whole.iter().map(|row| claim_of(row, epoch, now)).collect::<Result<_>>()?;
        claimed.expired.extend(save_ended(tx, &shard, changes).await?);
    }
    Ok(())
}

fn claim_of(row: &Task, epoch: i64, now: Timestamp) -> Result<Change> {
    transition(row, &Event::Claim { epoch }, now)
        .map_err(|_| StoreError::Internal(format!("the scheduled task {} refused a claim", row.id)))
}

/// The rows of a claim request. One that cannot be read is quarantined, that is paused: left scheduled it
/// would be the earliest of its config for ever.
async fn due_rows(tx: &mut Tx<'_>, of: &GroupRows, request: ClaimRequest) -> Result<Vec<Task>> {
    let shard = of.shard()?;
    let select = query(&shard.sql(CLAIM_SELECT))
        .bind(request.config.get())
        .bind(request.due_by.ms())
        .bind(sql_limit(request.limit));
    let rows = select.fetch_all(tx.conn()).await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        match read_task(row) {
            Ok(task) => due.push(task),
            Err(error @ StoreError::Corrupt { id, .. }) => {
                tracing::error!(%error, "a row is quarantined: it is paused until somebody repairs it");
                let changed = query(&shard.sql(CLAIM_QUARANTINE)).bind(id).execute(tx.conn()).await?;
                exactly_one(changed, "claim_quarantine")?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(due)
}

/// The earliest due time of a config's scheduled rows.
async fn earliest_due_of(tx: &mut Tx<'_>, of: &GroupRows, config: ConfigId) -> Result<Option<Timestamp>> {
    let sql = of.shard()?.sql(EARLIEST_DUE_OF);
    let row = query(&sql).bind(config.get()).fetch_optional(tx.conn()).await?;
    Ok(row.map(|row| row.get(0)).transpose()?.map(Timestamp::from_ms))
}

/// One statement, whatever there is.
pub(crate) async fn earliest_due(of: &GroupRows) -> Result<Vec<EarliestDue>> {
    of.firsts("heads", EARLIEST_DUE).await
}

pub(crate) async fn in_flight(
    of: &GroupRows,
    after: Option<FlightMark>,
    limit: usize,
) -> Result<InFlightPage> {
    let shard = &of.shard()?;
    let after = after.map_or(i64::MIN, |mark| mark.id.get());
    let rows = shard
        .read("in_flight", move |tx| {
            Box::pin(async move {
                let find = query(&shard.sql(IN_FLIGHT)).bind(after).bind(sql_limit(limit));
                find.fetch_all(tx.conn()).await
            })
        })
        .await?;
    let mut page = InFlightPage { rows: all_good(&rows, read_in_flight)?, next: None };
    if let Some(last) = rows.last().filter(|_| rows.len() >= limit) {
        // A bad row leads on as well. Only the id is gone by.
        let id = TaskId::new(last.get(0)?);
        page.next = Some(FlightMark { status: Status::Executing, due_at: Timestamp::ZERO, id });
    }
    page.rows.retain(|row| of.is_mine(row.config));
    Ok(page)
}
