//! Retention of what is in the meta database.
use tsp_core::Timestamp;
use tsp_store::backend::row_count::sql_limit;
use tsp_store::catalog::AUDIT_KEPT;
use tsp_store::error::Result;
use tsp_store::fetching::NODES_KEPT;

use crate::connection::bind::Values;
use crate::connection::session::query;
use crate::context::StoreContext;

/// Ids rise with time, so the log is looked at from its old end, as far as it is old.
const AUDIT_OLDEST: &str = "-- prune_audit_find\nSELECT id, at FROM audit ORDER BY id LIMIT ?";
const AUDIT_OLD: &str = "-- prune_audit\nDELETE FROM audit WHERE id <= ?";

const NODE_OLD: &str = "-- prune_node\nDELETE FROM node WHERE dead_at <= ? ORDER BY dead_at LIMIT ?";

const KEPT_OLD: &str = "-- prune_kept
DELETE FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?";

pub(crate) async fn apply_meta_retention(
    context: &StoreContext,
    limit: usize,
    now: Timestamp,
) -> Result<usize> {
    let mut removed = drop_old_audit(context, limit, now.minus(AUDIT_KEPT)).await?;
    for (template, cutoff) in [(NODE_OLD, now.minus(NODES_KEPT)), (KEPT_OLD, now)] {
        if removed < limit {
            removed += delete_old(context, template, cutoff, limit - removed).await?;
        }
    }
    Ok(removed)
}

async fn drop_old_audit(context: &StoreContext, limit: usize, cutoff: Timestamp) -> Result<usize> {
    let deleted = context
        .meta
        .transact("prune_audit", move |tx| {
            Box::pin(async move {
                let sql = tx.conn().sql(AUDIT_OLDEST);
                let rows = query(&sql).bind(sql_limit(limit)).fetch_all(tx.conn()).await?;
                let mut last: Option<i64> = None;
                for row in &rows {
                    if row.get::<i64>(1)? > cutoff.ms() {
                        break;
                    }
                    last = Some(row.get(0)?);
                }
                let Some(last) = last else { return Ok(0) };
                let sql = tx.conn().sql(AUDIT_OLD);
                query(&sql).bind(last).execute(tx.conn()).await
            })
        })
        .await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}

async fn delete_old(
    context: &StoreContext,
    template: &'static str,
    cutoff: Timestamp,
    limit: usize,
) -> Result<usize> {
    let deleted = context
        .meta
        .transact("prune_meta", move |tx| {
            Box::pin(async move {
                let mut values = Values::default();
                values.put(cutoff.ms()).put(sql_limit(limit));
                let sql = tx.conn().sql(template);
                values.ask(&sql)?.execute(tx.conn()).await
            })
        })
        .await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}
