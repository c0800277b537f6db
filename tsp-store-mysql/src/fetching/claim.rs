//! What the owner takes: earliest due times and claims.

use std::collections::{BTreeMap, BTreeSet};

use tsp_core::task::{Status, Task};
use tsp_core::transition::claim::Claim;
use tsp_core::transition::{Change, Event, transition};
use tsp_core::{ConfigId, TaskId, Timestamp};
use tsp_store::backend::columns::{claimable_columns, in_flight_columns};
use tsp_store::backend::row::{DueRow, read_due, read_in_flight};
use tsp_store::backend::row_count::{exactly, exactly_one, sql_limit};
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{BareRow, ClaimRequest, ClaimResult, EarliestDue, FlightMark, InFlightPage, Owner};

use crate::connection::bind::Values;
use crate::connection::db::ShardDb;
use crate::connection::row::all_good;
use crate::connection::session::query;
use crate::connection::statement_templates::ROWS_MAX;
use crate::connection::tx::Tx;
use crate::fetching::fence::owns;
use crate::fetching::group_rows::GroupRows;
use crate::tasks::rows::{lock_tasks, save_ended};

/// Workers load what they begin, so nothing is read here but what a claim is decided by.
pub(crate) const CLAIM_SELECT: &str = concat!(
    "-- claim_select\nSELECT ",
    claimable_columns!(),
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
SELECT config_id, due_at FROM task_{shard} FORCE INDEX (claim)
WHERE config_id = ? AND phase = 0 ORDER BY due_at LIMIT 1";

/// One parameter and one text for any number of configs, a seek for each.
pub(crate) const EARLIEST_DUE_OF_ALL: &str = "-- heads_of
SELECT c.config_id, (
    SELECT t.due_at FROM task_{shard} AS t FORCE INDEX (claim)
    WHERE t.config_id = c.config_id AND t.phase = 0 ORDER BY t.due_at LIMIT 1
) FROM JSON_TABLE(?, '$[*]' COLUMNS (config_id BIGINT PATH '$')) AS c";

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
                let (mut claim, mut configs) = (Claims::default(), BTreeSet::new());
                for request in requests {
                    if !configs.insert(request.config) {
                        // What was claimed for its config is out of the way then.
                        std::mem::take(&mut claim).save(tx, shard, owner.epoch, now, &mut claimed).await?;
                    }
                    if request.limit > 0 {
                        claim.add(request.config, due_rows(tx, shard, *request).await?, now);
                    }
                }
                claim.save(tx, shard, owner.epoch, now, &mut claimed).await?;
                claimed.earliest_due = earliest_due_of(tx, shard, &configs).await?;
                Ok(claimed)
            })
        })
        .await
}

/// What is locked, and not yet saved.
#[derive(Default)]
struct Claims {
    queued: Vec<BareRow>,
    expired: Vec<TaskId>,
}

impl Claims {
    fn add(&mut self, config: ConfigId, due: Vec<DueRow>, now: Timestamp) {
        for DueRow { id, due_at, claimable } in due {
            match claimable.claim(now) {
                Claim::Queued { version } => self.queued.push(BareRow { id, config, version, due_at }),
                Claim::Expired => self.expired.push(id),
            }
        }
    }

    async fn save(
        self,
        tx: &mut Tx<'_>,
        shard: &ShardDb,
        epoch: i64,
        now: Timestamp,
        claimed: &mut ClaimResult,
    ) -> Result<()> {
        let mut ids: Vec<i64> = self.queued.iter().map(|row| row.id.get()).collect();
        ids.sort_unstable();
        for chunk in ids.chunks(ROWS_MAX) {
            let values = Values::of_ids(std::iter::once(epoch).chain(chunk.iter().copied()));
            let marked = values.ask(&shard.sql(CLAIM_MARK))?.execute(tx.conn()).await?;
            exactly(chunk.len(), marked, "claim_mark")?;
        }
        claimed.bare.extend(self.queued);
        if !self.expired.is_empty() {
            // They take along what they carry.
            let whole = lock_tasks(tx, shard, &self.expired).await?;
            // Those that cannot be read were reported and left out.
            let read: BTreeSet<TaskId> = whole.iter().map(|row| row.id).collect();
            for id in self.expired.iter().filter(|id| !read.contains(*id)) {
                quarantine(tx, shard, id.get()).await?;
            }
            let changes = whole.iter().map(|row| claim_of(row, epoch, now)).collect::<Result<_>>()?;
            claimed.expired.extend(save_ended(tx, shard, changes).await?);
        }
        Ok(())
    }
}

fn claim_of(row: &Task, epoch: i64, now: Timestamp) -> Result<Change> {
    transition(row, &Event::Claim { epoch }, now)
        .map_err(|_| StoreError::Internal(format!("the scheduled task {} refused a claim", row.id)))
}

/// The rows of a claim request. One that cannot be read is quarantined, that is paused: left scheduled it
/// would be the earliest of its config for ever.
async fn due_rows(tx: &mut Tx<'_>, shard: &ShardDb, request: ClaimRequest) -> Result<Vec<DueRow>> {
    let select = query(&shard.sql(CLAIM_SELECT))
        .bind(request.config.get())
        .bind(request.due_by.ms())
        .bind(sql_limit(request.limit));
    let rows = select.fetch_all(tx.conn()).await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        match read_due(row) {
            Ok(row) => due.push(row),
            Err(error @ StoreError::Corrupt { id, .. }) => {
                tracing::error!(%error, "a row is quarantined: it is paused until somebody repairs it");
                quarantine(tx, shard, id).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(due)
}

async fn quarantine(tx: &mut Tx<'_>, shard: &ShardDb, id: i64) -> Result<()> {
    let changed = query(&shard.sql(CLAIM_QUARANTINE)).bind(id).execute(tx.conn()).await?;
    exactly_one(changed, "claim_quarantine")
}

/// The earliest due time of each config's scheduled rows.
async fn earliest_due_of(
    tx: &mut Tx<'_>,
    shard: &ShardDb,
    configs: &BTreeSet<ConfigId>,
) -> Result<Vec<(ConfigId, Option<Timestamp>)>> {
    let ids: Vec<i64> = configs.iter().map(|config| config.get()).collect();
    let select = if let [config] = &*ids {
        // A list costs as much as two seeks.
        query(&shard.sql(EARLIEST_DUE_OF)).bind(*config)
    } else {
        let list = serde_json::to_string(&ids).map_err(|error| StoreError::Internal(error.to_string()))?;
        query(&shard.sql(EARLIEST_DUE_OF_ALL)).bind(list)
    };
    let mut earliest_due: BTreeMap<ConfigId, Option<Timestamp>> =
        configs.iter().map(|config| (*config, None)).collect();
    for row in select.fetch_all(tx.conn()).await? {
        earliest_due.insert(ConfigId::new(row.get(0)?), row.get::<Option<i64>>(1)?.map(Timestamp::from_ms));
    }
    Ok(earliest_due.into_iter().collect())
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
