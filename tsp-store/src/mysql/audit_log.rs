//! The audit log.

use sqlx::Row as _;
use tsp_core::Timestamp;

use crate::catalog::AuditEntry;
use crate::error::Result;
use crate::tasks::Actor;

use super::context::StoreContext;
use super::db::Db;
use super::fault::exactly_one;
use super::session::query;
use super::tx::Tx;

const INSERT: &str =
    "-- audit_insert\nINSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)";
const LIST: &str =
    "-- audit_list\nSELECT at, actor, action, subject, detail FROM audit ORDER BY id DESC LIMIT ?";

/// Writes an audit entry, in a transaction of the meta database.
pub(super) async fn log(
    tx: &mut Tx<'_>,
    meta: &Db,
    by: &Actor,
    action: &str,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let changed = query(&meta.sql(INSERT))
        .bind(now.ms())
        .bind(&by.0)
        .bind(action)
        .bind(subject)
        .bind(detail)
        .execute(tx.conn())
        .await?;
    exactly_one(changed, "audit_insert")
}

/// Newest first.
pub(super) async fn audit_log(context: &StoreContext, limit: usize) -> Result<Vec<AuditEntry>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = &context.meta.sql(LIST);
    let rows = context
        .meta
        .read("audit_log", |tx| Box::pin(async move { query(sql).bind(limit).fetch_all(tx.conn()).await }))
        .await?;
    let entry = |row: &sqlx::mysql::MySqlRow| {
        Ok(AuditEntry {
            at: Timestamp::from_ms(row.try_get(0)?),
            actor: row.try_get(1)?,
            action: row.try_get(2)?,
            subject: row.try_get(3)?,
            detail: row.try_get(4)?,
        })
    };
    rows.iter().map(entry).collect()
}
