//! The auditor's counts.

use sqlx::Row as _;
use tsp_core::task::Status;
use tsp_core::{ConfigId, Millis, Timestamp};

use crate::error::{Result, StoreError};
use crate::schedule::Audit;

use super::scheduler::MySqlScheduler;
use super::session::query;

/// A task at 0 that is due longer than this ago is overdue.
const OVERDUE_AFTER: Millis = Millis::from_secs(5);

/// Sums and rows in one statement, which sees one moment; the sums change in the transactions that change
/// rows. The first row, of no status, is the sums.
pub(super) const AUDIT_COUNTS: &str = "-- audit_counts
SELECT -1, CAST(COALESCE(SUM(accepted), 0) AS SIGNED), CAST(COALESCE(SUM(ended), 0) AS SIGNED)
FROM balance_{shard}
UNION ALL
SELECT status, COUNT(*), 0 FROM task_{shard} FORCE INDEX (state) GROUP BY status";

pub(super) const OVERDUE: &str = "-- audit_overdue
SELECT COUNT(*) FROM task_{shard} FORCE INDEX (claim) WHERE config_id = ? AND status = 0 AND due_at < ?";

/// The sums are of a whole shard, so only the owner of its default group gives them.
pub(super) async fn audit(of: &MySqlScheduler, now: Timestamp) -> Result<Audit> {
    let mut audit = Audit {
        overdue: overdue(of, now).await?,
        cursors: super::fire::cursors(of).await?,
        ..Audit::default()
    };
    if of.is_default() {
        count(of, &mut audit).await?;
    }
    Ok(audit)
}

async fn count(of: &MySqlScheduler, audit: &mut Audit) -> Result<()> {
    let shard = &of.shard()?;
    let rows = shard
        .read("audit", move |tx| {
            Box::pin(async move { query(&shard.sql(AUDIT_COUNTS)).fetch_all(tx.conn()).await })
        })
        .await?;
    for row in &rows {
        let (code, count): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if code < 0 {
            (audit.accepted, audit.ended) = (count, row.try_get(2)?);
            continue;
        }
        let status = Status::from_code(code)
            .ok_or_else(|| StoreError::Internal(format!("{count} tasks have status {code}")))?;
        audit.open.push((status, count));
    }
    Ok(())
}

async fn overdue(of: &MySqlScheduler, now: Timestamp) -> Result<Vec<(ConfigId, i64)>> {
    let line = now.minus(OVERDUE_AFTER);
    let mut late = super::claim::heads(of).await?;
    late.retain(|head| head.due_at < line);
    let (late, shard) = (&late, &of.shard()?);
    if late.is_empty() {
        return Ok(Vec::new());
    }
    shard
        .read("overdue", move |tx| {
            Box::pin(async move {
                let mut counts = Vec::with_capacity(late.len());
                for head in late {
                    let count = query(&shard.sql(OVERDUE)).bind(head.config.get()).bind(line.ms());
                    counts.push((head.config, count.fetch_one(tx.conn()).await?.try_get(0)?));
                }
                Ok(counts)
            })
        })
        .await
}

/// The earliest point at which anything is due.
pub(super) async fn next_due(of: &MySqlScheduler) -> Result<Option<Timestamp>> {
    let tasks = super::claim::heads(of).await?.into_iter().map(|head| head.due_at);
    let fires = super::fire::cursors(of).await?.into_iter().filter_map(|cursor| cursor.next_fire_at);
    Ok(tasks.chain(fires).chain(super::rescue::next_deadline(of).await?).min())
}
