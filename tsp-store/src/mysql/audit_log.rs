//! The audit log.

use tsp_core::Timestamp;

use crate::backend::columns::audit_columns;
use crate::backend::row::read_audit_entry;
use crate::backend::row_count::exactly_one;
use crate::catalog::AuditEntry;
use crate::error::Result;
use crate::tasks::Actor;

use super::context::StoreContext;
use super::db::Db;
use super::session::query;
use super::tx::Tx;

const INSERT: &str =
    "-- audit_insert\nINSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)";
const LIST: &str =
    concat!("-- audit_list\nSELECT ", audit_columns!(), " FROM audit ORDER BY id DESC LIMIT ?");

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
    rows.iter().map(read_audit_entry).collect()
}
