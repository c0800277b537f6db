//! The audit log.

use rusqlite::{Connection, params};
use tsp_core::Timestamp;

use crate::backend::columns::audit_columns;
use crate::backend::row::read_audit_entry;
use crate::backend::row_count::{exactly_one, sql_limit};
use crate::catalog::AuditEntry;
use crate::error::Result;
use crate::tasks::Actor;

use super::row::all;

const INSERT: &str =
    "-- audit_insert\nINSERT INTO audit (at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)";

const LIST: &str =
    concat!("-- audit_list\nSELECT ", audit_columns!(), " FROM audit ORDER BY id DESC LIMIT ?");

/// Writes an entry of the audit log.
pub(super) fn log(
    conn: &Connection,
    by: &Actor,
    action: &str,
    subject: &str,
    detail: &str,
    now: Timestamp,
) -> Result<()> {
    let changed = conn.prepare_cached(INSERT)?.execute(params![now.ms(), by.0, action, subject, detail])?;
    exactly_one(changed, "audit_insert")
}

/// Newest first.
pub(super) fn audit_log(conn: &Connection, limit: usize) -> Result<Vec<AuditEntry>> {
    all(conn.prepare_cached(LIST)?.query([sql_limit(limit)])?, |row| read_audit_entry(row))
}
