//! The auditor's counts. Each statement reads a bounded number of rows, however many there are.
use tsp_core::task::{Phase, Status};
use tsp_core::{ConfigId, Timestamp};
use tsp_store::error::{Result, StoreError};
use tsp_store::fetching::{Audit, COUNTED_MAX, OVERDUE_AFTER};

use crate::catalog::follow::follow;
use crate::connection::db::ShardDb;
use crate::connection::row::Row;
use crate::connection::session::query;
use crate::connection::tx::Tx;
use crate::fetching::group_rows::GroupRows;

/// So many rows are counted by one statement: a tenth of a second, and far from the server's limit.
const ROWS_AT_ONCE: i64 = 500_000;

const SUMS: &str = "-- audit_sums
SELECT CAST(COALESCE(SUM(accepted), 0) AS SIGNED), CAST(COALESCE(SUM(ended), 0) AS SIGNED) FROM balance_{shard}";

/// Sums and rows in one statement, which sees one moment; the sums change in the transactions that change
/// rows. The first row, of no phase, is the sums; a busy one says how many are queued and how many executing.
pub(crate) const AUDIT_COUNTS: &str = "-- audit_counts
SELECT -1, CAST(COALESCE(SUM(accepted), 0) AS SIGNED), CAST(COALESCE(SUM(ended), 0) AS SIGNED), 0
FROM balance_{shard}
UNION ALL
SELECT phase, COUNT(*), 0, 0 FROM task_{shard} FORCE INDEX (state) WHERE phase <> 1 GROUP BY phase
UNION ALL
SELECT 1, COUNT(*), CAST(COALESCE(SUM(status = 10), 0) AS SIGNED),
    CAST(COALESCE(SUM(status = 30), 0) AS SIGNED)
FROM task_{shard} FORCE INDEX (state) WHERE phase = 1";

/// Queued and executing ones, no more than the fetchers' windows, as in [`AUDIT_COUNTS`].
pub(crate) const AUDIT_BUSY: &str = "-- audit_busy
SELECT 1, COUNT(*), CAST(COALESCE(SUM(status = 10), 0) AS SIGNED),
    CAST(COALESCE(SUM(status = 30), 0) AS SIGNED)
FROM task_{shard} FORCE INDEX (state) WHERE phase = 1";

/// The last of the next rows of a phase; its index ends with the id.
pub(crate) const PAGE: &str = "-- audit_page
SELECT id FROM task_{shard} FORCE INDEX (state) WHERE phase = ? AND id > ? ORDER BY id LIMIT 1 OFFSET ?";
pub(crate) const REST: &str = "-- audit_rest
SELECT COUNT(*) FROM task_{shard} FORCE INDEX (state) WHERE phase = ? AND id > ?";

pub(crate) const OVERDUE: &str = "-- audit_overdue
SELECT COUNT(*) FROM (SELECT 1 FROM task_{shard} FORCE INDEX (claim)
WHERE config_id = ? AND phase = 0 AND due_at < ? LIMIT ?) AS late";

/// A loose index scan: two seeks for each config.
pub(crate) const CONFIGS_OPEN: &str = "-- audit_configs
SELECT DISTINCT config_id FROM task_{shard} FORCE INDEX (claim)";

pub(crate) const OPEN_OF: &str = "-- audit_open_of
SELECT COUNT(*) FROM (SELECT 1 FROM task_{shard} FORCE INDEX (claim) WHERE config_id = ? LIMIT ?) AS open";

/// The sums are of a whole shard, so only the owner of its default group gives them.
pub(crate) async fn audit(of: &GroupRows, now: Timestamp) -> Result<Audit> {
    let mut audit = Audit {
        overdue: overdue(of, now).await?,
        cursors: crate::fetching::fire::cursors(of).await?,
        ..Audit::default()
    };
    if of.is_default() {
        count(&of.shard()?, ROWS_AT_ONCE, &mut audit).await?;
        audit.orphans = orphans(of).await?;
    }
    Ok(audit)
}

/// How many rows are open, by the sums alone.
pub(crate) async fn open_by_sums(on: &ShardDb) -> Result<i64> {
    let (accepted, ended) = on.read("audit_sums", |tx| Box::pin(sums(tx, on))).await?;
    Ok(accepted - ended)
}

async fn sums(tx: &mut Tx<'_>, on: &ShardDb) -> Result<(i64, i64)> {
    let row = query(&on.sql(SUMS)).fetch_one(tx.conn()).await?;
    Ok((row.get(0)?, row.get(1)?))
}

/// A shard with few rows is counted by one statement, others page by page as of one moment.
pub(crate) async fn count(on: &ShardDb, page: i64, audit: &mut Audit) -> Result<()> {
    if open_by_sums(on).await? < page {
        return count_at_once(on, audit).await;
    }
    let counted = on.db.snapshot("audit", move |tx| {
        Box::pin(async move {
            let (accepted, ended) = sums(tx, on).await?;
            let mut open = Vec::new();
            for status in [Status::Scheduled, Status::Paused, Status::Awaiting] {
                open.push((status, count_status(tx, on, status, page).await?));
            }
            let busy = query(&on.sql(AUDIT_BUSY)).fetch_one(tx.conn()).await?;
            open.extend(counts(&busy)?);
            Ok((accepted, ended, open))
        })
    });
    (audit.accepted, audit.ended, audit.open) = counted.await?;
    audit.open.retain(|(_, count)| *count > 0);
    Ok(())
}

/// Of a status that is a phase.
async fn count_status(tx: &mut Tx<'_>, on: &ShardDb, status: Status, page: i64) -> Result<i64> {
    let phase = status.phase().map(Phase::code);
    let (mut count, mut after) = (0, i64::MIN);
    loop {
        let next = query(&on.sql(PAGE)).bind(phase).bind(after).bind(page - 1);
        let Some(row) = next.fetch_optional(tx.conn()).await? else {
            let rest = query(&on.sql(REST)).bind(phase).bind(after).fetch_one(tx.conn()).await?;
            return Ok(count + rest.get::<i64>(0)?);
        };
        count += page;
        after = row.get(0)?;
    }
}

/// Of a phase, by status.
fn counts(row: &Row) -> Result<Vec<(Status, i64)>> {
    let (phase, count): (i64, i64) = (row.get(0)?, row.get(1)?);
    let counts = match Phase::from_code(phase) {
        Some(Phase::Scheduled) => vec![(Status::Scheduled, count)],
        Some(Phase::Busy) => vec![(Status::Queued, row.get(2)?), (Status::Executing, row.get(3)?)],
        Some(Phase::Paused) => vec![(Status::Paused, count)],
        Some(Phase::Awaiting) => vec![(Status::Awaiting, count)],
        None => Vec::new(),
    };
    let known: i64 = counts.iter().map(|(_, count)| count).sum();
    if known == count {
        return Ok(counts);
    }
    Err(StoreError::Internal(format!(
        "{} tasks in phase {phase} have a status that is not known",
        count - known
    )))
}

async fn count_at_once(on: &ShardDb, audit: &mut Audit) -> Result<()> {
    let rows = on
        .read("audit", move |tx| {
            Box::pin(async move { query(&on.sql(AUDIT_COUNTS)).fetch_all(tx.conn()).await })
        })
        .await?;
    for row in &rows {
        if row.get::<i64>(0)? < 0 {
            (audit.accepted, audit.ended) = (row.get(1)?, row.get(2)?);
        } else {
            audit.open.extend(counts(row)?);
        }
    }
    audit.open.retain(|(_, count)| *count > 0);
    Ok(())
}

/// Of configs that are not there. The config cache is asked to look for one that it misses, and the rows are counted
/// after that: a config is deleted only once it has none.
async fn orphans(of: &GroupRows) -> Result<Vec<(ConfigId, i64)>> {
    let shard = &of.shard()?;
    let configs = shard.read("audit_configs", move |tx| {
        Box::pin(async move { query(&shard.sql(CONFIGS_OPEN)).fetch_all(tx.conn()).await })
    });
    let mut unknown = Vec::new();
    for row in configs.await? {
        let config = ConfigId::new(row.get(0)?);
        if of.context.config(config).is_none() {
            unknown.push(config);
        }
    }
    if unknown.is_empty() {
        return Ok(Vec::new());
    }
    follow(&of.context).await?;
    unknown.retain(|config| of.context.config(*config).is_none());
    let unknown = &unknown;
    let counted = shard.read("audit_open_of", move |tx| {
        Box::pin(async move {
            let mut counts = Vec::with_capacity(unknown.len());
            for config in unknown {
                let count = query(&shard.sql(OPEN_OF)).bind(config.get()).bind(COUNTED_MAX);
                counts.push((*config, count.fetch_one(tx.conn()).await?.get(0)?));
            }
            Ok(counts)
        })
    });
    let mut counts = counted.await?;
    counts.retain(|(_, count)| *count > 0);
    Ok(counts)
}

async fn overdue(of: &GroupRows, now: Timestamp) -> Result<Vec<(ConfigId, i64)>> {
    let cutoff = now.minus(OVERDUE_AFTER);
    let mut late = crate::fetching::claim::earliest_due(of).await?;
    late.retain(|earliest| earliest.due_at < cutoff);
    let (late, shard) = (&late, &of.shard()?);
    if late.is_empty() {
        return Ok(Vec::new());
    }
    shard
        .read("overdue", move |tx| {
            Box::pin(async move {
                let mut counts = Vec::with_capacity(late.len());
                for earliest in late {
                    let count = query(&shard.sql(OVERDUE)).bind(earliest.config.get()).bind(cutoff.ms());
                    let count = count.bind(COUNTED_MAX).fetch_one(tx.conn()).await?;
                    counts.push((earliest.config, count.get(0)?));
                }
                Ok(counts)
            })
        })
        .await
}
